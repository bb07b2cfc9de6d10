"""File systems that may not answer, where whoever touches them waits: where they are, and what leads there."""

from __future__ import annotations

import os
from collections.abc import Collection

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


def _target(path: str) -> str | None:
    try:
        return os.readlink(path)
    except OSError:
        return None
