"""Rows with coherent defaults, in the past instead of under a fake clock."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

from psycopg import Connection, sql
from psycopg.types.json import Jsonb

LEASE = timedelta(seconds=10)


def ago(**duration: float) -> datetime:
    """The time that lies `duration` (as timedelta takes it) before now; negative ones lie ahead."""
    return datetime.now(UTC) - timedelta(**duration)


def insert_event(connection: Connection, state: str = "pending", **columns: Any) -> UUID:
    """Insert an event in `state` (pending, scheduled, retrying, paused, processing, completed, failed); returns its id.

    It was created a minute ago, and what its state needs follows from that;
    `columns` override single columns. A scheduled or retrying event lies a
    minute ahead: give available_at a past time for one that is due.
    """
    created_at = columns.get("created_at", ago(minutes=1))
    row: dict[str, Any] = {
        "id": uuid4(),
        "source": "task",
        "action": "failed",
        "created_at": created_at,
        **_STATES[state](created_at),
        **columns,
    }
    _insert(connection, "hook_events", row)
    event_id: UUID = row["id"]
    return event_id


def _pending(created_at: datetime) -> dict[str, Any]:
    return {}


def _scheduled(created_at: datetime) -> dict[str, Any]:
    return {"available_at": ago(minutes=-1)}


def _retrying(created_at: datetime) -> dict[str, Any]:
    return {"retry_count": 1, "processing_errors": ["first attempt"], "available_at": ago(minutes=-1)}


def _paused(created_at: datetime) -> dict[str, Any]:
    return {"available_at": "infinity"}


def _processing(created_at: datetime) -> dict[str, Any]:
    return {
        "lease_token": uuid4(),
        "claimed_by": "elsewhere:1",
        "needs_slot": True,
        "available_at": datetime.now(UTC) + LEASE,
    }


def _completed(created_at: datetime) -> dict[str, Any]:
    return {"processed": True, "processed_at": created_at + timedelta(seconds=1)}


def _failed(created_at: datetime) -> dict[str, Any]:
    return {
        "retry_count": 3,
        "processing_errors": ["first attempt", "second attempt", "third attempt"],
        "failed_at": created_at + timedelta(seconds=10),
    }


_STATES = {
    "pending": _pending,
    "scheduled": _scheduled,
    "retrying": _retrying,
    "paused": _paused,
    "processing": _processing,
    "completed": _completed,
    "failed": _failed,
}


def insert_execution(connection: Connection, event_id: UUID, hook: str = "greet", **columns: Any) -> None:
    """Insert one execution of `hook` for an event: a success of one millisecond, a minute ago, unless told."""
    failed = not columns.get("success", True)
    row: dict[str, Any] = {
        "event_id": event_id,
        "hook_id": sum(hook.encode()),
        "hook_name": hook,
        "success": True,
        "error": "it failed" if failed else None,
        "result": "failed" if failed else "continue",
        "duration_ms": 1.0,
        "executed_at": ago(minutes=1),
        "node": "here:1",
        **columns,
    }
    _insert(connection, "event_hook_executions", row)


def _insert(connection: Connection, table: str, row: dict[str, Any]) -> None:
    values = {name: Jsonb(value) if isinstance(value, dict) else value for name, value in row.items()}
    connection.execute(
        sql.SQL("INSERT INTO {} ({}) VALUES ({})").format(
            sql.Identifier(table),
            sql.SQL(", ").join(map(sql.Identifier, values)),
            sql.SQL(", ").join(sql.Placeholder() * len(values)),
        ),
        list(values.values()),
    )
