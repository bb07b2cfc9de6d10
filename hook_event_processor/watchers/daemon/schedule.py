"""When what looks next: spread over its interval, without drift, and without making up for what was missed."""

from __future__ import annotations

import heapq
import math
from dataclasses import dataclass, field
from itertools import count
from typing import Generic, TypeVar
from zlib import crc32

Item = TypeVar("Item")
# What is due within this part of its interval, or this time, is due now: few
# wake-ups with many looks each cost less than many with one.
_SLACK_PART, _SLACK_SECONDS = 0.05, 0.5
_BASELINES_PER_SECOND = 200  # first looks


@dataclass(eq=False, slots=True)
class Turn(Generic[Item]):
    """An item's place in the schedule; `due` by the monotonic clock."""

    item: Item
    interval: float
    phase: float  # part of the interval, 0 to 1
    due: float
    removed: bool = False
    waits: bool = False  # it is in the heap
    slack: float = field(init=False)

    def __post_init__(self) -> None:
        self.slack = min(self.interval * _SLACK_PART, _SLACK_SECONDS)


class Schedule(Generic[Item]):
    """Items and when each is due. Not for several threads at once."""

    def __init__(self) -> None:
        self._heap: list[tuple[float, int, Turn[Item]]] = []
        self._numbers = count()

    def add(self, item: Item, interval: float, key: str, now: float, among: int = 1) -> Turn[Item]:
        """A new item, due very soon `among` so many others; then every `interval` seconds.

        `key` decides when: items of one key and interval are due at the same time.
        """
        phase = crc32(key.encode()) / 2**32
        soon = phase * min(interval, among / _BASELINES_PER_SECOND)
        turn = Turn(item, interval, phase, now + soon)
        self._push(turn)
        return turn

    def take(self, now: float) -> list[Turn[Item]]:
        """What is due, first things first; each is to be given back by again()."""
        taken = []
        while self._heap:
            _, _, turn = self._heap[0]
            if not turn.removed and turn.due - turn.slack > now:
                break
            heapq.heappop(self._heap)
            turn.waits = False
            if not turn.removed:
                taken.append(turn)
        return taken

    def again(self, turn: Turn[Item], now: float) -> None:
        """Have it back at its next time, which is half an interval from now at least; nothing if it is there."""
        if turn.waits:
            return
        interval = turn.interval
        ticks = math.ceil((now + interval / 2) / interval - turn.phase)
        turn.due = (ticks + turn.phase) * interval
        self._push(turn)

    def remove(self, turn: Turn[Item]) -> None:
        """Never take it again."""
        turn.removed = True

    def next_due(self) -> float | None:
        """When the first is due; None when nothing ever is."""
        while self._heap and self._heap[0][2].removed:
            heapq.heappop(self._heap)
        return self._heap[0][0] if self._heap else None

    def _push(self, turn: Turn[Item]) -> None:
        if not turn.removed:
            turn.waits = True
            heapq.heappush(self._heap, (turn.due, next(self._numbers), turn))
