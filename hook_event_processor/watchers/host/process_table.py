"""All processes of this machine, found once for all checks of a moment.

To read each of some hundred processes takes milliseconds, to list their ids a
fraction of one. So those that are known are read again now and then only; a
check reads those that it means.
"""

from __future__ import annotations

import os
import re
import time
from bisect import bisect_right
from collections.abc import Callable, Iterable, Mapping
from functools import cached_property
from typing import NamedTuple

from hook_event_processor.watchers.check import CheckFailed
from hook_event_processor.watchers.host import proc, processes
from hook_event_processor.watchers.host.line_pattern import LinePattern
from hook_event_processor.watchers.host.proc import Reading
from hook_event_processor.watchers.host.processes import Process

_COMM_LENGTH = 15  # what the kernel keeps of a program's name
_FRESH = 0.5  # seconds that a table serves
# A process that was just forked may yet become another program. Of older ones few do, and it takes a
# machine's whole range of ids before one is given away again.
_YOUNG_SECONDS = 3.0
_AGAIN_SECONDS = 20.0


class _Known(NamedTuple):
    process: Process
    line: bytes  # its arguments with spaces between
    program: str  # the first one, without directories
    again: float  # when to read it again, by the monotonic clock


class Table:
    """All processes at one time, `at` by the monotonic clock."""

    def __init__(self, known: Mapping[int, _Known], at: float) -> None:
        self.at = at
        self._known = known
        self._read: dict[int, Process | None] = {}

    def process(self, pid: int) -> Process | None:
        """The process of that id as it is now; None when there is none."""
        if pid not in self._read:
            self._read[pid] = processes.read_process(pid)
        return self._read[pid]

    def named(self, name: str) -> list[Process]:
        """Those whose program's name, or first argument without directories, is this."""
        found = list(self._by_program.get(name, ()))
        if len(name) <= _COMM_LENGTH:
            seen = set(found)
            found += [pid for pid in self._by_comm.get(name, ()) if pid not in seen]
        return self._now(found)

    def matching(self, pattern: LinePattern, *, but_not: re.Pattern[bytes]) -> list[Process]:
        """Those whose command line matches, and has nothing of the other pattern."""
        lines, begins, owners = self._lines
        pids = (owners[bisect_right(begins, match.begin) - 1] for match in pattern.lines(lines))
        return self._now(pid for pid in pids if not but_not.search(self._known[pid].line))

    def seen_again(self, at: float) -> Table:
        """The same processes at a later time."""
        later = Table(self._known, at)
        # What was worked out of their names holds.
        later.__dict__ |= {name: self.__dict__[name] for name in _WORKED_OUT if name in self.__dict__}
        return later

    def _now(self, pids: Iterable[int]) -> list[Process]:
        found = [(self._known[pid].process, self.process(pid)) for pid in pids]
        return [now for known, now in found if now is not None and now.start == known.start]

    @cached_property
    def _by_comm(self) -> dict[str, list[int]]:
        return self._grouped(lambda known: known.process.comm)

    @cached_property
    def _by_program(self) -> dict[str, list[int]]:
        return self._grouped(lambda known: known.program)

    def _grouped(self, name_of: Callable[[_Known], str]) -> dict[str, list[int]]:
        groups: dict[str, list[int]] = {}
        for pid, known in self._known.items():
            groups.setdefault(name_of(known), []).append(pid)
        return groups

    @cached_property
    def _lines(self) -> tuple[bytes, list[int], list[int]]:
        """All command lines, where each begins, and whose it is."""
        begins, owners, lines, at = [], [], [], 0
        for pid, known in self._known.items():
            if known.line:
                begins.append(at)
                owners.append(pid)
                lines.append(known.line)
                at += len(known.line) + 1
        return b"\n".join(lines), begins, owners


_WORKED_OUT = ("_by_comm", "_by_program", "_lines")


class _Census:
    """Finds all processes, time and again."""

    def __init__(self) -> None:
        self._known: dict[int, _Known] = {}
        self._table: Table | None = None

    def __call__(self) -> Table:
        now = time.monotonic()
        known = {pid: self._current(pid, now) for pid in _pids()}
        found = {pid: each for pid, each in known.items() if each is not None}
        same = self._table is not None and _names(found) == _names(self._known)
        self._table = self._table.seen_again(now) if same and self._table else Table(found, now)
        self._known = found
        return self._table

    def _current(self, pid: int, now: float) -> _Known | None:
        known = self._known.get(pid)
        if known is not None and now < known.again:
            return known
        process = processes.read_process(pid)
        return None if process is None else _described(process, now)


def _names(known: Mapping[int, _Known]) -> dict[int, tuple[int, str, bytes]]:
    return {pid: (each.process.start, each.process.comm, each.line) for pid, each in known.items()}


def _described(process: Process, now: float) -> _Known:
    arguments = processes.read_command(process.pid)
    # "nginx: worker process" is how some programs write over what they were called with.
    program = arguments.split(b"\0", 1)[0].split(b": ", 1)[0].rsplit(b"/", 1)[-1].removeprefix(b"-")
    line = arguments.rstrip(b"\0").replace(b"\0", b" ").replace(b"\n", b" ")
    # Not all at once.
    again = 0.0 if processes.age(process) < _YOUNG_SECONDS else now + _AGAIN_SECONDS * (1 + process.pid % 8 / 8)
    return _Known(process, line, program.decode(errors="replace"), again)


def _pids() -> list[int]:
    try:
        return [int(name) for name in os.listdir(proc.ROOT) if name.isdigit()]
    except OSError as fault:
        raise CheckFailed(f"cannot list {proc.ROOT}: {fault.strerror}") from fault


TABLE: Reading[Table] = Reading(_Census(), _FRESH)
