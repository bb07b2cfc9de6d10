"""Following a log: the file at a path, whichever that is, each byte once, across rotation and truncation."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from time import monotonic
from typing import Any

from hook_event_processor.watchers.check import CheckFailed
from hook_event_processor.watchers.host import log_reader, rotations
from hook_event_processor.watchers.host.log_reader import Mark, Piece, Reader

PIECE_BYTES = 1 << 20  # at least LINE_BYTES
LOOK_SECONDS = 0.05
_LATE_SECONDS = 60.0  # an earlier file that nobody has written to for so long is done with
_NOT_FOUND = "was rotated or removed while nobody looked, and a part of it cannot be found"


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
        self._missed: str | None = None  # why a part of the log was not read

    def state(self) -> dict[str, Any] | None:
        """Where to go on; None before the first look."""
        if not self._primed:
            return None
        return {"marks": [list(mark) for mark in (*(reader.mark() for reader in self._readers()), *self._marks)]}

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
        except OSError as fault:
            if not has_come:
                raise CheckFailed(f"cannot read {self._path}: {fault.strerror}") from fault

    def raise_missed(self) -> None:
        """Raise CheckFailed, once, when a part of the log could not be found, or read."""
        missed, self._missed = self._missed, None
        if missed is not None:
            raise CheckFailed(f"{self._path} {missed}: lines may have been missed")

    def _readers(self) -> list[Reader]:
        return [file.reader for file in (*self._earlier, self._current) if file is not None]

    def _begin(self, reader: Reader | None, now: float) -> None:
        self._current = _File(reader, now) if reader is not None else None
        self._primed = True

    def _pieces(self, now: float) -> Iterator[Piece]:
        if self._current is None:
            yield from self._late(now)
            self._take_up(now)
        while True:
            yield from self._late(now)
            current = self._current
            if current is None:
                break
            yield from self._rest(current, now)
            if self._current is None or not self._move_on(current, now):
                break
        for file in [*self._earlier]:
            if self._is_over(file, now):
                yield from self._rest(file, now, last=True)
                self._earlier = [each for each in self._earlier if each is not file]

    def _late(self, now: float) -> Iterator[Piece]:
        """What earlier files have."""
        for file in [*self._earlier]:
            yield from self._rest(file, now)

    def _rest(self, file: _File, now: float, *, last: bool = False) -> Iterator[Piece]:
        """What is left of a file; with the `last`, what there is of a line that was never ended."""
        try:
            if file is self._current:
                emptied_ns = file.reader.restart_if_truncated()
                if emptied_ns is not None and self._identity() == file.reader.identity:
                    file.reader.note_as_log(emptied_ns)
            while (piece := file.reader.read(PIECE_BYTES, last=last)) is not None:
                file.at = now
                yield piece
        except OSError as fault:
            self._give_up(file, fault)

    def _give_up(self, file: _File, fault: OSError) -> None:
        """Drop a file that cannot be read any more; what is at the path now is for the next look."""
        self._missed = f"could not be read ({fault.strerror})"
        self._earlier = [each for each in self._earlier if each is not file]
        if file is self._current:
            self._marks = [file.reader.mark()]  # it may be the same file
            self._current = None

    def _is_over(self, file: _File, now: float) -> bool:
        """Whether an earlier file, which has been read, is done with."""
        # The newest is the log for as long as there is none at the path.
        is_newest = self._current is None and file is self._earlier[-1]
        is_quiet = now - file.at >= _LATE_SECONDS and not is_newest
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
        found = self._since(reader, now)
        if reader is not None:
            for file in self._earlier[-1:]:
                file.at = now
        # Only now: what could not be read is tried again by the next look.
        self._earlier += found
        self._marks = []
        self._begin(reader, now)

    def _since(self, following: Reader | None, now: float) -> list[_File]:
        """The files that were the log since it was read; the following goes on where it was, if it is that one."""
        last: Reader | Mark | None = self._earlier[-1].reader if self._earlier else None
        found: list[_File] = []
        for mark in self._marks:
            if following is not None and following.resume(mark):
                last = None
                if following.offset < mark.offset:  # it was truncated
                    following.note_as_log(following.modified_ns)
            elif (rotated := rotations.marked(self._path, mark)) is not None:
                found.append(_File(rotated, now))
                last = rotated
            else:
                self._missed = _NOT_FOUND
                last = mark
        if last is not None:
            found += self._between(last, following, now, found)
        return found

    def _between(
        self, last: Reader | Mark, following: Reader | None, now: float, found: Sequence[_File] = ()
    ) -> list[_File]:
        """The files that were the log in the meantime, beside those that were found already."""
        known = [*self._readers(), *(file.reader for file in found), *([following] if following is not None else [])]
        others, are_all = rotations.between(self._path, last, following, known)
        if not are_all:
            self._missed = _NOT_FOUND
        return [_File(reader, now) for reader in others]

    def _identity(self) -> tuple[int, int] | None:
        try:
            status = os.stat(self._path)
        except OSError:
            return None
        return status.st_dev, status.st_ino
