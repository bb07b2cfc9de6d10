"""A process that is watched: what it uses, and how it ended."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import NamedTuple

from hook_event_processor.watchers.host import ending, processes, unit_ends
from hook_event_processor.watchers.host.ending import End, Handle
from hook_event_processor.watchers.host.processes import Identity, Process


class Use(NamedTuple):
    """A process's program, its start in Unix seconds, its percent of one processor, and its memory."""

    program: str
    started: float
    cpu_percent: float
    rss_bytes: int


class Seen:
    """A process that is watched, with what is known of it: no `process` before the first look since the start.

    `kept` is what it used then, as far as an earlier start left it.
    """

    __slots__ = ("cpu_percent", "handle", "identity", "kept", "process", "run", "unit")

    def __init__(
        self, identity: Identity, kept: Use | None = None, unit: str | None = None, run: str | None = None
    ) -> None:
        self.identity = identity
        self.kept = kept
        self.unit = unit  # of the system's
        self.run = run  # of the unit, where it is its main process
        self.process: Process | None = None
        self.handle: Handle | None = None
        self.cpu_percent = 0.0

    def use(self) -> Use | None:
        """What it used when it was looked at last; None when that was before the start, and is not kept."""
        process = self.process
        if process is None:
            return self.kept
        started = processes.started_at(process)
        return Use(process.comm, started, round(self.cpu_percent, 2), process.pages * processes.PAGE_BYTES)

    def end(self, show: unit_ends.Show) -> End | None:
        """How it ended, now that it has; None when nobody tells."""
        if self.handle is not None:
            return self.handle.end(show)
        return ending.told_by_systemd(self.unit, self.identity[0], self.run, show)


def leader_of(of: Sequence[Seen]) -> Seen:
    """The oldest; of those of one time, the one whose end can be asked for."""
    return min(of, key=lambda seen: (seen.identity[1], seen.handle is None, seen.identity[0]))


def share(seen: Seen, process: Process) -> float:
    """Percent of one processor, since it was read for the last look or, at the first, since it started."""
    before = seen.process
    if before is None:
        return _percent(process.ticks, processes.age(process) - (time.monotonic() - process.read_at))
    # What was read for one look may serve the next: then nothing more is known.
    elapsed = process.read_at - before.read_at
    return _percent(process.ticks - before.ticks, elapsed) if elapsed > 0 else seen.cpu_percent


def _percent(ticks: int, seconds: float) -> float:
    return max(0.0, 100.0 * ticks / processes.TICKS_PER_SECOND / max(seconds, 1 / processes.TICKS_PER_SECOND))
