"""Connections: how a session is set up, by role."""

from __future__ import annotations

import os
import socket
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from hashlib import sha256

import psycopg
from psycopg import Connection, sql
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from hook_event_processor.errors import StoreUnavailable
from hook_event_processor.store import times

# A processor that is frozen, cut off or dead holds its rows no longer than
# the server needs to notice: five seconds idle in a transaction, ten on a
# connection that no longer answers.
IDLE_IN_TRANSACTION_SECONDS = 5
LOCK_TIMEOUT_SECONDS = 5
_NETWORK = {
    "connect_timeout": 5,  # for each host; the watchdog must outlast them all
    "keepalives": 1,
    "keepalives_idle": 4,
    "keepalives_interval": 2,
    "keepalives_count": 3,
    "tcp_user_timeout": 10_000,
}
_ANSWER_SECONDS = 10.0
APPLICATION = "hook-event-processor"
# psycopg prepares a statement when it is executed for this time (its own default).
PREPARE_AFTER = 5
# Of a session that prepares the statements of the hot path. Each is planned once, for all values: to plan a claim
# costs more than to claim a few rows. What was planned while the table was empty must serve when it is full: without
# these the plan would be to read all of it, and to sort. To compile a plan (JIT) takes longer than to run it.
PLANNED_ONCE = {
    "plan_cache_mode": "force_generic_plan",
    "enable_seqscan": "off",
    "enable_bitmapscan": "off",
    "jit": "off",
}
PLAN_ONCE = "SELECT " + ", ".join(f"set_config('{name}', '{value}', false)" for name, value in PLANNED_ONCE.items())


# SQLSTATEs (PostgreSQL manual, appendix A): lost connections, what others roll back, a full disk and the like, an
# operator's intervention, a faulty disk, a server that is read-only, a lock that was not had in time.
_PASSING = ("08", "40", "53", "57", "58", "25006", "55P03")


@dataclass(frozen=True, slots=True)
class Database:
    """Where the events are: a libpq connection string, and the schema ('' leaves the search_path alone)."""

    conninfo: str
    schema: str = ""

    @property
    def key(self) -> str:
        """Tells files of this host that are about it from those about another database; holds no secret."""
        given = conninfo_to_dict(self.conninfo)
        place = [str(given.get(name) or "") for name in ("host", "hostaddr", "port", "dbname", "service")]
        return sha256("\0".join([*place, self.schema]).encode()).hexdigest()[:16]

    def connect(self, role: str, *, autocommit: bool = False) -> Connection:
        """A new session whose application_name says its role.

        Raises StoreUnavailable, without the password, when it cannot be had.
        """
        try:
            # Behind a transaction pooler prepared statements are lost: whoever knows better sets the threshold.
            connection = Connection.connect(self.session_conninfo(role), autocommit=True, prepare_threshold=None)
            with answering(connection):
                self.set_up(connection)
        except psycopg.OperationalError as fault:
            raise StoreUnavailable(f"the database cannot be reached: {one_line(fault)}") from None
        connection.autocommit = autocommit
        return connection

    def session_conninfo(self, role: str) -> str:
        """What libpq needs for a session of that role: with its name, and with an end to waiting for the network."""
        given = conninfo_to_dict(self.conninfo)
        defaults = {name: value for name, value in _NETWORK.items() if name not in given}
        return make_conninfo(self.conninfo, **defaults, application_name=f"{APPLICATION} {role}")

    def set_up(self, connection: Connection) -> None:
        """Set what every session has; `connection` is in autocommit."""
        connection.execute(
            "SELECT set_config('idle_in_transaction_session_timeout', %s, false),"
            " set_config('lock_timeout', %s, false),"
            " set_config('default_transaction_isolation', 'read committed', false),"
            " set_config('DateStyle', 'ISO', false), set_config('IntervalStyle', 'postgres', false)",
            (f"{IDLE_IN_TRANSACTION_SECONDS}s", f"{LOCK_TIMEOUT_SECONDS}s"),
        )
        times.register(connection)
        if self.schema:
            connection.execute(sql.SQL("SET search_path TO {}").format(sql.Identifier(self.schema)))

    @contextmanager
    def session(self, role: str) -> Iterator[Connection]:
        """A session for one command; in autocommit, closed at the end.

        A connection that is lost on the way is reported as StoreUnavailable;
        other errors of psycopg's pass through.
        """
        connection = self.connect(role, autocommit=True)
        try:
            yield connection
        except psycopg.Error as fault:
            if not connection.closed:
                raise
            raise StoreUnavailable(f"the database was lost: {one_line(fault)}") from fault
        finally:
            connection.close()


def cut(connection: Connection | None) -> None:
    """From another thread: end a session under a wait for a server that no longer answers.

    TCP notices that by itself, in ten seconds; a socket of this host never does, nor a proxy in between.
    """
    with suppress(OSError, psycopg.Error):
        if connection is not None:
            with closing(socket.socket(fileno=os.dup(connection.fileno()))) as duplicate:
                duplicate.shutdown(socket.SHUT_RDWR)


@contextmanager
def answering(connection: Connection) -> Iterator[None]:
    """Cut the session off when the block takes longer than _ANSWER_SECONDS.

    A pooler lets clients log in by itself, and keeps them waiting while no server's session is to be had.
    """
    guard = threading.Timer(_ANSWER_SECONDS, cut, (connection,))
    guard.daemon = True
    guard.start()
    try:
        yield
    finally:
        guard.cancel()
        guard.join()


def may_pass(fault: BaseException) -> bool:
    """Whether the same statement may succeed later, with nothing about it changed."""
    if isinstance(fault, psycopg.Error):
        return (fault.sqlstate or "").startswith(_PASSING)
    return isinstance(fault, StoreUnavailable)


def one_line(fault: BaseException) -> str:
    """A database error as one line; libpq's own span several."""
    return " ".join(str(fault).split()) or type(fault).__name__
