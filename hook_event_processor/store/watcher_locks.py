"""One daemon for each type of a host, wherever it keeps its store: locks that a session holds until it ends."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from psycopg import Connection


class Session(NamedTuple):
    """A session of the server, by what no other one ever has."""

    pid: int
    started: str


class Refused(NamedTuple):
    """Another session has the lock of a type; `holder` is None when it let go at that moment.

    `from_here` says that it comes from the same address as this one.
    """

    type: str
    holder: Session | None
    from_here: bool


# 64 bits: two hosts whose names came to the same key would wait for each other.
_KEY = "hashtextextended(format('%%s.watchers %%s %%s', current_schema(), %(host)s::text, %(type)s::text), 0)"


def take(connection: Connection, host: str, types: Sequence[str]) -> Refused | None:
    """Lock all of these types for this session, or none; None when it has them. In autocommit only."""
    taken: list[str] = []
    # In one order for everybody, and no further than the first refusal: two daemons do not keep each other out.
    for name in sorted(types):
        place = {"host": host, "type": name}
        row = connection.execute(f"SELECT pg_try_advisory_lock({_KEY})", place).fetchone()
        if row != (True,):
            for other in taken:
                connection.execute(f"SELECT pg_advisory_unlock({_KEY})", {"host": host, "type": other})
            return Refused(name, *_holder(connection, host, name))
        taken.append(name)
    return None


def own_session(connection: Connection) -> Session:
    """This session."""
    row = connection.execute(
        "SELECT pid, backend_start::text FROM pg_stat_activity WHERE pid = pg_backend_pid()"
    ).fetchone()
    assert row is not None  # noqa: S101 - every session sees itself
    return Session(*row)


def end(connection: Connection, session: Session) -> None:
    """End another session of our own role, if it is there still."""
    connection.execute(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid = %s AND backend_start = %s::timestamptz",
        session,
    )


def _holder(connection: Connection, host: str, name: str) -> tuple[Session | None, bool]:
    row = connection.execute(
        f"""
        SELECT a.pid, a.backend_start::text, a.client_addr IS NOT DISTINCT FROM inet_client_addr()
        FROM pg_locks l JOIN pg_stat_activity a USING (pid)
        WHERE l.locktype = 'advisory' AND l.objsubid = 1 AND l.granted
          AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database())
          AND (l.classid::bigint << 32 | l.objid::bigint) = {_KEY}
        """,
        {"host": host, "type": name},
    ).fetchone()
    return (None, False) if row is None else (Session(*row[:2]), row[2])
