"""cpu: the processors' use, of all together or of each core."""

from __future__ import annotations

from collections.abc import Mapping

from hook_event_processor.watchers import parsers
from hook_event_processor.watchers.check import Moment
from hook_event_processor.watchers.host import proc
from hook_event_processor.watchers.host.proc import CoreTimes
from hook_event_processor.watchers.kinds import level
from hook_event_processor.watchers.kinds.level import Level
from hook_event_processor.watchers.kinds.percentage import percentage


class _Usage:
    """How busy the processors were between two looks, in percent."""

    def __init__(self, per_core: bool) -> None:
        self._per_core = per_core
        self._last: Mapping[str, CoreTimes] = {}

    def __call__(self, moment: Moment) -> dict[str, Level]:
        times = proc.CPU_TIMES.at(moment.monotonic)
        last = self._last
        if not last:
            self._last = times
            return {}
        wanted = [key for key in times if key != "cpu"] if self._per_core else ["cpu"]
        usage = {key: _percent(last[key], times[key]) for key in wanted if key in last}
        # Two looks within one tick say nothing: the time of both is for the next one to tell.
        if all(percent is None for percent in usage.values()):
            return {}
        self._last = times
        load = proc.LOAD.at(moment.monotonic)
        machine = {"load_average": load.one, "load_averages": list(load), "cores": len(times) - 1}
        return {
            key: Level(percent, "usage_percent", {**machine, **_core(key)}, _resource(key))
            for key, percent in usage.items()
            if percent is not None
        }


def _percent(before: CoreTimes, after: CoreTimes) -> float | None:
    elapsed = after.total - before.total
    # The kernel may count time of waiting down again.
    return min(100.0, max(0.0, 100.0 * (after.busy - before.busy) / elapsed)) if elapsed > 0 else None


def _core(key: str) -> dict[str, int]:
    return {} if key == "cpu" else {"core": int(key)}


def _resource(key: str) -> str:
    return "cpu" if key == "cpu" else f"cpu{key}"


KIND = percentage(
    "cpu",
    "the processors' use between two checks, in percent",
    interval=15.0,
    conditions=level.conditions("system.cpu_high", "system.cpu_normal"),
    threshold=80.0,
    what="of the time",
    measure=lambda definition: _Usage(bool(definition.options.get("per_core"))),
    options={"per_core": parsers.flag("look at each core by itself")},
)
