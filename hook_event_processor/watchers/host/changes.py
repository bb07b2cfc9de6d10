"""What the file system tells of at once: changes below directories, as inotify sees them."""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from pathlib import Path
from queue import SimpleQueue
from time import monotonic
from typing import Generic, TypeVar

from hook_event_processor.watchers.faults import FaultLog
from hook_event_processor.watchers.host import far
from hook_event_processor.watchers.host.inotify import Inotify

Who = TypeVar("Who")
_STEP_SECONDS = 0.1  # in which changes come together; whoever is told waits for the end of a burst by itself
_LOOK_SECONDS = 1.0
_REFRESH_SECONDS = 20.0  # directories that came or were replaced without a word are found again
_RETRY_SECONDS = 60.0
_BLIND_SECONDS = 5.0  # after more changes than the kernel keeps: there may be more of them

# A directory with its device and inode: another one may come to be at its place.
_Seen = tuple[str, int, int]


class _Tree(Generic[Who]):
    """Who is to be told of which paths; not changed once it is made."""

    def __init__(self, wanted: Iterable[tuple[Who, Sequence[str], bool]]) -> None:
        self._paths: dict[str, list[Who]] = {}
        self._below: dict[str, list[Who]] = {}
        self.deep: set[str] = set()
        self.flat: set[str] = set()
        for who, paths, recursive in wanted:
            for path in paths:
                self._add(who, os.path.abspath(path), recursive)

    def _add(self, who: Who, path: str, recursive: bool) -> None:
        self._paths.setdefault(path, []).append(who)
        # Of the directory itself the one above tells: that it is gone, or that it is there now.
        self.flat.add(os.path.dirname(path))
        if os.path.islink(path):
            target = os.path.realpath(path)
            self._paths.setdefault(target, []).append(who)
            self.flat.add(os.path.dirname(target))
        if os.path.isdir(path):
            self._below.setdefault(path, []).append(who)
            if recursive:
                self.deep.add(path)
            else:
                self.flat.add(path)

    def told(self, path: str) -> set[Who]:
        """Who is to be told of a change of this path."""
        found = set(self._paths.get(path, ()))
        above = os.path.dirname(path)
        found.update(self._below.get(above, ()))
        while above != "/" and self.deep:
            if above in self.deep:
                found.update(self._below[above])
            above = os.path.dirname(above)
        return found

    def told_within(self, directories: set[str]) -> set[Who]:
        """Who is to be told when these directories have come, with what is in them."""
        found = (
            told for path, told in self._paths.items() if path in directories or os.path.dirname(path) in directories
        )
        return set().union(*found)

    def is_directory(self, path: str) -> bool:
        """Whether it was one that somebody wants to be told of, or is one now."""
        return path in self._below or (path in self._paths and os.path.isdir(path))


class Changes(Generic[Who]):
    """Tells of changes from threads of its own, which are there while anything is to be told of.

    Paths that cannot be watched, on network file systems say, are told of by nobody.
    """

    def __init__(self, tell: Callable[[set[Who]], None]) -> None:
        """`tell` is called on these threads with who is to look."""
        self._tell = tell
        self._lock = threading.Lock()
        self._wanted: Mapping[Who, tuple[Sequence[str], bool]] = {}
        self._tree: _Tree[Who] = _Tree(())
        self._eyes: dict[bool, _Eyes[Who]] = {}
        self.stopping = threading.Event()
        self.faults = FaultLog("changes that are not seen at once")

    def watch(self, wanted: Mapping[Who, tuple[Sequence[str], bool]]) -> None:
        """From now on, tell of these paths: of each with all below it, where that is asked for."""
        self._wanted = wanted
        self.refresh()

    def refresh(self, replaced: Collection[str] = ()) -> None:
        """Find out anew which of the paths are directories; what is at `replaced` now is not what was there."""
        with self._lock:
            self._tree = _Tree((who, paths, recursive) for who, (paths, recursive) in self._wanted.items())
            for recursive, directories in ((False, self._tree.flat), (True, self._tree.deep)):
                if directories and recursive not in self._eyes:
                    eyes = _Eyes(self, recursive)
                    eyes.start()
                    self._eyes[recursive] = eyes
            for eyes in self._eyes.values():
                eyes.refresh_soon(replaced)

    def stop(self) -> None:
        self.stopping.set()

    def directories(self, recursive: bool) -> set[str]:
        return self._tree.deep if recursive else self._tree.flat

    def changed(self, changes: Mapping[str, bool]) -> None:
        """These paths have: whether something came or went by that name, or was changed only."""
        tree = self._tree
        self._say(set().union(*(tree.told(path) for path in changes)))
        directories = {path for path in changes if tree.is_directory(path)}
        if directories:
            self.refresh({path for path in directories if changes[path]})

    def came(self, directories: set[str]) -> None:
        if directories:
            self.refresh()  # what is to be told of may lie in them, as a directory
            self._say(self._tree.told_within(directories))

    def _say(self, told: set[Who]) -> None:
        if told:
            self._tell(told)


