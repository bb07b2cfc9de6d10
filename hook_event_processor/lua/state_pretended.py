"""state in a dry run: what is written is told and remembered for this run; the database is only read."""

from __future__ import annotations

from typing import Protocol

import orjson

from hook_event_processor.lua.door import Call, Misused, Value
from hook_event_processor.lua.state_arguments import (
    checked_key,
    checked_ttl,
    checked_value,
    given_locks,
    namespace_of,
    seconds_of,
)
from hook_event_processor.same_json import is_same
from hook_event_processor.store.state import beyond, is_countable
from hook_event_processor.store.state_locks import MAX_TTL


class Real(Protocol):
    """The functions that read, where there is a database."""

    @property
    def has_database(self) -> bool: ...

    def get(self, call: Call, shared: object, key: object) -> bytes | None: ...

    def keys(self, call: Call, shared: object, prefix: object) -> bytes: ...


class Pretended:
    """The same functions over what the run has written so far, and under it what `real` reads."""

    def __init__(self, real: Real) -> None:
        self._real = real

    def get(self, call: Call, shared: object, key: bytes) -> bytes | None:
        _check(call, shared, key)
        written = _written(call, shared)
        if key in written:
            return written[key]
        return self._real.get(call, shared, key) if self._real.has_database else None

    def exists(self, call: Call, shared: object, key: bytes) -> bool:
        return self.get(call, shared, key) is not None

    def set(self, call: Call, shared: object, key: bytes, value: bytes, ttl: object) -> bool:
        _check(call, shared, key, value)
        checked_ttl(ttl)
        _written(call, shared)[key] = value
        _show(call, "set", shared, key, value, f"ttl {ttl}" if ttl is not None else None)
        return True

    def delete(self, call: Call, shared: object, key: bytes) -> bool:
        existed = self.exists(call, shared, key)
        _written(call, shared)[key] = None
        _show(call, "delete", shared, key)
        return existed

    def keys(self, call: Call, shared: object, prefix: bytes) -> bytes:
        namespace_of(call, shared)
        checked_key(call, prefix, "prefix", least=0)
        stored = self._real.keys(call, shared, prefix) if self._real.has_database else b"[]"
        known = {name.encode() for name in orjson.loads(stored)}
        for key, value in _written(call, shared).items():
            if value is None:
                known.discard(key)
            elif key.startswith(prefix):
                known.add(key)
        return orjson.dumps([key.decode() for key in sorted(known)])

    def incr(self, call: Call, shared: object, key: bytes, by: bytes, ttl: object) -> bytes:
        checked_ttl(ttl)
        held = orjson.loads(self.get(call, shared, key) or b"0")
        if isinstance(held, bool) or not isinstance(held, int | float):
            raise Misused(f"the key {key.decode()!r} does not hold a number")
        number = held + orjson.loads(by)
        if not (is_countable(by.decode()) and is_countable(str(number))):
            raise Misused(beyond(key.decode()))
        value = orjson.dumps(number)
        _check(call, shared, key, value)
        _written(call, shared)[key] = value
        _show(call, "incr", shared, key, by, f"now {value.decode()}")
        return value

    def compare_and_swap(
        self, call: Call, shared: object, key: bytes, expected: bytes | None, new: bytes | None, ttl: object
    ) -> bool:
        held = self.get(call, shared, key)
        both = None not in (held, expected)
        equal = is_same(orjson.loads(held or b""), orjson.loads(expected or b"")) if both else held is expected
        if equal and new is None:
            self.delete(call, shared, key)
        elif equal:
            assert new is not None  # noqa: S101 - the other branch
            self.set(call, shared, key, new, ttl)
        return equal

    def lock(self, call: Call, shared: object, lock: bytes, ttl: object, wait: object) -> Value:
        _check(call, shared, lock, what="lock")
        seconds_of("ttl", ttl, least=0.001, most=MAX_TTL)
        seconds_of("wait", wait, least=0.0)
        held = (shared, lock) in given_locks(call)
        given_locks(call).add((shared, lock))
        _show(call, "lock", shared, lock, None, f"ttl {ttl}" + (", held already" if held else ""))
        return True, None, held

    def unlock(self, call: Call, shared: object, lock: bytes) -> Value:
        _check(call, shared, lock, what="lock")
        if (shared, lock) not in given_locks(call):
            return False, f"this run does not hold the lock {lock.decode()!r}".encode()
        given_locks(call).discard((shared, lock))
        _show(call, "unlock", shared, lock)
        return True


def _written(call: Call, shared: object) -> dict[bytes, bytes | None]:
    """What the run has written to the namespace; None stands for a key that it deleted."""
    written: dict[bytes, bytes | None] = call.scratch.setdefault(("state.written", shared), {})
    return written


def _check(call: Call, shared: object, key: bytes, value: bytes | None = None, what: str = "key") -> None:
    namespace_of(call, shared)
    checked_key(call, key, what)
    if value is not None:
        checked_value(call, value)


def _show(
    call: Call, name: str, shared: object, key: bytes, value: bytes | None = None, more: str | None = None
) -> None:
    function = f"shared({shared.decode()!r}).{name}" if isinstance(shared, bytes) else name
    parts = [repr(key.decode()), value.decode() if value is not None else None, more]
    call.show(f"state.{function}: {', '.join(part for part in parts if part is not None)}")
