"""Thresholds that tell of a crossing once, and not of every look beyond them."""

from __future__ import annotations

import enum
from collections import deque
from collections.abc import Mapping
from typing import Any

from hook_event_processor.watchers.check import Option, integer, number


class Crossing(enum.StrEnum):
    """What a value did."""

    HIGH = "high"
    NORMAL = "normal"


# Options of every type that has a threshold.
THRESHOLD_OPTIONS: Mapping[str, Option] = {
    "average": Option(integer(1, 1000), "a number of checks from 1 to 1000", "compare the mean of the last N values"),
    "for": Option(
        integer(1, 1000), "a number of checks from 1 to 1000", "so many checks in a row beyond the threshold"
    ),
    "until_normal": Option(
        number(0, 1e12), "a number", "how far the value must come back from the threshold to be normal"
    ),
}


class Threshold:
    """Values against a threshold, with a mean, a number of checks in a row and hysteresis.

    `above` says on which side of the threshold trouble lies.
    """

    def __init__(self, limit: float, options: Mapping[str, Any], state: object = None, *, above: bool = True) -> None:
        self._limit = limit
        self._sign = 1.0 if above else -1.0
        self._margin = float(options.get("until_normal", 0.0))
        self._needed = int(options.get("for", 1))
        self._values: deque[float] = deque(maxlen=int(options.get("average", 1)))
        self.high = state is True
        self._beyond = 0
        self.value = 0.0  # the mean that was compared last

    def update(self, value: float) -> Crossing | None:
        """The crossing that this value makes, if it makes one."""
        self._values.append(value)
        self.value = sum(self._values) / len(self._values)
        excess = self._sign * (self.value - self._limit)
        if self.high:
            if excess > -self._margin:
                return None
            self.high, self._beyond = False, 0
            return Crossing.NORMAL
        self._beyond = self._beyond + 1 if excess > 0 else 0
        if self._beyond < self._needed:
            return None
        self.high = True
        return Crossing.HIGH

    @property
    def state(self) -> bool:
        """To be handed to the next start's Threshold."""
        return self.high
