"""Removing texts that hooks once had; the one that runs always stays."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from psycopg import Connection

from hook_event_processor.retention_policy import Keep

# A version is old from when the next one took its place.
_FORMER = """
SELECT v.hook_id, h.name, h.stack, v.version,
       extract(epoch FROM now() - lead(v.created_at) OVER newer)::float8 AS replaced_for,
       row_number() OVER (PARTITION BY v.hook_id ORDER BY v.version DESC) AS place
FROM hook_versions v JOIN hooks h ON h.id = v.hook_id
WINDOW newer AS (PARTITION BY v.hook_id ORDER BY v.version)
"""
# Asked again: a rollback may have made it the current one meanwhile.
_REMOVE = """
DELETE FROM hook_versions v USING hooks h
WHERE h.id = v.hook_id AND v.hook_id = %s AND v.version = ANY(%s) AND v.version <> h.version
"""
_CURRENT = "SELECT id, version FROM hooks"

VersionRuleOf = Callable[[str, str | None], Keep]


def remove(connection: Connection, rule_of: VersionRuleOf, *, dry_run: bool) -> int:
    """Remove versions by the rule of their hook's name and stack; returns how many."""
    current: dict[int, int] = dict(connection.execute(_CURRENT).fetchall())
    going: dict[int, list[int]] = {}
    for hook_id, name, stack, version, replaced_for, place in connection.execute(_FORMER).fetchall():
        if version != current.get(hook_id) and _goes(rule_of(name, stack), replaced_for, place):
            going.setdefault(hook_id, []).append(version)
    if dry_run:
        return sum(map(len, going.values()))
    return sum(_remove_of(connection, hook_id, versions) for hook_id, versions in going.items())


def _goes(keep: Keep, replaced_for: float | None, place: int) -> bool:
    too_old = keep.age is not None and replaced_for is not None and replaced_for > keep.age.total_seconds()
    return too_old or (keep.count > 0 and place > keep.count)


def _remove_of(connection: Connection, hook_id: int, versions: Sequence[int]) -> int:
    return connection.execute(_REMOVE, (hook_id, list(versions))).rowcount
