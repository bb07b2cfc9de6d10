"""Following a log: the file at a path, whichever that is, each byte once, across rotation and truncation."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

from hook_event_processor.watchers.check import CheckFailed
from hook_event_processor.watchers.host import log_reader
from hook_event_processor.watchers.host.log_reader import Mark, Piece, Reader

LOOK_BYTES = 1 << 20  # that one look reads
_MAX_NEIGHBOURS = 10_000


class Follower:
    """Reads a log. One that was rotated is read to its end first, by its open file or, after a restart, its inode."""

    def __init__(self, path: str, state: object) -> None:
        """`state` is what state() left; without, what is in the file now is not read."""
        self._path = path
        self._reader: Reader | None = None
        self._before: list[Reader] = []  # those before, which may still be written to for a moment
        self._primed = isinstance(state, Mapping)
        kept = state.get("marks", ()) if isinstance(state, Mapping) else ()
        self._marks = [Mark(*mark) for mark in kept]

    def state(self) -> dict[str, Any] | None:
        """Where to go on; None before the first look."""
        if not self._primed:
            return None
        readers = [*self._before, self._reader] if self._reader is not None else self._before
        return {"marks": [list(mark) for mark in self._marks] + [list(reader.mark()) for reader in readers]}

    def pieces(self) -> list[Piece]:
        """What has come since it was asked last, up to LOOK_BYTES: the rest comes next. Raises CheckFailed."""
        if not self._primed:
            self._reader = log_reader.opened(self._path, at_end=True)
            self._primed = True
            return []
        if self._reader is None:
            self._take_up()
        pieces: list[Piece] = []
        left = LOOK_BYTES
        while self._before:
            left -= _drain(self._before[0], pieces, left, last=True)
            if left <= 0:
                return pieces
            del self._before[0]
        if self._reader is not None:
            self._read_on(self._reader, pieces, left)
        return pieces

    def _read_on(self, reader: Reader, pieces: list[Piece], left: int) -> None:
        reader.restart_if_truncated()
        moved = self._identity() != reader.identity
        read = _drain(reader, pieces, left, last=False)
        if not moved or read >= left:
            return
        try:
            following = log_reader.opened(self._path)
        except CheckFailed:
            if pieces:  # which would be lost; the next look says it
                return
            raise
        if following is not None:
            # The one before is read once more at the next look: a program writes to it until it opens the new one.
            self._before.append(reader)
            self._reader = following
            _drain(following, pieces, left - read, last=False)
        elif not read and reader.removed:
            self._reader = None  # nothing is left of it but the space that it takes while it is open

    def _take_up(self) -> None:
        """Go on after a start, or when the file was not there."""
        reader = log_reader.opened(self._path)
        for mark in self._marks:
            if (reader is None or not reader.resume(mark)) and (rotated := self._rotated(mark)) is not None:
                self._before.append(rotated)
        self._marks = []
        self._reader = reader

    def _rotated(self, mark: Mark) -> Reader | None:
        """The file of the mark under another name in the same directory."""
        try:
            with os.scandir(os.path.dirname(os.path.realpath(self._path))) as entries:
                for _, entry in zip(range(_MAX_NEIGHBOURS), entries, strict=False):
                    if entry.inode() == mark.inode and entry.is_file(follow_symlinks=False):
                        reader = log_reader.opened(entry.path)
                        return reader if reader is not None and reader.resume(mark) else None
        except (OSError, CheckFailed):
            return None
        return None

    def _identity(self) -> tuple[int, int] | None:
        try:
            status = os.stat(self._path)
        except OSError:
            return None
        return status.st_dev, status.st_ino


def _drain(reader: Reader, pieces: list[Piece], budget: int, *, last: bool) -> int:
    """Read to the end of what there is, or of the budget; how many bytes that was."""
    left = budget
    while left > 0:
        before = reader.offset
        # Never less than a line: its end could not be seen.
        piece = reader.read(max(left, log_reader.LINE_BYTES), last=last)
        if piece is None:
            break
        if piece.text:
            pieces.append(piece)
        left -= reader.offset - before
    return budget - left
