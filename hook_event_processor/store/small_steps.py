"""Removing rows in steps, each a transaction of its own: none keeps locks, or a snapshot, for long."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from psycopg import Connection

STEP_ROWS = 5_000


def remove_in_steps(connection: Connection, statement: str, values: Mapping[str, Any]) -> int:
    """Repeat a DELETE of at most %(step)s rows until there are no more; returns how many went.

    `connection` is in autocommit.
    """
    removed = 0
    while True:
        count = connection.execute(statement, {**values, "step": STEP_ROWS}).rowcount
        removed += count
        if count < STEP_ROWS:
            return removed
