"""load: how many processes run or wait to, in the mean of some minutes."""

from __future__ import annotations

import os

from hook_event_processor.watchers import parsers
from hook_event_processor.watchers.check import Definition, Kind, Moment, Option, integer, number
from hook_event_processor.watchers.host import proc
from hook_event_processor.watchers.kinds import level
from hook_event_processor.watchers.kinds.edge import THRESHOLD_OPTIONS
from hook_event_processor.watchers.kinds.level import Level, Levels, Measure

_CONDITIONS = level.conditions("system.resource_high", "system.resource_normal")
_WINDOWS = (1, 5, 15)


def _window(text: str) -> int:
    minutes = integer(1, 15)(text.removesuffix("m"))
    if minutes not in _WINDOWS:
        raise ValueError(text)
    return minutes


def _measure(window: int, per_cpu: bool) -> Measure:
    field = _WINDOWS.index(window)

    def measure(moment: Moment) -> dict[str, Level]:
        load = proc.LOAD.at(moment.monotonic)
        cores = os.cpu_count() or 1
        data = {
            "resource": "load",
            "load_average": load[field],
            "load_averages": list(load),
            "window_minutes": window,
            "cores": cores,
        }
        value = load[field] / (cores if per_cpu else 1)
        return {"load": Level(value, "load_per_cpu" if per_cpu else "load_average", data, "load")}

    return measure


def _start(definition: Definition, state: object) -> Levels:
    options = definition.options
    measure = _measure(options.get("window", 1), bool(options.get("per_cpu")))
    return Levels(definition, state, measure, _CONDITIONS, options["threshold"])


def _target(definition: Definition) -> str:
    options = definition.options
    per_cpu = " per cpu" if options.get("per_cpu") else ""
    window = f", window: {options['window']}m" if "window" in options else ""
    return f"threshold: {options['threshold']:g}{per_cpu}{window}"


KIND = Kind(
    name="load",
    summary="the load average, as it is or for each processor",
    interval=15.0,
    example="--threshold 2 --per-cpu --window 5",
    conditions=_CONDITIONS,
    options={
        "threshold": Option(number(0, 1e6), "a number", "the load that is too much", required=True),
        "per_cpu": parsers.flag("divide the load by the number of processors"),
        "window": Option(_window, "1, 5 or 15", "minutes of which the load is the mean (default 1)"),
        **THRESHOLD_OPTIONS,
    },
    start=_start,
    together=True,
    target=_target,
    validate=lambda definition: level.validate_margin(definition, definition.options["threshold"]),
)
