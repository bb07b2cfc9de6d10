"""A file that is read while it grows: whole lines, each once, and known again after a restart."""

from __future__ import annotations

import hashlib
import os
import stat
import time
from contextlib import suppress
from typing import NamedTuple

from hook_event_processor.watchers.check import CheckFailed
from hook_event_processor.watchers.host import birth

LINE_BYTES = 64 << 10  # of a line that is looked at; what follows them in it may be passed over
_MARK_BYTES = 256  # by which a file is known again: those at its beginning, and those read last

_MAX_ZEROS = 64  # times LINE_BYTES, that one look passes over


class Piece(NamedTuple):
    """Whole lines of a file; `offset` is where they begin, `number` the first one's, None where nobody counted."""

    text: bytes
    offset: int
    number: int | None


class Mark(NamedTuple):
    """What a file was when it was read last: a freed inode may be another file's, a truncated file may grow again."""

    inode: int
    born: int | None  # Unix nanoseconds; None where the file system does not say
    offset: int
    line: int | None
    skipping: bool
    head: str
    tail: str
    since: int | None = None  # as Reader.since


class Reader:
    """An open file, read from an offset on. It is closed when it is dropped."""

    def __init__(self, descriptor: int, status: os.stat_result, *, at_end: bool) -> None:
        self._descriptor = descriptor
        self.identity = (status.st_dev, status.st_ino)
        self.born = birth.birth_ns_of(descriptor)
        # What was the log after this came into being later, in Unix nanoseconds: copies of what it was did not.
        self.since = self.born
        self.offset = 0
        self._line: int | None = 1
        self._skipping = False
        self._looked_at: tuple[int, int] | None = None
        if at_end and status.st_size:
            self._go_to_end(status.st_size)
        if at_end:
            self.note_as_log(status.st_mtime_ns)
        self._mark = self._marked()

    def __del__(self) -> None:
        os.close(self._descriptor)

    @property
    def removed(self) -> bool:
        """Whether the file has no name any more."""
        return os.fstat(self._descriptor).st_nlink == 0

    @property
    def modified_ns(self) -> int:
        """When it was last written to, in Unix nanoseconds."""
        return os.fstat(self._descriptor).st_mtime_ns

    def note_as_log(self, modified_ns: int) -> None:
        """It was still at the path after it had been written to at that time."""
        if self.since is not None:
            self.since = max(self.since, min(modified_ns, time.time_ns()))  # anybody may set a file's times

    def left(self) -> int:
        """Bytes that have not been read."""
        return max(0, os.fstat(self._descriptor).st_size - self.offset)

    def holds(self, mark: Mark) -> bool:
        """Whether it has the content that had been read when the mark was made."""
        return self._content(mark.offset) == (mark.head, mark.tail)

    def is_copy_of(self, other: Reader) -> bool:
        """Whether it has what the other has, or had when it was shorter."""
        size, others = os.fstat(self._descriptor).st_size, os.fstat(other._descriptor).st_size
        return 0 < size <= others and self._content(size) == other._content(size)

    def mark(self) -> Mark:
        """By which to go on later; an earlier one when the file cannot be read any more."""
        if (self._mark.offset, self._mark.skipping, self._mark.since) != (self.offset, self._skipping, self.since):
            with suppress(OSError):
                self._mark = self._marked()
        return self._mark

    def resume(self, mark: Mark) -> bool:
        """Go on where a mark says, if this is the file that it was made of."""
        if (self.identity[1], self.born) != (mark.inode, mark.born):
            return False
        if self.holds(mark):
            self.offset, self._line, self._skipping, self._mark = mark.offset, mark.line, mark.skipping, mark
            self.since = mark.since or self.born
            return True
        # It was truncated, if it is that file and not just one with its inode.
        return mark.born is not None

    def restart_if_truncated(self) -> int | None:
        """Read from the beginning what is not the content that was read, though it may be as long.

        Returns when it was last written to then, in Unix nanoseconds; None where nothing was truncated.
        """
        status = os.fstat(self._descriptor)
        looked_at, self._looked_at = self._looked_at, (status.st_size, status.st_mtime_ns)
        if self._looked_at == looked_at or self.offset == 0:
            return None
        if status.st_size >= self.offset and self.holds(self.mark()):
            return None
        self.offset, self._line, self._skipping = 0, 1, False
        self._mark = self._marked()
        return status.st_mtime_ns

    def read(self, budget: int, *, last: bool) -> Piece | None:
        """The next whole lines, maybe empty where something was passed over; None when there are none yet.

        `budget` is at least LINE_BYTES. The `last` look at a file takes a line that was never ended, too.
        """
        size = os.fstat(self._descriptor).st_size
        if size <= self.offset or not self._pass_zeros():
            return None
        data = os.pread(self._descriptor, min(budget, size - self.offset), self.offset)
        if not data:
            return None
        if self._skipping:
            return self._pass_line(data)
        end = data.rfind(b"\n") + 1
        if end == 0 and len(data) >= LINE_BYTES:
            self._skipping, end = True, LINE_BYTES
        elif end == 0 and last:
            end = len(data)
        return self._take(data[:end]) if end else None

    def _go_to_end(self, size: int) -> None:
        """Behind the last line: what is not ended yet is still to come."""
        begin = max(0, size - LINE_BYTES)
        ended = os.pread(self._descriptor, size - begin, begin).rfind(b"\n") + 1
        self._skipping = ended == 0 and begin > 0
        self.offset = size if self._skipping else begin + ended
        self._line = None if self.offset else 1

    def _take(self, text: bytes) -> Piece:
        piece = Piece(text, self.offset, self._line)
        self.offset += len(text)
        if self._line is not None:
            self._line += text.count(b"\n")
        return piece

    def _pass_line(self, data: bytes) -> Piece:
        """Leave out what is left of a line of which enough was seen."""
        end = data.find(b"\n") + 1
        self._skipping = end == 0
        return self._take(data[: end or len(data)])._replace(text=b"")

    def _pass_zeros(self) -> bool:
        """Whether something comes next, behind zeros maybe.

        Who writes on at its old place in a truncated file leaves a hole
        before it, of any size. Zeros at the end may be space for later.
        """
        if os.pread(self._descriptor, 1, self.offset) != b"\0":
            return True
        at = self.offset
        for _ in range(_MAX_ZEROS):
            data = os.pread(self._descriptor, LINE_BYTES, at)
            at += len(data) - len(data.lstrip(b"\0"))
            if not data or data.strip(b"\0"):
                break
            try:
                at = os.lseek(self._descriptor, at, os.SEEK_DATA)
            except OSError:  # no data behind it
                return False
        self.offset = at if data else self.offset
        return bool(data.strip(b"\0"))

    def _marked(self) -> Mark:
        content = self._content(self.offset)
        return Mark(self.identity[1], self.born, self.offset, self._line, self._skipping, *content, self.since)

    def _content(self, offset: int) -> tuple[str, str]:
        """Digests of what the file begins with, and of what stands before the offset."""
        begin = max(0, offset - _MARK_BYTES)
        head = os.pread(self._descriptor, min(offset, _MARK_BYTES), 0)
        return _digest(head), _digest(os.pread(self._descriptor, offset - begin, begin))


def opened(path: str, *, at_end: bool = False) -> Reader | None:
    """The file to read, None when there is none. Raises CheckFailed."""
    try:
        # Opening a named pipe must not wait for a writer.
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as fault:
        raise CheckFailed(f"cannot read {path}: {fault.strerror}") from fault
    status = os.fstat(descriptor)
    if not stat.S_ISREG(status.st_mode):
        os.close(descriptor)
        raise CheckFailed(f"{path} is not a regular file")
    return Reader(descriptor, status, at_end=at_end)


def _digest(data: bytes) -> str:
    return hashlib.blake2b(data, digest_size=8).hexdigest()
