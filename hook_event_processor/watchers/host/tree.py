"""What is in a directory, or in all below it, within bounds."""

from __future__ import annotations

import fnmatch
import itertools
import os
import re
import stat
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from hook_event_processor.watchers import parsers
from hook_event_processor.watchers.check import CheckFailed, Definition, Option, WatcherRefused, integer

MAX_ENTRIES = 100_000
_MAX_DEPTH = 64

# Options of the types that look at trees.
OPTIONS = {
    "recursive": parsers.flag("look at all directories below, too"),
    "depth": Option(
        integer(1, _MAX_DEPTH), f"a number from 1 to {_MAX_DEPTH}", "how many directories deep --recursive goes"
    ),
    "pattern": Option(parsers.name, "a glob such as *.conf", "look only at files whose names match"),
}


class Record(NamedTuple):
    """A file as a look found it. What it holds is that of a link's target, who it is (device, inode) its own.

    `ctime_ns` is when the last of both changed.
    """

    device: int
    inode: int
    size: int
    mtime_ns: int
    ctime_ns: int
    mode: int
    links: int

    @property
    def regular(self) -> bool:
        return stat.S_ISREG(self.mode)

    def is_of(self, content: os.stat_result) -> bool:
        """Whether the content has not changed since."""
        same = (content.st_size, content.st_mtime_ns) == (self.size, self.mtime_ns)
        return same and content.st_ctime_ns <= self.ctime_ns


@dataclass(frozen=True, slots=True)
class Bounds:
    """How far to look: into directories below, so deep (None: all, as far as is sane), at names that match."""

    recursive: bool = False
    depth: int | None = None
    matches: Callable[[str], object] | None = None

    def descends(self, depth: int) -> bool:
        """Whether directories in one so deep (0: the path itself) are looked into. Raises CheckFailed."""
        if not self.recursive or (self.depth is not None and depth >= self.depth):
            return False
        if depth >= _MAX_DEPTH:
            raise CheckFailed(f"there are more than {_MAX_DEPTH} directories in one another: give a --depth")
        return True

    @classmethod
    def of(cls, definition: Definition) -> Bounds:
        options = definition.options
        pattern = options.get("pattern")
        matches = re.compile(fnmatch.translate(pattern)).match if pattern else None
        return cls(bool(options.get("recursive")), options.get("depth"), matches)


@dataclass(slots=True)
class Tree:
    """What was found, by the paths that events show; `odd` has the real path where it is not UTF-8.

    `unreadable` are directories below of which nothing can be said.
    """

    records: dict[str, Record] = field(default_factory=dict)
    odd: dict[str, str] = field(default_factory=dict)
    unreadable: list[str] = field(default_factory=list)
    is_directory: bool = False

    def real(self, shown: str) -> str:
        """The path to open."""
        return self.odd.get(shown, shown)

    def hides(self, shown: str) -> bool:
        """Whether a path lies in a directory of which nothing can be said."""
        return hidden(shown, self.unreadable)


def hidden(shown_path: str, unreadable: Sequence[str]) -> bool:
    """Whether a path lies in one of these directories."""
    return any(shown_path.startswith(f"{directory}/") for directory in unreadable)


def validate(definition: Definition) -> None:
    """Refuse options that do not go together. Raises WatcherRefused."""
    if "depth" in definition.options and not definition.options.get("recursive"):
        raise WatcherRefused("--depth says how deep --recursive goes: it takes --recursive, too")


def shown(path: str) -> str:
    """A path as text that is UTF-8, as events need it: other bytes as \\xff."""
    try:
        path.encode()
    except UnicodeEncodeError:
        return os.fsencode(path).decode(errors="backslashreplace")
    return path


