"""Hosts: who they are, and when they were last heard of."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, TypeVar

import orjson
from psycopg import Connection, Cursor
from psycopg.rows import class_row
from psycopg.types.json import Jsonb, set_json_loads

from hook_event_processor.errors import NotFound

HEARTBEAT_SECONDS = 10.0
# Three heartbeats are missing; and then: it is taken for gone.
LATE_SECONDS = 35.0
GONE_SECONDS = 65.0


@dataclass(frozen=True, slots=True)
class Host:
    """A host as its daemon describes it; `system_info` has os, arch, cpu_cores and memory_gb."""

    name: str
    address: str
    tags: Sequence[str]
    version: str
    system_info: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class KnownHost:
    """A host as it is stored, last seen `age_seconds` ago, and how many watchers it has."""

    name: str
    address: str
    tags: list[str]
    version: str
    system_info: Mapping[str, Any]
    status: str
    registered_at: datetime
    last_seen: datetime
    age_seconds: float
    watchers: int
    enabled: int


@dataclass(frozen=True, slots=True)
class Before:
    """What was known of a host before it registered; nothing of a new one."""

    version: str
    status: str


# A daemon may write anything of its host: what makes no sense must not keep the others from being read.
_TAGS = "ARRAY(SELECT tag FROM unnest(tags) AS tag WHERE tag IS NOT NULL) AS tags"
# Of a few bytes the text is no longer than a server can send; #> gives them as they are without compression.
_INFO = "CASE WHEN pg_column_size(system_info #> '{}') <= 2000 THEN system_info ELSE '{}' END AS system_info"
# PostgreSQL before 17 subtracts nothing infinite.
_SEEN = "least(greatest(last_seen, 'epoch'), now())"
_KNOWN = f"""
SELECT name, address, {_TAGS}, version, {_INFO}, status, registered_at, last_seen,
       extract(epoch FROM clock_timestamp() - {_SEEN})::float8 AS age_seconds,
       count(w.id) AS watchers, count(w.id) FILTER (WHERE w.enabled) AS enabled
FROM hosts LEFT JOIN (SELECT id, host, enabled FROM watchers) w ON w.host = hosts.name
"""


_Row = TypeVar("_Row")


def _cursor(connection: Connection, row: type[_Row]) -> Cursor[_Row]:
    """A cursor for rows with a system_info, and no other JSON."""
    cursor = connection.cursor(row_factory=class_row(row))
    set_json_loads(_system_info, cursor)
    return cursor


def _system_info(text: str | bytes) -> Mapping[str, Any]:
    """What JSON says of a machine; nothing where it is no object, or one that Python cannot hold."""
    try:
        found = orjson.loads(text)
    except orjson.JSONDecodeError:
        return {}
    return found if isinstance(found, dict) else {}


def known(connection: Connection) -> list[KnownHost]:
    """Every host, by name."""
    with _cursor(connection, KnownHost) as cursor:
        return cursor.execute(f"{_KNOWN} GROUP BY hosts.name ORDER BY hosts.name").fetchall()


def get(connection: Connection, name: str) -> KnownHost:
    """The host of that name. Raises NotFound."""
    with _cursor(connection, KnownHost) as cursor:
        found = cursor.execute(f"{_KNOWN} WHERE hosts.name = %s GROUP BY hosts.name", (name,)).fetchone()
    if found is None:
        raise NotFound(f"no host {name!r} has registered")
    return found


def remove(connection: Connection, name: str) -> None:
    """Forget a host; its watchers stay, and a daemon that is there registers it anew. Raises NotFound."""
    if connection.execute("DELETE FROM hosts WHERE name = %s", (name,)).rowcount == 0:
        raise NotFound(f"no host {name!r} has registered")


@dataclass(frozen=True, slots=True)
class Counts:
    """How many hosts there are by status, and watchers: those enabled, and those of them that cannot look."""

    connected: int
    stopped: int
    late: int
    disconnected: int
    watchers: int
    enabled: int
    failing: int


def counts(connection: Connection) -> Counts:
    """The whole fleet in numbers."""
    with connection.cursor(row_factory=class_row(Counts)) as cursor:
        found = cursor.execute(
            """
            SELECT count(*) FILTER (WHERE status = 'connected') AS connected,
                   count(*) FILTER (WHERE status = 'stopped') AS stopped,
                   count(*) FILTER (WHERE status = 'late') AS late,
                   count(*) FILTER (WHERE status = 'disconnected') AS disconnected,
                   (SELECT count(*) FROM watchers) AS watchers,
                   (SELECT count(*) FROM watchers WHERE enabled) AS enabled,
                   (SELECT count(*) FROM watchers WHERE enabled AND last_error IS NOT NULL) AS failing
            FROM hosts
            """
        ).fetchone()
    assert found is not None  # noqa: S101 - an aggregate has one row
    return found


def register(connection: Connection, host: Host) -> Before | None:
    """Write a host down as connected; returns what it was before, None for one that is new."""
    values = {
        "name": host.name,
        "address": host.address,
        "tags": list(host.tags),
        "version": host.version,
        "system_info": Jsonb(host.system_info),
    }
    with connection.transaction():
        # Only one of two daemons of a host finds it new.
        inserted = connection.execute(
            """
            INSERT INTO hosts (name, address, tags, version, system_info)
            VALUES (%(name)s, %(address)s, %(tags)s, %(version)s, %(system_info)s) ON CONFLICT DO NOTHING
            """,
            values,
        )
        if inserted.rowcount:
            return None
        before = connection.execute("SELECT version, status FROM hosts WHERE name = %(name)s FOR UPDATE", values)
        row = before.fetchone()
        connection.execute(
            """
            UPDATE hosts SET address = %(address)s, tags = %(tags)s, version = %(version)s, status = 'connected',
                system_info = %(system_info)s, last_seen = clock_timestamp(),
                mismatches = CASE WHEN version = %(version)s THEN mismatches ELSE '{}' END
            WHERE name = %(name)s
            """,
            values,
        )
        return Before(*row) if row else None


ALL = "all"  # the daemon that has all types; no other is beside it


def beat(connection: Connection, name: str, daemon: str = ALL, health: Mapping[str, Any] | None = None) -> bool:
    """A heartbeat of one of its daemons, with the facts of its health.

    False when the host must register: it is not known, or was taken for gone.
    """
    values = {"name": name, "daemon": daemon, "all": ALL, "facts": None if health is None else Jsonb(health)}
    return (
        connection.execute(
            """
            UPDATE hosts SET last_seen = clock_timestamp(), status = 'connected',
                health = CASE WHEN %(facts)s::jsonb IS NULL THEN health ELSE
                    CASE WHEN %(daemon)s = %(all)s THEN '{}' ELSE health - %(all)s END
                    || jsonb_build_object(%(daemon)s::text,
                                          jsonb_build_object('at', clock_timestamp(), 'facts', %(facts)s::jsonb)) END
            WHERE name = %(name)s AND status <> 'disconnected'
            """,
            values,
        ).rowcount
        == 1
    )


def say_stopped(connection: Connection, name: str, daemon: str = ALL) -> None:
    """One of the host's daemons ends in order: that its heartbeats end is no failure."""
    connection.execute(
        "UPDATE hosts SET last_seen = clock_timestamp(), status = 'stopped', health = health - %s::text"
        " WHERE name = %s AND status = 'connected'",
        (daemon, name),
    )


