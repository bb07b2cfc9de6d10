"""Leaving the process that one was forked from: its session, signals, descriptors, and its share of the host."""

from __future__ import annotations

import ctypes
import faulthandler
import gc
import os
import resource
import signal
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

# prctl(2)
PR_SET_PDEATHSIG, PR_SET_NAME, PR_SET_CHILD_SUBREAPER = 1, 15, 36
_MORE_PROCESSES = 256
_FIRST_TO_GO = b"1000"  # oom_score_adj(5)


def be_alone(kept: Sequence[int]) -> None:
    """Leave the other's session, signals and descriptors, in a fork."""
    faulthandler.disable()
    gc.disable()  # nothing of the other process is ours to finalize
    os.setsid()
    signal.set_wakeup_fd(-1)
    signal.pthread_sigmask(signal.SIG_SETMASK, ())
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        # Handlers, not SIG_IGN: programs that are started from here begin with the default.
        signal.signal(number, lambda *_: None)
    nothing = os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)
    for name in os.listdir("/proc/self/fd"):
        descriptor = int(name)
        if descriptor > 2 and descriptor != nothing and descriptor not in kept:
            # Its number stays taken: an object that still has it cannot close another's.
            with suppress(OSError):
                os.dup2(nothing, descriptor, inheritable=False)


def children() -> list[int]:
    """The numbers of this process's children, of those that have ended and that nobody has waited for, too."""
    try:
        return [int(number) for number in Path(f"/proc/self/task/{os.getpid()}/children").read_text().split()]
    except OSError:
        return []


def be_first_to_go() -> None:
    """Have the kernel take this process, and what it starts, before others when memory is short."""
    with suppress(OSError):
        Path("/proc/self/oom_score_adj").write_bytes(_FIRST_TO_GO)


def limit_processes() -> None:
    """Let this process, and all that it starts, be no more than so many beside those of its user that are there.

    The kernel does not hold root to it; systemd's TasksMax= holds everybody.
    """
    with suppress(OSError, ValueError):
        used = sum(map(_threads, _numbers()))
        hard = resource.getrlimit(resource.RLIMIT_NPROC)[1]
        limit = used + _MORE_PROCESSES
        resource.setrlimit(resource.RLIMIT_NPROC, (limit if hard < 0 else min(limit, hard), hard))


def _numbers() -> list[int]:
    return [int(name) for name in os.listdir("/proc") if name.isdigit()]


def _threads(number: int) -> int:
    """How many a process of this user has; 0 for one of another."""
    try:
        path = f"/proc/{number}/task"
        return len(os.listdir(path)) if os.stat(path).st_uid == os.geteuid() else 0
    except OSError:  # it has ended, or is out of sight
        return 0


def prctl(option: int, value: int | bytes) -> None:
    """Set what the kernel remembers of this process; no harm is done where it does not know that."""
    with suppress(OSError, AttributeError):
        ctypes.CDLL(None).prctl(option, value, 0, 0, 0)
