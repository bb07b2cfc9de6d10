"""The event: its type, its states, and how a hook's run can end. Frozen, no I/O."""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

from hook_event_processor.errors import EventRefused

MAX_NAME = 255  # source, action, resource and resource_id are VARCHAR(255)
MAX_DEPTH = 16  # of events that were dispatched by hooks of events that were dispatched ...
MAX_DELAY = timedelta(days=36_500)  # a hundred years
PRIORITIES = range(1, 11)
# What the product tells of its own doings: records, which nobody needs to handle.
OWN_TYPES = frozenset(
    {
        *(f"hook.{change}" for change in ("added", "updated", "enabled", "disabled", "removed")),
        *(f"watcher.{change}" for change in ("created", "enabled", "disabled", "deleted")),
        *(f"secret.{change}" for change in ("created", "updated", "deleted", "accessed")),
        *(f"schedule.{change}" for change in ("created", "updated", "enabled", "disabled", "deleted")),
        *(f"state.{change}" for change in ("created", "updated", "deleted")),
    }
)
DEFAULT_PRIORITY = 5


class State(enum.StrEnum):
    """Where an event is; scheduled, retrying and paused are kinds of pending."""

    PENDING = "pending"
    SCHEDULED = "scheduled"
    RETRYING = "retrying"
    PAUSED = "paused"
    PROCESSING = "processing"
    COMPLETED = "completed"
    FAILED = "failed"


class Outcome(enum.StrEnum):
    """How the run of a hook ended; stored as an execution's result."""

    CONTINUE = "continue"
    FILTERED = "filtered"
    FAILED = "failed"
    TIMEOUT = "timeout"
    MEMORY = "memory"
    REFUSED = "refused"
    STUCK = "stuck"
    DIED = "died"


# Runs report their outcome as one byte: 97 ("a") and on, in this order; the first GOOD are no failures.
OUTCOMES = tuple(Outcome)
GOOD = 2


def code_of(outcome: Outcome) -> int:
    """The byte that stands for an outcome."""
    return 97 + OUTCOMES.index(outcome)


def outcome_of(code: int) -> Outcome:
    """The outcome that a byte stands for."""
    return OUTCOMES[code - 97]


@dataclass(frozen=True, slots=True)
class NewEvent:
    """An event to be published. Raises EventRefused when a field cannot be stored.

    Times need a UTC offset, and are kept in UTC. A payload or metadata of
    None counts as not given, and an id may be the text of a UUID.
    """

    source: str
    action: str = ""
    payload: Mapping[str, Any] = field(default_factory=dict)
    resource: str = ""
    resource_id: str = ""
    metadata: Mapping[str, Any] = field(default_factory=dict)
    priority: int = DEFAULT_PRIORITY
    available_at: datetime | None = None
    occurred_at: datetime | None = None
    id: UUID | None = None

    def __post_init__(self) -> None:
        # One by one only where one may be at fault: events are made by the hundred thousand.
        try:
            together = self.source + self.action + self.resource + self.resource_id
            suspect = type(together) is not str or len(together) > MAX_NAME or "\0" in together
        except TypeError:
            suspect = True
        if suspect:
            self._check_names()
        if not self.source:
            raise EventRefused("an event needs a source: a type such as task.failed")
        if type(self.payload) is not dict:
            self._check_object("payload")
        if type(self.metadata) is not dict:
            self._check_object("metadata")
        if type(self.priority) is not int or self.priority not in PRIORITIES:
            self._check_priority()
        if self.available_at is not None:
            self._check_time("available_at")
        if self.occurred_at is not None:
            self._check_time("occurred_at")
        if self.id is not None and type(self.id) is not UUID:
            self._check_id()

    def _check_names(self) -> None:
        for name in ("source", "action", "resource", "resource_id"):
            value: object = getattr(self, name)
            if not isinstance(value, str):
                raise EventRefused(f"{name} is {_shown(value)}: it takes a text")
            if len(value) > MAX_NAME:
                raise EventRefused(f"{name} has {len(value)} characters: at most {MAX_NAME} fit")
            if "\0" in value:
                raise EventRefused(f"{name} holds a NUL character, which PostgreSQL cannot store")

    def _check_object(self, name: str) -> None:
        value: object = getattr(self, name)
        if value is None:
            object.__setattr__(self, name, {})
        elif not isinstance(value, Mapping):
            # Not shown: it may hold a secret.
            raise EventRefused(
                f'{name} is of type {type(value).__name__}: it takes a mapping such as {{"key": "value"}}'
            )

    def _check_priority(self) -> None:
        priority: object = self.priority
        if isinstance(priority, bool) or not isinstance(priority, int) or priority not in PRIORITIES:
            raise EventRefused(f"priority is {_shown(priority)}: it takes 1 (first) to 10 (last)")
        object.__setattr__(self, "priority", int(priority))

    def _check_time(self, name: str) -> None:
        time: object = getattr(self, name)
        if not isinstance(time, datetime) or time.utcoffset() is None:
            raise EventRefused(
                f"{name} is {_shown(time)}: it takes a datetime with a UTC offset, such as datetime.now(UTC)"
            )
        try:
            object.__setattr__(self, name, time.astimezone(UTC))
        except OverflowError:
            raise EventRefused(f"{name} is {_shown(time)}: in UTC, it takes the years 1 to 9999") from None

    def _check_id(self) -> None:
        given: object = self.id
        if isinstance(given, str):
            try:
                object.__setattr__(self, "id", UUID(given))
            except ValueError:
                raise EventRefused(f"id is {_shown(given)}: it takes a UUID") from None
        elif not isinstance(given, UUID):
            raise EventRefused(f"id is {_shown(given)}: it takes a UUID")


def _shown(value: object) -> str:
    """A value of any kind in a message, cut to a length that a line holds."""
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


def split_type(event_type: str) -> tuple[str, str]:
    """Source and action of a type: `task.failed`, `PreToolUse/tool_invocation`, or a source alone."""
    separator = "/" if "/" in event_type else "."
    source, _, action = event_type.partition(separator)
    if not source:
        raise EventRefused(f"the event type {event_type!r} has no source: write source.action, such as task.failed")
    return source, action


def join_type(source: str, action: str) -> str:
    """The type that hooks see: `source.action`, or the source alone."""
    return f"{source}.{action}" if action else source
