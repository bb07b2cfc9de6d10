"""Connections between processors and PostgreSQL that are cut half-way, by a proxy in between."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from psycopg.conninfo import conninfo_to_dict

from ops.chaos import postgres
from ops.chaos.context import Context
from ops.chaos.postgres import Embedded, Server
from ops.chaos.proxy import Proxy, named, proxy
from ops.chaos.scenario import Scenario

_LISTENER = named("lookout")
_QUIET_SECONDS = 7.0  # between two blows: five until the rate is back, and some to see it


class Proxied:
    """The embedded server, which processors reach through a proxy; the writer and the auditor do not."""

    def __init__(self, server: Embedded, between: Proxy) -> None:
        self._server = server
        self.for_auditor = self.for_writer = server.for_auditor
        self.for_administrator = server.for_administrator
        self.for_processors = between.conninfo(server.for_processors)

    def stop(self, mode: str = "fast") -> None:
        self._server.stop(mode)

    def start(self) -> None:
        self._server.start()


class _Network(Scenario):
    @contextmanager
    def server(self, place: Path) -> Iterator[Server]:
        with postgres.running(place / "home") as server:
            given = conninfo_to_dict(server.for_processors)
            with proxy(f"{given['host']}/.s.PGSQL.{given['port']}") as self.proxy:
                yield Proxied(server, self.proxy)

    def interrupt(self, context: Context, stop: Callable[[], int], what: str, shortest: float, longest: float) -> None:
        """Blow after blow: `stop` the proxy, for a time between these seconds, and heal it."""
        while context.left > longest + _QUIET_SECONDS:
            with context.blow(what):
                hit = stop()
            context.note(f"{what} {hit} connections")
            context.sleep(context.random.uniform(shortest, longest))
            self.proxy.heal()
            context.mended()
            context.sleep(_QUIET_SECONDS)


class ProxyStall(_Network):
    name = "proxy-stall"
    about = "bytes between processors and PostgreSQL stop for a while; all connections stay"
    seconds = 40.0

    def during(self, context: Context) -> None:
        self.interrupt(context, self.proxy.stall, "stalled", 2.0, 6.0)


class ProxyReset(_Network):
    name = "proxy-reset"
    about = "all connections of processors reset, again and again"
    seconds = 30.0

    def during(self, context: Context) -> None:
        while context.left > 2:
            with context.blow("reset"):
                hit = self.proxy.reset()
            context.note(f"reset {hit} connections")
            context.sleep(context.random.uniform(1.0, _QUIET_SECONDS))


class ProxyBlackHole(_Network):
    name = "proxy-black-hole"
    about = "packets between processors and PostgreSQL are dropped unanswered, for longer than a lease"
    seconds = 45.0

    def during(self, context: Context) -> None:
        self.interrupt(context, self.proxy.black_hole, "cut off", 4.0, 17.0)


class HalfOpenListener(_Network):
    name = "half-open-listener"
    about = "the listener hears nothing any more: its connection has vanished, or only its answers get lost"
    seconds = 40.0

    def during(self, context: Context) -> None:
        while context.left > _QUIET_SECONDS:
            for way in (self.proxy.vanish, self.proxy.half_open):
                with context.blow(way.__name__.replace("_", "-")):
                    hit = way(_LISTENER)
                if hit != len(context.processors):
                    context.note(f"{way.__name__} hit {hit} listeners")
                context.sleep(12.0)
