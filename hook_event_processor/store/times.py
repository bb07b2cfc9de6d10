"""The database's times: its clock, and what Python cannot hold: infinity, the years before 1 and after 9999."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from psycopg import Connection, DataError
from psycopg.types.datetime import TimestamptzLoader

# A day inside of Python's own, so that both are times in every time zone.
FIRST = datetime(1, 1, 2, tzinfo=UTC)
LAST = datetime(9999, 12, 30, tzinfo=UTC)


class _Loader(TimestamptzLoader):
    """Gives FIRST for what lies before it, and LAST for what lies after it: whoever may write a time may write any."""

    def load(self, data: Any) -> datetime:
        try:
            moment = super().load(data)
        except DataError:
            text = bytes(data)
            return FIRST if text == b"-infinity" or text.endswith(b"BC") else LAST
        return min(max(moment, FIRST), LAST)


def register(context: Any) -> None:
    """Let a connection read any time."""
    context.adapters.register_loader("timestamptz", _Loader)


def server_time(connection: Connection) -> datetime:
    """What the database's clock says."""
    return _asked(connection, "SELECT clock_timestamp()")


def transaction_time(connection: Connection) -> datetime:
    """When the transaction began, by the database's clock; what it says now outside of one."""
    return _asked(connection, "SELECT now()")


def _asked(connection: Connection, statement: str) -> datetime:
    row = connection.execute(statement).fetchone()
    assert row is not None  # noqa: S101 - a SELECT without FROM
    moment: datetime = row[0]
    return moment
