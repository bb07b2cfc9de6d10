"""Removing executions of events that stay, by age and by count; those of unfinished events are never touched."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from datetime import timedelta
from functools import partial
from typing import Protocol

from psycopg import Connection

from hook_event_processor.retention_policy import Keep
from hook_event_processor.store import executions
from hook_event_processor.store.cleanup.pace import Pace
from hook_event_processor.store.cleanup.pages import ranges
from hook_event_processor.store.times import transaction_time


class RunRuleOf(Protocol):
    """The rule for a run, by its event and the hook's name; of a run whose event is gone, by the name alone."""

    def __call__(self, source: str | None, action: str | None, stack: str | None, hook: str) -> Keep: ...


# LATERAL with a limit: looked up by the event's id, however many there are.
OLD = """
SELECT x.ctid::text, x.hook_name, x.executed_at, e.source, e.action, e.stack
FROM event_hook_executions x LEFT JOIN LATERAL (
    SELECT source, action, {stack} AS stack, processed FROM hook_events WHERE id = x.event_id LIMIT 1) AS e ON TRUE
WHERE x.ctid >= %(first)s::tid AND x.ctid < %(last)s::tid AND x.executed_at < %(before)s AND e.processed IS NOT FALSE
"""
_REMOVE = "DELETE FROM event_hook_executions WHERE ctid = ANY(%s::tid[]) AND executed_at < %s"
# A hook's runs, the newest first, each with what is known of its event.
RUNS = """
SELECT x.id, e.processed IS NOT FALSE, e.source, e.action, e.stack FROM (
    SELECT id, event_id FROM event_hook_executions
    WHERE hook_id = %(hook)s AND id < %(before)s ORDER BY id DESC LIMIT %(limit)s) AS x
LEFT JOIN LATERAL (
    SELECT source, action, {stack} AS stack, processed FROM hook_events WHERE id = x.event_id LIMIT 1
) AS e ON TRUE ORDER BY x.id DESC
"""
_REMOVE_RUNS = "DELETE FROM event_hook_executions WHERE hook_id = %s AND id = ANY(%s)"
_STEP = 1_000


def remove_old(
    connection: Connection,
    youngest: timedelta,
    age_of: Callable[[str | None, str | None, str | None, str], timedelta | None],
    pace: Pace,
    stack: str,
    *,
    dry_run: bool,
    report: Callable[[float], None],
) -> int:
    """Remove runs that are older than `age_of` lets them be, of which `youngest` is the least; returns how many.

    `stack` is an expression for the event's.
    """
    now = transaction_time(connection)
    statement, count = OLD.format(stack=stack), 0
    for pages in ranges(connection, "event_hook_executions", pace):
        with pace.step():
            values = {"first": pages.first, "last": pages.last, "before": now - youngest}
            chosen = []
            for ctid, hook, executed_at, source, action, stack_of_event in connection.execute(statement, values):
                age = age_of(source, action, stack_of_event, hook)
                if age is not None and executed_at < now - age:
                    chosen.append(ctid)
            if chosen and not dry_run:
                connection.execute(_REMOVE, (chosen, now - youngest))
            count += len(chosen)
        report(pages.done)
    return count


def remove_beyond(
    connection: Connection,
    counted: Callable[[str], bool],
    rule_of: RunRuleOf,
    pace: Pace,
    stack: str,
    *,
    dry_run: bool,
) -> int:
    """Remove what is more of a hook's runs than the count of the rule for them; returns how many.

    `counted` says whether any rule counts the runs of a hook, by its name;
    `stack` is an expression for the event's.
    """
    statement, count = RUNS.format(stack=stack), 0
    for hook_id, name in executions.hook_names(connection).items():
        if counted(name):
            rule = partial(rule_of, hook=name)
            count += _remove_beyond_of(connection, hook_id, statement, rule, pace, dry_run=dry_run)
    return count


def _remove_beyond_of(
    connection: Connection,
    hook_id: int,
    statement: str,
    rule_of: Callable[[str | None, str | None, str | None], Keep],
    pace: Pace,
    *,
    dry_run: bool,
) -> int:
    found: Counter[Keep] = Counter()
    before, count = 2**63 - 1, 0
    while True:
        with pace.step():
            values = {"hook": hook_id, "before": before, "limit": _STEP}
            rows = connection.execute(statement, values).fetchall()
            chosen = []
            for row_id, has_ended, *event in rows:
                keep = rule_of(*event)
                found[keep] += 1
                if has_ended and 0 < keep.count < found[keep]:
                    chosen.append(row_id)
            if chosen and not dry_run:
                connection.execute(_REMOVE_RUNS, (hook_id, chosen))
            count += len(chosen)
        if len(rows) < _STEP:
            return count
        before = rows[-1][0]
