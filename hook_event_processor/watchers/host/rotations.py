"""The files that a log was before the one at its path: beside it, under names that rotation gave them."""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Iterator, Sequence
from contextlib import suppress
from itertools import islice

from hook_event_processor.watchers.check import CheckFailed
from hook_event_processor.watchers.host import birth, log_reader
from hook_event_processor.watchers.host.log_reader import Mark, Reader

MAX_FILES = 32  # that are open at a time
_MAX_NEIGHBOURS = 10_000
_OVERLAP_NS = 3600 * 10**9  # for which a file may still be written to when the next has come into being
# What is added to the log's name: a number, a date, or "old". What is compressed is not read.
_ADDED = re.compile(r"[-._](\d[-._:TZ\d]*|old)")


def marked(path: str, mark: Mark) -> Reader | None:
    """The file of a mark, whatever its name is now, from where the mark says; None when it cannot be found."""
    for entry in _neighbours(path):
        if entry.inode() == mark.inode:
            with suppress(OSError):  # one that cannot be read is as good as lost
                reader = _opened(entry.path)
                return reader if reader is not None and reader.resume(mark) else None
    return None


def between(
    path: str, last: Reader | Mark, following: Reader | None, known: Sequence[Reader]
) -> tuple[list[Reader], bool]:
    """The files that were the log after the last and before the following, oldest first; and whether these are all.

    They are known by their names and by when they came into being. Where the
    file system does not say that, what was written to since the last is missing.
    """
    since = last.born if last.since is None else last.since
    if since is not None and isinstance(last, Reader):
        since = max(since, last.modified_ns - _OVERLAP_NS)  # what is older was another log
    inodes = {reader.identity[1] for reader in known}
    candidates = []
    are_all = True
    for file, status in _rotated(path):
        if status.st_ino in inodes:
            continue
        born = birth.birth_ns(file)
        if born is None or since is None:
            are_all = are_all and isinstance(last, Reader) and status.st_mtime_ns <= last.modified_ns
        # One that was made after it was written is a copy.
        elif since < born <= status.st_mtime_ns and _is_before(born, following):
            candidates.append((born, file))
    candidates.sort()
    found: list[Reader] = []
    for _, file in candidates[-MAX_FILES:]:
        try:
            reader = _opened(file)
            if reader is not None and not _repeats(reader, last, [*known, *found]):
                found.append(reader)
        except OSError:
            reader = None
        are_all = are_all and reader is not None
    return found, are_all and len(candidates) <= MAX_FILES


def _is_before(born: int, following: Reader | None) -> bool:
    return following is None or following.born is None or born < following.born


def _repeats(reader: Reader, last: Reader | Mark, known: Sequence[Reader]) -> bool:
    """Whether it is a copy of what is read anyway, or was."""
    if isinstance(last, Mark) and last.offset and reader.holds(last):
        return True
    return any(reader.is_copy_of(other) for other in known)


def _rotated(path: str) -> Iterator[tuple[str, os.stat_result]]:
    """Files whose name is the log's with something added by rotation."""
    names = {os.path.basename(path), os.path.basename(os.path.realpath(path))}
    for entry in _neighbours(path):
        if any(entry.name.startswith(name) and _ADDED.fullmatch(entry.name[len(name) :]) for name in names):
            with suppress(OSError):
                status = entry.stat(follow_symlinks=False)
                if stat.S_ISREG(status.st_mode):
                    yield entry.path, status


def _neighbours(path: str) -> Iterator[os.DirEntry[str]]:
    try:
        with os.scandir(os.path.dirname(os.path.realpath(path))) as entries:
            yield from islice(entries, _MAX_NEIGHBOURS)
    except OSError:
        return


def _opened(file: str) -> Reader | None:
    try:
        return log_reader.opened(file)
    except CheckFailed:
        return None
