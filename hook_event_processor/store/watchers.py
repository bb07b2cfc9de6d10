"""Watchers: what hosts watch, as operators and their daemons read and write it."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import orjson
import psycopg
from psycopg import Connection, errors, sql
from psycopg.rows import class_row
from psycopg.types.json import Jsonb, set_json_loads

from hook_event_processor.errors import Ambiguous, HookEventProcessorError, NotFound
from hook_event_processor.store import watcher_config
from hook_event_processor.store.watcher_config import WatcherConfig


@dataclass(frozen=True, slots=True)
class NewWatcher:
    """A watcher to be stored; options as texts, by name, and the interval in seconds, None for the type's own."""

    host: str
    type: str
    conditions: Sequence[str] = ()
    options: Mapping[str, str] = field(default_factory=dict)
    interval: float | None = None
    name: str = ""
    stack: str | None = None
    enabled: bool = True


@dataclass(frozen=True, slots=True)
class Watcher:
    """A watcher as it is stored."""

    id: str
    host: str
    type: str
    name: str
    stack: str | None
    config: WatcherConfig
    enabled: bool
    created_at: datetime
    updated_at: datetime
    last_check: datetime | None
    last_event: datetime | None
    last_error: str | None


@dataclass(slots=True)  # not frozen, which costs more than all else: a hundred are made a second
class Looked:
    """What a daemon has to say of a watcher; `error` None for no error."""

    id: str
    checked_at: datetime
    error: str | None


_COLUMNS = "id, host, type, name, stack, config, enabled, created_at, updated_at, last_check, last_event, last_error"


def add(connection: Connection, new: NewWatcher) -> Watcher:
    """Store a watcher; whether it makes sense is for watchers.kinds.read to say before.

    Raises HookEventProcessorError when its host has one of that name.
    """
    config: dict[str, Any] = {"conditions": list(new.conditions), "options": dict(new.options)}
    if new.interval is not None:
        config["interval"] = new.interval
    values = {
        "id": f"watcher-{time.time_ns()}",
        "host": new.host,
        "type": new.type,
        "name": new.name,
        "stack": new.stack,
        "config": Jsonb(config),
        "enabled": new.enabled,
    }
    try:
        [added] = _read(
            connection,
            f"""
            INSERT INTO watchers (id, host, type, name, stack, config, enabled)
            VALUES (%(id)s, %(host)s, %(type)s, %(name)s, %(stack)s, %(config)s, %(enabled)s)
            RETURNING {_COLUMNS}
            """,
            values,
        )
    except errors.UniqueViolation:
        raise HookEventProcessorError(
            f"{new.host} has a watcher named {new.name!r} already: choose another name, or delete that one"
        ) from None
    return added


def known(connection: Connection, host: str | None = None, type: str | None = None) -> list[Watcher]:  # noqa: A002
    """Every watcher, or those of one host or type, by host and age."""
    return _read(
        connection,
        f"""
        SELECT {_COLUMNS} FROM watchers
        WHERE (%(host)s::text IS NULL OR host = %(host)s) AND (%(type)s::text IS NULL OR type = %(type)s)
        ORDER BY host, created_at, id
        """,
        {"host": host, "type": type},
    )


def get(connection: Connection, name: str, host: str | None = None) -> Watcher:
    """The watcher with that name, id, or beginning of an id (of one host, if given). Raises NotFound or Ambiguous."""
    # Its number may be given without the word before it.
    start = name if name.startswith("watcher-") else f"watcher-{name}"
    found = _read(
        connection,
        f"""
        SELECT {_COLUMNS} FROM watchers
        WHERE (name = %(name)s OR id = %(name)s OR starts_with(id, %(start)s))
          AND (%(host)s::text IS NULL OR host = %(host)s)
        ORDER BY id = %(name)s DESC, name = %(name)s DESC, id LIMIT 3
        """,
        {"name": name, "start": start, "host": host},
    )
    where = f" on {host}" if host else ": 'hep watcher list --all' lists them"
    if not found or not name:
        raise NotFound(f"there is no watcher {name!r}{where}")
    exact = [watcher for watcher in found if watcher.id == name] or [w for w in found if w.name == name] or found
    if len(exact) > 1:
        names = ", ".join(f"{watcher.id} on {watcher.host}" for watcher in exact)
        raise Ambiguous(f"{name!r} stands for more than one watcher: {names}")
    return exact[0]


def set_enabled(connection: Connection, watcher: Watcher, enabled: bool) -> bool:
    """Enable or disable a watcher; False when it is so already."""
    if watcher.enabled == enabled:
        return False  # an UPDATE, even of no row, would make every daemon reload
    connection.execute(
        "UPDATE watchers SET enabled = %s, last_error = NULL, updated_at = now() WHERE id = %s", (enabled, watcher.id)
    )
    return True


def remove(connection: Connection, watcher: Watcher) -> None:
    """Remove a watcher; its events stay."""
    connection.execute("DELETE FROM watchers WHERE id = %s", (watcher.id,))


