"""What threads take of memory for good."""

from __future__ import annotations

import ctypes
from contextlib import suppress

_M_ARENA_MAX = -8  # malloc.h


def share() -> None:
    """Have all threads share one arena of glibc's: one for each keeps what its busiest moment took (mallopt(3))."""
    with suppress(AttributeError, OSError):  # another C library
        ctypes.CDLL(None).mallopt(_M_ARENA_MAX, 1)
