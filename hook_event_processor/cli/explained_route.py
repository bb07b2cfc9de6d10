"""What would run for an event that is stored, found by the routing of the processors themselves."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from hook_event_processor.event_handlers import EventHandlerRegistry, HandlerResult
from hook_event_processor.processor import routing
from hook_event_processor.processor.attempt import stack_of
from hook_event_processor.registry import Route
from hook_event_processor.store.claim import Row, most_bytes

if TYPE_CHECKING:
    from psycopg import Connection

    from hook_event_processor.store.events import StoredEvent
    from hook_event_processor.store.hooks import KnownHook


@dataclass(frozen=True, slots=True)
class ExplainedRoute:
    """What would run for the event now, and its stack as processors read it."""

    stack: str | None
    route: Route

    @property
    def places(self) -> Mapping[int, int]:
        """The place of each hook, by its id."""
        return {hook.id: place for place, hook in enumerate(self.route.hooks)}

    @property
    def handler(self) -> str | None:
        """The name of the Python handler that serves the event."""
        return next((hook.name for hook in self.route.hooks if isinstance(hook.code, _Registered)), None)


def route_for(
    connection: Connection, event: StoredEvent, hooks: Sequence[KnownHook], max_payload_size: int
) -> ExplainedRoute:
    """The route that a processor finds for the event, given the handlers that processors have registered."""
    registry = routing.load(connection, _as_registered(hooks), heeds_pauses=False)
    payload = event.data.encode()
    row = Row(
        event.id.bytes,
        event.source.encode(),
        event.action.encode(),
        *(b"", b"", b""),
        # A claim leaves out what is too large, and does not see a stack in it.
        payload if len(payload) <= most_bytes(max_payload_size) else None,
        event.metadata.encode(),
        event.retry_count + 1,
        event.priority,
        event.seq,
        *(b"", b""),
    )
    stack = stack_of(row)
    return ExplainedRoute(stack, registry.routes(row.source, row.action).of(stack))


class _Registered:
    """Stands for a handler that some processor registered: it has the name, and is never called."""

    def __init__(self, name: str) -> None:
        self.__name__ = name

    def __call__(self, event: dict[str, Any]) -> HandlerResult:
        raise AssertionError(f"{self.__name__} was called for {event}, and was only to be explained")


def _as_registered(hooks: Sequence[KnownHook]) -> EventHandlerRegistry:
    """Every handler that has a row, registered for the pairs of its row."""
    registry = EventHandlerRegistry()
    for hook in hooks:
        if hook.kind == "python":
            for pair in hook.event_types:
                source, _, action = pair.partition("/")
                registry.register(source, action, _Registered(hook.name))
    return registry
