"""Putting archived events back as they were."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from psycopg import Connection, DataError, IntegrityError, sql

from hook_event_processor import archive_file
from hook_event_processor.archive_file import Totals
from hook_event_processor.errors import ArchiveRefused
from hook_event_processor.store.cleanup import sequences
from hook_event_processor.store.cleanup.to_table import ARCHIVES, columns_of

_BATCH_EVENTS = 500
_BATCH_BYTES = 4 * 1024 * 1024
# What says how far an event has come: left to its defaults, it is new.
_STATE = frozenset(
    (
        "processed",
        "processed_at",
        "processing_errors",
        "retry_count",
        "failed_at",
        "available_at",
        "needs_slot",
        "lease_token",
        "claimed_by",
        "seq",
        "dequeued",
    )
)
# What a sequence gives of each table, and the highest of it in a batch.
_NUMBERED = (("hook_events", "seq"), ("event_hook_executions", "id"))
_HIGHEST = f"""
WITH given AS MATERIALIZED (
    SELECT line::json AS line FROM string_to_table(%s, E'\\n') AS line
), numbers AS (
    SELECT (line -> 'event' ->> 'seq')::bigint AS seq, NULL::bigint AS id FROM given
    UNION ALL
    SELECT NULL, (run ->> 'id')::bigint FROM given, LATERAL json_array_elements(line -> 'executions') AS run
)
SELECT coalesce(max(seq) FILTER (WHERE seq < {sequences.REACHED}), 0),
       coalesce(max(id) FILTER (WHERE id < {sequences.REACHED}), 0) FROM numbers
"""
# A statement for a batch: what is there already stays as it is.
_INSERT = """
WITH given AS MATERIALIZED (
    SELECT line::json AS line FROM string_to_table({lines}, E'\\n') AS line
), events AS (
    INSERT INTO hook_events ({events})
    SELECT {events} FROM given, LATERAL json_populate_record(NULL::hook_events, given.line -> 'event')
    ON CONFLICT (id) DO NOTHING RETURNING id
)"""
# A database that was restored from an older dump gives numbers again: executions whose number is another's by now get
# new ones. Those that stayed where their event went without them are there already.
_INSERT_RUNS = """, archived AS (
    SELECT run.* FROM given,
        LATERAL json_populate_recordset(NULL::event_hook_executions, given.line -> 'executions') AS run
    WHERE (given.line -> 'event' ->> 'id')::uuid IN (SELECT id FROM events)
), runs AS (
    INSERT INTO event_hook_executions ({executions}) SELECT {executions} FROM archived
    ON CONFLICT DO NOTHING RETURNING event_id, hook_id, id
), there AS (
    SELECT event_id, hook_id, id FROM runs
    UNION ALL
    SELECT event_id, hook_id, id FROM event_hook_executions WHERE event_id = ANY(ARRAY(SELECT id FROM events))
), renumbered AS (
    INSERT INTO event_hook_executions ({unnumbered})
    SELECT {unnumbered} FROM archived LEFT JOIN there USING (event_id, hook_id, id) WHERE there.id IS NULL
    RETURNING 1
) SELECT (SELECT count(*) FROM events), (SELECT count(*) FROM runs) + (SELECT count(*) FROM renumbered)"""
_COUNT = " SELECT (SELECT count(*) FROM events), 0"


@dataclass(slots=True)
class Restored:
    """How many events were put back, how many were there already, and how many executions came with them."""

    events: int = 0
    present: int = 0
    executions: int = 0


def restore(
    connection: Connection, paths: Sequence[Path], *, run_again: bool, report: Callable[[float], None]
) -> Restored:
    """Put back what the files hold; events that are there already stay as they are.

    They come back as they were, and nothing runs for them; with `run_again`
    they are new, without their executions, and every hook that matches runs.
    All files are read through first: raises ArchiveRefused with the place
    where one is not whole, and nothing is put back then.
    """
    check(paths)
    if not run_again:
        _pass_by_numbers(connection, paths)
    restored = Restored()
    for number, path in enumerate(paths):
        statement: sql.Composed | None = None
        for head, batch in _batches(path):
            statement = statement or _statement(connection, path, head, run_again=run_again)
            _insert(connection, path, statement, batch, restored)
        report((number + 1) / len(paths))
    return restored


def check(paths: Sequence[Path]) -> list[Totals]:
    """Read files through; returns what each holds. Raises ArchiveRefused with the place where one is not whole."""
    return [_read(path) for path in paths]


def _pass_by_numbers(connection: Connection, paths: Sequence[Path]) -> None:
    """Before the rows come: no new one is to have a number of theirs, which for executions is their key."""
    highest = [0] * len(_NUMBERED)
    for path in paths:
        for _, batch in _batches(path):
            with _refusing(path):
                found = connection.execute(_HIGHEST, (_one_text(batch),)).fetchone()
            highest = list(map(max, highest, found or highest))
    for (table, column), number in zip(_NUMBERED, highest, strict=True):
        sequences.pass_by(connection, table, column, number)


def _one_text(batch: Sequence[str]) -> str:
    # A list costs as much to send as to insert: each of its quotes is escaped.
    return "\n".join(batch)


@contextmanager
def _refusing(path: Path) -> Iterator[None]:
    """What the database says to what a file holds is the file's fault."""
    try:
        yield
    except (DataError, IntegrityError) as refusal:
        raise ArchiveRefused(f"{path}: the database refuses an event of it: {refusal.diag.message_primary}") from None


def _read(path: Path) -> Totals:
    try:
        return archive_file.verify(path)
    except OSError as fault:
        raise ArchiveRefused(f"{path} cannot be read: {fault.strerror or fault}") from None


def _batches(path: Path) -> Iterator[tuple[dict[str, Any], list[str]]]:
    batch: list[str] = []
    head: dict[str, Any] = {}
    size = 0
    for head, line in archive_file.lines(path):
        batch.append(line.decode())
        size += len(line)
        if len(batch) >= _BATCH_EVENTS or size >= _BATCH_BYTES:
            yield head, batch
            batch, size = [], 0
    if batch:
        yield head, batch


def _statement(connection: Connection, path: Path, head: dict[str, Any], *, run_again: bool) -> sql.Composed:
    lists = {}
    for table in ARCHIVES:
        archived = head.get("columns", {}).get(table, [])
        unknown = [str(name) for name in archived if name not in columns_of(connection, table)]
        if unknown or not archived:
            what = f"the columns {', '.join(unknown)}" if unknown else "columns"
            raise ArchiveRefused(
                f"{path}: {table} of this database lacks {what}: is it migrated (hep db migrate)?"
                if unknown
                else f"{path}: line 1: it does not say which columns {table} had"
            )
        lists[table] = archived
    events, executions = lists.values()
    return sql.SQL(_INSERT + (_COUNT if run_again else _INSERT_RUNS)).format(
        lines=sql.Placeholder(),
        events=_names(name for name in events if not (run_again and name in _STATE)),
        executions=_names(executions),
        unnumbered=_names(name for name in executions if name != "id"),
    )


def _names(columns: Iterable[str]) -> sql.Composed:
    return sql.SQL(", ").join(map(sql.Identifier, columns))


def _insert(
    connection: Connection, path: Path, statement: sql.Composed, batch: Sequence[str], restored: Restored
) -> None:
    with _refusing(path):
        row = connection.execute(statement, (_one_text(batch),)).fetchone()
    if row is not None:
        restored.events += row[0]
        restored.present += len(batch) - row[0]
        restored.executions += row[1]
