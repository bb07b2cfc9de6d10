"""The processes of this machine, read once for all checks of a moment."""

from __future__ import annotations

import os
import time
from bisect import bisect_right
from collections.abc import Iterable
from functools import cached_property
from typing import NamedTuple

from hook_event_processor.watchers import proc
from hook_event_processor.watchers.check import CheckFailed
from hook_event_processor.watchers.line_pattern import LinePattern
from hook_event_processor.watchers.proc import Reading

TICKS_PER_SECOND = os.sysconf("SC_CLK_TCK")
PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")
_COMM_LENGTH = 15  # what the kernel keeps of a program's name
_STAT_BYTES = 1024
_COMMAND_BYTES = 4096  # of a command line, which are looked at
_FRESH = 0.5  # seconds that a table serves
# A process that was just forked may yet become another program of the same name; later ones do so rarely.
_YOUNG_SECONDS = 3.0
_COMMAND_SECONDS = 60.0
_MAX_COMMANDS = 16_384

Identity = tuple[int, int]  # a process, whose id may be given to another one: its id and its start


class Process(NamedTuple):
    """A process as /proc/PID/stat has it; `start` in ticks since the machine started, `ticks` of the processors'."""

    pid: int
    start: int
    comm: str
    state: str
    parent: int
    ticks: int
    pages: int

    @property
    def identity(self) -> Identity:
        return self.pid, self.start

    @property
    def ended(self) -> bool:
        """Whether it is there only until its parent asks how it ended."""
        return self.state in "ZXx"


class _Command(NamedTuple):
    comm: str
    line: bytes  # arguments with spaces between
    program: str  # the first one, without directories
    read_at: float
    young: bool


_commands: dict[Identity, _Command] = {}


class Table:
    """All processes at one time, `at` by the monotonic clock."""

    def __init__(self, found: Iterable[Process], at: float) -> None:
        self.at = at
        self.by_pid = {process.pid: process for process in found}

    def named(self, name: str) -> list[Process]:
        """Those whose program's name, or first argument without directories, is this."""
        found = list(self._by_program.get(name, ()))
        if len(name) <= _COMM_LENGTH:
            seen = {process.pid for process in found}
            found += [process for process in self._by_comm.get(name, ()) if process.pid not in seen]
        return found

    def matching(self, pattern: LinePattern) -> list[Process]:
        """Those whose command line matches."""
        lines, begins, owners = self._lines
        return [owners[bisect_right(begins, match.begin) - 1] for match in pattern.lines(lines)]

    @cached_property
    def _by_comm(self) -> dict[str, list[Process]]:
        return _grouped((process.comm, process) for process in self.by_pid.values())

    @cached_property
    def _by_program(self) -> dict[str, list[Process]]:
        return _grouped((command.program, process) for process, command in self._described if command.program)

    @cached_property
    def _lines(self) -> tuple[bytes, list[int], list[Process]]:
        """All command lines, where each begins, and whose it is."""
        begins, owners, lines, at = [], [], [], 0
        for process, command in self._described:
            if command.line:  # the kernel's own have none
                begins.append(at)
                owners.append(process)
                lines.append(command.line)
                at += len(command.line) + 1
        return b"\n".join(lines), begins, owners

    @cached_property
    def _described(self) -> list[tuple[Process, _Command]]:
        if len(_commands) > 2 * len(self.by_pid) + 64:
            living = {process.identity for process in self.by_pid.values()}
            for identity in _commands.keys() - living:
                _commands.pop(identity, None)
        booted = time.clock_gettime(time.CLOCK_BOOTTIME)
        return [(process, _command(process, self.at, booted)) for process in self.by_pid.values()]


def _grouped(pairs: Iterable[tuple[str, Process]]) -> dict[str, list[Process]]:
    groups: dict[str, list[Process]] = {}
    for name, process in pairs:
        groups.setdefault(name, []).append(process)
    return groups


def _command(process: Process, now: float, booted: float) -> _Command:
    known = _commands.get(process.identity)
    if known is not None and known.comm == process.comm and not known.young and now - known.read_at < _COMMAND_SECONDS:
        return known
    try:
        arguments = proc.read(f"{proc.ROOT}/{process.pid}/cmdline", _COMMAND_BYTES)
    except OSError:
        arguments = b""  # it has ended
    program = arguments.split(b"\0", 1)[0].split(b": ", 1)[0].rsplit(b"/", 1)[-1].removeprefix(b"-")
    line = arguments.rstrip(b"\0").replace(b"\0", b" ").replace(b"\n", b" ")
    young = booted - process.start / TICKS_PER_SECOND < _YOUNG_SECONDS
    command = _Command(process.comm, line, program.decode(errors="replace"), now, young)
    if len(_commands) < _MAX_COMMANDS:
        _commands[process.identity] = command
    return command


def read_process(pid: int | str) -> Process | None:
    """One process; None when there is none of that id."""
    try:
        text = proc.read(f"{proc.ROOT}/{pid}/stat", _STAT_BYTES)
    except OSError:
        return None
    # A name may hold anything, parentheses too.
    begin, end = text.index(b"("), text.rindex(b")")
    fields = text[end + 2 :].split(b" ", 22)
    return Process(
        int(text[:begin]),
        int(fields[19]),
        text[begin + 1 : end].decode(errors="replace"),
        fields[0].decode(),
        int(fields[1]),
        int(fields[11]) + int(fields[12]),
        int(fields[21]),
    )


def read_table() -> Table:
    """All processes that can be seen. Raises CheckFailed."""
    try:
        pids = [name for name in os.listdir(proc.ROOT) if name.isdigit()]
    except OSError as fault:
        raise CheckFailed(f"cannot list {proc.ROOT}: {fault.strerror}") from fault
    at = time.monotonic()
    return Table((process for pid in pids if (process := read_process(pid)) is not None), at)


def started_at(process: Process) -> float:
    """When it started, in Unix seconds, as exactly as the kernel says."""
    return round(time.time() - age(process), 2)


def age(process: Process) -> float:
    """For how many seconds it has run."""
    return time.clock_gettime(time.CLOCK_BOOTTIME) - process.start / TICKS_PER_SECOND


def boot_id() -> str:
    """What tells this start of the machine from all others; empty where nothing does."""
    try:
        return proc.read(f"{proc.ROOT}/sys/kernel/random/boot_id").decode().strip()
    except OSError:
        return ""


TABLE = Reading(read_table, _FRESH)
