"""Following a log: the file at a path, whichever that is, each byte once, across rotation and truncation."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from time import monotonic
from typing import Any

from hook_event_processor.watchers.check import CheckFailed
from hook_event_processor.watchers.host import log_reader, rotations
from hook_event_processor.watchers.host.log_reader import Mark, Piece, Reader

PIECE_BYTES = 1 << 20  # at least LINE_BYTES
LOOK_SECONDS = 0.05
_LATE_SECONDS = 60.0  # an earlier file that nobody has written to for so long is done with


@dataclass(eq=False, slots=True)
class _File:
    """One that is or was the log; `at`: when it last had something, or another took its place, in monotonic seconds."""

    reader: Reader
    at: float


class Follower:
    """Reads a log. A program may write to an earlier file, which it has open, for a while: that is read on, too."""

    def __init__(self, path: str, state: object) -> None:
        """`state` is what state() left; without, what is in the file now is not read."""
        self._path = path
        self._current: _File | None = None
        self._earlier: list[_File] = []  # oldest first
        self._primed = isinstance(state, Mapping)
        kept = state.get("marks", ()) if isinstance(state, Mapping) else ()
        self._marks = [Mark(*mark) for mark in kept]
        self._has_missed = False

    def state(self) -> dict[str, Any] | None:
        """Where to go on; None before the first look."""
        if not self._primed:
            return None
        return {"marks": [list(mark) for mark in (*self._marks, *(reader.mark() for reader in self._readers()))]}

    def behind(self) -> int:
        """Bytes that wait to be read."""
        return sum(reader.left() for reader in self._readers())

    def pieces(self, now: float) -> Iterator[Piece]:
        """What has come since it was asked last, for LOOK_SECONDS: the rest, and what is not taken, comes next.

        `now` is in monotonic seconds. Raises CheckFailed, if nothing has come.
        """
        if not self._primed:
            self._begin(log_reader.opened(self._path, at_end=True), now)
            return
        ends = monotonic() + LOOK_SECONDS
        has_come = False
        try:
            for piece in self._pieces(now):
                if piece.text:
                    has_come = True
                    yield piece
                if monotonic() >= ends:
                    return
        except CheckFailed:
            if not has_come:  # else that would be lost; the next look says it
                raise

    def raise_missed(self) -> None:
        """Raise CheckFailed, once, when a part of the log could not be found."""
        has_missed, self._has_missed = self._has_missed, False
        if has_missed:
            raise CheckFailed(
                f"{self._path} was rotated or removed while nobody looked, and a part of it cannot be found:"
                " lines may have been missed"
            )

    def _readers(self) -> list[Reader]:
        return [file.reader for file in (*self._earlier, self._current) if file is not None]

    def _begin(self, reader: Reader | None, now: float) -> None:
        self._current = _File(reader, now) if reader is not None else None
        self._primed = True

    def _pieces(self, now: float) -> Iterator[Piece]:
        if self._current is None:
            self._take_up(now)
        while True:
            for file in self._earlier:
                yield from _rest(file, now)
            if self._current is None:
                break
            self._current.reader.restart_if_truncated()
            yield from _rest(self._current, now)
            if not self._move_on(self._current, now):
                break
        for file in [*self._earlier]:
            if self._is_over(file, now):
                yield from _rest(file, now, last=True)
                self._earlier.remove(file)

    def _is_over(self, file: _File, now: float) -> bool:
        """Whether an earlier file, which has been read, is done with."""
        is_quiet = now - file.at >= _LATE_SECONDS
        return is_quiet or (file.at < now and (file.reader.removed or len(self._earlier) > rotations.MAX_FILES))

    def _move_on(self, before: _File, now: float) -> bool:
        """Go over to the file at the path if that is another one; whether it is."""
        if self._identity() == before.reader.identity:
            return False
        following = log_reader.opened(self._path)
        if following is not None:
            before.at = now
        elif not before.reader.removed:
            return False
        self._earlier += [before, *self._between(before.reader, following, now)]
        back = [file for file in self._earlier if following and file.reader.identity == following.identity]
        self._earlier = [file for file in self._earlier if file not in back]
        self._current = None
        if following is not None:
            self._current = back[0] if back else _File(following, now)
        return True

    def _take_up(self, now: float) -> None:
        """Go on after a start, or when the file was not there."""
        reader = log_reader.opened(self._path)
        last: Reader | Mark | None = self._earlier[-1].reader if self._earlier else None
        for mark in self._marks:
            if reader is not None and reader.resume(mark):
                last = None
            elif (rotated := rotations.marked(self._path, mark)) is not None:
                self._earlier.append(_File(rotated, now))
                last = rotated
            else:
                self._has_missed = True
                last = mark
        self._marks = []
        if last is not None:
            self._earlier += self._between(last, reader, now)
        self._begin(reader, now)

    def _between(self, last: Reader | Mark, following: Reader | None, now: float) -> list[_File]:
        """The files that were the log in the meantime."""
        known = [*self._readers(), *([following] if following is not None else [])]
        found, are_all = rotations.between(self._path, last, following, known)
        self._has_missed |= not are_all
        return [_File(reader, now) for reader in found]

    def _identity(self) -> tuple[int, int] | None:
        try:
            status = os.stat(self._path)
        except OSError:
            return None
        return status.st_dev, status.st_ino


def _rest(file: _File, now: float, *, last: bool = False) -> Iterator[Piece]:
    """What is left of a file; with the `last`, what there is of a line that was never ended."""
    while (piece := file.reader.read(PIECE_BYTES, last=last)) is not None:
        file.at = now
        yield piece