class _Eyes(threading.Thread, Generic[Who]):
    """One thread on one set of inotify's watches: of directories, or of trees."""

    def __init__(self, changes: Changes[Who], recursive: bool) -> None:
        super().__init__(name=f"changes-{'trees' if recursive else 'directories'}", daemon=True)
        self._changes = changes
        self._recursive = recursive
        self._notify: Inotify | None = None
        self._seen: frozenset[_Seen] = frozenset()
        self._replaced: SimpleQueue[str] = SimpleQueue()
        self._refresh_at = self._blind_until = 0.0
        self._retry_at = float("inf")
        self._fault = self._blinded_by = ""

    def run(self) -> None:
        while not self._changes.stopping.is_set():
            try:
                self._step()
            except Exception as fault:  # nobody would start this thread again
                self._rest(str(fault))
        self._close()

    def _step(self) -> None:
        if monotonic() >= max(self._refresh_at, self._blind_until):
            self._refresh_at = monotonic() + _REFRESH_SECONDS
            self._refresh()
        if self._notify is None:
            self._changes.stopping.wait(_LOOK_SECONDS)
        elif self._notify.wait(_LOOK_SECONDS):
            self._changes.stopping.wait(_STEP_SECONDS)
            self._changes.changed(self._notify.read())

    def _rest(self, fault: str) -> None:
        if fault != self._blinded_by or monotonic() - self._blind_until > _RETRY_SECONDS:
            text = "changes are seen by the interval only, not at once, for %g s each time: %s"
            self._changes.faults.say(logging.WARNING, text, _BLIND_SECONDS, fault)
        self._blinded_by, self._blind_until = fault, monotonic() + _BLIND_SECONDS
        self._refresh_at = 0.0
        self._close()
        self._seen = frozenset()  # what changes until then is looked for

    def refresh_soon(self, replaced: Collection[str]) -> None:
        """Find out what there is to watch before the next look; `replaced` may have the inodes of what was there."""
        for path in replaced:
            self._replaced.put(path)
        self._refresh_at = 0.0

    def _refresh(self) -> None:
        """Watch what is there now, if that is something else than before."""
        self._forget_replaced()
        seen = frozenset(_seen(self._changes.directories(self._recursive)))
        if seen == self._seen and monotonic() < self._retry_at:
            return
        if self._notify is None:
            self._notify = Inotify(self._recursive)
        self._changes.changed(self._notify.read())  # by the paths of before
        came = {path for path, _, _ in seen - self._seen}
        self._watch(self._notify, sorted(path for path, _, _ in seen))
        self._seen = seen
        self._changes.came(came)

    def _forget_replaced(self) -> None:
        replaced = {self._replaced.get_nowait() for _ in range(self._replaced.qsize())}
        self._seen = frozenset(one for one in self._seen if one[0] not in replaced)

    def _watch(self, notify: Inotify, paths: Sequence[str]) -> None:
        """Watch all of them, else those that can be, to be tried again."""
        points = far.points()
        near = [path for path in paths if not far.is_far(path, points)]
        notify.watch(near, _barred(near, points) if self._recursive else ())
        fault = "" if notify.fault is None else str(notify.fault)
        if fault and fault != self._fault:
            text = "some changes are seen by the interval only, not at once: %s"
            self._changes.faults.say(logging.WARNING, text, fault)
        self._fault = fault
        self._retry_at = monotonic() + _RETRY_SECONDS if fault else float("inf")

    def _close(self) -> None:
        if self._notify is not None:
            self._notify.close()
        self._notify = None


def _barred(paths: Iterable[str], points: Collection[str]) -> set[str]:
    """By which paths a walk through all below these, which follows no link, would come to one of these points."""
    barred = set()
    for path in paths if points else ():
        root = os.path.realpath(path).rstrip("/")
        barred |= {path.rstrip("/") + point.removeprefix(root) for point in points if point.startswith(f"{root}/")}
    return barred


def _seen(paths: Iterable[str]) -> Iterable[_Seen]:
    for path in paths:
        try:
            stat = Path(path).stat()
        except OSError:
            continue
        yield path, stat.st_dev, stat.st_ino
