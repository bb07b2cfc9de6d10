"""memory: how much of it is used."""

from __future__ import annotations

from typing import Any

from hook_event_processor.watchers.check import Moment
from hook_event_processor.watchers.host import proc
from hook_event_processor.watchers.host.proc import Memory
from hook_event_processor.watchers.kinds import level
from hook_event_processor.watchers.kinds.level import Level
from hook_event_processor.watchers.kinds.percentage import percentage


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


KIND = percentage(
    "memory",
    "memory in use, in percent",
    interval=30.0,
    conditions=level.conditions("system.memory_low", "system.memory_normal"),
    threshold=90.0,
    what="in use",
    measure=lambda _: _measure,
)
