"""What inotify(7) tells of directories, and of all below them: no link below is followed."""

from __future__ import annotations

import ctypes
import errno
import os
import select
import struct
from collections.abc import Collection, Iterable
from functools import cache

from hook_event_processor.watchers.host import tree

# <sys/inotify.h>
_ATTRIB, _MODIFY = 0x4, 0x2
_MOVED_FROM, _MOVED_TO, _CREATE, _DELETE = 0x40, 0x80, 0x100, 0x200
_OVERFLOW, _IGNORED, _IS_DIRECTORY = 0x4000, 0x8000, 0x40000000
_ONLY_DIRECTORIES, _NOT_A_LINK = 0x1000000, 0x2000000
_NAMES = _MOVED_FROM | _MOVED_TO | _CREATE | _DELETE
_EVENT = struct.Struct("=iIII")
_READ_BYTES = 1 << 20  # at a time: most of what the kernel keeps
_MAX_WATCHES = tree.MAX_ENTRIES  # each takes some memory, here and in the kernel
_GONE = (errno.ENOENT, errno.ENOTDIR, errno.ENAMETOOLONG)


class Inotify:
    """One set of watches. Used by one thread, and to be closed. Others go on while it looks for directories.

    OSError passes through when there may be no more such sets.
    """

    def __init__(self, recursive: bool) -> None:
        self._recursive = recursive
        self._paths: dict[int, tuple[str, ...]] = {}  # a directory may be there by several
        self._barred: Collection[str] = ()
        self._descriptor = _called("inotify_init1", os.O_NONBLOCK | os.O_CLOEXEC)
        self._poll = select.poll()
        self._poll.register(self._descriptor, select.POLLIN)
        self.fault: OSError | None = None  # why some directories cannot be watched, of those that are wanted

    def watch(self, directories: Iterable[str], barred: Collection[str] = ()) -> None:
        """From now on, watch these and no others; what is to be barred below them is not touched."""
        before, self._paths = self._paths, {}
        self._barred = barred
        self.fault = None
        for directory in directories:
            self._add_all(directory, 0)
        for watch in before.keys() - self._paths.keys():
            self._remove(watch)

    def wait(self, seconds: float) -> bool:
        """Whether there is something to be read, within so many seconds."""
        return bool(self._poll.poll(seconds * 1000))

    def read(self) -> dict[str, bool]:
        """The paths that have changed: whether something came or went by that name, or was changed only.

        What has come is watched before it is told. Raises OSError when the kernel could not keep all.
        """
        changed: dict[str, bool] = {}
        came: list[str] = []
        went: list[str] = []
        for watch, mask, name in self._events():
            if mask & _IGNORED:
                self._paths.pop(watch, None)
            for directory in self._paths.get(watch, ()):
                path = os.path.join(directory, name) if name else directory
                changed[path] = changed.get(path, False) or bool(mask & _NAMES)
                if mask & _IS_DIRECTORY and mask & (_CREATE | _MOVED_TO):
                    came.append(path)
                elif mask & _IS_DIRECTORY and mask & _MOVED_FROM:
                    went.append(path)
        if self._recursive:
            if went:
                self._forget(went)
            for path in came:
                self._add_all(path, _NOT_A_LINK)
        return changed

    def close(self) -> None:
        os.close(self._descriptor)

    def _events(self) -> Iterable[tuple[int, int, str]]:
        """Watch, mask and name of each; no name for the directory itself."""
        try:
            read = os.read(self._descriptor, _READ_BYTES)
        except BlockingIOError:
            return
        at = 0
        while at < len(read):
            watch, mask, _, length = _EVENT.unpack_from(read, at)
            at += _EVENT.size + length
            if mask & _OVERFLOW:
                raise OSError("more has changed than the kernel keeps (fs.inotify.max_queued_events)")
            yield watch, mask, os.fsdecode(read[at - length : at].rstrip(b"\0"))

    def _add_all(self, directory: str, flags: int) -> None:
        """Watch a directory, and all below it where that is wanted."""
        waiting = [directory]
        while waiting:
            directory = waiting.pop()
            # Before it is listed: what comes between is told of.
            if directory not in self._barred and self._add(directory, flags) and self._recursive:
                waiting += _below(directory)
            flags = _NOT_A_LINK

    def _add(self, directory: str, flags: int) -> bool:
        """Whether it is watched now, and was not by that path."""
        try:
            if len(self._paths) >= _MAX_WATCHES:
                raise OSError(f"there are more than {_MAX_WATCHES} directories")
            mask = _NAMES | _ATTRIB | _MODIFY | _ONLY_DIRECTORIES | flags
            watch = _called("inotify_add_watch", self._descriptor, os.fsencode(directory), mask, path=directory)
        except OSError as fault:
            if fault.errno not in _GONE:
                self.fault = self.fault or fault
            return False
        paths = self._paths.get(watch, ())
        if directory in paths:
            return False
        self._paths[watch] = (*paths, directory)
        return True

    def _forget(self, went: Collection[str]) -> None:
        """Watch no more what has moved away, which would be told of by the paths of before."""
        below = tuple(f"{directory}/" for directory in went)
        for watch, paths in list(self._paths.items()):
            left = tuple(path for path in paths if path not in went and not path.startswith(below))
            if not left:
                del self._paths[watch]
                self._remove(watch)
            elif left != paths:
                self._paths[watch] = left

    def _remove(self, watch: int) -> None:
        # Of a directory that is gone the kernel has removed it.
        _library().inotify_rm_watch(self._descriptor, watch)


def _below(directory: str) -> list[str]:
    root = directory.rstrip("/")
    try:
        return [f"{root}/{one.name}" for one in tree.entries(root, []) if one.is_dir(follow_symlinks=False)]
    except OSError:
        return []


@cache
def _library() -> ctypes.CDLL:
    return ctypes.CDLL(None, use_errno=True)


def _called(name: str, *arguments: int | bytes, path: str | None = None) -> int:
    """What a function of the C library returns; the GIL is not held meanwhile. Raises OSError."""
    returned = int(getattr(_library(), name)(*arguments))
    if returned < 0:
        number = ctypes.get_errno()
        text = os.strerror(number)
        if number == errno.ENOSPC:
            text = "there are too many watches (fs.inotify.max_user_watches)"
        raise OSError(number, text, path)
    return returned
