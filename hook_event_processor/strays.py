"""The processes that a program started and left behind: found by session, by descent and by a mark, and killed."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from time import sleep

_PROC = Path("/proc")
_ROUNDS = 20  # a process may start another one while it is looked for
_PAUSE_SECONDS = 0.005  # what the kernel needs to bury the killed
_DEAD = (b"Z", b"X")


@dataclass(frozen=True, slots=True)
class _Process:
    number: int
    parent: int
    session: int
    started: bytes  # in clock ticks since boot: tells two processes of one number apart
    marked: bool


def kill_strays(session: int, mark: bytes) -> None:
    """Kill every process of the session, every descendant of one, and every one whose environment holds `mark`.

    A process hides from this only by giving up its session, its parents and
    its environment, all three.
    """
    for _ in range(_ROUNDS):
        family = _family(session, mark)
        if not family:
            return
        for process in family:
            _kill(process)
        sleep(_PAUSE_SECONDS)


def _family(session: int, mark: bytes) -> list[_Process]:
    others = {process.number: process for process in _processes(mark)}
    found: dict[int, _Process] = {}
    while True:
        more = [
            process
            for process in others.values()
            if process.session == session or process.marked or process.parent in found
        ]
        if not more:
            return list(found.values())
        for process in more:
            found[process.number] = others.pop(process.number)


def _processes(mark: bytes) -> Iterator[_Process]:
    """All that can be seen, and are alive; this one is not among them."""
    try:
        numbers = [int(name) for name in os.listdir(_PROC) if name.isdigit()]
    except OSError:
        return  # without /proc there is the process group only
    for number in numbers:
        process = _read(number, mark)
        if process is not None and number != os.getpid():
            yield process


def _read(number: int, mark: bytes) -> _Process | None:
    try:
        # proc_pid_stat(5): the name stands in parentheses and may hold any byte.
        fields = (_PROC / str(number) / "stat").read_bytes().rpartition(b")")[2].split()
    except OSError:
        return None
    if fields[0] in _DEAD:
        return None
    return _Process(number, int(fields[1]), int(fields[3]), fields[19], _is_marked(number, mark))


def _is_marked(number: int, mark: bytes) -> bool:
    try:
        return mark in (_PROC / str(number) / "environ").read_bytes().split(b"\0")
    except OSError:
        return False  # somebody else's


def _kill(process: _Process) -> None:
    try:
        held = os.pidfd_open(process.number)
    except OSError:
        return
    try:
        # The number may be another's by now; what is held cannot become one.
        again = _read(process.number, b"")
        if again is not None and again.started == process.started:
            signal.pidfd_send_signal(held, signal.SIGKILL)
    except OSError:
        pass  # gone, or of a user who is out of reach
    finally:
        os.close(held)
