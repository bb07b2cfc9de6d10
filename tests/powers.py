"""What a process may do beyond an ordinary user's means: less of it, or lent to the programs that it starts."""

from __future__ import annotations

import ctypes
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

_NOBODY = 65534
_CAP_DAC_READ_SEARCH = 1 << 2
_PR_CAP_AMBIENT, _PR_CAP_AMBIENT_RAISE = 47, 2  # linux/prctl.h


def capabilities(which: str) -> int:
    """A set of this thread's capabilities, by its name in /proc: a bit each."""
    return int(Path("/proc/thread-self/status").read_text().split(f"{which}:")[1].split()[0], 16)


def lend_capabilities() -> None:
    """As the unit does, have programs inherit what this thread may let them inherit."""
    lendable = capabilities("CapInh") & capabilities("CapPrm")
    if not lendable:
        pytest.skip("there is no capability to lend: run by tests/test_systemd_sandbox.py")
    libc = ctypes.CDLL(None)
    for number in range(lendable.bit_length()):
        if lendable >> number & 1:
            assert libc.prctl(_PR_CAP_AMBIENT, _PR_CAP_AMBIENT_RAISE, number, 0, 0) == 0


@contextmanager
def without_reading_all() -> Iterator[None]:
    """As a user who may not read what nobody is let read."""
    if os.geteuid() == 0:
        os.seteuid(_NOBODY)
        try:
            yield
        finally:
            os.seteuid(0)
    elif capabilities("CapEff") & _CAP_DAC_READ_SEARCH:
        pytest.skip("who may read everything is refused nothing: run by tests/test_systemd_sandbox.py")
    else:
        yield
