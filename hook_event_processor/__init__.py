"""Event automation on PostgreSQL: events in a table, hooks in Lua, run under systemd."""

from __future__ import annotations

from importlib import import_module
from typing import Any

# Loaded when they are first used: `hep --help` needs none of them.
_EXPORTS = {
    "EventHandlerRegistry": "event_handlers",
    "HandlerResult": "event_handlers",
    "HookEventProcessor": "service",
    "NewEvent": "event",
    "Publisher": "store.insert",
    "handle_posttooluse_completion": "event_handlers",
    "handle_pretooluse_invocation": "event_handlers",
    "handle_session_ended": "event_handlers",
    "handle_session_stopped": "event_handlers",
    "handle_unknown_event": "event_handlers",
    "handle_userprompt_submitted": "event_handlers",
    "register_custom_handler": "event_handlers",
}
__all__ = ["__version__", *_EXPORTS]


def __getattr__(name: str) -> Any:
    if name == "__version__":
        from importlib.metadata import version

        return version("hook-event-processor")
    if name not in _EXPORTS:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_EXPORTS[name]}"), name)
