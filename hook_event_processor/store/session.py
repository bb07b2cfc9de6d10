"""psycopg's connection, without a deadlock of its pipelines."""

from __future__ import annotations

from collections.abc import Generator
from typing import Any

from psycopg import Connection
from psycopg.pq.abc import PGconn
from psycopg.waiting import Ready, Wait


class Session(Connection):
    """A connection whose pipelines may hold more than the socket does.

    psycopg 3.3 goes on to wait for results when libpq has taken the last
    statement of a pipeline but not sent all of it; the server waits for the
    rest, and neither ends. Here what is left is sent while it waits.
    """

    def wait(self, gen: Generator[Any, Any, Any], *arguments: Any, **options: Any) -> Any:
        if self._pipeline is not None:
            gen = _sending(gen, self.pgconn)
        return super().wait(gen, *arguments, **options)


def _sending(generator: Generator[Wait, Ready, Any], connection: PGconn) -> Generator[Wait, Ready, Any]:
    try:
        wants = next(generator)
        while True:
            if wants == Wait.R and connection.flush():  # some of it is left
                ready = yield Wait.RW  # None after Ctrl-C: psycopg cancels the query, and waits on
                wants = generator.send(Ready.R if ready and ready & Ready.R else Ready.NONE)
            else:
                wants = generator.send((yield wants))
    except StopIteration as end:
        return end.value
