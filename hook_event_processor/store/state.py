"""What hooks remember between runs: keys with values. Every change is one statement."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal

from psycopg import Connection
from psycopg.rows import class_row

from hook_event_processor.errors import StateRefused
from hook_event_processor.store.json_text import short

MAX_KEYS = 10_000  # of a namespace
MAX_SHARED = 100  # namespaces that the hooks of a stack share
MAX_VALUE_BYTES = 64 * 1024  # of JSON text
MAX_KEY_BYTES = 255
MAX_NAME_BYTES = 200
_LEAST, _GREATEST = -(2**63), 2**63 - 1  # that a counter may reach
_EXPIRED_AT_A_TIME = 1_000


@dataclass(frozen=True, slots=True)
class Namespace:
    """Whose keys: a hook's own (scope `hook`), or those that the hooks of a stack share under a name (`shared`).

    The stack is empty for hooks of no stack.
    """

    scope: str
    name: str
    stack: str = ""

    def with_values(self, **more: object) -> Mapping[str, object]:
        """The parameters of a statement that begins with HERE."""
        return {"stack": self.stack, "scope": self.scope, "name": self.name, **more}

    def __str__(self) -> str:
        owner = f"the hook {self.name!r}" if self.scope == "hook" else f"the shared namespace {self.name!r}"
        return f"{owner} of the stack {self.stack!r}" if self.stack else owner


@dataclass(frozen=True, slots=True)
class Entry:
    """A key as operators see it; the value is JSON text."""

    scope: str
    stack: str
    name: str
    key: str
    value: str
    expires_at: datetime | None
    updated_at: datetime


# What hooks have stored can be so long: of 64 KB, 1e308 after 1e308 is written out in digits.
_VALUE = short("value::text", 4 * 1024 * 1024)
HERE = "stack = %(stack)s AND scope = %(scope)s AND name = %(name)s"
_ALIVE = "(hook_state.expires_at IS NULL OR hook_state.expires_at > now())"
# The names of the stack's shared namespaces, each found by one step through the primary key.
_SHARED = """
WITH RECURSIVE shared (name) AS (
    SELECT min(name) FROM hook_state WHERE stack = %(stack)s AND scope = 'shared'
    UNION ALL
    SELECT (SELECT min(h.name) FROM hook_state h
            WHERE h.stack = %(stack)s AND h.scope = 'shared' AND h.name > shared.name)
    FROM shared WHERE shared.name IS NOT NULL)
