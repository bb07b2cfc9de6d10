"""Changes of schedules, as operators make them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from psycopg import Connection
from psycopg.types.json import Jsonb

from hook_event_processor.errors import ScheduleRefused
from hook_event_processor.same_json import is_same
from hook_event_processor.store import own_events
from hook_event_processor.store.insert import Published, Publisher
from hook_event_processor.store.schedule_times import planned
from hook_event_processor.store.schedules import NewSchedule, Schedule, find, get, known
from hook_event_processor.store.stored_json import stored_text
from hook_event_processor.store.times import transaction_time

_MAX_SCHEDULES = 10_000

_DEFINITION = ("cron", "every_seconds", "timezone", "event_type", "payload", "stack", "priority", "if_missed")
_PUT = """
INSERT INTO hook_schedules (name, cron, every_seconds, timezone, event_type, payload, stack, priority, if_missed)
VALUES (%(name)s, %(cron)s, %(every_seconds)s, %(timezone)s, %(event_type)s, %(payload)s, %(stack)s, %(priority)s,
        %(if_missed)s)
ON CONFLICT (name) DO UPDATE SET cron = excluded.cron, every_seconds = excluded.every_seconds,
    timezone = excluded.timezone, event_type = excluded.event_type, payload = excluded.payload, stack = excluded.stack,
    priority = excluded.priority, if_missed = excluded.if_missed, updated_at = now()
"""
_TRY_AGAIN = "UPDATE hook_schedule_times SET error = NULL WHERE schedule_id = %s AND error IS NOT NULL"


def put(connection: Connection, new: NewSchedule, max_payload_size: int) -> tuple[str, Schedule]:
    """Make a schedule, or change the one of that name; returns what was done (added, changed or unchanged) and it.

    Raises EventRefused when its event could not be published.
    """
    wanted = {
        "cron": new.timing.cron,
        "every_seconds": new.timing.every,
        "timezone": new.timing.timezone,
        **{name: getattr(new, name) for name in ("event_type", "payload", "stack", "priority", "if_missed")},
    }
    stored_text("payload", new.payload, max_payload_size)
    with connection.transaction():
        before = find(connection, new.name)
        changes = {} if before is None else _changes(before, wanted)
        if before is not None and not changes:
            return "unchanged", before
        if before is None and len(known(connection)) >= _MAX_SCHEDULES:
            raise ScheduleRefused(f"there are {_MAX_SCHEDULES:,} schedules, as many as there may be: remove some")
        connection.execute(_PUT, {**wanted, "name": new.name, "payload": Jsonb(new.payload)})
        if before is not None:
            connection.execute(_TRY_AGAIN, (before.id,))
        after = planned(connection, get(connection, new.name))
        stored_text("payload", after.event(after.updated_at).payload, max_payload_size)  # with the fields of its own
        if before is None:
            payload = {"cron_expr": after.when, "workflow_name": after.event_type, **after.runs}
            own_events.tell(connection, after.own_event("created", payload))
        else:
            own_events.tell(connection, after.own_event("updated", {"changes": changes, **after.runs}))
    return "added" if before is None else "changed", after


def _changes(before: Schedule, wanted: Mapping[str, Any]) -> dict[str, Any]:
    """What is different, before and after."""
    pairs = {name: [getattr(before, name), wanted[name]] for name in _DEFINITION}
    return {name: pair for name, pair in pairs.items() if not is_same(*pair)}


def set_enabled(connection: Connection, name: str, enabled: bool) -> bool:
    """Enable or disable a schedule; False when it is so already. Raises NotFound."""
    with connection.transaction():
        before = get(connection, name)
        if before.enabled == enabled:
            return False
        connection.execute(
            "UPDATE hook_schedules SET enabled = %s, updated_at = now() WHERE id = %s", (enabled, before.id)
        )
        after = planned(connection, get(connection, name))
        word = "enabled" if enabled else "disabled"
        told = {f"{word}_by": own_events.actor(), **after.runs}
        own_events.tell(connection, after.own_event(word, told))
    return True


def remove(connection: Connection, name: str) -> None:
    """Remove a schedule; its events stay. Raises NotFound."""
    with connection.transaction():
        schedule = get(connection, name)
        connection.execute("DELETE FROM hook_schedules WHERE id = %s", (schedule.id,))
        own_events.tell(connection, schedule.own_event("deleted", {"deleted_by": own_events.actor()}))


def run(connection: Connection, name: str, publisher: Publisher) -> tuple[str, Published]:
    """Have a schedule publish its event now, beside its times; returns its type and what became of it.

    Raises NotFound or EventRefused.
    """
    with connection.transaction():
        schedule = get(connection, name)
        published = publisher.publish_event(schedule.event(transaction_time(connection)))
        connection.execute("SELECT hook_audit_note('run', 'schedule', %s)", (name,))
    return schedule.event_type, published
