"""The steps of an installation, in their order."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from fnmatch import fnmatchcase
from pathlib import Path

from hook_event_processor.errors import HookEventProcessorError
from hook_event_processor.installation import account, settings_file
from hook_event_processor.installation.files import files
from hook_event_processor.installation.places import NAME, PATTERNS, PROCESSOR, RETENTION, TARGET, Places
from hook_event_processor.installation.steps import Make, Run, Step, Write, output

_SETTLED_WITHIN_SECONDS = 10.0
_STARTED = "InactiveExitTimestamp"  # empty for never
ALL_WATCHERS = "hook-watcher.service"


@dataclass(frozen=True, slots=True)
class Wanted:
    """What to put in place.

    `database` is a connection string for settings that have none yet,
    `schema` its DB_SCHEMA; `watchers` are types, "all" alone for one daemon of
    all, or None to leave those that are enabled as they are; `defaults` are
    (name, what it accepts, default) of every setting.
    """

    database: str | None = None
    database_has_password: bool = False
    schema: str = ""
    watchers: tuple[str, ...] | None = None
    defaults: Iterable[tuple[str, str, str]] = ()
    completions: Mapping[str, str] = field(default_factory=dict)


def prepare(places: Places, wanted: Wanted) -> Iterator[Step]:
    """Files, account and directories; nothing of it starts anything."""
    yield from files(places, wanted.completions, namespaces=not places.of_user or _has_namespaces(places))
    yield from _settings(places, wanted)
    if places.sysusers is not None and places.tmpfiles is not None:
        yield Run(("systemd-sysusers", str(places.sysusers)), when=lambda: not account.exists())
        yield Run(("systemd-tmpfiles", "--create", str(places.tmpfiles)))
    else:
        yield Make(places.state, 0o700)
    if not places.of_user and shutil.which("mandb"):
        # For `man -k`; a page that it cannot read is no reason to stop.
        yield Run(("mandb", "--quiet"), may_fail=True)
    yield Run((*places.systemctl, "daemon-reload"))


def _settings(places: Places, wanted: Wanted) -> Iterator[Step]:
    given = {}
    secret = None
    if wanted.database and not settings_file.names_a_database(places):
        credential = settings_file.credential(places, "database_url")
        if wanted.database_has_password and credential is not None:
            secret = Write(credential, wanted.database, 0o600, stays=True)
        else:
            given["DATABASE_URL"] = wanted.database
        if wanted.schema:
            given["DB_SCHEMA"] = wanted.schema
    yield _environment(places, given, wanted.defaults)
    if secret is not None:
        yield secret  # last: whoever comes again after an interruption finds by it that nothing is left to say


def _environment(places: Places, given: Mapping[str, str], defaults: Iterable[tuple[str, str, str]]) -> Step:
    if not (given and places.environment.is_file()):
        text = settings_file.template(given, defaults, of_user=places.of_user)
        return Write(places.environment, text, 0o600, stays=True)
    # It is somebody's, and names no database: what is said there stays.
    file = places.environment.resolve()  # a link to where it is kept stays one
    old = file.read_text(encoding="utf-8", errors="surrogateescape").rstrip("\n")
    lines = (f"{name}={settings_file.quoted(value)}" for name, value in given.items())
    added = [line for line in lines if line not in old.splitlines()]
    return Write(file, "\n".join(filter(None, [old, *added])) + "\n", 0o600)


def is_behind(places: Places, steps: Iterable[Step]) -> bool:
    """Whether a file that services go by is to be written, or was since one of them started.

    That was an installation that came to no end: it had written files, and restarted nothing.
    """
    files = [step for step in steps if isinstance(step, Write)]
    if any(step.needed for step in files):
        return True
    written = max((step.path.stat().st_mtime for step in files if not step.stays), default=0.0)
    started = (_started_at(places, unit) for unit in instances(places, "*"))
    return any(at is not None and at < written for at in started)


def _started_at(places: Places, unit: str) -> float | None:
    """When a unit was started, by the clock of files: the monotonic one stands still while the machine sleeps.

    None: never, or systemd does not say (before 247).
    """
    # Sun 2026-11-22 11:49:32.123456 UTC
    shown = output((*places.systemctl, "show", "--timestamp=us+utc", f"--property={_STARTED}", unit)) or ""
    _, _, text = shown.strip().partition(" ")
    try:
        return datetime.strptime(text, "%Y-%m-%d %H:%M:%S.%f UTC").replace(tzinfo=UTC).timestamp()
    except ValueError:
        return None


def start(places: Places, wanted: Wanted, *, changed: bool) -> Iterator[Step]:
    """Enable the units, and start them; what runs is started anew if something of it `changed`."""
    names = [TARGET, RETENTION]
    if not instances(places, f"{NAME}@*.service"):
        names.append(PROCESSOR)
    if wanted.watchers is not None:
        chosen = _watcher_units(wanted.watchers)
        others = [unit for unit in instances(places, "hook-watcher*.service") if unit not in chosen]
        if others:
            yield Run((*places.systemctl, "disable", "--now", *others))
        names += chosen
    yield Run((*places.systemctl, "enable", *names), when=lambda: not _are_enabled(places, names))
    running = [*names, *(unit for unit in instances(places, "*") if unit not in names)]
    yield Run((*places.systemctl, "restart" if changed else "start", *running))


def _watcher_units(types: tuple[str, ...]) -> list[str]:
    return [ALL_WATCHERS] if types == ("all",) else [f"hook-watcher@{name}.service" for name in types]


def instances(places: Places, pattern: str) -> list[str]:
    """Our units that are enabled and match, instances of templates among them."""
    links = {link.name for link in places.own_units.glob(f"*.wants/{pattern}")}
    return sorted(name for name in links if any(fnmatchcase(name, ours) for ours in PATTERNS))


def _are_enabled(places: Places, names: list[str]) -> bool:
    # Its exit status speaks of any of them.
    shown = output((*places.systemctl, "is-enabled", *names))
    return shown is not None and shown.split() == ["enabled"] * len(names)


def _has_namespaces(places: Places) -> bool:
    """Whether this user's units may be sandboxed in user namespaces, which is tried with a unit."""
    tried = ("systemd-run", "--user", "--quiet", "--wait", "--collect", "--property=PrivateUsers=yes", "true")
    return not places.of_user or output(tried) is not None


