"""Claims' reads as the frontier has them, without a server."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from hook_event_processor.store.frontier import LOOK_SECONDS, Frontier, Read
from hook_event_processor.store.writers import Writer


class Clock:
    """Monotonic seconds that pass by themselves, one look's at a time."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        self.now += LOOK_SECONDS
        return self.now


@contextmanager
def reading(frontier: Frontier, now: float, *, at_end: bool = False, backlog: bool = False) -> Iterator[Read]:
    with frontier.read(now, at_end=at_end, backlog=backlog) as read:
        if read.full:
            frontier.from_floor(read, 0)
        yield read


def writers_of(*ids: str) -> list[Writer]:
    return [Writer(id_, prepared=id_.startswith("-1/")) for id_ in ids]


def read_on(frontier: Frontier, now: float, upto: int, *writers: str, last: int = 0, to_the_end: bool = False) -> int:
    """A claim that reads up to a seq, while these write and `last` was given; returns where it began."""
    with reading(frontier, now) as read:
        if read.looks:
            frontier.looked(read, last or upto, writers_of(*writers))
        frontier.ended(read, upto, to_the_end=to_the_end)
        return read.start
