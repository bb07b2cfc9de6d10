"""Which processes a watcher means: those of a name, with a command line, of an id, of a file with an id."""

from __future__ import annotations

import os
import re
import stat
from typing import Any, Protocol

from hook_event_processor.watchers.check import CheckFailed, Definition
from hook_event_processor.watchers.host.line_pattern import LinePattern
from hook_event_processor.watchers.host.process_table import TABLE
from hook_event_processor.watchers.host.processes import Identity, Process, read_process, started_at

_WRITTEN_BEFORE_SECONDS = 2.0  # how much later than its file a process may seem to have started
_PIDFILE_BYTES = 64


class Choice(Protocol):
    """Finds the processes that are meant."""

    label: str

    def find(self, monotonic: float) -> list[Process]:
        """Those that are there at this time, as they are now. Raises CheckFailed."""


class Named:
    """The processes whose program has this name, with or without its directory."""

    def __init__(self, name: str) -> None:
        self.label = name.rsplit("/", 1)[-1]

    def find(self, monotonic: float) -> list[Process]:
        return TABLE.at(monotonic).named(self.label)


class Matching:
    """The processes whose command line matches, but neither the one that looks nor those that say what to look for."""

    def __init__(self, pattern: str) -> None:
        self.label = pattern
        self._pattern = LinePattern(pattern)
        # A command that creates a watcher has its pattern as an argument, and may end after the watcher's first look.
        self._says = re.compile(
            rb"\bwatcher\b.* --match[ =][\"']?" + re.escape(pattern.encode(errors="surrogateescape"))
        )

    def find(self, monotonic: float) -> list[Process]:
        found = TABLE.at(monotonic).matching(self._pattern, but_not=self._says)
        return [process for process in found if process.pid != os.getpid()]


class Numbered:
    """The process that had this id at first: another one that is given it later is not meant."""

    def __init__(self, pid: int, start: int | None) -> None:
        self.label = str(pid)
        self._pid = pid
        self.start = start

    def find(self, _: float) -> list[Process]:
        process = read_process(self._pid)
        if self.start is None:
            if process is None or process.ended:
                raise CheckFailed(f"there is no process with the id {self._pid}")
            self.start = process.start
        return [process] if process is not None and process.start == self.start else []


class Filed:
    """The process whose id stands in a file; `known` is the one that it was before."""

    def __init__(self, path: str, known: Identity | None) -> None:
        self.label = os.path.basename(path).removesuffix(".pid")
        self._path = path
        self._known = known

    def find(self, _: float) -> list[Process]:
        try:
            with open(self._path, "rb", opener=_opened) as file:
                status = os.fstat(file.fileno())
                if not stat.S_ISREG(status.st_mode):
                    raise CheckFailed(f"{self._path} is not a regular file")
                text = file.read(_PIDFILE_BYTES)
        except FileNotFoundError:
            return []
        except OSError as fault:
            raise CheckFailed(f"cannot read {self._path}: {fault.strerror}") from fault
        words = text.split()
        if not words or not words[0].isdigit():
            raise CheckFailed(f"there is no process id in {self._path}")
        process = read_process(int(words[0]))
        if process is None or not (process.identity == self._known or _wrote(process, status.st_mtime)):
            return []
        self._known = process.identity
        return [process]


def _opened(path: str, flags: int) -> int:
    # Opening a named pipe must not wait for a writer.
    return os.open(path, flags | os.O_NONBLOCK)


def _wrote(process: Process, written: float) -> bool:
    """Whether a process was there when its id was written: else it was given the id of one that has ended.

    Holds only until the clock is set: what was written keeps its time, and processes seem to have started at another.
    """
    return started_at(process) <= written + _WRITTEN_BEFORE_SECONDS


def chosen(definition: Definition, start: int | None, known: Identity | None) -> Choice:
    """What the definition means.

    `start` is that of the process whose id it names, if it was seen before,
    `known` the process that was found last.
    """
    options: Any = definition.options
    if "name" in options:
        return Named(options["name"])
    if "match" in options:
        return Matching(options["match"])
    if "pid" in options:
        return Numbered(options["pid"], start)
    return Filed(options["pidfile"], known)
