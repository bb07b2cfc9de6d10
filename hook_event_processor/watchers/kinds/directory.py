"""directory: a directory comes, goes, and has other files in it than before."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from typing import Any, NamedTuple

from hook_event_processor.watchers import parsers
from hook_event_processor.watchers.check import CheckFailed, Definition, Kind, Moment, Noticed, Option
from hook_event_processor.watchers.host import stamps, tree
from hook_event_processor.watchers.host.tree import Bounds
from hook_event_processor.watchers.notice import Notice

_CREATED, _CHANGED, _DELETED = "dir.created", "dir.changed", "dir.deleted"
_CONDITIONS = {
    "changed": (_CHANGED, _CREATED, _DELETED),
    "modified": (_CHANGED,),
    "created": (_CREATED,),
    "deleted": (_DELETED,),
    "exists": (_CREATED,),
    "increased": (_CHANGED,),
    "decreased": (_CHANGED,),
}
_MAX_EVENTS = 1000  # of one look; the next one tells the rest
_MAX_NAMES = 100  # of files that were added or removed, in one event


class _Listing(NamedTuple):
    """A directory as it was listed: its names of files as events show them, and its directories' real ones.

    `mark` is what the directory's inode and time were; None where nothing can be told by them yet.
    """

    mark: tuple[int, int] | None
    files: frozenset[str]
    below: tuple[str, ...]


class _Found(NamedTuple):
    """Directories, the files of those that were listed, and those that could not be."""

    directories: set[str]
    files: dict[str, frozenset[str]]
    unreadable: list[str]


class _Directories:
    """A directory and those below it, compared with what the look before found."""

    def __init__(self, definition: Definition, state: object) -> None:
        self._path: str = definition.options["path"]
        self._bounds = Bounds.of(definition)
        self._notice = Notice(definition, _CONDITIONS)
        self._counts = tree.told_changes(definition.conditions)
        self._listings: dict[str, _Listing] = {}
        self._directories: set[str] | None = None
        self._files: dict[str, frozenset[str]] = {}
        self._kept: dict[str, Any] | None = None
        if isinstance(state, dict) and {"directories", "files"} <= state.keys():
            self._directories = set(state["directories"])
            self._files = {path: frozenset(names) for path, names in state["files"].items()}

    def look(self, moment: Moment) -> list[Noticed]:
        found = self._find()
        if self._directories is None:
            self._directories, self._files = found.directories, found.files
            return []
        if found.directories == self._directories and found.files == self._files:
            return []
        self._kept = None
        noticed: list[Noticed] = []
        for told in self._changes(moment, self._directories, found):
            noticed += told
            if len(noticed) >= _MAX_EVENTS:
                break
        return noticed

    def state(self) -> dict[str, Any] | None:
        """The directories and their files; the same object as before when nothing has changed."""
        if self._kept is None and self._directories is not None:
            files = {path: sorted(names) for path, names in self._files.items()}
            self._kept = {"directories": sorted(self._directories), "files": files}
        return self._kept

    def _find(self) -> _Found:
        found = _Found(set(), {}, [])
        listings: dict[str, _Listing] = {}
        seen = 0
        waiting = [(self._path.rstrip("/"), 0)]
        while waiting:
            path, depth = waiting.pop()
            listing = self._list(path, depth, found.unreadable)
            if listing is None:
                continue
            listings[path] = listing
            seen += len(listing.files) + len(listing.below)
            if seen > tree.MAX_ENTRIES:
                raise CheckFailed(
                    f"there are more than {tree.MAX_ENTRIES} entries under {self._path}: watch parts of it"
                )
            found.directories.add(tree.shown(path or "/"))
            found.files[tree.shown(path or "/")] = listing.files
            below = [f"{path}/{name}" for name in listing.below]
            found.directories.update(map(tree.shown, below))
            if below and self._bounds.descends(depth):
                waiting += [(child, depth + 1) for child in below]
        self._listings = listings
        return found

    def _list(self, path: str, depth: int, unreadable: list[str]) -> _Listing | None:
        """The directory's listing, the one that is known if the directory did not change; None when it is gone."""
        try:
            status = os.stat(path or "/", follow_symlinks=depth == 0)
        except (FileNotFoundError, NotADirectoryError):
            return None
        except OSError as fault:
            if depth == 0:
                raise CheckFailed(f"cannot look at {path}: {fault.strerror}") from fault
            unreadable.append(tree.shown(path))
            return None
        if not stat.S_ISDIR(status.st_mode):
            if depth == 0:
                raise CheckFailed(f"{path} is not a directory")
            return None
        mark = (status.st_ino, status.st_mtime_ns)
        known = self._listings.get(path)
        if known is not None and known.mark == mark:
            return known
        return self._listed(path, depth, unreadable, mark if stamps.is_past(status.st_mtime_ns) else None)

    def _listed(self, path: str, depth: int, unreadable: list[str], mark: tuple[int, int] | None) -> _Listing | None:
        failed = len(unreadable)
        entries = tree.entries(path, unreadable if depth else None)
        if len(unreadable) > failed:
            return None
        matches = self._bounds.matches
        files, below = [], []
        for entry in entries:
            if entry.is_dir(follow_symlinks=False):
                below.append(entry.name)
            elif matches is None or matches(entry.name):
                files.append(tree.shown(entry.name))
        return _Listing(mark, frozenset(files), tuple(below))

    def _changes(self, moment: Moment, known: set[str], found: _Found) -> Iterator[list[Noticed]]:
        """What is told of each change, which is known from then on."""
        for path in sorted(known - found.directories):
            if not tree.hidden(path, found.unreadable):
                known.discard(path)
                self._files.pop(path, None)
                yield self._notice.of(moment, _DELETED, path, {"path": path})
        for path in sorted(found.directories - known):
            known.add(path)
            files = found.files.get(path)
            if files is not None:
                self._files[path] = files
            count = None if files is None else len(files)
            yield self._notice.of(moment, _CREATED, path, {"path": path, "file_count": count})
        for path, files in found.files.items():
            old = self._files.get(path)
            self._files[path] = files
            if old is not None and old != files:
                yield self._changed(moment, path, old, files)

    def _changed(self, moment: Moment, path: str, old: frozenset[str], new: frozenset[str]) -> list[Noticed]:
        if not self._counts(len(old), len(new)):
            return []
        data = {
            "path": path,
            "old_file_count": len(old),
            "new_file_count": len(new),
            "added": sorted(new - old)[:_MAX_NAMES],
            "removed": sorted(old - new)[:_MAX_NAMES],
        }
        return self._notice.of(moment, _CHANGED, path, data)


KIND = Kind(
    name="directory",
    summary="a directory and those in it: made, removed, or with other files than before",
    interval=10.0,
    example="--path /srv/upload --recursive --when changed",
    conditions=_CONDITIONS,
    options={
        "path": Option(parsers.absolute_path, "an absolute path", "directory to look at", required=True),
        **tree.OPTIONS,
    },
    start=_Directories,
    slow=lambda definition: bool(definition.options.get("recursive")),
    paths=lambda definition: (definition.options["path"],),
    target=lambda definition: str(definition.options["path"]),
    validate=tree.validate,
)
