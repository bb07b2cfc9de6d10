"""Which files that are gone live on under another name."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping

from hook_event_processor.watchers.host import birth
from hook_event_processor.watchers.host.tree import Record, Tree, shown

_MAX_NEIGHBOURS = 10_000


def among(gone: Mapping[str, Record], fresh: Iterable[str], tree: Tree) -> Iterator[tuple[str, str]]:
    """The old and the new paths of files, of those that are gone and of fresh paths."""
    by_identity = {(record.device, record.inode): path for path, record in gone.items()}
    for path in fresh:
        record = tree.records[path]
        old = by_identity.get((record.device, record.inode))
        if old is not None and _same_file(gone[old], record, tree.real(path)):
            del by_identity[record.device, record.inode]
            yield old, path


def beside(path: str, old: Record) -> str | None:
    """The name that a file that is gone from `path` has in the same directory now, if it is there."""
    if old.links > 1:  # another name may be one that it had all along
        return None
    directory = os.path.dirname(path)
    try:
        with os.scandir(directory) as entries:
            for _, entry in zip(range(_MAX_NEIGHBOURS), entries, strict=False):
                if entry.inode() == old.inode and (found := _record(entry)) and _same_file(old, found, entry.path):
                    return shown(entry.path)
    except OSError:
        return None
    return None


def _record(entry: os.DirEntry[str]) -> Record | None:
    try:
        status = entry.stat(follow_symlinks=False)
    except OSError:
        return None
    return Record(
        status.st_dev,
        status.st_ino,
        status.st_size,
        status.st_mtime_ns,
        status.st_ctime_ns,
        status.st_mode,
        status.st_nlink,
    )


def _same_file(old: Record, new: Record, path: str) -> bool:
    """Whether one inode is one file, and not an old one's number on a new file."""
    if old.device != new.device:
        return False
    born = birth.birth_ns(path)
    if born is None:
        return (old.size, old.mtime_ns) == (new.size, new.mtime_ns)
    # A file is never changed before it is made. One that is given a freed inode was made after the
    # old one's last change.
    return born <= old.ctime_ns
