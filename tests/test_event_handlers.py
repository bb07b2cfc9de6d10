"""Python handlers: the original service's example word for word, its six handlers, and what a handler returns."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import pytest
from chunks import event, library, row
from psycopg import Connection

from hook_event_processor import EventHandlerRegistry, HandlerResult, event_handlers, register_custom_handler
from hook_event_processor.errors import HookRefused
from hook_event_processor.lua.memory import MemoryBudget
from hook_event_processor.processor import routing
from hook_event_processor.processor.hooks import HookRunner
from hook_event_processor.registry import Hook
from hook_event_processor.run import ChunkResult

# From the original's page, "Extending Handlers"; only the module that it imports from has another path.

EXAMPLE_HANDLER = '''\
# In event_handlers.py or custom module

def handle_custom_event(event: Dict[str, Any]) -> HandlerResult:
    """Handle custom event type."""
    try:
        payload = event.get("payload", {})
        # Process event

        return HandlerResult(
            success=True,
            message="Custom event processed",
            metadata={"custom_data": "..."}
        )
    except Exception as e:
        return HandlerResult(
            success=False,
            message=f"Failed: {e}",
            error=str(e)
        )
'''

EXAMPLE_REGISTRATION = """\
# In hook_event_processor.py, modify __init__

from hook_event_processor.event_handlers import register_custom_handler, handle_custom_event

class HookEventProcessor:
    def __init__(self, ...):
        # ... existing code ...

        # Register custom handler
        register_custom_handler(
            self.handler_registry,
            source="CustomSource",
            action="custom_action",
            handler=handle_custom_event
        )
