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
from hook_event_processor.lua.loader import program
from hook_event_processor.registry import Hook, Pattern, Pauses, Registry, parse_pattern
from hook_event_processor.store import handlers, hooks, libraries, pauses
from hook_event_processor.store.handlers import HandlerRow
from hook_event_processor.store.hooks import StoredHook
from hook_event_processor.store.pauses import StoredPause

logger = logging.getLogger("EventHandlerRegistry")
_MAX_DELAY = 86_400.0


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
    stored = hooks.enabled(connection)
    shared = libraries.texts_in_use(connection) if any(hook.libraries for hook in stored) else {}
    rows = {hook.name: hook for hook in stored if hook.kind == "python"}

    def handler(source: str, action: str) -> Hook | None:
        for candidate in registered.candidates(source, action):
            row = rows.get(candidate.name)
            if row is not None:
                hook = Hook(
                    row.id,
                    row.name,
                    candidate.handler,
                    priority=row.priority,
                    timeout=row.timeout_seconds,
                    version=row.version,
                    effectful=not candidate.pure,
                )
                return _own_retry(hook, row.retry)
        return None

    paused = _pauses(pauses.stored(connection)) if heeds_pauses else Pauses()
    return Registry([_lua_hook(hook, shared) for hook in stored if hook.kind == "lua"], handler, paused)


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


def _lua_hook(stored: StoredHook, shared: Mapping[tuple[str, int], str]) -> Hook:
    texts = {name: shared[name, version] for name, version in stored.libraries.items() if (name, version) in shared}
    for name in stored.libraries.keys() - texts:
        logger.error("hook %s: its library %s has been removed", stored.name, name)
    params = orjson.dumps(stored.params) if stored.params else b""
    lua = program(stored.source_text, stored.name, stored.stack, params, texts)
    hook = Hook(
        stored.id,
        stored.name,
        lua,
        patterns=tuple(_patterns(stored)),
        version=stored.version,
        stack=stored.stack,
        priority=stored.priority,
        timeout=stored.timeout_seconds,
        effectful=lua.effectful,
    )
    return _own_retry(hook, stored.retry)


def _patterns(stored: StoredHook) -> list[Pattern]:
    good = []
    for text in stored.event_types:
        try:
            good.append(parse_pattern(text))
        except PatternRefused as refusal:  # written past the command line
            logger.error("hook %s: %s", stored.name, refusal)
    return good


def _own_retry(hook: Hook, retry: Mapping[str, Any]) -> Hook:
    """The hook with what its row says of attempts and delays."""
    fields = {"attempts": "attempts", "delay": "retry_delay", "max_delay": "retry_max_delay"}
    own: dict[str, Any] = {}
    given: dict[str, Any] = dict(retry) if isinstance(retry, dict) else {"retry": retry}
    for key, value in given.items():
        if key in fields and type(value) in (int, float) and 0 <= value <= _MAX_DELAY:
            own[fields[key]] = value
        else:  # written past the command line
            logger.error("hook %s: retry has %s = %r, which is not used", hook.name, key, value)
    return replace(hook, **own)
