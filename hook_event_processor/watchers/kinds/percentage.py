"""Types of watchers whose values are percentages: of the processors' time, of memory, of swap space."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from hook_event_processor.watchers.check import Definition, Kind, Option, number
from hook_event_processor.watchers.kinds import level
from hook_event_processor.watchers.kinds.edge import THRESHOLD_OPTIONS
from hook_event_processor.watchers.kinds.level import Levels, Measure
from hook_event_processor.watchers.notice import Conditions


def percentage(
    name: str,
    summary: str,
    *,
    interval: float,
    conditions: Conditions,
    threshold: float,
    what: str,
    measure: Callable[[Definition], Measure],
    options: Mapping[str, Option] | None = None,
) -> Kind:
    """A type that reads the system; `what` the `threshold` is a percentage of, unless the definition has another.

    `measure` gives a definition's measure, for each check anew; `options` are the type's own.
    """

    def limit(definition: Definition) -> float:
        return float(definition.options.get("threshold", threshold))

    def start(definition: Definition, state: object) -> Levels:
        return Levels(definition, state, measure(definition), conditions, limit(definition))

    return Kind(
        name=name,
        summary=summary,
        interval=interval,
        conditions=conditions,
        options={
            "threshold": Option(
                number(0, 100, percent=True), "a percentage from 0 to 100", f"percent {what} (default {threshold:g})"
            ),
            **(options or {}),
            **THRESHOLD_OPTIONS,
            "until_normal": Option(
                number(0, 100, percent=True), "a percentage from 0 to 100", THRESHOLD_OPTIONS["until_normal"].help
            ),
        },
        start=start,
        together=True,
        example=f"--threshold {threshold:g} --for 3 --until-normal 5 --when changed",
        target=lambda definition: f"threshold: {limit(definition):g}%",
        validate=lambda definition: level.validate_percentage(definition, limit(definition)),
    )
