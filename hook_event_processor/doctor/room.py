"""Room on a disk."""

from __future__ import annotations

import os
import shlex
from collections.abc import Iterator
from pathlib import Path

from hook_event_processor.doctor.finding import Finding, Kind, Level

_FREE_SHARE = 0.05
_ENOUGH_BYTES = 10 << 30

DISK_FULL = Kind(
    "disk-full",
    Level.PROBLEM,
    "Little room is left. When there is none, PostgreSQL stops, or watchers give up what they could not send.",
)


def full_disk(path: Path, whose: str) -> Iterator[Finding]:
    """The finding of a disk with less than a twentieth free, unless that is plenty; `path` need not exist yet."""
    there = next((above for above in (path, *path.parents) if _exists(above)), None)
    if there is None:
        return
    disk = os.statvfs(there)
    free, size = disk.f_bavail * disk.f_frsize, disk.f_blocks * disk.f_frsize
    if size and free < min(size * _FREE_SHARE, _ENOUGH_BYTES):
        what = f"the disk of {whose} at {there} has {free / 2**20:,.1f} of {size / 2**20:,.0f} MB left"
        yield Finding(
            DISK_FULL, what, (f"du -xh --max-depth=2 {shlex.quote(str(there))} | sort -h | tail  # what takes it",)
        )


def _exists(path: Path) -> bool:
    try:
        return path.exists()
    except OSError:  # no way in for this user
        return False
