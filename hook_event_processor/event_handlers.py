"""Python handlers: what they return, how they are registered, and the six that every processor has."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from hook_event_processor.errors import HookRefused
from hook_event_processor.registry import UNKNOWN_HANDLER

logger = logging.getLogger("EventHandlerRegistry")


@dataclass(frozen=True, slots=True)
class HandlerResult:
    """How a handler's run ended; `message` becomes the execution's output, `error` its error."""

    success: bool
    message: str = ""
    error: str | None = None
    metadata: Mapping[str, Any] = field(default_factory=dict)


Handler = Callable[[dict[str, Any]], HandlerResult]


@dataclass(frozen=True, slots=True)
class RegisteredHandler:
    """A handler and whether it is pure: whether running it again after a crash would go unnoticed."""

    source: str
    action: str
    handler: Handler
    pure: bool

    @property
    def name(self) -> str:
        return getattr(self.handler, "__name__", type(self.handler).__name__)


class EventHandlerRegistry:
    """Handlers by (source, action). One handler serves an event: the most specific.

    Precedence: (source, action), (source, *), (*, action), (*, *). Registering
    for a pair again replaces its handler.
    """

    def __init__(self) -> None:
        self._handlers: dict[tuple[str, str], RegisteredHandler] = {}
        for (source, action), handler in DEFAULT_HANDLERS.items():
            self.register(source, action, handler, pure=True)
        logger.info("Registered %d default event handlers", len(self._handlers))

    def register(self, source: str, action: str, handler: Handler, *, pure: bool = False) -> None:
        """Let `handler` serve the events of `source` and `action`; `*` stands for all."""
        if not callable(handler):
            raise HookRefused(f"the handler for {source}/{action} is a {type(handler).__name__}, not a function")
        self._handlers[source, action] = RegisteredHandler(source, action, handler, pure)

    def candidates(self, source: str, action: str) -> list[RegisteredHandler]:
        """The handlers that match such an event; the first serves it."""
        keys = ((source, action), (source, "*"), ("*", action), ("*", "*"))
        return [self._handlers[key] for key in keys if key in self._handlers]

    def __iter__(self) -> Iterator[RegisteredHandler]:
        return iter(list(self._handlers.values()))


def register_custom_handler(
    registry: EventHandlerRegistry, source: str, action: str, handler: Handler, *, pure: bool = False
) -> None:
    """Register a handler of your own. `pure`: it has no effect outside the processor, and takes microseconds."""
    registry.register(source, action, handler, pure=pure)


def _payload(event: Mapping[str, Any]) -> Mapping[str, Any]:
    payload = event.get("payload")
    return payload if isinstance(payload, Mapping) else {}


def handle_pretooluse_invocation(event: dict[str, Any]) -> HandlerResult:
    """An agent is about to use a tool. Payload: tool_name, quality_check."""
    payload = _payload(event)
    checked = "quality_check" in payload
    return HandlerResult(True, f"PreToolUse event: tool={payload.get('tool_name')}, quality_check={checked}")


def handle_posttooluse_completion(event: dict[str, Any]) -> HandlerResult:
    """An agent has used a tool. Payload: tool_name, file_path, auto_fix_details."""
    payload = _payload(event)
    fixed = "auto_fix_details" in payload
    tool, file = payload.get("tool_name"), payload.get("file_path")
    return HandlerResult(True, f"PostToolUse event: tool={tool}, file={file}, auto_fix={fixed}")


def handle_userprompt_submitted(event: dict[str, Any]) -> HandlerResult:
    """A prompt was submitted. Payload: prompt_preview, agent_detected, detection_method, confidence."""
    payload = _payload(event)
    length = len(str(payload.get("prompt_preview") or ""))
    agent, method = payload.get("agent_detected"), payload.get("detection_method")
    return HandlerResult(
        True,
        f"UserPromptSubmit event: prompt_length={length}, agent={agent}, method={method},"
        f" confidence={payload.get('confidence')}",
    )


def handle_session_stopped(event: dict[str, Any]) -> HandlerResult:
    """An agent stopped."""
    return HandlerResult(True, f"Stop event: session={event.get('resource_id') or None}")


def handle_session_ended(event: dict[str, Any]) -> HandlerResult:
    """A session ended."""
    return HandlerResult(True, f"SessionEnd event: session={event.get('resource_id') or None}")


def handle_unknown_event(event: dict[str, Any]) -> HandlerResult:
    """Nothing else matched: acknowledged, and counted as unrouted."""
    return HandlerResult(True, f"no hook or handler for {event.get('source')}/{event.get('action')}")


assert handle_unknown_event.__name__ == UNKNOWN_HANDLER  # noqa: S101 - two files name it

DEFAULT_HANDLERS: Mapping[tuple[str, str], Handler] = {
    ("PreToolUse", "tool_invocation"): handle_pretooluse_invocation,
    ("PostToolUse", "tool_completion"): handle_posttooluse_completion,
    ("UserPromptSubmit", "prompt_submitted"): handle_userprompt_submitted,
    ("Stop", "session_stopped"): handle_session_stopped,
    ("SessionEnd", "session_ended"): handle_session_ended,
    ("*", "*"): handle_unknown_event,
}