SELECT count(name) FROM shared
"""
# Within bounds: a key that is there, or one more while there is room.
_ROOM = f"""
EXISTS (SELECT FROM hook_state WHERE {HERE} AND key = %(key)s)
OR (SELECT count(*) FROM (SELECT FROM hook_state WHERE {HERE} LIMIT {MAX_KEYS}) AS taken) < {MAX_KEYS}
AND (%(scope)s = 'hook' OR EXISTS (SELECT FROM hook_state WHERE {HERE}) OR ({_SHARED}) < {MAX_SHARED})
"""
_INSERT = """
INSERT INTO hook_state (stack, scope, name, key, value, expires_at)
SELECT %(stack)s, %(scope)s, %(name)s, %(key)s, %(value)s::jsonb, now() + make_interval(secs => %(ttl)s)
"""
_REPLACE = """
ON CONFLICT (stack, scope, name, key) DO UPDATE
SET value = EXCLUDED.value, expires_at = EXCLUDED.expires_at, updated_at = now()
"""


def get(connection: Connection, namespace: Namespace, key: str) -> bytes | None:
    """The value as JSON text, or None. Raises StateRefused for one that is too large to be read."""
    row = connection.execute(
        f"SELECT {_VALUE} FROM hook_state WHERE {HERE} AND key = %(key)s AND {_ALIVE}",
        namespace.with_values(key=key),
    ).fetchone()
    if row is None:
        return None
    if row[0] is None:  # written past the command line
        raise StateRefused(f"the key {key!r} holds what is too large to be read: it can be deleted")
    text: str = row[0]
    return text.encode()


def put(connection: Connection, namespace: Namespace, key: str, value: str, ttl: float | None = None) -> None:
    """Set the key to a value of JSON text, for `ttl` seconds or for good. Raises StateRefused when there is no room."""
    values = namespace.with_values(key=key, value=value, ttl=ttl)
    statement = f"{_INSERT} WHERE ({_ROOM}) {_REPLACE}"
    for _ in range(2):
        if connection.execute(statement, values).rowcount:
            return
        _make_room(connection, namespace)
    raise _full(connection, namespace)


def delete(connection: Connection, namespace: Namespace, key: str) -> bool:
    """Remove the key; whether there was one."""
    row = connection.execute(
        f"DELETE FROM hook_state WHERE {HERE} AND key = %(key)s RETURNING {_ALIVE}", namespace.with_values(key=key)
    ).fetchone()
    return row is not None and bool(row[0])


def keys(connection: Connection, namespace: Namespace, prefix: str = "") -> list[str]:
    """The keys that begin with the prefix, sorted by their bytes; those after MAX_KEYS no hook has set."""
    rows = connection.execute(
        f"SELECT key FROM hook_state WHERE {HERE} AND starts_with(key, %(prefix)s) AND {_ALIVE}"
        f" ORDER BY key LIMIT {MAX_KEYS}",
        namespace.with_values(prefix=prefix),
    ).fetchall()
    return [row[0] for row in rows]


_INCREASE = f"""
{_INSERT}
WHERE ({_ROOM})
ON CONFLICT (stack, scope, name, key) DO UPDATE
SET value = CASE WHEN {_ALIVE} THEN to_jsonb((hook_state.value #>> '{{}}')::numeric + %(value)s::numeric)
                 ELSE EXCLUDED.value END,
    expires_at = CASE WHEN {_ALIVE} THEN hook_state.expires_at ELSE EXCLUDED.expires_at END,
    updated_at = now()
WHERE CASE WHEN NOT {_ALIVE} THEN TRUE
           WHEN jsonb_typeof(hook_state.value) = 'number'
           THEN (hook_state.value #>> '{{}}')::numeric + %(value)s::numeric BETWEEN {_LEAST} AND {_GREATEST}
           ELSE FALSE END
RETURNING value::text
"""


def increase(connection: Connection, namespace: Namespace, key: str, by: str, ttl: float | None = None) -> bytes:
    """Add to the number that the key holds, 0 if there is none; returns the sum. Numbers are JSON text.

    `ttl` counts for a key that is new. Raises StateRefused when the key holds
    something else, the sum or what is added is out of range, or there is no room.
    """
    if not is_countable(by):
        raise StateRefused(beyond(key))
    values = namespace.with_values(key=key, value=by, ttl=ttl)
    for _ in range(2):
        row = connection.execute(_INCREASE, values).fetchone()
        if row:
            result: str = row[0]
            return result.encode()
        held = get(connection, namespace, key)
        if held is not None:
            raise StateRefused(_not_increased(key, held))
        _make_room(connection, namespace)
    raise _full(connection, namespace)


def is_countable(number: str) -> bool:
    """Whether a counter may be at this number, or be changed by it at once."""
    return _LEAST <= Decimal(number) <= _GREATEST


def beyond(key: str) -> str:
    """Why a key is not increased when a number is not countable."""
    return f"the key {key!r} would go beyond what a 64-bit integer holds"


def _not_increased(key: str, held: bytes) -> str:
    if held[:1] in b"-0123456789":
        return beyond(key)
    return f"the key {key!r} does not hold a number"


def compare_and_swap(
    connection: Connection, namespace: Namespace, key: str, expected: str | None, new: str | None, ttl: float | None
) -> bool:
    """Set the key to `new` if it holds `expected`; whether it did. None stands for no key. Values are JSON text.

    Raises StateRefused when there is no room for a new key.
    """
    values = namespace.with_values(key=key, expected=expected, value=new, ttl=ttl)
    if expected is None:
        return _create(connection, namespace, values) if new is not None else _is_absent(connection, values)
    held = f"{HERE} AND key = %(key)s AND value = %(expected)s::jsonb AND {_ALIVE}"
    if new is None:
        return connection.execute(f"DELETE FROM hook_state WHERE {held}", values).rowcount > 0
    changed = connection.execute(
        "UPDATE hook_state SET value = %(value)s::jsonb, expires_at = now() + make_interval(secs => %(ttl)s),"
        f" updated_at = now() WHERE {held}",
        values,
    )
    return changed.rowcount > 0


def _create(connection: Connection, namespace: Namespace, values: Mapping[str, object]) -> bool:
    statement = f"{_INSERT} WHERE ({_ROOM}) {_REPLACE} WHERE NOT {_ALIVE}"
    for _ in range(2):
        if connection.execute(statement, values).rowcount:
            return True
        if not _is_absent(connection, values):
            return False
        _make_room(connection, namespace)
    raise _full(connection, namespace)


def _is_absent(connection: Connection, values: Mapping[str, object]) -> bool:
    found = connection.execute(f"SELECT FROM hook_state WHERE {HERE} AND key = %(key)s AND {_ALIVE}", values)
    return found.rowcount == 0


def _make_room(connection: Connection, namespace: Namespace) -> None:
    # Shared ones count together, too.
    where = HERE if namespace.scope == "hook" else "stack = %(stack)s AND scope = %(scope)s"
    connection.execute(f"DELETE FROM hook_state WHERE {where} AND NOT {_ALIVE}", namespace.with_values())


def _full(connection: Connection, namespace: Namespace) -> StateRefused:
    if connection.execute(f"SELECT FROM hook_state WHERE {HERE} LIMIT 1", namespace.with_values()).rowcount:
        return StateRefused(f"{namespace} holds {MAX_KEYS:,} keys, as many as it may: delete some, or give them a ttl")
    whose = f"the stack {namespace.stack!r} has" if namespace.stack else "the hooks of no stack have"
    return StateRefused(f"{whose} {MAX_SHARED} shared namespaces with keys, as many as there may be")


def entries(
    connection: Connection,
    *,
    scope: str | None = None,
    name: str | None = None,
    stack: str | None = None,
    prefix: str = "",
    limit: int = 100,
) -> list[Entry]:
    """The keys that there are, of all namespaces or of those that are meant, in order."""
    with connection.cursor(row_factory=class_row(Entry)) as cursor:
        return cursor.execute(
            f"""
            SELECT scope, stack, name, key, value::text AS value, expires_at, updated_at FROM hook_state
            WHERE (%(scope)s::text IS NULL OR scope = %(scope)s) AND (%(name)s::text IS NULL OR name = %(name)s)
              AND (%(stack)s::text IS NULL OR stack = %(stack)s) AND starts_with(key, %(prefix)s) AND {_ALIVE}
            ORDER BY stack, scope, name, key LIMIT %(limit)s
            """,
            {"scope": scope, "name": name, "stack": stack, "prefix": prefix, "limit": limit},
        ).fetchall()


def remove_expired(connection: Connection) -> bool:
    """Remove some of the keys and locks that have expired; whether there may be more of them."""
    removed = [
        connection.execute(
            f"DELETE FROM {table} WHERE ctid = ANY (ARRAY (SELECT ctid FROM {table} WHERE expires_at <= now()"
            f" LIMIT {_EXPIRED_AT_A_TIME} FOR UPDATE SKIP LOCKED))"
        ).rowcount
        for table in ("hook_state", "hook_state_locks")
    ]
    return max(removed) == _EXPIRED_AT_A_TIME
