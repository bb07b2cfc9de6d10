"""Locks that runs of hooks hold: each ends by itself, and only its owner can end it before."""

from __future__ import annotations

from uuid import UUID

from psycopg import Connection

from hook_event_processor.errors import StateRefused
from hook_event_processor.store.state import HERE, Namespace

MAX_LOCKS = 1_000  # of a hook, and of all that the hooks of a stack share
MAX_TTL = 7 * 86_400.0  # seconds: nobody else can end a lock before

_COUNTED = "stack = %(stack)s AND scope = %(scope)s AND (scope = 'shared' OR name = %(name)s)"

# It is there, or there is room for it.
_MAY_BE = f"""EXISTS (SELECT FROM hook_state_locks WHERE {HERE} AND lock = %(lock)s)
   OR (SELECT count(*) FROM (SELECT FROM hook_state_locks WHERE {_COUNTED} LIMIT {MAX_LOCKS}) AS taken) < {MAX_LOCKS}"""
_TAKE = f"""
INSERT INTO hook_state_locks (stack, scope, name, lock, owner, expires_at)
SELECT %(stack)s, %(scope)s, %(name)s, %(lock)s, %(owner)s, now() + make_interval(secs => %(ttl)s)
WHERE {_MAY_BE}
ON CONFLICT (stack, scope, name, lock) DO UPDATE
SET owner = EXCLUDED.owner, expires_at = greatest(hook_state_locks.expires_at, EXCLUDED.expires_at),
    taken_at = CASE WHEN hook_state_locks.owner = EXCLUDED.owner THEN hook_state_locks.taken_at ELSE now() END
WHERE hook_state_locks.expires_at <= now() OR hook_state_locks.owner = EXCLUDED.owner
"""


def take(connection: Connection, namespace: Namespace, lock: str, owner: UUID, ttl: float) -> bool:
    """Take the lock for `ttl` seconds from now on; False when another owner holds it.

    The owner that holds it already holds it for so long at least. Raises
    StateRefused when there are too many locks.
    """
    values = namespace.with_values(lock=lock, owner=owner, ttl=ttl)
    for _ in range(2):
        if connection.execute(_TAKE, values).rowcount:
            return True
        if connection.execute(f"SELECT WHERE {_MAY_BE}", values).rowcount:
            return False  # another owner held it, though perhaps no longer
        connection.execute(f"DELETE FROM hook_state_locks WHERE {_COUNTED} AND expires_at <= now()", values)
    counted = namespace if namespace.scope == "hook" else "what the hooks of the stack share"
    raise StateRefused(f"{counted} has {MAX_LOCKS:,} locks, as many as it may")


def is_held(connection: Connection, namespace: Namespace, lock: str, owner: UUID) -> bool:
    """Whether the owner holds the lock."""
    held = connection.execute(
        f"SELECT FROM hook_state_locks WHERE {HERE} AND lock = %(lock)s AND owner = %(owner)s AND expires_at > now()",
        namespace.with_values(lock=lock, owner=owner),
    )
    return held.rowcount > 0


def release(connection: Connection, namespace: Namespace, lock: str, owner: UUID) -> bool:
    """Release the lock; False when the owner does not hold it, or no longer."""
    released = connection.execute(
        f"DELETE FROM hook_state_locks WHERE {HERE} AND lock = %(lock)s AND owner = %(owner)s"
        " RETURNING expires_at > now()",
        namespace.with_values(lock=lock, owner=owner),
    ).fetchone()
    return released is not None and bool(released[0])
