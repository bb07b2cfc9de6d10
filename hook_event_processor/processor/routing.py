"""The registry as the database and this process's handlers make it."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import orjson
from psycopg import Connection

from hook_event_processor.errors import PatternRefused
from hook_event_processor.event_handlers import EventHandlerRegistry
from hook_event_processor.hook_limits import LONGEST_DELAY, STACK_CHARACTERS
from hook_event_processor.lua.loader import program
from hook_event_processor.registry import Hook, Pattern, Pauses, Registry, parse_pattern
from hook_event_processor.store import handlers, hooks, libraries, pauses
from hook_event_processor.store.handlers import HandlerRow
from hook_event_processor.store.hooks import StoredHook, held, stored_object, timeout_fault
from hook_event_processor.store.pauses import StoredPause

logger = logging.getLogger("EventHandlerRegistry")


def register(connection: Connection, registered: EventHandlerRegistry) -> None:
    """Give every handler its row in hooks."""
    patterns: dict[str, list[str]] = {}
    descriptions: dict[str, str] = {}
    for handler in registered:
        patterns.setdefault(handler.name, []).append(f"{handler.source}/{handler.action}")
        descriptions[handler.name] = (handler.handler.__doc__ or "").strip().split("\n")[0]
    rows = [HandlerRow(name, event_types, descriptions[name]) for name, event_types in patterns.items()]
    handlers.register(connection, rows)


def load(connection: Connection, registered: EventHandlerRegistry, *, heeds_pauses: bool = True) -> Registry:
    """The hooks that are enabled now, and the handlers whose rows are; what is paused, unless nobody is to heed it."""
    with connection.transaction():
        # One snapshot: a hook is not read without the library that came with it.
        connection.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ READ ONLY")
        stored = hooks.enabled(connection)
        shared = libraries.texts_in_use(connection) if any(hook.libraries != "{}" for hook in stored) else {}
        paused = _pauses(pauses.stored(connection)) if heeds_pauses else Pauses()
    made = [hook for row in stored if (hook := _made(row, shared)) is not None]
    rows = {hook.name: hook for hook in made if hook.code is None}

    def handler(source: str, action: str) -> Hook | None:
        for candidate in registered.candidates(source, action):
            row = rows.get(candidate.name)
            if row is not None:
                return replace(row, code=candidate.handler, effectful=not candidate.pure)
        return None

    return Registry([hook for hook in made if hook.code is not None], handler, paused)


def _pauses(stored: Sequence[StoredPause]) -> Pauses:
    held = [pause for pause in stored if pause.in_force]
    return Pauses(
        any(pause.scope == "all" for pause in held),
        {pause.name: pause.id for pause in held if pause.scope == "source"},
        {pause.name: pause.id for pause in held if pause.scope == "hook"},
        tuple(pause.told for pause in held),
        min((pause.ends_in for pause in held if pause.ends_in is not None), default=None),
        len(held) < len(stored),
    )


def _made(stored: StoredHook, shared: Mapping[tuple[str, int], str]) -> Hook | None:
    """The hook, a Python handler's still without its code; None when its row makes no sense."""
    try:
        _check(stored)
        hook = Hook(
            stored.id,
            stored.name,
            None,
            version=stored.version,
            priority=stored.priority,
            timeout=stored.timeout_seconds,
            **_own_retry(stored),
        )
        return _with_text(hook, stored, shared) if stored.kind == "lua" else hook
    except Exception as fault:  # written past the command line; the others run
        logger.error("hook %s does not run, its row makes no sense: %r", stored.name, fault)
        return None


def _check(stored: StoredHook) -> None:
    """Raise ValueError for what no hook may have."""
    if fault := timeout_fault(stored.timeout_seconds):
        raise ValueError(fault)
    if stored.stack is not None and len(stored.stack) > STACK_CHARACTERS:
        raise ValueError("stack is too large")


def _with_text(hook: Hook, stored: StoredHook, shared: Mapping[tuple[str, int], str]) -> Hook:
    pins = stored_object("libraries", stored.libraries)
    texts = {name: shared[name, version] for name, version in pins.items() if (name, version) in shared}
    for name in pins.keys() - texts:
        logger.error("hook %s: its library %s has been removed", stored.name, name)
    params = stored_object("params", stored.params)
    text = held("source_text", stored.source_text)
    lua = program(text, stored.name, stored.stack, orjson.dumps(params) if params else b"", texts)
    return replace(hook, code=lua, patterns=tuple(_patterns(stored)), stack=stored.stack, effectful=lua.effectful)


def _patterns(stored: StoredHook) -> list[Pattern]:
    good = []
    for text in held("event_types", stored.event_types):
        try:
            good.append(parse_pattern(text))
        except PatternRefused as refusal:  # written past the command line
            logger.error("hook %s: %s", stored.name, refusal)
    return good


def _own_retry(stored: StoredHook) -> dict[str, Any]:
    """What the row says of attempts and delays, as Hook takes it."""
    fields = {"attempts": "attempts", "delay": "retry_delay", "max_delay": "retry_max_delay"}
    own: dict[str, Any] = {}
    try:
        given = stored_object("retry", stored.retry)
    except ValueError as fault:
        logger.error("hook %s: %s; it is not used", stored.name, fault)
        given = {}
    for key, value in given.items():
        if key in fields and type(value) in (int, float) and 0 <= value <= LONGEST_DELAY:
            own[fields[key]] = value
        else:  # written past the command line
            logger.error("hook %s: retry has %s = %r, which is not used", stored.name, key, value)
    return own
