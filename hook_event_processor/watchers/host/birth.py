"""When a file came into being, which tells a renamed file from a new one that was given an old one's inode."""

from __future__ import annotations

import ctypes
import os
import struct
from collections.abc import Callable
from functools import cache

# statx(2), and struct statx of <linux/stat.h>.
_AT_FDCWD = -100
_AT_SYMLINK_NOFOLLOW = 0x100
_AT_EMPTY_PATH = 0x1000
_STATX_BTIME = 0x800
_STATX_BYTES = 256
_BIRTH_OFFSET = 80
_BIRTH = struct.Struct("=qI")

_Statx = Callable[[int, bytes, int, int, object], int]


@cache
def _statx() -> _Statx | None:
    """The C library's function, where it has it."""
    try:
        function: _Statx = ctypes.CDLL(None).statx
    except (AttributeError, OSError):
        return None
    return function


def birth_ns(path: str) -> int | None:
    """When the file itself (not what a link points to) was made, in Unix nanoseconds; None where nobody knows."""
    return _birth(_AT_FDCWD, os.fsencode(path), _AT_SYMLINK_NOFOLLOW)


def birth_ns_of(descriptor: int) -> int | None:
    """When an open file was made, likewise."""
    return _birth(descriptor, b"", _AT_EMPTY_PATH)


def _birth(directory: int, path: bytes, flags: int) -> int | None:
    call = _statx()
    if call is None:
        return None
    buffer = ctypes.create_string_buffer(_STATX_BYTES)
    if call(directory, path, flags, _STATX_BTIME, buffer) != 0:
        return None
    (mask,) = struct.unpack_from("=I", buffer)
    if not mask & _STATX_BTIME:
        return None
    seconds, nanoseconds = _BIRTH.unpack_from(buffer, _BIRTH_OFFSET)
    return int(seconds * 1_000_000_000 + nanoseconds)
