"""A burst far beyond the rate."""

from __future__ import annotations

import time
from typing import ClassVar

from ops.chaos.context import Context
from ops.chaos.scenario import Scenario

_EVENTS_A_SECOND = 50_000


class Burst(Scenario):
    name = "burst"
    about = "a million events at once, beside the load (with --seconds 20; fewer with fewer)"
    shares: ClassVar = {"parent": 10, "http": 1, "flaky": 1}
    least_seconds = 0.5
    drain_seconds = 900.0

    def during(self, context: Context) -> None:
        count = min(1_000_000, int(context.seconds * _EVENTS_A_SECOND))
        began = time.monotonic()
        with context.blow(f"{count:,} events"):
            context.load.burst(count)
        context.mended()
        context.note(f"{count:,} events were inserted in {time.monotonic() - began:.1f} s")
        self._count, self._began = count, began

    def verify(self, context: Context) -> None:
        seconds = time.monotonic() - self._began
        context.note(
            f"they were processed {seconds:.0f} s after the first was inserted: {self._count / seconds:,.0f} a second"
        )
