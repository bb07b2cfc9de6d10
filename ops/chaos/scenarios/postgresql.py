"""PostgreSQL that is stopped and started again."""

from __future__ import annotations

from typing import ClassVar

from ops.chaos.context import Context
from ops.chaos.scenario import Scenario


class RestartFast(Scenario):
    name = "restart-fast"
    about = "PostgreSQL restarted in fast mode: sessions end, a checkpoint is written"
    mode: ClassVar[str] = "fast"

    def during(self, context: Context) -> None:
        while context.left > 8:
            with context.blow(f"PostgreSQL stopped, {self.mode}"):
                context.server.stop(self.mode)
            context.sleep(context.random.uniform(0.0, 2.0))
            context.server.start()
            context.mended()
            context.sleep(context.random.uniform(7.0, 9.0))


class RestartImmediate(RestartFast):
    name = "restart-immediate"
    about = "PostgreSQL restarted in immediate mode: as after a crash, with recovery from the WAL"
    mode = "immediate"


class RestartKill(RestartFast):
    name = "restart-kill"
    about = "PostgreSQL's postmaster killed with kill -9"
    mode = "kill"
