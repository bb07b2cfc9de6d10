"""Processes as /proc has them, one at a time."""

from __future__ import annotations

import os
import time
from typing import NamedTuple

from hook_event_processor.watchers.host import proc

TICKS_PER_SECOND = os.sysconf("SC_CLK_TCK")
PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")
_STAT_BYTES = 1024
_COMMAND_BYTES = 4096  # of a command line, which are looked at

Identity = tuple[int, int]  # a process, whose id may be given to another one: its id and its start


class Process(NamedTuple):
    """A process as /proc/PID/stat has it; `start` in ticks since the machine started, `ticks` of the processors'.

    `read_at` is when it was so, by the monotonic clock.
    """

    pid: int
    start: int
    comm: str
    state: str
    parent: int
    ticks: int
    pages: int
    read_at: float

    @property
    def identity(self) -> Identity:
        return self.pid, self.start

    @property
    def ended(self) -> bool:
        """Whether it is there only until its parent asks how it ended."""
        return self.state in "ZXx"


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
        time.monotonic(),
    )


def read_command(pid: int) -> bytes:
    """A process's arguments, a NUL behind each, as far as they are looked at; nothing for the kernel's own."""
    try:
        return proc.read(f"{proc.ROOT}/{pid}/cmdline", _COMMAND_BYTES)
    except OSError:
        return b""  # it has ended


def age(process: Process) -> float:
    """For how many seconds it has run."""
    return time.clock_gettime(time.CLOCK_BOOTTIME) - process.start / TICKS_PER_SECOND


def started_at(process: Process) -> float:
    """When it started, in Unix seconds, as exactly as the kernel says."""
    return round(time.time() - age(process), 2)


def boot_id() -> str:
    """What tells this start of the machine from all others; empty where nothing does."""
    try:
        return proc.read(f"{proc.ROOT}/sys/kernel/random/boot_id").decode().strip()
    except OSError:
        return ""
