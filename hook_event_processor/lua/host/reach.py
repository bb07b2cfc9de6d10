"""Paths below the directories that policy grants, gone step by step, so that nothing leads out of them.

Each step opens one name in a directory that is already held, and never
through a link; links are read and gone the same way. There is no moment
between a check and a use in which another program could exchange one for the
other.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass

_HELD = os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW
_MAX_LINKS = 40  # as the kernel's own limit, path_resolution(7)
_MAX_STEPS = 4096
_NOT_A_LINK = (errno.EINVAL, errno.ENOENT)


class Outside(Exception):
    """The path leads out of the roots."""


@dataclass(frozen=True, slots=True)
class Place:
    """A name in a directory that is held open; `.` is a root itself. `path` is how it is called without links."""

    directory: int
    name: bytes
    path: bytes


@contextmanager
def reach(roots: Sequence[bytes], path: bytes, *, follow: bool = True, make: bool = False) -> Iterator[Place]:
    """Where a path leads; one that does not begin with / begins at the first root.

    The name at its end need not exist. Whoever opens it must not follow
    links; with `follow`, there was none that could be followed. With `make`
    missing directories on the way are made. Raises Outside, or OSError when
    there is no way.
    """
    way = _Way(roots, path, make)
    try:
        name = way.go(follow)
        yield Place(way.directory, name, way.path(name))
    finally:
        way.leave()


def written(roots: Sequence[bytes], path: bytes) -> bytes:
    """The path's name as it is written, for one that leads through what does not exist. Raises Outside."""
    root, pending = _below(roots, path)
    names: list[bytes] = []
    for part in reversed(pending):
        if part != b"..":
            names.append(part)
        elif names:
            names.pop()
        else:
            raise Outside
    return b"/".join([root, *names])


class _Way:
    """A walk along a path. It holds one directory at a time."""

    def __init__(self, roots: Sequence[bytes], path: bytes, make: bool) -> None:
        self._roots = roots
        self._make = make
        self._steps = self._links = 0
        self.directory = -1
        root, self._pending = _below(roots, path)  # the next name is the last of the list
        self._begin(root)

    def leave(self) -> None:
        if self.directory >= 0:
            os.close(self.directory)
            self.directory = -1

    def path(self, name: bytes) -> bytes:
        return b"/".join([self._root, *self._names, *([name] if name != b"." else [])])

    def go(self, follow: bool) -> bytes:
        """Go to the last directory; returns the name in it."""
        while self._pending:
            self._steps += 1
            if self._steps > _MAX_STEPS:
                raise OSError(errno.ELOOP, os.strerror(errno.ELOOP))
            part = self._pending.pop()
            if part == b"..":
                self._back()
            elif self._pending:
                self._enter(part)
            elif not (follow and self._follow(part)):
                return part
        return b"."

    def _begin(self, root: bytes) -> None:
        # What the root's own path leads through is the matter of whoever granted it.
        self._hold(os.open(root, _HELD & ~os.O_NOFOLLOW))
        self._root = root
        self._names: list[bytes] = []

    def _hold(self, directory: int) -> None:
        self.leave()
        self.directory = directory

    def _enter(self, part: bytes) -> None:
        try:
            directory = self._opened(part)
        except NotADirectoryError:
            if not self._follow(part):
                raise
            return
        self._hold(directory)
        self._names.append(part)

    def _opened(self, part: bytes) -> int:
        try:
            return os.open(part, _HELD, dir_fd=self.directory)
        except FileNotFoundError:
            if not self._make:
                raise
        with suppress(FileExistsError):
            os.mkdir(part, 0o700, dir_fd=self.directory)
        return os.open(part, _HELD, dir_fd=self.directory)

    def _back(self) -> None:
        """Up by one: from the root again, not by `..`, which is wherever the directory has been moved to."""
        if not self._names:
            raise Outside
        self._pending += self._names[-2::-1]
        self._begin(self._root)

    def _follow(self, part: bytes) -> bool:
        """Go on where the link leads to; False when there is no link of that name."""
        try:
            target = os.readlink(part, dir_fd=self.directory)
        except OSError as fault:
            if fault.errno in _NOT_A_LINK:
                return False
            raise
        self._links += 1
        if self._links > _MAX_LINKS:
            raise OSError(errno.ELOOP, os.strerror(errno.ELOOP))
        if target.startswith(b"/"):
            root, pending = _below(self._roots, target)
            self._begin(root)
            self._pending += pending
        else:
            self._pending += _reversed_parts(target)
        return True


def _below(roots: Sequence[bytes], path: bytes) -> tuple[bytes, list[bytes]]:
    """The root that the path begins with, and the names below it, the first one last. Raises Outside."""
    if not roots:
        raise Outside
    pending = _reversed_parts(path)
    if not path.startswith(b"/"):
        return roots[0], pending
    for root in sorted(roots, key=len, reverse=True):
        for known_as in (root, os.path.realpath(root)):
            beginning = _reversed_parts(known_as)
            rest = len(pending) - len(beginning)
            if rest >= 0 and pending[rest:] == beginning:
                return root, pending[:rest]
    raise Outside


def _reversed_parts(path: bytes) -> list[bytes]:
    return [part for part in reversed(path.split(b"/")) if part not in (b"", b".")]
