"""What was noticed as an event that is ready to be sent: who noticed it, where and when."""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Mapping
from datetime import datetime
from typing import Any
from uuid import UUID

import orjson

from hook_event_processor.event import MAX_NAME, NewEvent, split_type
from hook_event_processor.store.insert import MAX_PAYLOAD_SIZE
from hook_event_processor.store.uuid7 import NewIds
from hook_event_processor.timestamp import rfc3339
from hook_event_processor.watchers.check import Definition, Moment, Noticed
from hook_event_processor.watchers.daemon.spool import SpooledEvent

# A NUL inside JSON: \u0000 behind an even number of backslashes.
_NUL = re.compile(rb"(?<!\\)(?:\\\\)*\\u0000")
_JSON = orjson.OPT_NON_STR_KEYS
_CUTS = (10_000, 1_000, 100)  # characters of a text, and values of a list, when the whole is too large
_MAX_DEPTH = 32
# What a watcher of a level calls its resource being used up.
_USED_UP = ("_high", "_low", "_full")


class Envelopes:
    """Makes the events of one host. Its ids are made here, once: to send an event again changes nothing."""

    def __init__(self, host: str, version: str, max_payload_size: int = MAX_PAYLOAD_SIZE) -> None:
        self._host = host
        self._version = version
        self._max_payload_size = max_payload_size
        self._ids = NewIds()
        self._lock = threading.Lock()

    def of(self, definition: Definition, noticed: Noticed, moment: Moment) -> list[SpooledEvent]:
        """The event of what a watcher noticed, and the agent's when a resource is used up. Raises EventRefused."""
        data = dict(noticed.data)
        data.setdefault("watcher_id", definition.id)
        data.setdefault("host", self._host)
        if moment.late:
            data["seen_late"] = True
        events = [(noticed.type, noticed.resource, data)]
        if _is_used_up(noticed):
            agent = {"name": self._host, "resource": noticed.resource, **_level(data)}
            events.append(
                ("agent.resource_high", self._host, {"agent": agent, "watcher_id": definition.id, "host": self._host})
            )
        component = f"watcher/{definition.type}"
        return [
            self._event(event_type, resource, payload, moment.time, component, definition.stack, definition.type)
            for event_type, resource, payload in events
        ]

    def own(self, event_type: str, data: Mapping[str, Any], at: datetime, resource: str = "") -> SpooledEvent:
        """An event of the daemon itself."""
        return self._event(event_type, resource, {**data, "host": self._host}, at, "watcher", None, "")

    def _event(
        self,
        event_type: str,
        resource: str,
        data: Mapping[str, Any],
        at: datetime,
        component: str,
        stack: str | None,
        watcher_type: str,
    ) -> SpooledEvent:
        with self._lock:
            event_id = next(self._ids)
        source, action = split_type(event_type)
        # It knows what an event's names may be.
        event = NewEvent(source, action, resource=storable(resource)[:MAX_NAME], id=UUID(event_id))
        metadata: dict[str, Any] = {
            "origin": {"component": component, "host": self._host, "version": self._version},
            "correlation_id": event_id,
        }
        if stack:
            metadata["stack"] = stack
        fields: dict[str, Any] = {
            "source": event.source,
            "action": event.action,
            "resource": event.resource,
            "metadata": metadata,
            "occurred_at": rfc3339(at),
            "payload": orjson.Fragment(self._payload(data)),
        }
        return SpooledEvent(event_id, orjson.dumps(fields), watcher_type)

    def _payload(self, data: Mapping[str, Any]) -> bytes:
        text = as_json(data)
        for limit in _CUTS:
            if len(text) <= self._max_payload_size:
                return text
            text = as_json({**_cut(data, limit), "truncated": True})
        if len(text) <= self._max_payload_size:
            return text
        kept = {key: data[key] for key in ("watcher_id", "host") if key in data}
        return as_json({**kept, "truncated": True})


def as_json(value: Any) -> bytes:
    """Any value as JSON that PostgreSQL stores: what is no text in Unicode, or has a NUL, is escaped."""
    try:
        text = orjson.dumps(value, default=str, option=_JSON)
    except (TypeError, ValueError):
        return orjson.dumps(_plain(value, 0), option=_JSON)
    if b"\\u0000" in text and _NUL.search(text):
        return orjson.dumps(_plain(value, 0), option=_JSON)
    return text


def _plain(value: Any, depth: int) -> Any:
    if depth > _MAX_DEPTH:
        return "..."
    if isinstance(value, Mapping):
        return {storable(str(key)): _plain(item, depth + 1) for key, item in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [_plain(item, depth + 1) for item in value]
    if isinstance(value, int) and not -(2**63) <= value < 2**64:
        return str(value)
    if value is None or isinstance(value, bool | int | float):
        return value
    return storable(str(value))


def storable(text: str) -> str:
    """A text without NUL and halves of surrogate pairs: paths that are no UTF-8 have those."""
    return text.encode("utf-8", "backslashreplace").decode().replace("\0", "\\x00")


def _cut(value: Any, limit: int) -> Any:
    if isinstance(value, str) and len(value) > limit:
        return value[:limit] + "..."
    if isinstance(value, Mapping):
        return {key: _cut(item, limit) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_cut(item, limit) for item in value[:limit]]
    return value


def _is_used_up(noticed: Noticed) -> bool:
    return noticed.type.startswith("system.") and noticed.type.endswith(_USED_UP) and "threshold" in noticed.data


def _level(data: Mapping[str, Any]) -> dict[str, Any]:
    return {name: data[name] for name in ("current", "threshold") if name in data}


def as_state(value: object) -> bytes:
    """What a check keeps, as JSON; unlike in events, what is no text in Unicode comes back as it is."""
    try:
        return orjson.dumps(value)
    except TypeError:
        return json.dumps(value, separators=(",", ":")).encode()
