"""Removing executions of events that stay, by age and by count; those of unfinished events are never touched."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from functools import partial

from psycopg import Connection

from hook_event_processor.retention_policy import Keep
from hook_event_processor.store.cleanup.pace import Pace
from hook_event_processor.store.cleanup.pages import ranges

# (source, action, stack) of the event and the hook's name; of a run whose event is gone, the name alone.
RunRuleOf = Callable[[str | None, str | None, str | None, str], Keep]

# LATERAL with a limit: looked up by the event's id, however many there are.
OLD = """
SELECT x.ctid::text, x.hook_name, x.executed_at, e.source, e.action, e.stack
FROM event_hook_executions x LEFT JOIN LATERAL (
    SELECT source, action, {stack} AS stack, processed FROM hook_events WHERE id = x.event_id LIMIT 1) AS e ON TRUE
WHERE x.ctid >= %(first)s::tid AND x.ctid < %(last)s::tid AND x.executed_at < %(before)s AND e.processed IS NOT FALSE
"""
_REMOVE = "DELETE FROM event_hook_executions WHERE ctid = ANY(%s::tid[]) AND executed_at < %s"
# The hooks that have runs, by steps through the key.
_HOOKS = """
WITH RECURSIVE each AS (
    (SELECT hook_id, hook_name FROM event_hook_executions ORDER BY hook_id, id LIMIT 1)
    UNION ALL
    SELECT following.* FROM each, LATERAL (
        SELECT hook_id, hook_name FROM event_hook_executions WHERE hook_id > each.hook_id ORDER BY hook_id, id LIMIT 1
    ) AS following
) SELECT hook_id, hook_name FROM each
"""
CUT_OFF = "SELECT id FROM event_hook_executions WHERE hook_id = %s ORDER BY id DESC OFFSET %s LIMIT 1"
BEYOND = """
SELECT x.id, e.processed IS NOT FALSE, e.source, e.action, e.stack FROM (
    SELECT id, event_id FROM event_hook_executions
    WHERE hook_id = %(hook)s AND id > %(after)s AND id <= %(upto)s ORDER BY id LIMIT %(limit)s) AS x
LEFT JOIN LATERAL (
    SELECT source, action, {stack} AS stack, processed FROM hook_events WHERE id = x.event_id LIMIT 1
) AS e ON TRUE ORDER BY x.id
"""
_REMOVE_RUNS = "DELETE FROM event_hook_executions WHERE hook_id = %s AND id = ANY(%s)"
_STEP = 1_000


def remove_old(
    connection: Connection,
    youngest: timedelta,
    rule_of: RunRuleOf,
    pace: Pace,
    stack: str,
    *,
    dry_run: bool,
    report: Callable[[float], None],
) -> int:
    """Remove runs by the ages of their rules, of which `youngest` is the least; returns how many.

    `stack` is an expression for the event's.
    """
    now: datetime = connection.execute("SELECT now()").fetchone()[0]  # type: ignore[index]
    statement, count = OLD.format(stack=stack), 0
    for pages in ranges(connection, "event_hook_executions", pace):
        with pace.step():
            values = {"first": pages.first, "last": pages.last, "before": now - youngest}
            chosen = []
            for ctid, hook, executed_at, source, action, stack_of_event in connection.execute(statement, values):
                keep = rule_of(source, action, stack_of_event, hook)
                if keep.age is not None and executed_at < now - keep.age:
                    chosen.append(ctid)
            if chosen and not dry_run:
                connection.execute(_REMOVE, (chosen, now - youngest))
            count += len(chosen)
        report(pages.done)
    return count


def remove_beyond(
    connection: Connection,
    rules: Sequence[tuple[Callable[[str], bool], Keep]],
    rule_of: RunRuleOf,
    pace: Pace,
    stack: str,
    *,
    dry_run: bool,
) -> int:
    """Remove each hook's runs beyond the count of the first rule that matches its name; returns how many.

    What `rule_of` says that another rule is for stays. `stack` is an
    expression for the event's.
    """
    count, statement = 0, BEYOND.format(stack=stack)
    for hook_id, name in connection.execute(_HOOKS).fetchall():
        keep = next((keep for matches, keep in rules if matches(name)), None)
        row = connection.execute(CUT_OFF, (hook_id, keep.count)).fetchone() if keep and keep.count else None
        if keep is not None and row is not None:
            goes = partial(_goes_by, keep, rule_of, name)
            count += _remove_upto(connection, statement, hook_id, row[0], goes, pace, dry_run=dry_run)
    return count


def _goes_by(
    keep: Keep, rule_of: RunRuleOf, hook: str, source: str | None, action: str | None, stack: str | None
) -> bool:
    """Whether a run goes by the count of its hook; where its event is gone, no other rule is for it."""
    return source is None or rule_of(source, action, stack, hook) is keep


def _remove_upto(
    connection: Connection,
    statement: str,
    hook_id: int,
    upto: int,
    goes: Callable[[str | None, str | None, str | None], bool],
    pace: Pace,
    *,
    dry_run: bool,
) -> int:
    after, count = -(2**63), 0
    while True:
        with pace.step():
            values = {"hook": hook_id, "after": after, "upto": upto, "limit": _STEP}
            rows = connection.execute(statement, values).fetchall()
            ended = [row_id for row_id, has_ended, *event in rows if has_ended and goes(*event)]
            if ended and not dry_run:
                connection.execute(_REMOVE_RUNS, (hook_id, ended))
            count += len(ended)
        if len(rows) < _STEP:
            return count
        after = rows[-1][0]
