"""memory: how much of it is used."""

from __future__ import annotations

from typing import Any

from hook_event_processor.watchers.check import Definition, Kind, Moment, Option, number
from hook_event_processor.watchers.host import proc
from hook_event_processor.watchers.host.proc import Memory
from hook_event_processor.watchers.kinds import level
from hook_event_processor.watchers.kinds.edge import THRESHOLD_OPTIONS
from hook_event_processor.watchers.kinds.level import Level, Levels

_THRESHOLD = 90.0
_CONDITIONS = level.conditions("system.memory_low", "system.memory_normal")


def _measure(moment: Moment) -> dict[str, Level]:
    memory = proc.MEMORY.at(moment.monotonic)
    return {"memory": Level(memory.used_percent, "usage_percent", _data(memory), "memory")}


def _data(memory: Memory) -> dict[str, Any]:
    return {
        "total": memory.total,
        "available": memory.available,
        "used": memory.total - memory.available,
        "available_percent": round(100.0 * memory.available / memory.total, 2),
        "swap_total": memory.swap_total,
        "swap_used": memory.swap_total - memory.swap_free,
        "swap_usage_percent": round(memory.swap_used_percent, 2),
    }


def _limit(definition: Definition) -> float:
    return float(definition.options.get("threshold", _THRESHOLD))


def _start(definition: Definition, state: object) -> Levels:
    return Levels(definition, state, _measure, _CONDITIONS, _limit(definition))


KIND = Kind(
    name="memory",
    summary="memory in use, in percent",
    interval=30.0,
    conditions=_CONDITIONS,
    options={
        "threshold": Option(number(0, 100), "a percentage from 0 to 100", "percent in use (default 90)"),
        **THRESHOLD_OPTIONS,
    },
    start=_start,
    together=True,
    target=lambda definition: f"threshold: {_limit(definition):g}%",
    validate=lambda definition: level.validate_margin(definition, _limit(definition)),
)