"""


def test_the_originals_example_runs_word_for_word(monkeypatch: pytest.MonkeyPatch) -> None:
    names: dict[str, Any] = {"Dict": dict, "Any": Any, "HandlerResult": HandlerResult}
    exec(EXAMPLE_HANDLER, names)
    # "In event_handlers.py": the handler stands in that module.
    monkeypatch.setattr(event_handlers, "handle_custom_event", names["handle_custom_event"], raising=False)
    # `...` stands for what __init__ takes and does already.
    registration = EXAMPLE_REGISTRATION.replace("self, ...", "self").replace(
        "# ... existing code ...", "self.handler_registry = EventHandlerRegistry()"
    )
    names["EventHandlerRegistry"] = EventHandlerRegistry
    exec(registration, names)
    registry = names["HookEventProcessor"]().handler_registry
    served_by = registry.candidates("CustomSource", "custom_action")[0]
    assert served_by.name == "handle_custom_event"
    result = served_by.handler({"payload": {}})
    assert result == HandlerResult(True, "Custom event processed", metadata={"custom_data": "..."})
    failed = served_by.handler(None)
    assert (failed.success, failed.error) == (False, "'NoneType' object has no attribute 'get'")


def test_all_of_the_originals_names_can_be_imported() -> None:
    import hook_event_processor

    for name in hook_event_processor.__all__:
        assert getattr(hook_event_processor, name) is not None
    with pytest.raises(AttributeError):
        _ = hook_event_processor.handle_nothing


@pytest.mark.parametrize(
    ("source", "action", "name", "payload", "message"),
    [
        (
            *("PreToolUse", "tool_invocation", "handle_pretooluse_invocation"),
            {"tool_name": "Write", "tool_input": {}, "quality_check": None},
            "PreToolUse event: tool=Write, quality_check=True",
        ),
        (
            *("PreToolUse", "tool_invocation", "handle_pretooluse_invocation"),
            {},
            "PreToolUse event: tool=None, quality_check=False",
        ),
        (
            *("PostToolUse", "tool_completion", "handle_posttooluse_completion"),
            {"tool_name": "Bash", "tool_output": "x"},
            # As the original's page prints it.
            "PostToolUse event: tool=Bash, file=None, auto_fix=False",
        ),
        (
            *("PostToolUse", "tool_completion", "handle_posttooluse_completion"),
            {"tool_name": "Edit", "file_path": "a.py", "auto_fix_details": {"fixed": 1}},
            "PostToolUse event: tool=Edit, file=a.py, auto_fix=True",
        ),
        (
            *("UserPromptSubmit", "prompt_submitted", "handle_userprompt_submitted"),
            {"prompt_preview": "hello", "agent_detected": "dev", "detection_method": "pattern", "confidence": 0.9},
            "UserPromptSubmit event: prompt_length=5, agent=dev, method=pattern, confidence=0.9",
        ),
        (
            *("UserPromptSubmit", "prompt_submitted", "handle_userprompt_submitted"),
            {"prompt_preview": None},
            "UserPromptSubmit event: prompt_length=0, agent=None, method=None, confidence=None",
        ),
        ("Stop", "session_stopped", "handle_session_stopped", {}, "Stop event: session=s1"),
        ("SessionEnd", "session_ended", "handle_session_ended", {}, "SessionEnd event: session=s1"),
        ("Stop", "response_completed", "handle_unknown_event", {}, "no hook or handler for Stop/response_completed"),
        ("", "", "handle_unknown_event", {}, "no hook or handler for /"),
    ],
)
def test_the_six_handlers(source: str, action: str, name: str, payload: object, message: str) -> None:
    handler = EventHandlerRegistry().candidates(source, action)[0]
    assert (handler.name, handler.pure) == (name, True)
    result = handler.handler({"source": source, "action": action, "resource_id": "s1", "payload": payload})
    assert result == HandlerResult(True, message)


@pytest.mark.parametrize("payload", [[], "text", 7, None, True])
def test_the_six_take_any_payload(payload: object) -> None:
    for handler in EventHandlerRegistry():
        assert handler.handler({"source": "a", "action": "b", "payload": payload}).success


def test_registering_again_replaces() -> None:
    registry = EventHandlerRegistry()
    register_custom_handler(registry, "Stop", "session_stopped", _custom)
    assert [handler.name for handler in registry.candidates("Stop", "session_stopped")] == [
        "_custom",
        "handle_unknown_event",
    ]
    assert registry.candidates("Stop", "session_stopped")[0].pure is False
    register_custom_handler(registry, "Stop", "session_stopped", _custom, pure=True)
    assert registry.candidates("Stop", "session_stopped")[0].pure is True


def test_what_is_no_function_is_refused() -> None:
    with pytest.raises(HookRefused, match="the handler for a/b is a str, not a function"):
        register_custom_handler(EventHandlerRegistry(), "a", "b", "handler")  # type: ignore[arg-type]


def _custom(event: dict[str, Any]) -> HandlerResult:
    """What it does.

    And more.
    """
    return HandlerResult(True, event["id"].hex)


# Running one.


def _run(code: Callable[..., object], *rows: list[Any]) -> ChunkResult:
    run = HookRunner(2**25, 100_000, MemoryBudget(2**26, 2**25), library())
    return run(Hook(1, "handler", code), [row(values) for values in rows or [event()]], threading.Event())


def _raises(event: dict[str, Any]) -> HandlerResult:
    raise ValueError("bad\0news \ud800")


def test_a_handler_gets_the_events_columns() -> None:
    seen: list[dict[str, Any]] = []

    def handler(event: dict[str, Any]) -> HandlerResult:
        seen.append(event)
        return HandlerResult(True)

    _run(handler, event('{"n": [1]}', '{"m": null}', attempt=3, priority=2))
    assert {key: str(value) if key == "id" else value for key, value in seen[0].items()} == {
        "id": "00010203-0405-0607-0809-0a0b0c0d0e0f",
        "source": "task",
        "action": "failed",
        "resource": "task",
        "resource_id": "build",
        "payload": {"n": [1]},
        "metadata": {"m": None},
        "retry_count": 2,
        "priority": 2,
    }


def test_its_message_is_the_output() -> None:
    assert _run(lambda _: HandlerResult(True, "fine")).outputs == [b"fine"]
    result = _run(lambda _: HandlerResult(False, "message", error="error"))
    assert (result.codes, result.outputs, result.errors) == (b"c", [None], [b"error"])
    assert _run(lambda _: HandlerResult(False, "message")).errors == [b"message"]
    assert _run(lambda _: HandlerResult(False)).errors == [b"no reason given"]


def test_one_that_raises_fails_its_event_alone_with_the_traceback() -> None:
    def handler(event: dict[str, Any]) -> HandlerResult:
        return _raises(event) if event["payload"] else HandlerResult(True)

    result = _run(handler, event(), event('{"n": 1}'), event())
    assert result.codes == b"aca"
    text = (result.errors[1] or b"").decode()
    assert "\0" not in text
    assert text.startswith("Traceback (most recent call last):")
    assert "ValueError: bad\N{REPLACEMENT CHARACTER}news ?" in text


@pytest.mark.parametrize("returned", [None, True, {"success": True}, (True, "x")])
def test_what_is_no_handler_result_is_a_failure(returned: object) -> None:
    result = _run(lambda _: returned)
    assert result.codes == b"c"
    assert result.errors == [f"the handler returned a {type(returned).__name__}, not a HandlerResult".encode()]


# Its row.


def test_every_handler_has_a_row_among_the_hooks(connection: Connection) -> None:
    registered = EventHandlerRegistry()
    register_custom_handler(registered, "CustomSource", "custom_action", _custom)
    register_custom_handler(registered, "CustomSource", "*", _custom)
    routing.register(connection, registered)
    rows = connection.execute("SELECT name, event_types, description FROM hooks WHERE kind = 'python'").fetchall()
    assert len(rows) == 7
    assert ("_custom", ["CustomSource/custom_action", "CustomSource/*"], "What it does.") in rows
    versions = connection.execute("SELECT sum(version) FROM hooks").fetchone()
    routing.register(connection, registered)
    assert connection.execute("SELECT sum(version) FROM hooks").fetchone() == versions


def test_a_disabled_handler_leaves_its_events_to_the_next(connection: Connection) -> None:
    registered = EventHandlerRegistry()
    routing.register(connection, registered)

    def serving() -> list[str]:
        route = routing.load(connection, registered).routes(b"Stop", b"session_stopped").of(None)
        return [hook.name for hook in route.hooks]

    assert serving() == ["handle_session_stopped"]
    connection.execute("UPDATE hooks SET enabled = FALSE WHERE name = 'handle_session_stopped'")
    assert serving() == ["handle_unknown_event"]
    connection.execute("UPDATE hooks SET enabled = FALSE WHERE name = 'handle_unknown_event'")
    assert serving() == []
