"""What an attempt at an event leads to: a retry or a dead letter, and the events that it dispatches."""

from __future__ import annotations

import secrets
from collections.abc import Mapping, Sequence
from typing import Any
from uuid import UUID

import orjson

from hook_event_processor.event import MAX_DEPTH, Outcome, code_of, join_type, split_type
from hook_event_processor.processor.own_events import OwnEvents
from hook_event_processor.registry import Hook
from hook_event_processor.retry import RetryPolicy
from hook_event_processor.run import ChunkResult, Dispatched
from hook_event_processor.store.ack import Failure
from hook_event_processor.store.claim import Row
from hook_event_processor.store.record import Child

_STUCK = code_of(Outcome.STUCK)
_MAX_ATTEMPTS = 10  # hook_events has a CHECK on retry_count
_MAX_ERROR_LINE = 500
# The event that tells of a dead letter; its own failures tell no more.
DEAD_LETTER = ("event", "failed")


class Attempts:
    """Judges attempts by one policy; `origin` says in metadata which processor dispatched an event."""

    def __init__(self, policy: RetryPolicy, origin: Mapping[str, str], own_events: OwnEvents | None = None) -> None:
        """`own_events` are those that the processor tells of its own doings, None for none."""
        self._own_events = own_events
        self._policy = policy
        self._origin = dict(origin)

    def failure(self, row: Row, failed: Sequence[tuple[Hook, bytes]], *, needs_slot: bool) -> Failure:
        """What becomes of an event whose attempt failed, given the hooks that did and their errors.

        It is tried again while any of these hooks has attempts left, after the
        shortest of their delays.
        """
        delays = [policy.delay_after(row.attempt) for policy in self._with_attempts_left(row, failed)]
        line = "; ".join(f"{hook.name}: {_first_line(error)}" for hook, error in failed)
        return Failure(row.id, line, min(delays, default=None), needs_slot)

    def exhausted(self, row: Row, failed: Sequence[tuple[Hook, bytes]]) -> bool:
        """Whether the attempts of an event are used up, given the hooks that failed."""
        return not self._with_attempts_left(row, failed)

    def _with_attempts_left(self, row: Row, failed: Sequence[tuple[Hook, bytes]]) -> list[RetryPolicy]:
        policies = [self._policy.of(hook) for hook, _ in failed]
        return [policy for policy in policies if row.attempt < min(policy.attempts, _MAX_ATTEMPTS)]

    def dead_letter(self, row: Row, failure: Failure, failed: Sequence[tuple[Hook, bytes]]) -> Child | None:
        """The event.failed event of an event whose attempts are used up."""
        source, action = row.source.decode(), row.action.decode()
        metadata = _metadata(row)
        if failure.delay is not None or (source, action) == DEAD_LETTER or _depth(metadata) >= MAX_DEPTH:
            return None
        payload = {
            "event_id": str(UUID(bytes=row.id)),
            "type": join_type(source, action),
            "attempts": row.attempt,
            "error": failure.error,
            "hooks": [hook.name for hook, _ in failed],
        }
        return Child(
            *DEAD_LETTER, orjson.dumps(payload), self._inherited(row, metadata, _stack(row, metadata), "processor")
        )

    def own_events(self, rows: Sequence[Row], hook: Hook, result: ChunkResult) -> list[tuple[bytes, Child]]:
        """What the processor tells of these runs of a hook, each with the event that it belongs to."""
        if self._own_events is None:
            return []
        told = list(self._own_events.accessed(rows, hook, result.accessed)) if result.accessed else []
        if _STUCK in result.codes:
            for row, code, error in zip(rows, result.codes, result.errors, strict=True):
                if code == _STUCK and (child := self._own_events.stuck(row, hook, error or b"")):
                    told.append((row.id, child))
        return told

    def child(self, row: Row, hook: Hook, dispatched: Dispatched) -> Child:
        """The row of an event that a hook's run dispatched."""
        source, action = split_type(dispatched.type)
        metadata = _metadata(row)
        stack = dispatched.stack if dispatched.stack is not None else _stack(row, metadata)
        return Child(
            source,
            action,
            dispatched.data,
            self._inherited(row, metadata, stack, hook.name),
            dispatched.priority or 5,
            dispatched.delay,
            dispatched.id,
        )

    def _inherited(self, row: Row, parent: Mapping[str, Any], stack: str | None, component: str) -> bytes:
        event_id = UUID(bytes=row.id)
        correlation = parent.get("correlation_id")
        metadata = {
            "correlation_id": correlation if isinstance(correlation, str) and correlation else str(event_id),
            "causation_id": str(event_id),
            "depth": _depth(parent) + 1,
            "origin": {"component": component, **self._origin},
            "traceparent": _next_span(parent.get("traceparent"), event_id),
        }
        if stack is not None:
            metadata["stack"] = stack
        for name in ("agent_id", "session_id"):
            if isinstance(parent.get(name), str):
                metadata[name] = parent[name]
        return orjson.dumps(metadata)


def stack_of(row: Row) -> str | None:
    """metadata.stack, else payload.stack."""
    return _stack(row, _metadata(row))


def context_of(row: Row) -> dict[str, str]:
    """What the log says of an event's context: correlation_id, agent_id and session_id, where it has them."""
    metadata, payload = _metadata(row), _object(row.payload or b"")
    found = {name: metadata.get(name, payload.get(name)) for name in ("correlation_id", "agent_id", "session_id")}
    return {name: value for name, value in found.items() if isinstance(value, str)}


def _stack(row: Row, metadata: Mapping[str, Any]) -> str | None:
    stack = metadata.get("stack")
    if stack is None and row.payload is not None and b'"stack"' in row.payload:
        stack = _object(row.payload).get("stack")
    return stack if isinstance(stack, str) else None


def _metadata(row: Row) -> Mapping[str, Any]:
    return {} if row.metadata == b"{}" else _object(row.metadata)


def _object(text: bytes) -> Mapping[str, Any]:
    try:
        value = orjson.loads(text)
    except orjson.JSONDecodeError:  # deeper, or larger numbers, than orjson reads
        return {}
    return value if isinstance(value, dict) else {}


def _depth(metadata: Mapping[str, Any]) -> int:
    depth = metadata.get("depth")
    return depth if isinstance(depth, int) and depth > 0 else 0


def _next_span(traceparent: object, event_id: UUID) -> str:
    """A span of its own in the parent's trace (W3C Trace Context); the event's id starts a trace."""
    parts = traceparent.split("-") if isinstance(traceparent, str) else []
    valid = len(parts) == 4 and len(parts[1]) == 32 and set(parts[1]) <= set("0123456789abcdef")
    trace, flags = (parts[1], parts[3]) if valid else (event_id.hex, "00")
    return f"00-{trace}-{secrets.token_hex(8)}-{flags}"


def _first_line(error: bytes) -> str:
    lines = error.decode(errors="replace").strip().splitlines() or ["no reason given"]
    # Of a Python traceback the last line says what happened, of a Lua one the first.
    line = lines[-1] if lines[0].startswith("Traceback (") else lines[0]
    return line[:_MAX_ERROR_LINE]
