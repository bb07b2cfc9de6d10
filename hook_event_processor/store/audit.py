"""The audit: who added, changed, removed or retried what. Triggers of the schema write it; here it is read."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta

from psycopg import Connection
from psycopg.rows import class_row

from hook_event_processor.store.database import APPLICATION
from hook_event_processor.store.small_steps import remove_in_steps

# Nothing younger can be removed (sql/0015_audit.sql).
KEPT = timedelta(days=30)
# What stands in the application_name of a session before the user of a command, and the host.
COMMAND_OF = "command of "
# Bytes of an application_name beside that: PostgreSQL cuts it at NAMEDATALEN - 1.
_ROOM = 63 - len(f"{APPLICATION} {COMMAND_OF}")


@dataclass(frozen=True, slots=True)
class Entry:
    """One thing that was done. `client` is an application_name, `details` JSON text, `address` None for a socket."""

    id: int
    at: datetime
    role: str
    client: str
    address: str | None
    action: str
    kind: str
    name: str
    details: str
    reason: str

    @property
    def user(self) -> str | None:
        """The user and host that ran the command of hep, as it said (see fitted); None where it was no such command."""
        return self.client.partition(f" {COMMAND_OF}")[2] or None


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which entries; None asks for nothing.

    `object` is a kind, a name, both as kind:name, or the beginning of an
    event's id; `who` a role, or the user of a command with or without its host.
    """

    object: str | None = None
    who: str | None = None
    since: datetime | None = None


_ENTRIES = """
SELECT id, at, role, client, host(address) AS address, action, kind, name, details::text AS details, reason
FROM hook_audit
WHERE (%(since)s::timestamptz IS NULL OR at >= %(since)s)
  AND (%(object)s::text IS NULL OR %(object)s IN (name, kind, kind || ':' || name)
       OR kind = 'event' AND octet_length(%(object)s) >= 8 AND starts_with(name, %(object)s))
  AND (%(who)s::text IS NULL OR role = %(who)s
       OR ARRAY[%(who)s, %(fitted)s]::text[]
          && ARRAY[split_part(client, %(of)s, 2), split_part(split_part(client, %(of)s, 2), '@', 1)])
ORDER BY id DESC LIMIT %(limit)s
"""
_FORGET = """
DELETE FROM hook_audit WHERE id = ANY(ARRAY(
    SELECT id FROM hook_audit WHERE at < now() - %(age)s ORDER BY id LIMIT %(step)s))
"""


def fitted(user: str) -> str:
    """USER@HOST, or USER, as a session's name has room for it: with the host's first label, and cut at the end."""
    if len(user.encode()) > _ROOM:
        name, at, host = user.partition("@")
        user = name + at + host.partition(".")[0]
    return user.encode()[:_ROOM].decode(errors="ignore")


def entries(connection: Connection, wanted: Wanted, limit: int) -> list[Entry]:
    """The newest entries, newest first."""
    values = {"object": wanted.object, "who": wanted.who, "since": wanted.since, "limit": limit, "of": f" {COMMAND_OF}"}
    values["fitted"] = fitted(wanted.who) if wanted.who is not None else None
    with connection.cursor(row_factory=class_row(Entry)) as cursor:
        return cursor.execute(_ENTRIES, values).fetchall()


@contextmanager
def because(connection: Connection, reason: str | None) -> Iterator[None]:
    """A transaction whose changes are kept in the audit with this reason; no transaction without one."""
    if not reason:
        yield
        return
    with connection.transaction():
        # For the transaction alone: behind a pooler the session may be somebody else's next.
        connection.execute("SELECT set_config('hook_events.reason', %s, true)", (reason,))
        yield


def forget(connection: Connection, older_than: timedelta) -> int:
    """Remove entries of that age, of KEPT at least, in steps; returns how many."""
    return remove_in_steps(connection, _FORGET, {"age": max(older_than, KEPT)})
