"""What stands between us and the server: whether notifications come through, and whether sessions are ours."""

from __future__ import annotations

import select
import time
from collections.abc import Iterator
from uuid import uuid4

from psycopg import Connection

from hook_event_processor.doctor.finding import Area, DatabaseCheck, Finding, Kind, Level, Subject
from hook_event_processor.store import watch
from hook_event_processor.store.checkup import server

PROBE_SECONDS = 2.0

TRANSACTION_POOLER = Kind(
    "transaction-pooler",
    Level.WARNING,
    "A pooler lends out the server's sessions by transaction. Processors then poll, every POLL_INTERVAL at the latest,"
    " and prepare no statements; and what a session sets (time limits, the schema) may be lent with it. Events are"
    " safe, and slower.",
)
NOT_LISTENING = Kind(
    "no-notifications",
    Level.WARNING,
    "A notification that one session sent did not reach another. Processors fall back to polling: an event then waits"
    " up to POLL_INTERVAL.",
)
LISTEN_OFF = Kind(
    "listen-off",
    Level.NOTE,
    "LISTEN=off: processors poll, though notifications would come through. An event waits up to POLL_INTERVAL.",
)

_DIRECT = "DATABASE_URL=...  # the server's own address, or a pool in session mode, for the processors"


def lends_sessions(subject: Subject) -> bool:
    """Whether a session of ours gets another one of the server's when somebody else takes the one that it had."""
    ours = subject.connection
    before = server.backend(ours)
    if before == ours.info.backend_pid:  # a pooler makes a number of its own
        return False
    with subject.database.session("probe") as other, other.transaction():
        taken = server.backend(other)
        return taken == before or server.backend(ours) != before


def hears(subject: Subject) -> bool:
    """Whether a notification arrives in another session than the one that sent it."""
    channel = f"hep.doctor.{uuid4().hex[:8]}"
    with subject.database.session("probe") as listening:
        watch.listen(listening, channel)
        with subject.database.session("probe") as other:
            watch.notify(other, channel, "probe")
        return _heard(listening, time.monotonic() + PROBE_SECONDS)


def _heard(listening: Connection, ends: float) -> bool:
    poll = select.poll()
    poll.register(listening.fileno(), select.POLLIN)
    while (left := ends - time.monotonic()) > 0:
        poll.poll(left * 1000)
        listening.pgconn.consume_input()
        if listening.pgconn.notifies():
            return True
    return False


def _look(subject: Subject) -> Iterator[Finding]:
    if lends_sessions(subject):
        yield Finding(
            TRANSACTION_POOLER,
            "sessions are lent by transaction, as PgBouncer's pool_mode=transaction has it",
            (_DIRECT,),
        )
    elif not hears(subject):
        yield Finding(NOT_LISTENING, f"no notification came within {PROBE_SECONDS:g} s", (_DIRECT,))
    elif not subject.settings.listen:
        yield Finding(LISTEN_OFF, "LISTEN is off, and notifications arrive", ("LISTEN=on  # in the settings",))


AREA = Area(
    "wake",
    "whether processors can be woken: LISTEN, and poolers between",
    (DatabaseCheck(_look, (TRANSACTION_POOLER, NOT_LISTENING, LISTEN_OFF), in_transaction=False),),
)
