"""What grows: dead rows, bloated indexes, write-ahead log, and the disk under them."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from pathlib import Path

from hook_event_processor.doctor.finding import (
    Area,
    DatabaseCheck,
    Finding,
    Kind,
    Level,
    Subject,
    administer,
    fixed_by,
    psql,
)
from hook_event_processor.doctor.room import DISK_FULL, full_disk
from hook_event_processor.doctor.sessions import without_slot
from hook_event_processor.store.checkup import server, tables

NAMES = (
    *("hook_events", "event_hook_executions", "hooks", "hook_processors", "hook_state", "hook_state_locks"),
    *("hosts", "watchers"),
)
DEAD_ROWS = 100_000
_DEAD_SHARE = 0.2
BLOAT_BYTES = 32 << 20
_BLOAT_FACTOR = 4
# What claims read of hook_events; its other indexes grow with its history, or are somebody's own.
_CLAIMED_BY = ("hook_events_fresh", "hook_events_prioritized", "hook_events_due")
_ENTRY_BYTES = 32  # of such an index, generously: the longest has 24, its place on the page 4
WAL_BYTES = 4 << 30

DEAD = Kind(
    "dead-rows",
    Level.WARNING,
    "Vacuum does not keep up, so tables and indexes grow. Either a snapshot is held (see sessions), or autovacuum is"
    " off, or too slow.",
)
BLOAT = Kind(
    "index-bloat",
    Level.WARNING,
    "An index is many times larger than its entries need. Claims read it: it should fit into memory.",
)
AUTOVACUUM = Kind(
    "autovacuum-off",
    Level.PROBLEM,
    "Nothing removes dead rows, and every event leaves one: tables and indexes grow without end.",
)
WAL = Kind(
    "wal-kept",
    Level.WARNING,
    "The server keeps its write-ahead log for a replica or a consumer that does not fetch it, until the disk is full.",
)
ARCHIVE = Kind(
    "archiving-fails",
    Level.PROBLEM,
    "The server cannot archive its write-ahead log, and keeps all of it until it can, or until the disk is full.",
)


def _dead(subject: Subject) -> Iterator[Finding]:
    for table in tables.tables(subject.connection, NAMES):
        if table.dead <= max(DEAD_ROWS, table.live * _DEAD_SHARE):
            continue
        last = table.last_vacuum_seconds
        since = "never vacuumed" if last is None else f"last vacuumed {last:,.0f} s ago"
        yield Finding(
            DEAD,
            f"{table.name} has {table.dead:,} dead rows beside {table.live:,} live ones, and was {since}",
            (psql(f"VACUUM (ANALYZE) {table.name}"),),
            partial(_vacuum, subject, table.name),
        )


def _vacuum(subject: Subject, table: str) -> str:
    tables.vacuum(subject.connection, table)
    return f"vacuumed {table}"


def _bloat(subject: Subject) -> Iterator[Finding]:
    for index in tables.indexes(subject.connection, _CLAIMED_BY):
        if index.bytes < BLOAT_BYTES:
            continue
        # Fewer would be bloat; those counted by the last vacuum may be of before a burst.
        enough = index.bytes // (_BLOAT_FACTOR * _ENTRY_BYTES)
        if index.entries >= enough or tables.entries(subject.connection, index, enough) >= enough:
            continue
        yield Finding(
            BLOAT,
            f"{index.name} has {index.bytes / 2**20:,.0f} MB for fewer than {enough:,} entries",
            (psql(f"REINDEX INDEX CONCURRENTLY {index.name}"),),
            partial(_rebuild, subject, index.name),
        )


def _rebuild(subject: Subject, index: str) -> str:
    tables.rebuild(subject.connection, index)
    return f"built {index} anew"


def _autovacuum(subject: Subject) -> Iterator[Finding]:
    on, counts = server.autovacuum_runs(subject.connection)
    reload = administer("SELECT pg_reload_conf()", subject.connection)
    for name, good in (("autovacuum", on), ("track_counts", counts)):
        if not good:
            turn_on = administer(f"ALTER SYSTEM SET {name} = on", subject.connection)
            yield Finding(AUTOVACUUM, f"{name} is off", (turn_on, reload))
    for table in tables.tables(subject.connection, NAMES):
        if not table.autovacuum:
            yield Finding(
                AUTOVACUUM,
                f"autovacuum is off for {table.name}",
                (psql(f"ALTER TABLE {table.name} RESET (autovacuum_enabled)"), fixed_by(AREA.name)),
                partial(_reset, subject, table.name),
            )


def _reset(subject: Subject, table: str) -> str:
    tables.reset_autovacuum(subject.connection, table)
    return f"turned autovacuum on for {table}"


def _wal(subject: Subject) -> Iterator[Finding]:
    for slot in server.slots(subject.connection):
        if slot.retained_bytes > WAL_BYTES or slot.lost:
            kept = "has lost its place" if slot.lost else f"keeps {slot.retained_bytes / 2**20:,.0f} MB"
            what = f"the replication slot {slot.name} {kept}, and is {'' if slot.active_pid else 'not '}in use"
            yield Finding(WAL, what, without_slot(subject, slot))
    failing = server.archiving_fails_since(subject.connection)
    if failing is not None:
        when, file = failing
        what = f"archiving has failed since {when:%Y-%m-%d %H:%M:%S%z}, last on {file}"
        said = "journalctl -u 'postgresql*' -n 50  # what archive_command said; on Debian in /var/log/postgresql"
        yield Finding(ARCHIVE, what, (said,))


def _disk(subject: Subject) -> Iterator[Finding]:
    """The server's disk, where it is this host's and the role may know where it is."""
    info = subject.connection.info
    if not (info.host.startswith("/") or info.host in ("", "localhost", "127.0.0.1", "::1")):
        return
    directory = server.data_directory(subject.connection)
    if directory is not None:
        yield from full_disk(Path(directory), "the database")


AREA = Area(
    "growth",
    "dead rows, bloat of the hot indexes, autovacuum, write-ahead log, the database's disk",
    (
        DatabaseCheck(_dead, (DEAD,)),
        DatabaseCheck(_bloat, (BLOAT,)),
        DatabaseCheck(_autovacuum, (AUTOVACUUM,)),
        DatabaseCheck(_wal, (WAL, ARCHIVE)),
        DatabaseCheck(_disk, (DISK_FULL,)),
    ),
)
