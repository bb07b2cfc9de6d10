"""File systems that may not answer, where whoever touches them waits: where they are, and what leads there."""

from __future__ import annotations

import os
import stat
from collections.abc import Collection, Iterator

from hook_event_processor.watchers.check import CheckFailed
from hook_event_processor.watchers.host import mounts

# Another machine answers for what is on them, or a program; autofs mounts such ones when a path is touched.
_TYPES = {
    *("nfs", "nfs4", "cifs", "smb3", "smbfs", "9p", "virtiofs", "vboxsf", "fuse", "fuseblk", "autofs"),
    *("ceph", "glusterfs", "lustre", "gpfs", "beegfs", "orangefs", "afs", "coda", "gfs2", "ocfs2"),
}
_MAX_LINKS = 40  # as the kernel follows on one path


def points() -> frozenset[str]:
    """Where such file systems are mounted; none when the list cannot be read, of which watchers of disks tell.

    Neither the root nor below /proc: where those do not answer, this program does not work either.
    """
    try:
        types = {mount.point: mount.type.partition(".")[0] for mount in mounts.all_mounts()}  # the last one at a place
    except CheckFailed:
        return frozenset()
    return frozenset(
        point for point, type_ in types.items() if type_ in _TYPES and point != "/" and not point.startswith("/proc/")
    )


def is_far(path: str, far: Collection[str]) -> bool:
    """Whether an absolute path leads, by links maybe, to or through one of these points; none of them is touched."""
    if not far:
        return False
    at = ""
    names = path.split("/")[::-1]
    links = 0
    while names and links <= _MAX_LINKS:
        name = names.pop()
        if name == "..":
            at = at.rpartition("/")[0]
        elif name not in ("", "."):
            below = f"{at}/{name}"
            if below in far:
                return True
            target = _target(below)
            if target is None:
                at = below
            else:
                links += 1
                at = "" if target.startswith("/") else at
                names += target.split("/")[::-1]
    return False


def is_below(path: str, far: Collection[str]) -> bool:
    """Whether a walk through all below an absolute path, and where links lead, comes to one of these points."""
    if is_far(path, far):
        return True
    seen: set[tuple[int, int]] = set()
    waiting = [path.rstrip("/")] if far else []
    while waiting:
        for below, is_link in _entries(waiting.pop()):
            if below in far or (is_link and is_far(below, far)):
                return True
            if not is_link or _is_new_directory(below, seen):
                waiting.append(below)
    return False


def _entries(directory: str) -> Iterator[tuple[str, bool]]:
    """The directories in one, and the links: whether it is one."""
    try:
        with os.scandir(directory or "/") as entries:
            for entry in entries:
                if entry.is_symlink() or entry.is_dir(follow_symlinks=False):
                    yield f"{directory}/{entry.name}", entry.is_symlink()
    except OSError:
        return


def _is_new_directory(link: str, seen: set[tuple[int, int]]) -> bool:
    """Whether a link leads to a directory, and is the first that leads to this one."""
    try:
        status = os.stat(link)
    except OSError:
        return False
    directory = (status.st_dev, status.st_ino)
    if not stat.S_ISDIR(status.st_mode) or directory in seen:
        return False
    seen.add(directory)
    return True


def _target(path: str) -> str | None:
    try:
        return os.readlink(path)
    except OSError:
        return None
