"""`hep install` and `hep uninstall`: put the services in place on this host, and take them away."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING, Any

from hook_event_processor.cli.parser import add_command, suggest
from hook_event_processor.cli.watcher_options import type_names
from hook_event_processor.errors import UsageError

if TYPE_CHECKING:
    from hook_event_processor.installation.install import Wanted
    from hook_event_processor.installation.places import Places
    from hook_event_processor.settings import Settings


def add_commands(commands: argparse._SubParsersAction[Any]) -> None:
    command = add_command(
        commands,
        "install",
        install,
        "put the services in place, enable and start them",
        "DATABASE_URL='postgresql:///hep?host=/run/postgresql' hep install",
        "For the machine (as root): the account hep, units in /usr/local/lib/systemd/system, settings in\n"
        "/etc/hook-event-processor, man pages and completions in /usr/local/share (fish: /etc/fish). For a user: the\n"
        "same below their home directory. Settings that are there stay. Called again, it changes what differs and\n"
        "nothing else.",
    )
    _add_whose(command)
    watchers = command.add_argument(
        "--watchers",
        type=_types,
        metavar="TYPES",
        help="also watch this host: types separated by commas, each by a daemon of its own; all: one daemon for all;"
        " none (default: those that are enabled already)",
    )
    suggest(watchers, lambda: ("all", "none", *type_names()))
    command.add_argument("--dry-run", action="store_true", help="say what would be done, and do nothing")
    command = add_command(
        commands,
        "uninstall",
        uninstall,
        "stop the services and remove what 'hep install' put in place",
        "hep uninstall --purge",
        "The events stay in the database, and the program where it is.",
    )
    _add_whose(command)
    command.add_argument(
        "--purge", action="store_true", help="remove settings, credentials, state and the account, too"
    )
    command.add_argument("--dry-run", action="store_true", help="say what would be done, and do nothing")


def _add_whose(command: argparse.ArgumentParser) -> None:
    whose = command.add_mutually_exclusive_group()
    whose.add_argument(
        "--system", dest="of_user", action="store_false", default=None, help="for the machine (default for root)"
    )
    whose.add_argument("--user", dest="of_user", action="store_true", help="for this user alone (default for others)")


def _types(text: str) -> tuple[str, ...]:
    from hook_event_processor.watchers.kinds import NAMES

    types = tuple(dict.fromkeys(name.strip() for name in text.split(",")))
    if types == ("none",):
        return ()
    if types == ("all",):
        return types
    unknown = [name for name in types if name not in NAMES]
    if unknown and unknown[0] in ("all", "none"):
        raise argparse.ArgumentTypeError(f"{unknown[0]} stands alone: write it, or the types to watch")
    if unknown:
        raise argparse.ArgumentTypeError(f"{unknown[0]!r} is no type: there are all, none, {', '.join(NAMES)}")
    return types


def install(arguments: argparse.Namespace, settings: Settings) -> int:
    with _saying(arguments) as say:
        _install(arguments, settings, say)
    return 0


def _install(arguments: argparse.Namespace, settings: Settings, say: Callable[[str], None]) -> None:
    from hook_event_processor.cli.output import note
    from hook_event_processor.installation import install as installation
    from hook_event_processor.installation.files import man_pages
    from hook_event_processor.installation.refusals import check
    from hook_event_processor.installation.settings_file import other_database
    from hook_event_processor.installation.steps import take

    places = _places(arguments)
    check(places, database_is_given=settings.conninfo is not None)
    if not places.of_user:
        os.umask(0o022)  # the directories of man pages and completions are everybody's, however tight root's umask
    wanted = _wanted(arguments, settings)
    prepared = list(installation.prepare(places, wanted))
    changed = installation.is_behind(places, prepared)
    take(prepared, say, dry=arguments.dry_run)
    take(installation.start(places, wanted, changed=changed), say, dry=arguments.dry_run)
    if not man_pages():
        note("no man pages: this is a checkout; they are made when a wheel is built")
    stays = other_database(places, settings.conninfo) if settings.conninfo else None
    if stays:
        note(f"{stays} stays, and names another database than the one given now: change it there")
    for path in installation.shadows(places):
        note(f"{path} is used instead of the installed unit: remove it, or keep it up to date yourself")
    if arguments.dry_run:
        return
    say(installation.await_processor(places))
    installation.check_watchers(places)
    if places.of_user and not _lingers():
        note("it ends when you log out, unless root runs: loginctl enable-linger " + (os.environ.get("USER") or ""))


def uninstall(arguments: argparse.Namespace, _: Settings) -> int:
    from hook_event_processor.cli.output import note
    from hook_event_processor.installation import uninstall as removal
    from hook_event_processor.installation.refusals import check
    from hook_event_processor.installation.steps import take

    places = _places(arguments)
    check(places, database_is_given=None)
    with _saying(arguments) as say:
        take(removal.remove(places, purge=arguments.purge), say, dry=arguments.dry_run)
        for path in [] if arguments.dry_run else removal.leftovers(places):
            reason = removal.why_kept(places) if arguments.purge else "--purge removes it"
            note(f"{path} stays: {reason}")
        note(f"the events stay in the database; the program is in {sys.prefix}")
    return 0


def _saying(arguments: argparse.Namespace) -> AbstractContextManager[Callable[[str], None]]:
    """What prints a line; where something is done, all of it is done though nobody reads that."""
    from hook_event_processor.cli.output import heard_or_not, line

    return nullcontext(line) if arguments.dry_run else heard_or_not()


def _places(arguments: argparse.Namespace) -> Places:
    from hook_event_processor.installation import places

    of_user = os.geteuid() != 0 if arguments.of_user is None else arguments.of_user
    return places.for_user() if of_user else places.for_machine()


def _wanted(arguments: argparse.Namespace, settings: Settings) -> Wanted:
    from psycopg.conninfo import conninfo_to_dict

    from hook_event_processor.cli.completion import SHELLS, script
    from hook_event_processor.installation.install import Wanted

    given = settings.conninfo
    if given is not None and any(character in given for character in "\n\r\0"):
        raise UsageError("the connection string has a line break: no file of settings can hold that")
    return Wanted(
        database=given,
        database_has_password=given is not None and "password" in conninfo_to_dict(given),
        schema=settings.schema,
        watchers=arguments.watchers,
        defaults=tuple(_defaults()),
        completions={shell: script(shell) for shell in SHELLS},
    )


def _defaults() -> Iterator[tuple[str, str, str]]:
    """Every setting with what it accepts and its default."""
    from pathlib import Path

    from hook_event_processor.cli.config import shown
    from hook_event_processor.settings import VARIABLES, load

    defaults = load({"HEP_HOME": "/nowhere"}, Path("/nonexistent"))
    for variable, (attribute, parse) in VARIABLES.items():
        value = shown(variable, getattr(defaults, attribute))
        yield variable, parse.__doc__ or "", "" if "/nowhere" in value else value


def _lingers() -> bool:
    import pwd
    from pathlib import Path

    return Path("/var/lib/systemd/linger", pwd.getpwuid(os.geteuid()).pw_name).exists()
