"""Checks of values against a threshold: the processors' use, memory, disks, load."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from hook_event_processor.watchers.check import Definition, Moment, Noticed, WatcherRefused
from hook_event_processor.watchers.kinds.edge import Crossing, Threshold
from hook_event_processor.watchers.notice import Conditions, Notice
from hook_event_processor.watchers.parsers import Percentage


class Level(NamedTuple):
    """A value now: `field` is what events call it in their `data`, `resource` what it is the level of."""

    value: float
    field: str
    data: dict[str, Any]
    resource: str


# The levels of a moment by what they are of: a core, a disk. What is not there any more is not among them.
Measure = Callable[[Moment], Mapping[str, Level]]


class Levels:
    """One or more values, each against a threshold of its own."""

    def __init__(
        self,
        definition: Definition,
        state: object,
        measure: Measure,
        conditions: Conditions,
        limit: float,
        *,
        above: bool = True,
    ) -> None:
        self._measure = measure
        self._notice = Notice(definition, conditions)
        self._options = definition.options
        self._limit = limit
        self._above = above
        self._names = crossings(conditions)
        self._measured: Mapping[str, float] = {}
        self._primed = state is not None
        self._thresholds = {str(key): self._threshold(True) for key in (state if isinstance(state, list) else ())}

    def look(self, moment: Moment) -> list[Noticed]:
        levels = self._measure(moment)
        self._measured = {key: level.value for key, level in levels.items()}
        if not self._primed:
            # Trouble that there is already is told by the next look.
            self._primed = True
            return []
        noticed = []
        for key, level in levels.items():
            threshold = self._thresholds.get(key)
            if threshold is None:
                threshold = self._thresholds[key] = self._threshold(False)
            if crossing := threshold.update(level.value):
                noticed += self._notice.of(moment, self._names[crossing], level.resource, self._data(level, threshold))
        if len(self._thresholds) > len(levels):
            self._thresholds = {key: kept for key, kept in self._thresholds.items() if key in levels or kept.high}
        return noticed

    def measured(self) -> Mapping[str, float]:
        return self._measured

    def _threshold(self, high: bool) -> Threshold:
        return Threshold(self._limit, self._options, high, above=self._above)

    def _data(self, level: Level, threshold: Threshold) -> dict[str, Any]:
        # Bytes stay whole.
        value = round(threshold.value) if isinstance(level.value, int) else round(threshold.value, 2)
        return {**level.data, level.field: value, "current": value, "threshold": self._limit}

    def state(self) -> list[str] | None:
        """What is beyond its threshold."""
        if not self._primed:
            return None
        return [key for key, threshold in self._thresholds.items() if threshold.high]


def conditions(high: str, normal: str) -> Conditions:
    """The conditions of a type whose values cross a threshold, by the names of its two events."""
    return {
        "changed": (high, normal),
        "above": (high,),
        "below": (normal,),
        "high": (high,),
        "normal": (normal,),
    }


def crossings(of: Conditions) -> Mapping[Crossing, str]:
    """The names of events of a type that has the conditions above."""
    return {Crossing.HIGH: of["high"][0], Crossing.NORMAL: of["normal"][0]}


def validate_size(definition: Definition) -> None:
    """Refuse an --until-normal in percent of a limit in bytes. Raises WatcherRefused."""
    margin = definition.options.get("until_normal")
    if isinstance(margin, Percentage):
        raise WatcherRefused(f"--until-normal is {margin:g}%: it takes a size such as 500M, as its limit is one")


def validate_percentage(definition: Definition, limit: float) -> None:
    """Refuse a percentage that nothing is above, and an --until-normal that goes with none. Raises WatcherRefused."""
    if limit >= 100:
        raise WatcherRefused(f"--threshold is {limit:g}: it takes less than 100, as no more than all can be in use")
    validate_margin(definition, limit)


def validate_margin(definition: Definition, limit: float) -> None:
    """Refuse an --until-normal that nothing could come back by. Raises WatcherRefused."""
    margin = definition.options.get("until_normal", 0.0)
    if margin and margin >= limit:
        raise WatcherRefused(f"--until-normal is {margin:g}: it takes less than the threshold, which is {limit:g}")
