"""The sequences that number new rows, where rows come back with the numbers they had."""

from __future__ import annotations

from psycopg import Connection, errors, sql

from hook_event_processor.errors import ArchiveRefused

# No sequence gets there; one that was set to a number of a writer's choice at the very end would give no more.
REACHED = 2**62
# Whoever inserts waits behind this, and gives up after five seconds (store/database.py).
_LOCK_SECONDS = 2
_SEQUENCE = "SELECT pg_get_serial_sequence(%s, %s)"
_IS_BEHIND = "SELECT coalesce(pg_sequence_last_value(%(sequence)s::regclass), 0) < %(number)s"
_RAISE = f"SELECT setval(%(sequence)s::regclass, %(number)s) WHERE ({_IS_BEHIND})"


def pass_by(connection: Connection, table: str, column: str, number: int) -> None:
    """Let rows that are inserted from now on have numbers above this one; a sequence that is further stays there.

    Takes the owner where it is not. Raises ArchiveRefused when somebody else's transaction stands in the way.
    """
    row = connection.execute(_SEQUENCE, (table, column)).fetchone()
    assert row is not None  # noqa: S101 - a SELECT without FROM
    values = {"sequence": row[0], "number": number}
    if connection.execute(_IS_BEHIND, values).fetchone() != (True,):
        return
    try:
        with connection.transaction():
            connection.execute("SELECT set_config('lock_timeout', %s, true)", (f"{_LOCK_SECONDS}s",))
            # It is for the lock, against which nobody takes a number: between a look
            # and setval() others would, and be given the same ones again.
            connection.execute(sql.SQL("ALTER SEQUENCE {} NO CYCLE").format(sql.SQL(row[0])))
            connection.execute(_RAISE, values)
    except errors.LockNotAvailable:
        raise ArchiveRefused(
            f"somebody has inserted rows into {table}, and not committed for {_LOCK_SECONDS} seconds:"
            " restore again once that has ended"
        ) from None
