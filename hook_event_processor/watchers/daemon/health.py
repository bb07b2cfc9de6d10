"""The health of a daemon of watchers: its facts, what they come to, and where they are told.

They go to the host's row while the database is there, and to a file of the
daemon's own every few seconds, whether it is there or not.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

from hook_event_processor.amount import counted
from hook_event_processor.store.hosts import ALL
from hook_event_processor.telemetry import health_file
from hook_event_processor.telemetry.findings import Finding, of_threads
from hook_event_processor.telemetry.health_file import SUFFIX, HealthFile
from hook_event_processor.watchers import kinds

# Seconds after which a thread counts as standing still, and no longer as alive: systemd is to restart the daemon.
# Connecting may take ten, and a connection that is cut off ten more.
STILL_SECONDS, RESTART_SECONDS = 9.0, 25.0
AWAY_SECONDS = 10.0  # of the database
WRITE_SECONDS = 5.0
SILENT_SECONDS = 12.0  # without a word in the file
_FULL_SOON = 0.8  # of what the spool may hold


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """What is known of a daemon at one moment; times in seconds, None where there is nothing to measure.

    still: of each thread, since it last got on.
    away: since the database was lost.
    sent: since the database last took something.
    spooled, spool_limit: events on the disk; spool_bytes, spool_max_bytes: what their bodies take.
    dropped: events that were given up since that was last told.
    unwritable: why the spool cannot be written.
    watchers, failing, stuck: how many there are, cannot look, and do not come back from looking.
    """

    still: Mapping[str, float] = field(default_factory=dict)
    away: float | None = None
    sent: float | None = None
    spooled: int = 0
    spool_limit: int = 1
    spool_bytes: int = 0
    spool_max_bytes: int = 1
    dropped: int = 0
    unwritable: str = ""
    watchers: int = 0
    failing: int = 0
    stuck: int = 0


def judge(facts: Facts) -> list[Finding]:
    """What is not as it should be, and what is to be told."""
    return list(_findings(facts))


def _findings(facts: Facts) -> Iterator[Finding]:
    limit = STILL_SECONDS if facts.away is None else RESTART_SECONDS  # trying to connect takes its time
    yield from of_threads(facts.still, limit)
    if facts.away is not None and facts.away > AWAY_SECONDS:
        meaning = f"the database has been away for {facts.away:.0f} s: {waiting(facts)}"
        yield Finding("database", round(facts.away, 1), AWAY_SECONDS, meaning)
    if facts.unwritable:
        meaning = f"the spool cannot be written: {facts.unwritable}"
        yield Finding("spool", facts.unwritable, None, meaning)
    yield from _of_the_spool(facts)
    if facts.stuck:
        meaning = f"{counted(facts.stuck, 'watcher')} {'does' if facts.stuck == 1 else 'do'} not come back from looking"
        yield Finding("stuck", facts.stuck, 0, meaning, is_healthy=True)
    if facts.failing:
        meaning = f"{facts.failing} of {counted(facts.watchers, 'watcher')} cannot look"
        yield Finding("failing", facts.failing, 0, meaning, is_healthy=True)


def _of_the_spool(facts: Facts) -> Iterator[Finding]:
    filled = max(facts.spooled / facts.spool_limit, facts.spool_bytes / facts.spool_max_bytes)
    if filled >= 1.0 or facts.dropped:
        have = "has" if facts.dropped == 1 else "have"
        meaning = f"the spool is full: {counted(facts.dropped, 'event')} {have} been given up"
        yield Finding("spool", round(filled, 2), 1.0, meaning)
    elif filled >= _FULL_SOON:
        yield Finding("spool", round(filled, 2), 1.0, f"the spool is {filled:.0%} full", is_healthy=True)


def waiting(facts: Facts) -> str:
    """How many events could not be sent yet."""
    return f"{counted(facts.spooled, 'event')} wait{'s' * (facts.spooled == 1)} on the disk"


def document(facts: Facts) -> dict[str, Any]:
    """The facts for JSON."""
    return {name: value for name, value in asdict(facts).items() if value is not None}


def read(stored: Mapping[str, Any]) -> Facts:
    """The facts out of a document, of other versions, too."""
    known = {each.name for each in fields(Facts)}
    return Facts(**{name: value for name, value in stored.items() if name in known})


def silence(age_seconds: float, limit: float = SILENT_SECONDS) -> Finding | None:
    """What it means that a daemon was last heard of so long ago: a frozen one cannot say how it is."""
    if age_seconds <= limit:
        return None
    return Finding("heartbeat", round(age_seconds, 1), limit, f"silent for {age_seconds:.0f} s")


def name_of(types: Sequence[str]) -> str:
    """What the daemon of these types is called."""
    return ALL if set(types) >= set(kinds.NAMES) else "+".join(sorted(types))


@dataclass(frozen=True, slots=True)
class Said:
    """What a daemon of this host wrote `age_seconds` ago; `name` is that of its types."""

    name: str
    host: str
    facts: Facts
    age_seconds: float


class DaemonFile:
    """A daemon's file below `folder`."""

    def __init__(self, folder: Path, host: str, name: str) -> None:
        self._folder, self._host, self._name = folder, host, name
        self._file = HealthFile(folder / f"{host}.{name}{SUFFIX}", {"host": host, "name": name})

    def begin(self, facts: Facts) -> None:
        """Write it the first time: files of daemons that cannot be there beside this one go."""
        of_all = f"{self._host}.{ALL}{SUFFIX}"
        for path in self._folder.glob(f"*{SUFFIX}"):
            if path.name == of_all or (self._name == ALL and path.name.startswith(f"{self._host}.")):
                with suppress(OSError):
                    path.unlink()
        self.write(facts)

    def write(self, facts: Facts) -> None:
        self._file.write(document(facts))

    def remove(self) -> None:
        self._file.remove()


def said(folder: Path) -> Sequence[Said]:
    """What the daemons of this host last wrote, but for those that ended in order. Raises OSError."""
    return [
        Said(str(each.about["name"]), str(each.about["host"]), read(each.facts), each.age_seconds)
        for each in health_file.said(folder)
        if "name" in each.about and "host" in each.about
    ]
