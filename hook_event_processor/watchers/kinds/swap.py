"""swap: how much of the swap space is used."""

from __future__ import annotations

from hook_event_processor.watchers.check import CheckFailed, Moment
from hook_event_processor.watchers.host import proc
from hook_event_processor.watchers.kinds import level
from hook_event_processor.watchers.kinds.level import Level
from hook_event_processor.watchers.kinds.percentage import percentage


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


KIND = percentage(
    "swap",
    "swap space in use, in percent",
    interval=30.0,
    conditions=level.conditions("system.resource_high", "system.resource_normal"),
    threshold=80.0,
    what="in use",
    measure=lambda _: _measure,
)