@dataclass(frozen=True, slots=True)
class Silent:
    """A host whose heartbeats are missing; `gone` when they have for long."""

    name: str
    address: str
    tags: list[str]
    version: str
    system_info: Mapping[str, Any]
    last_seen: datetime
    silent_seconds: float
    gone: bool


_IS_SILENT = f"""
(status = 'connected' AND last_seen < now() - interval '{LATE_SECONDS} s'
 OR status <> 'disconnected' AND last_seen < now() - interval '{GONE_SECONDS} s')
"""
_IS_MISMATCHED = """
(status = 'connected' AND version <> %(version)s AND NOT mismatches @> ARRAY[%(version)s::text])
"""
# Whether find_silent() or find_mismatched() would find any.
HAS_NEWS = f"EXISTS (SELECT FROM hosts WHERE {_IS_SILENT} OR {_IS_MISMATCHED})"


def find_silent(connection: Connection) -> list[Silent]:
    """Mark the hosts whose heartbeats are missing; each is returned once as late and once as gone, to one caller.

    One whose row somebody holds is found the next time.
    """
    with _cursor(connection, Silent) as cursor:
        return cursor.execute(
            f"""
            UPDATE hosts
            SET status = CASE WHEN last_seen < now() - interval '{GONE_SECONDS} s' THEN 'disconnected' ELSE 'late' END
            WHERE name IN (SELECT name FROM hosts WHERE {_IS_SILENT} FOR NO KEY UPDATE SKIP LOCKED)
            RETURNING name, address, {_TAGS}, version, {_INFO}, last_seen,
                      extract(epoch FROM now() - {_SEEN})::float8 AS silent_seconds, status = 'disconnected' AS gone
            """
        ).fetchall()


def find_mismatched(connection: Connection, version: str) -> list[KnownHost]:
    """The connected hosts that have another version than this processor's; each is returned once for a pair.

    One whose row somebody holds is found the next time.
    """
    with _cursor(connection, KnownHost) as cursor:
        return cursor.execute(
            f"""
            UPDATE hosts SET mismatches = mismatches || %(version)s::text
            WHERE name IN (SELECT name FROM hosts WHERE {_IS_MISMATCHED} FOR NO KEY UPDATE SKIP LOCKED)
            RETURNING name, address, {_TAGS}, version, {_INFO}, status, registered_at, last_seen,
                      0.0::float8 AS age_seconds, 0 AS watchers, 0 AS enabled
            """,
            {"version": version},
        ).fetchall()
