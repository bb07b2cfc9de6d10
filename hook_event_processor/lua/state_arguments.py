"""What a hook gives to state, checked: namespaces, keys, values, times; and which locks its run was given."""

from __future__ import annotations

from hook_event_processor.lua.door import Call, Misused
from hook_event_processor.lua.masking import holds_secret
from hook_event_processor.store.state import MAX_KEY_BYTES, MAX_NAME_BYTES, MAX_VALUE_BYTES, Namespace

_LONGEST_TTL = 1e9  # seconds


def namespace_of(call: Call, shared: object) -> Namespace:
    """The hook's own namespace, or the one of that name that the hooks of its stack share."""
    stack = call.stack or ""
    if shared is None:
        return Namespace("hook", call.hook, stack)
    return Namespace("shared", _text(call, shared, "name of a shared namespace", 1, MAX_NAME_BYTES), stack)


def checked_key(call: Call, key: object, what: str = "key", least: int = 1) -> str:
    """Text that can be a key. Raises Misused, as all of these do."""
    return _text(call, key, what, least, MAX_KEY_BYTES)


def _text(call: Call, given: object, what: str, least: int, most: int) -> str:
    if not isinstance(given, bytes):
        raise Misused(f"the {what} is no string")
    if not least <= len(given) <= most:
        raise Misused(f"the {what} has {len(given)} bytes: it takes {least} to {most}")
    if holds_secret(given, call.secrets):
        raise Misused(f"the {what} holds a secret, which must not be stored")
    try:
        text = given.decode()
    except UnicodeDecodeError:
        raise Misused(f"the {what} is not UTF-8") from None
    if "\0" in text:
        raise Misused(f"the {what} holds a NUL character")
    return text


def checked_value(call: Call, value: object) -> str:
    """JSON text that PostgreSQL can hold."""
    if not isinstance(value, bytes):
        raise Misused("the value is not JSON text")
    if len(value) > MAX_VALUE_BYTES:
        raise Misused(f"the value is {len(value)} bytes of JSON: at most {MAX_VALUE_BYTES}")
    if holds_secret(value, call.secrets):
        raise Misused("the value holds a secret, which must not be stored")
    try:
        text = value.decode()
    except UnicodeDecodeError:
        raise Misused("the value is not UTF-8") from None
    # An escaped backslash before u0000 is only that.
    if "\\u0000" in text and "\\u0000" in text.replace("\\\\", ""):
        raise Misused("the value holds a NUL character, which PostgreSQL cannot store")
    return text


def checked_ttl(ttl: object) -> float | None:
    """Seconds; None stands for good."""
    return None if ttl is None else seconds_of("ttl", ttl, least=0.001)


def given_locks(call: Call) -> set[tuple[object, object]]:
    """The locks that the run was given and has not given back, each with its shared namespace or None.

    Some of them may have ended since.
    """
    locks: set[tuple[object, object]] = call.scratch.setdefault("state.locks", set())
    return locks


def seconds_of(what: str, given: object, least: float, most: float = _LONGEST_TTL) -> float:
    """A number of seconds, of any kind."""
    if isinstance(given, bool) or not isinstance(given, int | float) or not least <= given <= most:
        raise Misused(f"{what} takes a number of seconds, from {least:g} to {most:g}")
    return float(given)
