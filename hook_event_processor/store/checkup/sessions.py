"""What other sessions hold: the insert guard, snapshots, prepared transactions."""

from __future__ import annotations

from dataclasses import dataclass

from psycopg import Connection
from psycopg.rows import class_row


@dataclass(frozen=True, slots=True)
class Holder:
    """A session that holds something, for `seconds`; None, and no state, for a role that may not see it."""

    pid: int
    user: str
    application: str
    state: str | None
    seconds: float | None
    transactions: int
    database: str = ""


_HOLDER = """
a.pid, coalesce(a.usename, '') AS "user", coalesce(a.application_name, '') AS application, a.state,
extract(epoch FROM clock_timestamp() - a.xact_start)::float8 AS seconds,
greatest(age(a.backend_xmin), age(a.backend_xid), 0) AS transactions, coalesce(a.datname, '') AS database
"""
# The trigger takes the shared lock on (hashtext, 2); the lookout an exclusive one, which is no guard.
_GUARDS = f"""
SELECT DISTINCT {_HOLDER}
FROM pg_locks l JOIN pg_stat_activity a ON a.pid = l.pid
WHERE l.locktype = 'advisory' AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database())
  AND l.classid = (hashtext(%(table)s)::bigint & 4294967295)::oid AND l.objid = 2 AND l.objsubid = 2
  AND l.mode = 'ShareLock' AND l.granted
  AND (a.xact_start < clock_timestamp() - %(seconds)s * interval '1 s'
       -- Of sessions that this role may not see; the trigger takes the transaction's number before the lock.
       OR a.xact_start IS NULL AND age(a.backend_xid) > %(transactions)s)
ORDER BY seconds DESC NULLS LAST
LIMIT 20
"""


def guards(connection: Connection, table: str, seconds: float, transactions: int) -> list[Holder]:
    """The sessions whose transactions have inserted events and been open for so long, oldest first; where that cannot
    be seen, for so many transactions.
    """
    values = {"table": table, "seconds": seconds, "transactions": transactions}
    with connection.cursor(row_factory=class_row(Holder)) as cursor:
        return cursor.execute(_GUARDS, values).fetchall()


# A VACUUM shows a snapshot, and none waits for it.
_NO_VACUUM = "NOT EXISTS (SELECT FROM pg_stat_progress_vacuum p WHERE p.pid IN (a.pid, a.leader_pid))"
# Only what holds back the cleaning of this database's tables.
_SNAPSHOTS = f"""
SELECT {_HOLDER}
FROM pg_stat_activity a
WHERE coalesce(a.backend_xmin, a.backend_xid) IS NOT NULL AND a.pid <> pg_backend_pid() AND a.usesysid IS NOT NULL
  AND (a.backend_type IS NULL  -- of sessions that this role may not see
       OR a.backend_type IN ('client backend', 'walsender', 'parallel worker', 'logical replication worker'))
  AND (a.datname = current_database() OR a.datname IS NULL AND a.backend_type = 'walsender')
  AND {_NO_VACUUM}
  AND (a.xact_start < clock_timestamp() - %(seconds)s * interval '1 s'
       OR a.xact_start IS NULL AND greatest(age(a.backend_xmin), age(a.backend_xid)) > %(transactions)s)
ORDER BY seconds DESC NULLS LAST
LIMIT 20
"""


def snapshots(connection: Connection, seconds: float, transactions: int) -> list[Holder]:
    """The sessions that keep vacuum from removing what has died for so long; where that cannot be seen, so many
    transactions.
    """
    with connection.cursor(row_factory=class_row(Holder)) as cursor:
        return cursor.execute(_SNAPSHOTS, {"seconds": seconds, "transactions": transactions}).fetchall()


def unseen(connection: Connection, transactions: int) -> list[str]:
    """The roles whose sessions hold a snapshot, no more transactions old than that, since when we may not see."""
    rows = connection.execute(
        "SELECT DISTINCT a.usename::text FROM pg_stat_activity a"
        " WHERE a.backend_type IS NULL AND a.usesysid IS NOT NULL AND a.datname = current_database()"
        f" AND greatest(age(a.backend_xmin), age(a.backend_xid)) <= %s AND {_NO_VACUUM} ORDER BY 1",
        (transactions,),
    )
    return [row[0] for row in rows]


def oldest_transactions(connection: Connection) -> list[Holder]:
    """The three sessions, of any database, that have been longest in a transaction."""
    with connection.cursor(row_factory=class_row(Holder)) as cursor:
        return cursor.execute(
            f"SELECT {_HOLDER} FROM pg_stat_activity a WHERE a.xact_start IS NOT NULL AND a.pid <> pg_backend_pid()"
            " AND a.backend_type = 'client backend' ORDER BY a.xact_start LIMIT 3"
        ).fetchall()


def changing(connection: Connection) -> Holder | None:
    """The session whose transaction has changed hooks, pauses or schedules and is open: who else does waits for it."""
    with connection.cursor(row_factory=class_row(Holder)) as cursor:
        return cursor.execute(
            f"SELECT {_HOLDER} FROM hook_registry r"
            " JOIN pg_locks l ON l.locktype = 'transactionid' AND l.transactionid = r.xmax AND l.granted"
            " JOIN pg_stat_activity a ON a.pid = l.pid"
        ).fetchone()


@dataclass(frozen=True, slots=True)
class Prepared:
    """A transaction that was prepared and neither committed nor rolled back."""

    gid: str
    owner: str
    seconds: float


def prepared(connection: Connection, seconds: float) -> list[Prepared]:
    """The transactions of this database that were prepared so long ago."""
    with connection.cursor(row_factory=class_row(Prepared)) as cursor:
        return cursor.execute(
            "SELECT gid, owner, extract(epoch FROM clock_timestamp() - prepared)::float8 AS seconds"
            " FROM pg_prepared_xacts WHERE database = current_database()"
            " AND prepared < clock_timestamp() - %s * interval '1 s' ORDER BY prepared LIMIT 20",
            (seconds,),
        ).fetchall()
