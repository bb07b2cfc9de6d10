"""file: a file, or those in a directory: made, changed, renamed and removed."""

from __future__ import annotations

import logging
import os
import stat
from collections.abc import Iterable, Iterator
from typing import Any

from hook_event_processor.timestamp import rfc3339
from hook_event_processor.watchers import parsers
from hook_event_processor.watchers.check import (
    CheckFailed,
    Definition,
    Kind,
    Moment,
    Noticed,
    Option,
    WatcherRefused,
)
from hook_event_processor.watchers.host import far, renames, tree
from hook_event_processor.watchers.host.digests import Digests
from hook_event_processor.watchers.host.tree import Bounds, Record, Tree
from hook_event_processor.watchers.notice import Notice

logger = logging.getLogger("Watchers")

_CREATED, _MODIFIED, _DELETED, _RENAMED = "file.created", "file.modified", "file.deleted", "file.renamed"
_CONDITIONS = {
    "changed": (_MODIFIED, _CREATED, _DELETED, _RENAMED),
    "modified": (_MODIFIED,),
    "created": (_CREATED,),
    "deleted": (_DELETED,),
    "renamed": (_RENAMED,),
    "exists": (_CREATED,),
    "increased": (_MODIFIED,),
    "decreased": (_MODIFIED,),
}
_MAX_EVENTS = 1000  # of one look; the next one tells the rest


class _Files:
    """The files at a path, compared with those that the look before found."""

    def __init__(self, definition: Definition, state: object) -> None:
        self._path: str = definition.options["path"]
        self._bounds = Bounds.of(definition)
        self._notice = Notice(definition, _CONDITIONS)
        self._sizes = tree.told_changes(definition.conditions)
        self._digests = Digests.of(definition)
        self._known: dict[str, Record] | None = None
        self._unreadable: list[str] = []
        self._kept: dict[str, list[Any]] | None = None
        if restored := _restored(state):
            self._known, digests = restored
            self._digests.restore(digests)

    def look(self, moment: Moment) -> list[Noticed]:
        found = tree.files_at(self._path, self._bounds)
        self._warn(found.unreadable)
        if self._known is None:
            self._begin(found)
            return []
        if found.records == self._known and self._digests.settled(found.records):
            return []
        self._kept = None
        self._digests.refill()
        noticed: list[Noticed] = []
        for told in self._changes(moment, self._known, found):
            noticed += told
            if len(noticed) >= _MAX_EVENTS:
                break
        return noticed

    def state(self) -> dict[str, list[Any]] | None:
        """Each file's record and digest; the same object as before when nothing has changed."""
        if self._kept is None and self._known is not None:
            self._kept = {path: [*record, self._digests.known(path)] for path, record in self._known.items()}
        return self._kept

    def _begin(self, found: Tree) -> None:
        self._digests.refill()
        if self._digests.wanted and not found.is_directory:
            for path, record in found.records.items():
                fits = self._digests.refresh(path, found.real(path), record)
                if reason := self._digests.unreadable(path):
                    raise CheckFailed(f"{path} {reason}")
                if not fits:
                    self._digests.forget(path)
        self._known = found.records

    def _warn(self, unreadable: list[str]) -> None:
        if fresh := [directory for directory in unreadable if directory not in self._unreadable]:
            logger.warning("cannot look into %s (%d directories) for files", fresh[0], len(fresh))
        self._unreadable = unreadable

    def _changes(self, moment: Moment, known: dict[str, Record], found: Tree) -> Iterator[list[Noticed]]:
        """What is told of each change, which is known from then on."""
        gone = [path for path in known if path not in found.records and not found.hides(path)]
        fresh = [path for path in found.records if path not in known]
        for old_path, new_path in self._renamed(known, gone, fresh, found):
            old = known.pop(old_path)
            if new_path in found.records:
                known[new_path] = old
                self._digests.move(old_path, new_path)
            else:
                self._digests.forget(old_path)
            yield self._notice.of(moment, _RENAMED, new_path, {"old_path": old_path, "new_path": new_path})
        for path in gone:
            if path in known:
                size = known.pop(path).size
                self._digests.forget(path)
                yield self._notice.of(moment, _DELETED, path, {"path": path, "size": size})
        for path in fresh:
            if path not in known:
                yield self._created(moment, path, found, known)
        for path, record in found.records.items():
            before = known.get(path)
            if before is not None and not (before == record and self._digests.current(path, before, record)):
                yield self._modified(moment, path, found.real(path), known, record)

    def _renamed(
        self, known: dict[str, Record], gone: list[str], fresh: list[str], found: Tree
    ) -> Iterable[tuple[str, str]]:
        # Whoever does not ask for renames sees a file go, and one come.
        if not gone or not self._notice.wants(_RENAMED):
            return ()
        if fresh:
            return renames.among({path: known[path] for path in gone}, fresh, found)
        if gone == [self._path] and (name := renames.beside(self._path, known[self._path])):
            return ((self._path, name),)
        return ()

    def _created(self, moment: Moment, path: str, found: Tree, known: dict[str, Record]) -> list[Noticed]:
        record = found.records[path]
        known[path] = record
        fits = self._digests.refresh(path, found.real(path), record)
        data = {
            "path": path,
            "size": record.size,
            "mode": f"{stat.S_IMODE(record.mode):04o}",
            "modification_time": _time(record.mtime_ns),
            "hash": self._digests.known(path),
        }
        if not fits:  # the next look tells of what was written since
            self._digests.forget(path)
        return self._notice.of(moment, _CREATED, path, data)

    def _modified(
        self, moment: Moment, path: str, real: str, known: dict[str, Record], record: Record
    ) -> list[Noticed]:
        old = known[path]
        before = self._digests.known(path)
        fits = True
        if not self._digests.current(path, old, record):
            if not self._digests.affords(record):
                return []  # the next look goes on with it
            fits = self._digests.refresh(path, real, record)
        after = self._digests.known(path)
        changed = before != after if before and after else _differs(old, record)
        is_told = changed and self._sizes(old.size, record.size)
        if not is_told and not fits:  # the next look compares what was written since with what was known
            self._digests.set_back(path, before)
            return []
        known[path] = record
        if not is_told:
            return []
        data = {
            "path": path,
            "size": record.size,
            "modification_time": _time(record.mtime_ns),
            "old_size": old.size,
            "new_size": record.size,
            "old_mtime": _time(old.mtime_ns),
            "new_mtime": _time(record.mtime_ns),
            "old_hash": before,
            "new_hash": after,
            "hash_skipped": self._digests.skipped(path),
        }
        return self._notice.of(moment, _MODIFIED, path, data)


