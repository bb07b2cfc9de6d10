"""Stamps: what tells that a file was written since it was read."""

from __future__ import annotations

import os
import time
from typing import NamedTuple

# A file system's clock goes in steps, of two seconds at most (FAT): what is written within the same one, after the
# file was read, leaves the stamp as it was.
_STEP_NS = 2_000_000_000


class Stamp(NamedTuple):
    """A file's time of modification (nanoseconds), size (bytes) and inode."""

    mtime_ns: int
    size: int
    inode: int

    def lasts(self) -> bool:
        """Whether no later change can bear this stamp, so that what is read now may be kept by it."""
        return is_past(self.mtime_ns)


def of(path: str) -> Stamp:
    """The stamp of a file, links followed. Raises OSError."""
    status = os.stat(path)
    return Stamp(status.st_mtime_ns, status.st_size, status.st_ino)


def is_past(mtime_ns: int) -> bool:
    """Whether a file system's clock has left this time for sure."""
    return time.time_ns() - mtime_ns > _STEP_NS
