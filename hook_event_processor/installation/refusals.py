"""What stands in the way of an installation, said before anything is touched."""

from __future__ import annotations

import os
import re
import sys
from pathlib import Path

from hook_event_processor.errors import HookEventProcessorError
from hook_event_processor.installation import account
from hook_event_processor.installation.places import ACCOUNT, NAME, Places, programs
from hook_event_processor.installation.settings_file import names_a_database
from hook_event_processor.installation.steps import output

_OLDEST_SYSTEMD = 250  # ExecSearchPath=, LoadCredential= from a directory
_HIDDEN_FROM_UNITS = ("/root", "/home", "/run/user", "/tmp", "/var/tmp")  # noqa: S108 - ProtectHome=, PrivateTmp=
_PLAIN_PATH = re.compile(r"[\w./+@-]+")


class InstallationRefused(HookEventProcessorError):
    """Nothing was changed: the message says what is missing, and what to do."""


def check(places: Places, *, database_is_given: bool | None) -> None:
    """Raises InstallationRefused. `database_is_given` None: none is needed, to take the installation away."""
    _check_systemd()
    _check_right(places)
    if database_is_given is None:
        return
    _check_program(places)
    _check_account(places)
    _check_state(places)
    if not database_is_given and not names_a_database(places):
        raise InstallationRefused(
            "no database is named: give it, as in DATABASE_URL='postgresql:///hep?host=/run/postgresql' hep install,"
            f" or write it into {places.environment}"
        )


def _check_systemd() -> None:
    if not Path("/run/systemd/system").is_dir():
        raise InstallationRefused("no systemd runs here: 'hep run' is a processor in the foreground, without it")
    said = re.match(r"systemd (\d+)", output(("systemctl", "--version")) or "")
    if said is None or int(said[1]) < _OLDEST_SYSTEMD:
        found = said[1] if said else "none"
        raise InstallationRefused(f"systemd {_OLDEST_SYSTEMD} or newer is needed: here is {found}")


def _check_right(places: Places) -> None:
    if not places.of_user:
        if os.geteuid() != 0:
            raise InstallationRefused("for the machine, this takes root: use sudo, or --user for yourself alone")
        return
    if output((*places.systemctl, "show", "--property=Version")) is None:
        raise InstallationRefused(
            "no manager of yours runs, or XDG_RUNTIME_DIR does not name its directory: log in on a console or over"
            f" ssh, or have root run 'loginctl enable-linger {os.environ.get('USER') or os.geteuid()}'"
        )


def _check_program(places: Places) -> None:
    package = Path(__file__).resolve().parent
    interpreter = programs().joinpath("python3").resolve()
    for path in (programs(), package, interpreter):
        if not _PLAIN_PATH.fullmatch(str(path)):
            raise InstallationRefused(f"{path} cannot stand in a unit: install the program into /opt/{NAME}")
    if places.of_user:
        return
    started = programs().resolve() / "python3"
    hidden = next((path for path in (interpreter, started, package) if _is_hidden(path)), None)
    if hidden is not None:
        raise InstallationRefused(
            f"the service cannot see {hidden}: install the program into /opt/{NAME}, made with"
            f" '/usr/bin/python3 -m venv /opt/{NAME}'"
        )
    closed = next(filter(None, map(_first_closed, (interpreter, started, package))), None)
    if closed is not None:
        command = f"chmod -R a+rX {sys.prefix}" if closed.is_relative_to(sys.prefix) else f"chmod a+x {closed}"
        raise InstallationRefused(f"the service's account cannot enter {closed}: run '{command}'")


def _check_account(places: Places) -> None:
    if not places.of_user and account.exists() and not account.is_ours(places):
        raise InstallationRefused(
            f"the account {ACCOUNT} of this host is somebody else's, and services and hooks could do all that it may:"
            f" give it another name ('usermod --login NEW {ACCOUNT}'), or, if it was made for the services, run"
            f" 'usermod {account.made(places)} {ACCOUNT}'"
        )


def _check_state(places: Places) -> None:
    if places.of_user and not _PLAIN_PATH.fullmatch(str(places.state)):
        raise InstallationRefused(
            f"{places.state} cannot stand in a unit: set XDG_DATA_HOME to a directory whose path has letters, digits"
            " and . / + @ - _ alone"
        )
    # StateDirectory= gives all that is there to the service's account, and PostgreSQL refuses what is not its own.
    database = places.state / "postgresql"
    if not places.of_user and database.is_dir():
        raise InstallationRefused(
            f"{database} holds the data of an embedded PostgreSQL, and {places.state} is to be the service's alone:"
            f" move all of {places.state} elsewhere, and let HEP_HOME name that place for 'hep up'"
        )


def _is_hidden(path: Path) -> bool:
    return any(path.is_relative_to(above) for above in _HIDDEN_FROM_UNITS)


def _first_closed(path: Path) -> Path | None:
    """The first directory on the way to the path that others cannot enter."""
    return next((above for above in reversed(path.parents) if not above.stat().st_mode & 0o001), None)
