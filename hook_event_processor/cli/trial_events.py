"""The event that --event of `hep hook test` means: a file, a past event, or a type."""

from __future__ import annotations

import re
import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hook_event_processor.errors import EventRefused, HookEventProcessorError

if TYPE_CHECKING:
    from hook_event_processor.settings import Settings
    from hook_event_processor.workshop.trial_event import TrialEvent

_ID = re.compile(r"[0-9a-fA-F]{4}[0-9a-fA-F-]*")
# What `hep events get` says of an event beyond what it takes to publish it.
_PRINTED = (
    *("status", "state", "error", "processing_errors", "timestamp", "created_at", "available_at", "processed_at"),
    *("failed_at", "agent_id", "session_id", "correlation_id", "retry_count", "claimed_by", "seq", "executions"),
)


def given_event(
    given: str | None, data: Mapping[str, Any] | None, stack: str | None, patterns: Sequence[str], settings: Settings
) -> TrialEvent:
    """The event; `data` replace its own, and one that is made up belongs to `stack`.

    Raises EventRefused, and NotFound, Ambiguous or StoreUnavailable for an id.
    """
    from hook_event_processor.store.stored_json import encoded
    from hook_event_processor.workshop.trial_event import made_up, type_for

    if given is None:
        return made_up(type_for(patterns), data, stack)
    if given.lstrip().startswith("{"):
        raise EventRefused(
            "--event takes a file of JSON, not JSON itself: - reads it from standard input, --data takes the data"
        )
    if given == "-" or Path(given).is_file():
        event = _from_file(given, stack, patterns)
    elif _ID.fullmatch(given):
        event = _from_database(given, settings)
    elif given.endswith(".json"):
        raise HookEventProcessorError(f"{given} cannot be read: there is no such file")
    else:
        return made_up(given, data, stack)
    return event if data is None else replace(event, data=encoded("payload", data))


def of_stack(event: TrialEvent, stack: str) -> TrialEvent:
    """The event as one of this stack. Raises EventRefused for metadata that cannot take it."""
    from hook_event_processor.cli.event_lines import json_object
    from hook_event_processor.store.stored_json import encoded

    metadata = json_object("the event's metadata", event.metadata)
    return replace(event, metadata=encoded("metadata", {**metadata, "stack": stack}))


def _from_file(file: str, stack: str | None, patterns: Sequence[str]) -> TrialEvent:
    from hook_event_processor.cli.event_lines import json_object, new_event
    from hook_event_processor.store.stored_json import encoded
    from hook_event_processor.workshop.trial_event import TrialEvent, made_up, type_for

    name = "standard input" if file == "-" else file
    try:
        content = json_object(name, sys.stdin.buffer.read() if file == "-" else Path(file).read_bytes())
    except OSError as fault:
        raise HookEventProcessorError(f"{file} cannot be read: {fault.strerror}") from None
    if not ("type" in content or "source" in content) or not {"data", "payload", "metadata"} & content.keys():
        return made_up(type_for(patterns), content, stack)
    fields = {key: value for key, value in content.items() if key not in _PRINTED and value is not None}
    if "type" in fields:
        fields = {key: value for key, value in fields.items() if key not in ("source", "action")}
    try:
        event = new_event({**fields, "delay": 0}, None)
    except EventRefused as refusal:
        raise EventRefused(f"{name}: {refusal}") from None
    trial = TrialEvent(
        event.source,
        event.action,
        encoded("payload", event.payload),
        encoded("metadata", event.metadata),
        event.resource,
        event.resource_id,
        event.priority,
    )
    trial = replace(trial, id=event.id) if event.id else trial
    return replace(trial, occurred_at=event.occurred_at) if event.occurred_at else trial


def _from_database(prefix: str, settings: Settings) -> TrialEvent:
    from hook_event_processor.cli.connect import session
    from hook_event_processor.store import event_ids, events
    from hook_event_processor.workshop.trial_event import TrialEvent

    with session(settings) as connection:
        stored = events.get(connection, event_ids.resolve(connection, prefix))
    return TrialEvent(
        stored.source,
        stored.action,
        stored.data.encode(),
        stored.metadata.encode(),
        stored.resource,
        stored.resource_id,
        stored.priority,
        stored.retry_count + 1,
        stored.id,
        stored.timestamp,
    )