def _differs(old: Record, new: Record) -> bool:
    """Whether the file was changed, or another one put in its place, as far as can be told without reading it."""
    if old.inode != new.inode and old.ctime_ns != new.ctime_ns:
        return True
    # Pipes, sockets and devices change with each use.
    return new.regular and (old.size, old.mtime_ns) != (new.size, new.mtime_ns)


def _restored(state: object) -> tuple[dict[str, Record], dict[str, str]] | None:
    """The records and digests of a kept state; None for none, or for that of another version."""
    try:
        records = {path: Record(*fields[:-1]) for path, fields in state.items()}  # type: ignore[attr-defined]
        return records, {path: fields[-1] for path, fields in state.items() if fields[-1]}  # type: ignore[attr-defined]
    except (AttributeError, TypeError, IndexError):
        return None


def _time(ns: int) -> str | None:
    try:
        return rfc3339(ns // 1000 / 1_000_000)
    except (ValueError, OverflowError):  # file systems take times that calendars do not
        return None


def _validate(definition: Definition) -> None:
    tree.validate(definition)
    options = definition.options
    for name in ("always_hash", "max_hash_size"):
        if options.get(name) and not options.get("check_hash"):
            raise WatcherRefused(f"--{name.replace('_', '-')} says how to hash: it takes --check-hash, too")


def _hint(definition: Definition) -> str:
    options = definition.options
    path, given = options["path"], [name for name in tree.OPTIONS if options.get(name)]
    if not given or far.is_far(path, far.points()) or not os.path.isfile(path):
        return ""
    return f"{path} is a file: --{given[0]} is about the files in a directory, and does nothing here."


def _slow(definition: Definition) -> bool:
    """Whether there may be many files to look at, or much to read: 100,000 take half a second, as 100 MB do."""
    options = definition.options
    return bool(options.get("recursive") or options.get("check_hash")) or os.path.isdir(options["path"])


KIND = Kind(
    name="file",
    summary="a file, or the files in a directory: made, changed, renamed, removed",
    interval=10.0,
    example="--path /etc/hosts --when changed --check-hash --interval 10s",
    conditions=_CONDITIONS,
    options={
        "path": Option(parsers.absolute_path, "an absolute path", "file or directory to look at", required=True),
        **tree.OPTIONS,
        "check_hash": parsers.flag("a file is modified when its content is (SHA-256), whatever its times say"),
        "always_hash": parsers.flag("read the content at each check, even if size and times did not move"),
        "max_hash_size": Option(parsers.size, "a size such as 100MB", "larger files are not hashed (default 100MB)"),
    },
    start=_Files,
    slow=_slow,
    paths=lambda definition: (definition.options["path"],),
    target=lambda definition: str(definition.options["path"]),
    hint=_hint,
    validate=_validate,
)
