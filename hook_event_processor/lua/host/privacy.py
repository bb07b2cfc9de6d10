"""Keeps the programs that hooks run from looking into the processor, whose user they share."""

from __future__ import annotations

import ctypes
import os
from functools import cache

_PR_SET_DUMPABLE = 4  # linux/prctl.h


@cache
def shut_to_programs() -> None:
    """Close this process's environment, memory and descriptors in /proc, and tracing, to all but root.

    prctl(2), PR_SET_DUMPABLE. The database's password stands in the
    environment, which any program of the same user could read. Raises OSError.
    """
    if ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0) != 0:
        number = ctypes.get_errno()
        raise OSError(number, f"the processor cannot shut itself to it: {os.strerror(number).lower()}")
