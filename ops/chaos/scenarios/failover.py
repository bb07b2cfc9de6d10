"""A primary that dies, and a streaming standby that takes its place."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ops.chaos.context import Context
from ops.chaos.postgres import Server
from ops.chaos.scenario import Scenario
from ops.chaos.standby import pair

_BEFORE_SECONDS = (2.0, 6.0)
_AFTER_SECONDS = 8.0


class Failover(Scenario):
    name = "failover"
    about = "the primary killed, its synchronous standby promoted; clients know both (target_session_attrs)"
    synchronous = True

    @contextmanager
    def server(self, place: Path) -> Iterator[Server]:
        with pair(place, synchronous=self.synchronous) as both:
            yield both

    def during(self, context: Context) -> None:
        context.sleep(context.random.uniform(*_BEFORE_SECONDS))
        with context.blow("kill -9 of the primary"):
            context.server.stop("kill")
        context.sleep(context.random.uniform(0.0, 3.0))  # until somebody promotes
        context.server.start()
        context.mended()
        context.sleep(_AFTER_SECONDS)


class FailoverAsynchronous(Failover):
    name = "failover-async"
    about = "the same with an asynchronous standby: what it had not received yet is lost, and nothing else"
    synchronous = False
    # Commits that only the dead primary had: of events, and of runs that are then done again.
    forgives = frozenset({"lost", "torn", "unexplained"})