def files_at(path: str, bounds: Bounds) -> Tree:
    """The file of that path, or those in the directory; nothing when it is not there. Raises CheckFailed."""
    tree = Tree()
    try:
        status = os.stat(path)
        if not stat.S_ISDIR(status.st_mode):
            tree.records[path] = _record(os.lstat(path), status)
            return tree
    except (FileNotFoundError, NotADirectoryError):
        return tree
    except OSError as fault:
        raise CheckFailed(f"cannot look at {path}: {fault.strerror}") from fault
    tree.is_directory = True
    root = path.rstrip("/")
    for directory, listed in walk(path, bounds, tree.unreadable):
        try:
            _add(tree, directory, [entry for entry in listed if bounds.matches is None or bounds.matches(entry.name)])
        except OSError as fault:  # who may list it may not look at what is in it, say
            _leave_out(directory, None if directory == root else tree.unreadable, "look at what is in", fault)
    return tree


def _add(tree: Tree, directory: str, entries: Sequence[os.DirEntry[str]]) -> None:
    for entry in entries:
        if entry.is_dir(follow_symlinks=False):
            continue
        try:
            record = _record_of(entry)
        except (FileNotFoundError, NotADirectoryError):
            continue  # gone since
        path = f"{directory}/{entry.name}"
        text = shown(path)
        if text is not path:
            tree.odd[text] = path
        tree.records[text] = record


def _record_of(entry: os.DirEntry[str]) -> Record:
    status = entry.stat(follow_symlinks=False)
    return _record(status, _target(entry) if stat.S_ISLNK(status.st_mode) else status)


def _target(entry: os.DirEntry[str]) -> os.stat_result:
    """What a link points to, when that is a file, else the link."""
    try:
        target = entry.stat()
    except OSError:
        return entry.stat(follow_symlinks=False)
    return entry.stat(follow_symlinks=False) if stat.S_ISDIR(target.st_mode) else target


def _record(own: os.stat_result, content: os.stat_result) -> Record:
    return Record(
        own.st_dev,
        own.st_ino,
        content.st_size,
        content.st_mtime_ns,
        max(own.st_ctime_ns, content.st_ctime_ns),
        content.st_mode,
        own.st_nlink,
    )


def walk(root: str, bounds: Bounds, unreadable: list[str]) -> Iterator[tuple[str, list[os.DirEntry[str]]]]:
    """The directories and their entries, the root first; links are not followed. Raises CheckFailed.

    Directories below that cannot be read are added to `unreadable`, as events show paths.
    """
    seen = 0
    waiting = [(root.rstrip("/"), 0)]
    while waiting:
        directory, depth = waiting.pop()
        listed = entries(directory, unreadable if depth else None)
        seen += len(listed)
        if seen > MAX_ENTRIES:
            raise CheckFailed(f"there are more than {MAX_ENTRIES} entries under {root}: watch parts of it")
        yield directory, listed
        if not bounds.recursive:
            return
        below = [entry.name for entry in listed if entry.is_dir(follow_symlinks=False)]
        if below and bounds.descends(depth):
            waiting += [(f"{directory}/{name}", depth + 1) for name in below]


def entries(directory: str, unreadable: list[str] | None) -> list[os.DirEntry[str]]:
    """What is in a directory, "" being the root; a directory that cannot be read is added to `unreadable`.

    Raises CheckFailed for it where that is None.
    """
    try:
        with os.scandir(directory or "/") as found:
            # One more than there may be shows that there are too many.
            return list(itertools.islice(found, MAX_ENTRIES + 1))
    except (FileNotFoundError, NotADirectoryError):
        return []
    except OSError as fault:
        _leave_out(directory, unreadable, "list", fault)
        return []


def _leave_out(directory: str, unreadable: list[str] | None, cannot: str, fault: OSError) -> None:
    if unreadable is None:
        raise CheckFailed(f"cannot {cannot} {shown(directory) or '/'}: {fault.strerror}") from fault
    unreadable.append(shown(directory))


def told_changes(conditions: Sequence[str]) -> Callable[[int, int], bool]:
    """Whether a change from one size, or count, to another is one that the conditions ask for."""
    if not {"increased", "decreased"} & set(conditions) or {"changed", "modified"} & set(conditions):
        return lambda _old, _new: True
    return lambda old, new: (new > old and "increased" in conditions) or (new < old and "decreased" in conditions)
