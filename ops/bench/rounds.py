"""Interleaved rounds: everything that is compared is measured in each, and what counts is the median of the ratios."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from statistics import median


class Rounds:
    """The values of each thing that was measured, one a round."""

    def __init__(self, values: Mapping[str, list[float]]) -> None:
        self.values = values

    def median(self, name: str) -> float:
        """The median over the rounds."""
        return median(self.values[name])

    def ratio(self, name: str, to: str) -> float:
        """The median of the rounds' ratios: what slows a whole round down changes none of them."""
        return median(a / b for a, b in zip(self.values[name], self.values[to], strict=True))


def interleaved(count: int, measures: Mapping[str, Callable[[], float]]) -> Rounds:
    """Measure all in each round; every other round goes backwards, so that nothing is always the first."""
    values: dict[str, list[float]] = {name: [] for name in measures}
    for number in range(count):
        for name in list(measures)[:: 1 if number % 2 == 0 else -1]:
            values[name].append(measures[name]())
    return Rounds(values)
