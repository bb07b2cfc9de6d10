"""How far the lanes of a processor have read the fresh rows, and what they have to read again."""

from __future__ import annotations

import math
import threading
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from hook_event_processor.store.slices import Slices
from hook_event_processor.store.writers import Inserts, Writer

# A full pass repairs what cannot be seen otherwise: rows that somebody else had locked, and let go.
FULL_PASS_SECONDS = 30.0
# Between two looks at who is writing.
LOOK_SECONDS = 0.05
# What is read anew by each claim near the end costs it a millisecond at the most.
_NEAR_SEQS = 1_000
HIGHEST_SEQ = 2**63 - 1


@dataclass(eq=False, slots=True)
class Read:
    """One claim's reading of the fresh rows, behind `start`; `full`: that is the table's floor, which has to be found.

    `looks`: before it reads, it looks at who is writing. `again_to`: up to
    there it reads what has been read before. `late`: behind that seq rows may
    have been committed since it began. A read `of_slice` ends at `upto`, and
    began when all up to `reached` had been read, or passed by.
    """

    start: int
    looks: bool
    again_to: int | None = None
    full: bool = False
    late: float = math.inf
    upto: int = HIGHEST_SEQ
    reached: int = 0

    @property
    def of_slice(self) -> bool:
        return self.upto < HIGHEST_SEQ