def await_processor(places: Places) -> str:
    """Wait until the processor has looked at its database; returns what it says of itself.

    Raises HookEventProcessorError with the reason when it has given up.
    """
    names = [unit for unit in instances(places, f"{NAME}*.service") if "@." not in unit] or [PROCESSOR]
    return _await_status(places, names[0])


def check_watchers(places: Places) -> None:
    """Wait until the daemons of watchers have opened their store. Raises HookEventProcessorError when one has not."""
    for unit in instances(places, "hook-watcher*.service"):
        if "@." not in unit:
            _await_status(places, unit)


def _await_status(places: Places, unit: str) -> str:
    """Wait until a service says how it does. Raises HookEventProcessorError when it has failed, or tries again."""
    deadline = time.monotonic() + _SETTLED_WITHIN_SECONDS
    restarts = _shown(places, unit).get("NRestarts")  # of this start, or of a run that has gone on for long
    while True:
        shown = _shown(places, unit)
        failed = shown.get("ActiveState") == "failed" or shown.get("NRestarts") != restarts
        if failed or shown.get("ExecMainStatus", "0") != "0":
            raise HookEventProcessorError(f"{unit} does not run: {_last_words(places, unit)}")
        status = shown.get("StatusText", "")
        if (status and "not counted" not in status) or time.monotonic() > deadline:
            return f"{unit}: {status or shown.get('ActiveState', 'unknown')}"
        time.sleep(0.2)


def _shown(places: Places, unit: str) -> dict[str, str]:
    properties = "--property=ActiveState,ExecMainStatus,NRestarts,StatusText"
    text = output((*places.systemctl, "show", properties, unit)) or ""
    return dict(line.split("=", 1) for line in text.splitlines() if "=" in line)


def _last_words(places: Places, unit: str) -> str:
    """What the service itself wrote last; the journal has the rest."""
    of_unit = f"_SYSTEMD_USER_UNIT={unit}" if places.of_user else f"_SYSTEMD_UNIT={unit}"
    mine = (f"_UID={os.getuid()}",) if places.of_user else ()
    said = output(("journalctl", "--quiet", "--output=cat", "--lines=1", of_unit, *mine)) or ""
    where = f"'journalctl -u {unit}'"
    if places.of_user:  # where no journal is kept on disk, only root reads that of users
        where = f"'journalctl --user -u {unit}', or root 'journalctl {of_unit}'"
    return " ".join(said.split()) or f"see {where}"


def shadows(places: Places) -> list[Path]:
    """Unit files of an administrator that are used instead of the installed ones."""
    from hook_event_processor.installation.files import units

    return [found for unit in units() if (found := places.own_units / unit.name).is_file()]
