"""Processors that stand still and go on."""

from __future__ import annotations

from hook_event_processor.store.ack import LEASE_SECONDS
from ops.chaos.context import Context
from ops.chaos.scenario import Scenario

_BEYOND_SECONDS = (2.0, 4.0)  # longer than a lease by so much


class Freeze(Scenario):
    name = "freeze"
    about = "SIGSTOP for longer than a lease, then SIGCONT: what was finished late changes nothing"
    least_seconds = 14.0
    seconds = 30.0

    def during(self, context: Context) -> None:
        while context.left > LEASE_SECONDS + _BEYOND_SECONDS[1]:
            victim = context.any_processor()
            with context.blow(f"SIGSTOP {victim.name}", victim):
                victim.freeze()
            context.sleep(LEASE_SECONDS + context.random.uniform(*_BEYOND_SECONDS))
            victim.thaw()
            context.mended()
            context.sleep(2.0)
