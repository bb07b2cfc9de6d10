"""What threads take of memory for good."""

from __future__ import annotations

import ctypes
from contextlib import suppress

_M_ARENA_MAX = -8  # malloc.h


def share(arenas: int) -> None:
    """Have all threads share so many of glibc's arenas (mallopt(3)).

    With one for each, up to eight for each core, each keeps what its busiest
    moment took; threads that compute at once and share one wait for each other.
    """
    with suppress(AttributeError, OSError):  # another C library
        ctypes.CDLL(None).mallopt(_M_ARENA_MAX, arenas)
