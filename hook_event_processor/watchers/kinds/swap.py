"""swap: how much of the swap space is used."""

from __future__ import annotations

from hook_event_processor.watchers.check import CheckFailed, Definition, Kind, Moment, Option, number
from hook_event_processor.watchers.host import proc
from hook_event_processor.watchers.kinds import level
from hook_event_processor.watchers.kinds.edge import THRESHOLD_OPTIONS
from hook_event_processor.watchers.kinds.level import Level, Levels

_THRESHOLD = 80.0
_CONDITIONS = level.conditions("system.resource_high", "system.resource_normal")


def _measure(moment: Moment) -> dict[str, Level]:
    memory = proc.MEMORY.at(moment.monotonic)
    if not memory.swap_total:
        raise CheckFailed("this machine has no swap space")
    data = {
        "resource": "swap",
        "total": memory.swap_total,
        "available": memory.swap_free,
        "used": memory.swap_total - memory.swap_free,
    }
    return {"swap": Level(memory.swap_used_percent, "usage_percent", data, "swap")}


def _limit(definition: Definition) -> float:
    return float(definition.options.get("threshold", _THRESHOLD))


def _start(definition: Definition, state: object) -> Levels:
    return Levels(definition, state, _measure, _CONDITIONS, _limit(definition))


KIND = Kind(
    name="swap",
    summary="swap space in use, in percent",
    interval=30.0,
    conditions=_CONDITIONS,
    options={
        "threshold": Option(number(0, 100), "a percentage from 0 to 100", "percent in use (default 80)"),
        **THRESHOLD_OPTIONS,
    },
    start=_start,
    together=True,
    target=lambda definition: f"threshold: {_limit(definition):g}%",
    validate=lambda definition: level.validate_margin(definition, _limit(definition)),
)
