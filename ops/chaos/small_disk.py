"""A file system that is soon full: a tmpfs of some megabytes, seen by this process and its children alone."""

from __future__ import annotations

import ctypes
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path

_CLONE_NEWNS, _CLONE_NEWUSER = 0x00020000, 0x10000000  # sched.h
_MS_NOSUID, _MS_REC, _MS_PRIVATE = 2, 0x4000, 1 << 18  # sys/mount.h
_MNT_DETACH = 2
_PAGE_BYTES, _MARGIN_BYTES = 4096, 4 << 20
_C = ctypes.CDLL(None, use_errno=True)


@cache
def no_private_mounts() -> str | None:
    """Give this process mounts of its own; the reason when that is refused.

    Threads that are there already do not get them. An ordinary user needs a
    user namespace, and for that a process with a single thread.
    """
    uid, gid = os.geteuid(), os.getegid()
    if _C.unshare(_CLONE_NEWNS | (_CLONE_NEWUSER if uid else 0)) != 0:
        return f"no mount namespace may be made here: {os.strerror(ctypes.get_errno())}"
    if uid:
        Path("/proc/self/setgroups").write_text("deny")
        Path("/proc/self/uid_map").write_text(f"{uid} {uid} 1")
        Path("/proc/self/gid_map").write_text(f"{gid} {gid} 1")
    _mount(None, Path("/"), None, _MS_REC | _MS_PRIVATE, "")
    return None


def _mount(source: str | None, target: Path, kind: str | None, flags: int, options: str) -> None:
    arguments = [None if text is None else text.encode() for text in (source, str(target), kind)]
    if _C.mount(*arguments, ctypes.c_ulong(flags), options.encode()) != 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()), str(target))


class SmallDisk:
    """A mounted file system with a ballast that takes what is left of it."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._ballast = path / "ballast"

    def fill(self) -> None:
        """Leave nothing, whoever else writes meanwhile."""
        with self._ballast.open("ab", buffering=0) as file, suppress(OSError):  # it is full
            os.posix_fallocate(file.fileno(), 0, max(self.free - _MARGIN_BYTES, 1))
            while True:
                file.write(bytes(_PAGE_BYTES))

    def clear(self) -> None:
        """Give back what fill() took."""
        self._ballast.unlink(missing_ok=True)

    @property
    def free(self) -> int:
        """Bytes."""
        found = os.statvfs(self.path)
        return found.f_bavail * found.f_frsize


@contextmanager
def small_disk(path: Path, megabytes: int) -> Iterator[SmallDisk]:
    """A file system of this size at `path`, which is made; where no_private_mounts() is None."""
    path.mkdir()
    _mount("chaos", path, "tmpfs", _MS_NOSUID, f"size={megabytes}M,mode=755")
    try:
        yield SmallDisk(path)
    finally:
        # Whoever still has a file there is about to end.
        _C.umount2(str(path).encode(), _MNT_DETACH)