class Frontier:
    """What the lanes of a processor know together. Each claim is a read, of which several are under way.

    A row may be committed after rows of a higher seq have been read. Whoever
    looks at the writers knows when there is such a row: it can only be of a
    writer that has ended since the last look, or began after it. Of a writer
    every seq is above the last one that was given when it was not there yet.
    What is above the lowest of these is read again, once. What reads of slices
    have passed by is for the full pass, which comes when there is no more of them.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._reached: int | None = None  # the highest seq that was read; None until the table's floor is known
        self._reads: set[Read] = set()
        self._again: tuple[int, int] | None = None  # what is to be read again: behind a seq, up to another
        self._full_pass_at = 0.0
        self._look_at = 0.0
        self._inserts = Inserts()
        self._recent = 0  # the last seq that had been given, at the look before the last
        self._moved = False  # since the last look
        self._passed: int | None = None  # behind that seq slices of others have been passed by
        self.slices = Slices()

    @property
    def settled(self) -> int:
        """The seq up to which no insert is under way any more."""
        return self._inserts.settled

    @property
    def lowest(self) -> int:
        """The seq up to which all has been read that was committed at the last look: what waits lies above it."""
        with self._lock:
            starts = [read.start for read in self._reads if read.again_to is not None]
            starts += [read.reached for read in self._reads if read.of_slice]
            if self._again is not None:
                starts.append(self._again[0])
            if self._passed is not None:
                starts.append(self._passed)
            return min([self._near_end(), *starts])

    @property
    def knows_of_more(self) -> bool:
        """Whether lanes read again, or will come back to what they have passed by: nobody has to look for that."""
        with self._lock:
            return self._passed is not None or self._again is not None or self._reads_again()

    @property
    def at_rest(self) -> bool:
        """Whether another claim would find out nothing."""
        with self._lock:
            if self._again is not None:
                return False
            settled = self._inserts.settled
            return (self._reached or 0) <= settled or (not self._moved and self._inserts.given <= settled)

    @property
    def has_more(self) -> bool:
        """Whether something is to be read again, or looked at, that no claim sees to yet."""
        with self._lock:
            if self._reached is None or (self._look_at == 0.0 and not self._looks()):
                return True
            return self._again is not None and not self._reads_again()

    def full_pass(self) -> None:
        """Read again from the table's floor: rows may have been let go."""
        with self._lock:
            self._full_pass_at = 0.0

    def look_next(self) -> None:
        """Let the next claim look at who is writing, however short ago the last look was."""
        with self._lock:
            self._look_at = 0.0

    def forget(self) -> None:
        """Begin anew: what was read may have been let go, and the server may be another, which has given less."""
        with self._lock:
            self._forget()
            self._look_at = 0.0

    def _forget(self) -> None:
        self._reached = self._again = self._passed = None
        self._inserts = Inserts()
        self._reads.clear()  # what they find out is of before

    @contextmanager
    def read(self, now: float, *, at_end: bool, backlog: bool = False) -> Iterator[Read]:
        """A claim reads on; `at_end`: its last one took all there was. `now` is monotonic.

        Of a `backlog` it reads what other processors do not read.
        """
        with self._lock:
            read = self._begin(now, at_end, backlog)
            self._reads.add(read)
        try:
            yield read
        finally:
            with self._lock:
                self._reads.discard(read)

    def _begin(self, now: float, at_end: bool, backlog: bool) -> Read:
        if backlog and self._again is None and (part := self._next_slice(now)) is not None:
            return part
        if self._reached is None or now >= self._full_pass_at:
            self._full_pass_at = now + FULL_PASS_SECONDS
            return Read(0, self._is_to_look(now), self._reached or 0, full=True)
        start = self._near_end() if at_end else self._reached
        if self._again is None or self._reads_again():
            return Read(start, self._is_to_look(now))
        (behind, again_to), self._again = self._again, None
        return Read(min(start, behind), self._is_to_look(now), again_to)

    def _next_slice(self, now: float) -> Read | None:
        """The next slice of a backlog; None: it is time for all, which where there is no more slice is at once."""
        if self._reached is None or now >= self._full_pass_at:
            return None
        part = self.slices.behind(self._reached)
        if part is not None and part.behind < self._inserts.given:
            return Read(part.behind, self._is_to_look(now), upto=part.upto, reached=self._reached)
        if self._passed is not None:
            self._full_pass_at = 0.0
        return None

    def _reads_again(self) -> bool:
        return any(read.again_to is not None for read in self._reads)

    def _is_to_look(self, now: float) -> bool:
        if now < self._look_at or self._looks():
            return False
        self._look_at = now + LOOK_SECONDS  # not when it has looked: look_next() may be said meanwhile
        return True

    def _looks(self) -> bool:
        return any(read.looks for read in self._reads)

    def _near_end(self) -> int:
        """Where to read if there is little: what is being inserted may be committed at any moment."""
        reached, settled = self._reached or 0, self._inserts.settled
        if reached - settled <= _NEAR_SEQS:
            return min(reached, settled)
        return min(reached, max(self._recent, settled))

    def from_floor(self, read: Read, floor: int) -> None:
        """The read begins at the table's floor, below which nothing waits, and no insert is under way."""
        with self._lock:
            read.start = floor
            if read not in self._reads:
                return
            if self._reached is None:
                self._reached = self._recent = floor
                self._inserts = Inserts(floor)
            read.again_to = self._reached
            self._passed = None

    def looked(self, read: Read, given: int, writers: Collection[Writer]) -> None:
        """Before the read these were writing, and before that `given` was the last seq that had been given."""
        with self._lock:
            if read not in self._reads:
                return
            if given < self._inserts.given:
                self._forget()  # the table counts anew
                return
            self._recent, self._moved = self._inserts.given, False
            late = self._inserts.looked(given, writers)
            for other in self._reads - {read}:
                other.late = min(other.late, late)
            self._read_again(late, min(self._reached or 0, given))

    def ended(self, read: Read, position: int, *, to_the_end: bool) -> None:
        """The read came as far as `position`, or took all there was."""
        with self._lock:
            if read not in self._reads:
                return
            reached = self._reached or 0
            if read.of_slice:
                if to_the_end:
                    position = max(position, min(read.upto, self._inserts.given))
                if read.reached < read.start:
                    self._passed = read.reached if self._passed is None else min(self._passed, read.reached)
            self._moved = self._moved or position > reached
            self._reached = max(reached, position)
            if read.again_to is not None and not to_the_end:
                self._read_again(position, read.again_to)
            self._read_again(max(read.late, read.start), position)

    def _read_again(self, behind: float, upto: int) -> None:
        if behind < upto:
            old = self._again or (upto, upto)
            self._again = min(int(behind), old[0]), max(upto, old[1])
