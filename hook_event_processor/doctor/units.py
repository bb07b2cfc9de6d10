"""The units of this host: how they are, and what they are limited to."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from functools import partial

from hook_event_processor.doctor.finding import Area, Finding, Kind, Level, LocalCheck
from hook_event_processor.errors import HookEventProcessorError, SettingsError
from hook_event_processor.installation import places
from hook_event_processor.installation.install import instances
from hook_event_processor.installation.places import NAME, PATTERNS, Places
from hook_event_processor.installation.steps import output
from hook_event_processor.settings import VARIABLES, Settings, read_dotenv

_MANY_RESTARTS = 3
_NEARLY_ALL = 0.9
# What a processor takes beside its hooks' memory, and beside the files that its runs open.
_OWN_MEMORY, _OWN_FILES = 128 << 20, 256
_FILES_OF_RUN = 4
_ASKED = {name: VARIABLES[name] for name in ("WORKERS", "HOOK_MEMORY_TOTAL_MB")}

FAILED = Kind(
    "unit-failed",
    Level.PROBLEM,
    "The unit has failed, and systemd does not start it again; hook-retention.service it does at its timer's next"
    " time.",
)
STOPPED = Kind(
    "unit-stopped", Level.WARNING, "The unit is enabled, and does not run: it comes back with the next boot only."
)
RESTARTS = Kind(
    "unit-restarts", Level.WARNING, "The unit was restarted again and again since it was last started by hand."
)
STALE = Kind(
    "unit-stale", Level.WARNING, "The unit's files have changed, and systemd still goes by what they said before."
)
MEMORY = Kind(
    "unit-memory",
    Level.WARNING,
    "The unit is near its limit of memory, or the limit leaves no room for what hooks may take. Past it, processes of"
    " the unit are killed.",
)
FILES = Kind("unit-files", Level.WARNING, "The unit may open fewer files than its worker slots can need.")
ROOT = Kind("unit-root", Level.WARNING, "The service runs as root, and needs no rights at all.")

_PROPERTIES = (
    *("Id", "LoadState", "ActiveState", "Result", "ExecMainStatus", "UnitFileState", "NeedDaemonReload", "NRestarts"),
    *("MemoryCurrent", "MemoryMax", "LimitNOFILESoft", "User", "DynamicUser"),
)


@dataclass(frozen=True, slots=True)
class Unit:
    """A unit as its manager shows it."""

    manager: Places
    shown: Mapping[str, str]

    @property
    def name(self) -> str:
        return self.shown.get("Id", "")

    @property
    def active(self) -> bool:
        return self.shown.get("ActiveState") in ("active", "activating", "reloading")

    def number(self, name: str) -> int | None:
        """A property; None where it is not set, or without limit."""
        text = self.shown.get(name, "")
        # "[not set]", "infinity"; and 2^64-1, which older versions print for either.
        return int(text) if text.isdigit() and int(text) < 2**63 else None

    def systemctl(self, *words: str) -> str:
        return " ".join((*self.manager.systemctl, *words))

    @property
    def journal(self) -> str:
        return f"journalctl {'--user ' if self.manager.of_user else ''}-u {self.name} -n 50"


def units() -> Iterator[Unit]:
    """Our units that are enabled or loaded, of the system's manager and of this user's."""
    for manager in (places.for_machine(), places.for_user()):
        names = sorted({*PATTERNS, *instances(manager, "hook-*")})
        shown = output((*manager.systemctl, "show", f"--property={','.join(_PROPERTIES)}", "--", *names))
        seen = set()
        for block in (shown or "").split("\n\n"):
            unit = Unit(manager, dict(line.split("=", 1) for line in block.splitlines() if "=" in line))
            if unit.shown.get("LoadState") == "loaded" and unit.name not in seen:
                seen.add(unit.name)
                yield unit


def _units(settings: Settings) -> Iterator[Finding]:
    for unit in units():
        yield from _state(unit)
        if unit.name.startswith(NAME) and unit.name.endswith(".service"):
            yield from _limits(unit, _own_settings(unit, settings))


def _state(unit: Unit) -> Iterator[Finding]:
    shown = unit.shown
    if shown.get("ActiveState") == "failed":
        what = f"{unit.name} has failed: {shown.get('Result')}, status {shown.get('ExecMainStatus', '-')}"
        again = f"{unit.systemctl('reset-failed', unit.name)} && {unit.systemctl('restart', unit.name)}"
        yield Finding(FAILED, what, (unit.journal, f"{again}  # once it is mended"))
    elif not unit.active and shown.get("UnitFileState") == "enabled":
        yield Finding(STOPPED, f"{unit.name} does not run", (unit.systemctl("start", unit.name),))
    if shown.get("NeedDaemonReload") == "yes":
        command = unit.systemctl("daemon-reload")
        yield Finding(STALE, f"the files of {unit.name} have changed", (command,), partial(_reload, unit.manager))
    restarts = unit.number("NRestarts")
    if unit.active and restarts is not None and restarts >= _MANY_RESTARTS:
        mend = (unit.journal, f"{unit.systemctl('restart', unit.name)}  # once it is mended: counts anew")
        yield Finding(RESTARTS, f"{unit.name} was restarted {restarts} times", mend)


def _reload(manager: Places) -> str:
    command = (*manager.systemctl, "daemon-reload")
    if output(command) is None:
        raise HookEventProcessorError(f"{' '.join(command)} failed: it may take root")
    return "had systemd read the units' files again"


def _own_settings(unit: Unit, settings: Settings) -> Settings | None:
    """With what an instance reads on top in a file of its own; None where that is not for this user to know."""
    _, _, instance = unit.name.removesuffix(".service").partition("@")
    if not instance:
        return settings
    try:
        given = read_dotenv(unit.manager.settings / f"environment.{instance}")
        own = {attribute: parse(given[name]) for name, (attribute, parse) in _ASKED.items() if given.get(name)}
    except (SettingsError, OSError, ValueError):  # with a wrong one it does not start, which is told
        return None
    return replace(settings, **own)


def _limits(unit: Unit, settings: Settings | None) -> Iterator[Finding]:
    limit, taken = unit.number("MemoryMax"), unit.number("MemoryCurrent")
    room = settings.hook_memory_total + _OWN_MEMORY if settings else 0
    # Not set-property: a drop-in that an administrator wrote would win over it at the next reload.
    more = f"{unit.systemctl('edit', unit.name)}  # [Service] MemoryMax={_megabytes(max(2 * (limit or 0), room))}M"
    if limit is not None and taken is not None and unit.active and taken > limit * _NEARLY_ALL:
        what = f"{unit.name} takes {_megabytes(taken)} of {_megabytes(limit)} MB"
        yield Finding(MEMORY, what, (more,))
    elif limit is not None and settings and limit < room:
        what = f"{unit.name} may take {_megabytes(limit)} MB, its hooks alone {_megabytes(settings.hook_memory_total)}"
        yield Finding(MEMORY, what, (more, "HOOK_MEMORY_TOTAL_MB=...  # or less for hooks, in the settings"))
    files = unit.number("LimitNOFILESoft")
    if files is not None and settings and files < (needed := _OWN_FILES + _FILES_OF_RUN * settings.workers):
        what = f"{unit.name} may open {files} files; {settings.workers} worker slots can take {needed}"
        yield Finding(FILES, what, (f"{unit.systemctl('edit', unit.name)}  # [Service] LimitNOFILE={2 * needed}",))
    if not unit.manager.of_user and unit.shown.get("User") in ("", "root") and unit.shown.get("DynamicUser") != "yes":
        yield Finding(ROOT, f"{unit.name} runs as root", ("hep install  # as root: it adds the account hep",))


def _megabytes(size: int) -> int:
    return size >> 20


AREA = Area(
    "units",
    "systemd's units of this host, and their limits",
    (LocalCheck(_units, (FAILED, STOPPED, RESTARTS, STALE, MEMORY, FILES, ROOT)),),
)
