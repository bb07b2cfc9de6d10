"""Keeps the programs that hooks and watchers run from looking into the process that runs them, and from its powers."""

from __future__ import annotations

import ctypes
import os
from functools import cache

# linux/prctl.h
_PR_SET_DUMPABLE = 4
_PR_CAP_AMBIENT, _PR_CAP_AMBIENT_CLEAR_ALL = 47, 4


@cache
def shut_to_programs() -> None:
    """Close this process's environment, memory and descriptors in /proc, and tracing, to all but root.

    prctl(2), PR_SET_DUMPABLE. The database's password stands in the
    environment, which any program of the same user could read. Raises OSError.
    """
    if _libc().prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0) != 0:
        number = ctypes.get_errno()
        raise OSError(number, f"the processor cannot shut itself to it: {os.strerror(number).lower()}")


def lend_no_capabilities() -> None:
    """Have the programs that this thread starts inherit none of the process's capabilities.

    capabilities(7): what an unprivileged service is given are ambient ones,
    which programs inherit; they are a thread's own, and it keeps its others.
    """
    _libc().prctl(_PR_CAP_AMBIENT, _PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0)


@cache
def _libc() -> ctypes.CDLL:
    return ctypes.CDLL(None, use_errno=True)
