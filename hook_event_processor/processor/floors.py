"""What the lanes know together of the fresh rows: how far they have read, and up to where nothing waits."""

from __future__ import annotations

from typing import Protocol


class Reader(Protocol):
    """A lane, as far as its cursor is concerned."""

    @property
    def floor(self) -> int: ...
    @property
    def reached(self) -> int: ...


class Floors:
    """The lanes' floors; each lane adds itself."""

    def __init__(self) -> None:
        self._lanes: list[Reader] = []

    def add(self, lane: Reader) -> None:
        self._lanes.append(lane)

    @property
    def lowest(self) -> int:
        """The seq up to which every lane has seen all there was: what another let go since then lies above it."""
        return min(lane.floor for lane in self._lanes)

    @property
    def highest(self) -> int:
        """The seq up to which no insert is under way any more."""
        return max(lane.floor for lane in self._lanes)

    @property
    def reached(self) -> int:
        """The highest seq that a lane has read."""
        return max(lane.reached for lane in self._lanes)

    @property
    def settled(self) -> bool:
        """Whether another claim could not raise a floor."""
        return self.highest >= self.reached
