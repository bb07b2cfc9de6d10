"""What other sessions hold for too long: the insert guard, snapshots; and the queue of notifications."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from hook_event_processor.doctor.finding import (
    Area,
    DatabaseCheck,
    Finding,
    Kind,
    Level,
    Subject,
    administer,
    let_see_others,
    psql,
)
from hook_event_processor.store import watch
from hook_event_processor.store.checkup import server, sessions
from hook_event_processor.store.checkup.server import Slot
from hook_event_processor.store.checkup.sessions import Holder

GUARD_SECONDS = 30.0
SNAPSHOT_SECONDS = 300.0
SNAPSHOT_TRANSACTIONS = 100_000
QUEUE_USAGE = 0.1

GUARD = Kind(
    "insert-guard",
    Level.WARNING,
    "A transaction that has inserted events stays open. While it does, processors are not woken but look by"
    " themselves, every 20 to 250 ms, and its events wait for its end.",
)
SNAPSHOT = Kind(
    "held-snapshot",
    Level.WARNING,
    "An old transaction keeps vacuum from removing what has died since. Processors stay fast; tables and indexes grow.",
)
UNSEEN = Kind(
    "unseen-sessions",
    Level.NOTE,
    "Other roles' sessions hold snapshots, since when is not for this role to see: they are told of once they are"
    " 100,000 transactions old.",
)
PREPARED = Kind(
    "prepared-transaction",
    Level.WARNING,
    "A transaction was prepared and never ended. It holds its snapshot and its locks, over restarts, too.",
)
SLOT_SNAPSHOT = Kind(
    "slot-snapshot",
    Level.WARNING,
    "A replication slot holds an old snapshot: vacuum removes nothing that has died since, in any database.",
)
QUEUE = Kind(
    "notify-queue",
    Level.PROBLEM,
    "The queue of notifications fills up, because a session that listens stays in one transaction. When it is full,"
    " every commit that notifies fails.",
)


def _terminate(subject: Subject, holder: Holder) -> str:
    statement = f"SELECT pg_terminate_backend({holder.pid})"
    ours = holder.user == subject.connection.info.user or server.is_superuser(subject.connection)
    return psql(statement) if ours else administer(statement, subject.connection)


def _who(holder: Holder) -> str:
    name = f"{holder.user}, {holder.application or 'no application_name'}"
    state = f", {holder.state}" if holder.state else ""
    since = f" for {holder.seconds:,.0f} s" if holder.seconds is not None else ", since when this role may not see"
    return f"process {holder.pid} ({name}{state}){since}"


def _guard(subject: Subject) -> Iterator[Finding]:
    table = watch.qualified_table(subject.connection)
    for holder in sessions.guards(subject.connection, table, GUARD_SECONDS, SNAPSHOT_TRANSACTIONS):
        yield Finding(GUARD, f"{_who(holder)} has inserted events and not committed", (_terminate(subject, holder),))


def _snapshots(subject: Subject) -> Iterator[Finding]:
    connection = subject.connection
    for holder in sessions.snapshots(connection, SNAPSHOT_SECONDS, SNAPSHOT_TRANSACTIONS):
        what = f"{_who(holder)} holds a snapshot that is {holder.transactions:,} transactions old"
        yield Finding(SNAPSHOT, what, (_terminate(subject, holder),))
    if unseen := sessions.unseen(connection, SNAPSHOT_TRANSACTIONS):
        what = f"sessions of {', '.join(unseen)} hold snapshots, since when is not to be seen"
        yield Finding(UNSEEN, what, (let_see_others(connection),))
    for one in sessions.prepared(connection, SNAPSHOT_SECONDS):
        what = f"the transaction '{one.gid}' of {one.owner} has been prepared for {one.seconds:,.0f} s"
        gid = one.gid.replace("'", "''")
        yield Finding(PREPARED, what, (administer(f"ROLLBACK PREPARED '{gid}'", connection),))
    for slot in server.slots(connection):
        if slot.snapshot_age > SNAPSHOT_TRANSACTIONS:
            what = f"the replication slot {slot.name} holds a snapshot that is {slot.snapshot_age:,} transactions old"
            yield Finding(SLOT_SNAPSHOT, what, without_slot(subject, slot))


def without_slot(subject: Subject, slot: Slot) -> Sequence[str]:
    """The commands that remove a replication slot, whose name needs no quoting."""
    drop = f"pg_drop_replication_slot('{slot.name}')"
    if slot.active_pid is None:
        return (administer(f"SELECT {drop}", subject.connection),)
    who = administer(f"SELECT * FROM pg_stat_replication WHERE pid = {slot.active_pid}", subject.connection)
    # At once: whoever reads it comes back in seconds.
    end = administer(f"SELECT pg_terminate_backend({slot.active_pid}, 5000), {drop}", subject.connection)
    return f"{who}: who reads it", f"{end}: the replica or consumer must then be built anew"


def _queue(subject: Subject) -> Iterator[Finding]:
    usage = server.queue_usage(subject.connection)
    if usage > QUEUE_USAGE:
        oldest = sessions.oldest_transactions(subject.connection)
        who = "; longest in a transaction: " + ", ".join(map(_who, oldest)) if oldest else ""
        mend = tuple(_terminate(subject, holder) for holder in oldest)
        yield Finding(QUEUE, f"the queue is {usage:.0%} full{who}", mend)


AREA = Area(
    "sessions",
    "transactions that stay open: insert guard, snapshots, prepared ones; the queue of notifications",
    (
        DatabaseCheck(_guard, (GUARD,)),
        DatabaseCheck(_snapshots, (SNAPSHOT, UNSEEN, PREPARED, SLOT_SNAPSHOT)),
        DatabaseCheck(_queue, (QUEUE,)),
    ),
)
