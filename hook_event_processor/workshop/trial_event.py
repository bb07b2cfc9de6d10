"""The event that a hook is tried with: given, stored, or made up from what the catalog says of its type."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from itertools import chain
from typing import Any
from uuid import UUID, uuid4

from hook_event_processor import catalog
from hook_event_processor.event import DEFAULT_PRIORITY, join_type, split_type
from hook_event_processor.registry import is_literal, parse_pattern
from hook_event_processor.store.stored_json import encoded

_PG_EPOCH = datetime(2000, 1, 1, tzinfo=UTC)
_ANY_TYPE = "custom.example"
_CUSTOM = "custom"
_SAMPLES: Mapping[str, Any] = {
    "string": "example",
    "integer": 3,
    "number": 92.5,
    "boolean": True,
    "array": ["example"],
    "object": {},
    "duration": "2m30s",
    "quantity": 92.5,
}
# What a field of this name is likely to hold, whatever its type.
_NAMED: Mapping[str, Any] = {
    "action": "read",
    "address": "192.0.2.10:50051",
    "environment": "production",
    "error": "connection refused",
    "exit_code": 1,
    "hostname": "web-1",
    "ip_address": "192.0.2.66",
    "message": "an example",
    "path": "/etc/example.conf",
    "resource": "cpu",
    "severity": "high",
    "version": "1.2.0",
}


@dataclass(frozen=True, slots=True)
class TrialEvent:
    """An event as hooks see it; `data` and `metadata` are JSON text."""

    source: str
    action: str
    data: bytes = b"{}"
    metadata: bytes = b"{}"
    resource: str = ""
    resource_id: str = ""
    priority: int = DEFAULT_PRIORITY
    attempt: int = 1
    id: UUID = field(default_factory=uuid4)
    occurred_at: datetime = field(default_factory=lambda: datetime.now(UTC))

    @property
    def type(self) -> str:
        return join_type(self.source, self.action)

    def row(self) -> list[Any]:
        """The values that lua/current.lua names."""
        names = (self.source, self.action, self.resource, self.resource_id)
        micros = (self.occurred_at - _PG_EPOCH) // timedelta(microseconds=1)
        return [
            self.id.bytes,
            *(name.encode() for name in names),
            micros.to_bytes(8, "big", signed=True),
            self.data,
            self.metadata,
            self.attempt,
            self.priority,
        ]


def type_for(patterns: Iterable[str]) -> str:
    """A type that a hook with these patterns runs for: one it names, else a known one, else one made of a glob."""
    named = list(patterns)
    for text in named:
        if is_literal(text):
            return text
    patterns_of_many = [parse_pattern(text) for text in named]
    from_globs = (text.replace("*", "example").replace("?", "x") for text in named if not text.startswith("~"))
    candidates = chain(catalog.known(None), from_globs)
    return next((name for name in candidates if any(p.matches(*split_type(name)) for p in patterns_of_many)), _ANY_TYPE)


def sample(event_type: str) -> dict[str, Any]:
    """A payload with the fields that the catalog knows of a type; empty for an unknown one."""
    types = catalog.known(None)
    # custom.anything is likely to hold what custom does.
    known = types.get(catalog.canonical(event_type)) or (
        types.get(_CUSTOM) if event_type.startswith(catalog.FREE) else None
    )
    if known is None:
        return {}
    fields = {entry.name: _value(entry) for entry in known.fields}
    return {known.object: fields} if known.object else fields


def _value(entry: catalog.Field) -> Any:
    if entry.kind == "time":
        return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    named = _NAMED.get(entry.name)
    if named is not None and type(named) is type(_SAMPLES.get(entry.kind, named)):
        return named
    if entry.kind == "string":
        return f"example_{entry.name}"
    return _SAMPLES.get(entry.kind, "example")


def made_up(event_type: str, data: Mapping[str, Any] | None = None, stack: str | None = None) -> TrialEvent:
    """An event of a type, with these data or sample ones. Raises EventRefused for what is no type, or no JSON."""
    source, action = split_type(event_type)
    payload = sample(event_type) if data is None else data
    metadata = {"stack": stack} if stack else {}
    return TrialEvent(source, action, encoded("payload", payload), encoded("metadata", metadata))
