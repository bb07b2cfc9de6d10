"""PgBouncer between the processors and PostgreSQL."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ops.chaos import pooler, postgres
from ops.chaos.context import Context
from ops.chaos.pooler import Pooler
from ops.chaos.postgres import Embedded, Server
from ops.chaos.scenario import Scenario

_LOOK_SECONDS = 20.0  # a processor that heard nothing in time tries again after ten
_WAKE = "SELECT DISTINCT wake FROM hook_processors WHERE state = 'running'"


class Pooled:
    """The embedded server, which processors reach through PgBouncer; the writer and the auditor do not."""

    def __init__(self, server: Embedded, between: Pooler) -> None:
        self._server = server
        self.for_auditor = self.for_writer = server.for_auditor
        self.for_administrator = server.for_administrator
        self.for_processors = between.conninfo

    def stop(self, mode: str = "fast") -> None:
        self._server.stop(mode)

    def start(self) -> None:
        self._server.start()


class PgBouncer(Scenario):
    name = "pgbouncer"
    about = "PgBouncer in transaction mode between: processors poll; it is killed and started again, too"
    mode = "transaction"
    wake = "poll"

    def missing(self) -> str | None:
        return None if pooler.program() else "PgBouncer is not installed (apt-get install pgbouncer)"

    @contextmanager
    def server(self, place: Path) -> Iterator[Server]:
        with postgres.running(place / "home") as server, pooler.pooler(place, server.for_auditor, self.mode) as between:
            self._pooler = between
            yield Pooled(server, between)

    def during(self, context: Context) -> None:
        self._look(context)
        while context.left > 8:
            with context.blow("PgBouncer killed"):
                self._pooler.kill()
            context.sleep(context.random.uniform(0.0, 2.0))
            self._pooler.start()
            context.mended()
            context.sleep(8)
        self._look(context)

    def _look(self, context: Context) -> None:
        ends = time.monotonic() + _LOOK_SECONDS
        with context.database() as connection:
            while (found := connection.execute(_WAKE).fetchall()) != [(self.wake,)]:
                if time.monotonic() > ends:
                    context.find(f"processors wake by {found}, not by {self.wake}")
                    return
                time.sleep(0.5)


class PgBouncerSession(PgBouncer):
    name = "pgbouncer-session"
    about = "PgBouncer in session mode between: processors listen as they do without it"
    mode = "session"
    wake = "listen"
