"""Settings that change while a service runs: how they reach it, and which of them can."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from pathlib import Path

from hook_event_processor import settings as settings_module
from hook_event_processor.errors import SettingsError
from hook_event_processor.settings import VARIABLES, Settings

_FILE = "settings"  # in the unit's runtime directory, for the moment between `hep reload` and the signal
_NEW = f"{_FILE}.new"
# What a running processor can take over: its log level, and what hooks may use.
_AT_ONCE = frozenset(
    {
        "log_level",
        "hook_exec",
        "hook_http_allow",
        "hook_http_deny",
        "hook_file_roots",
        "hook_env",
        "hook_secrets",
        "hook_policy",
        "policy",
    }
)
# What a processor does not use.
_ELSEWHERE = ("host_", "watch_", "spool_", "retention", "audit_retention")


@dataclass(frozen=True, slots=True)
class Change:
    """What is in force now, the names of the variables that brought it, and of those that wait for a restart."""

    settings: Settings
    taken: tuple[str, ...]
    waiting: tuple[str, ...]


def hand_over(environ: Mapping[str, str], directory: Path) -> None:
    """Leave the variables of `environ` for the service whose runtime directory this is; it reads them once."""
    new = directory / _NEW
    new.unlink(missing_ok=True)
    # They may hold a password.
    descriptor = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
    with open(descriptor, "w") as file:
        json.dump(dict(environ), file)
    new.rename(directory / _FILE)


class Reader:
    """Reads a service's settings anew: what was handed over last, else this process's environment.

    One is made as the service starts: what lies there by then was for a process before it.
    """

    def __init__(self) -> None:
        self._handed: Mapping[str, str] | None = None
        if (directory := os.environ.get("RUNTIME_DIRECTORY")) is not None:
            for name in (_FILE, _NEW):
                Path(directory, name).unlink(missing_ok=True)

    def read(self) -> Settings:
        """The settings as they are now, with .env and the policy. Raises SettingsError."""
        directory = os.environ.get("RUNTIME_DIRECTORY")
        handed = _take(Path(directory, _FILE)) if directory else None
        if handed is None:
            # A signal alone takes nothing back: a grant that a reload took away stays away.
            handed = self._handed
        else:
            # systemd lets nobody but the service itself see its credentials.
            handed = {**handed, **{name: os.environ[name] for name in ("CREDENTIALS_DIRECTORY",) if name in os.environ}}
        read = settings_module.load(handed)
        self._handed = handed
        return read


def _take(file: Path) -> Mapping[str, str] | None:
    try:
        descriptor = os.open(file, os.O_RDONLY | os.O_NOFOLLOW)
    except OSError:
        return None
    with open(descriptor) as handed:
        file.unlink()
        try:
            return {str(name): str(value) for name, value in json.load(handed).items()}
        except (ValueError, AttributeError) as fault:
            raise SettingsError(f"what was handed over in {file} cannot be read: {fault}") from None


def change(running: Settings, read: Settings) -> Change:
    """What a running processor makes of settings that were read anew."""
    differing = {one.name for one in fields(Settings) if getattr(running, one.name) != getattr(read, one.name)}
    taken = differing & _AT_ONCE
    variables = {attribute: variable for variable, (attribute, _) in VARIABLES.items()}
    # The policy's file can say something else under the same name; the other variables are part of the policy, too.
    variables |= {"conninfo": "DATABASE_URL", "home": "HEP_HOME", "policy": "HOOK_POLICY"}
    if taken - {"policy", "log_level"}:
        variables.pop("policy")
    return Change(
        replace(running, **{name: getattr(read, name) for name in taken}),
        tuple(sorted({variables[name] for name in taken if name in variables})),
        tuple(sorted(variables[name] for name in differing - _AT_ONCE if not name.startswith(_ELSEWHERE))),
    )