def to_watch(connection: Connection, host: str, types: Sequence[str] | None = None) -> list[Watcher]:
    """The enabled watchers of a host, of these types or of all."""
    return _read(
        connection,
        f"""
        SELECT {_COLUMNS} FROM watchers
        WHERE host = %(host)s AND (%(types)s::text[] IS NULL OR type = ANY(%(types)s)) AND enabled ORDER BY id
        """,
        {"host": host, "types": None if types is None else list(types)},
    )


def has_any(connection: Connection, host: str) -> bool:
    """Whether a host has a watcher that is enabled."""
    row = connection.execute("SELECT EXISTS (SELECT FROM watchers WHERE host = %s AND enabled)", (host,)).fetchone()
    return row is not None and bool(row[0])


def revision(connection: Connection) -> int:
    """The number that grows with every change of what is watched."""
    row = connection.execute("SELECT revision FROM watcher_registry").fetchone()
    return int(row[0]) if row else 0


def listen(connection: Connection) -> None:
    """Be notified of every change of what is watched."""
    row = connection.execute(
        "SELECT nspname FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace"
        " WHERE c.oid = 'watchers'::regclass"
    ).fetchone()
    assert row is not None  # noqa: S101 - the cast has found it
    connection.execute(sql.SQL("LISTEN {}").format(sql.Identifier(f"{row[0]}.watchers")))


def say_looked(connection: Connection, looks: Sequence[Looked]) -> set[str]:
    """Write when watchers last looked, and what keeps them from looking, in one statement.

    What was disabled since is left as it is: nobody would take its fault back.
    Returns the ids of watchers that somebody has locked.
    """
    # One text: arrays of the columns cost five times as much to write.
    locked = connection.execute(_SAY_LOOKED, (orjson.dumps(looks).decode(),)).fetchall()
    return {watcher_id for (watcher_id,) in locked}


# Somebody who is changing a watcher may take hours over it: that must not keep the others, nor events, waiting.
_SAY_LOOKED = """
WITH looked AS (
    SELECT * FROM json_to_recordset(%s::json) AS looked (id text, checked_at timestamptz, error text)
), free AS (
    SELECT w.id FROM looked JOIN watchers w ON w.id = looked.id AND w.enabled FOR NO KEY UPDATE OF w SKIP LOCKED
), said AS (
    UPDATE watchers w SET last_check = looked.checked_at, last_error = looked.error
    FROM looked JOIN free USING (id) WHERE w.id = looked.id
)
SELECT w.id FROM looked JOIN watchers w ON w.id = looked.id AND w.enabled WHERE w.id NOT IN (SELECT id FROM free)
"""

# Theirs are the ids: what was sent before and not acknowledged changes nothing.
_INSERT_EVENTS = """
WITH sent AS (
    SELECT id, body, (body ->> 'occurred_at')::timestamptz AS occurred_at, place
    FROM unnest(%s::uuid[], %s::text[]::jsonb[]) WITH ORDINALITY AS _(id, body, place)
), latest AS (
    SELECT body -> 'payload' ->> 'watcher_id' AS id, max(occurred_at) AS occurred_at FROM sent GROUP BY 1
), free AS (
    SELECT w.id FROM latest JOIN watchers w ON w.id = latest.id FOR NO KEY UPDATE OF w SKIP LOCKED
), told AS (
    UPDATE watchers w SET last_event = greatest(w.last_event, latest.occurred_at)
    FROM latest JOIN free USING (id) WHERE w.id = latest.id
)
INSERT INTO hook_events (id, source, action, resource, resource_id, payload, metadata, occurred_at)
SELECT id, body ->> 'source', body ->> 'action', body ->> 'resource', '', body -> 'payload', body -> 'metadata',
       occurred_at
FROM sent ORDER BY place
ON CONFLICT DO NOTHING
"""


def insert_events(connection: Connection, ids: Sequence[str], bodies: Sequence[str]) -> int:
    """Insert events in their order, each once, and note when their watchers told of them; returns how many were new.

    Of a watcher that somebody has locked it is not noted. `bodies` are JSON, as watchers.daemon.envelope makes it.
    """
    return connection.execute(_INSERT_EVENTS, (list(ids), list(bodies))).rowcount


def is_limited(fault: psycopg.Error) -> bool:
    """Whether the role may publish events, but none of this source: 'hep db grant' has limited it to others."""
    said = fault.diag
    # Raised by that trigger, and no right that the trigger itself lacks: then nothing of the role's goes in.
    return said.source_function == "exec_stmt_raise" and "hook_events_limited()" in (said.context or "")


def _read(connection: Connection, statement: str, values: Mapping[str, Any] | Sequence[Any]) -> list[Watcher]:
    with connection.cursor(row_factory=class_row(Watcher)) as cursor:
        set_json_loads(watcher_config.read, cursor)
        return cursor.execute(statement, values).fetchall()
