"""Processors that are killed."""

from __future__ import annotations

from ops.chaos.context import Context
from ops.chaos.scenario import Scenario

_EVERY_SECONDS = (2.0, 5.0)


class Kill(Scenario):
    name = "kill"
    about = "kill -9 of a processor every few seconds; it is started again at once"
    least_seconds = 6.0

    def during(self, context: Context) -> None:
        while context.left > _EVERY_SECONDS[1]:
            victim = context.any_processor()
            with context.blow(f"kill -9 {victim.name}", victim):
                victim.kill()
            victim.start()
            context.mended()
            context.sleep(context.random.uniform(*_EVERY_SECONDS))
