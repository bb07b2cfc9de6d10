"""What processors and daemons of watchers last said of their health."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import orjson
from psycopg import Connection
from psycopg.rows import class_row

from hook_event_processor.store.json_text import bounded
from hook_event_processor.store.processors import SUCCESSOR


@dataclass(frozen=True, slots=True)
class ProcessorVitals:
    """A processor that has not ended in order, nor has another in its place: heard of `age_seconds` ago."""

    node: str
    host: str
    instance: str
    state: str
    age_seconds: float
    health: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class DaemonVitals:
    """A daemon that has not ended in order, by its host and the name of its types."""

    host: str
    name: str
    age_seconds: float
    health: Mapping[str, Any]


def of_processors(connection: Connection, host: str | None, instance: str | None) -> list[ProcessorVitals]:
    """Those of a host and an instance, or of any."""
    with connection.cursor(row_factory=class_row(ProcessorVitals)) as cursor:
        return cursor.execute(
            f"""
            SELECT node, host, instance, state, health,
                   extract(epoch FROM clock_timestamp() - heartbeat_at)::float8 AS age_seconds
            FROM hook_processors p
            WHERE state <> 'stopped' AND heartbeat_at > now() - interval '1 hour' AND NOT EXISTS ({SUCCESSOR})
              AND (%(host)s::text IS NULL OR host = %(host)s)
              AND (%(instance)s::text IS NULL OR instance = %(instance)s)
            ORDER BY node
            """,
            {"host": host, "instance": instance},
        ).fetchall()


def of_daemons(connection: Connection, host: str | None) -> list[DaemonVitals]:
    """Those of a host, or of any; what is not as daemons write it is left out."""
    rows = connection.execute(
        f"""
        SELECT hosts.name, daemon.key, {bounded("daemon.value", "8000")}, clock_timestamp()
        FROM hosts, jsonb_each(CASE jsonb_typeof(health) WHEN 'object' THEN health ELSE '{{}}' END) AS daemon
        WHERE %(host)s::text IS NULL OR hosts.name = %(host)s ORDER BY 1, 2
        """,
        {"host": host},
    )
    found = []
    for name, daemon, text, now in rows:
        with suppress(KeyError, TypeError, ValueError):
            said = orjson.loads(text)
            age = now - datetime.fromisoformat(said["at"])
            found.append(DaemonVitals(name, daemon, age.total_seconds(), said["facts"]))
    return found
