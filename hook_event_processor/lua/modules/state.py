"""state: what a hook remembers between its runs, in PostgreSQL; atomic between processors."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from time import perf_counter
from typing import Any
from uuid import UUID, uuid4

import orjson
from psycopg import Connection, Error

from hook_event_processor.errors import StateRefused, StoreUnavailable
from hook_event_processor.lua.door import Call, Failed, Function, Misused, Services, Value
from hook_event_processor.lua.state_arguments import (
    checked_key,
    checked_ttl,
    checked_value,
    given_locks,
    namespace_of,
    seconds_of,
)
from hook_event_processor.lua.state_pretended import Pretended
from hook_event_processor.store import state, state_locks
from hook_event_processor.store.database import Database, one_line
from hook_event_processor.store.session_pool import SessionPool

_SESSIONS = 8
_SECONDS = 5.0  # that a statement may take, waiting for a session included
_SHARE_OF_LEFT = 0.9  # the rest is for the hook to see that the database is lost
_FIRST_PAUSE, _LONGEST_PAUSE = 0.02, 0.25  # seconds between two tries at a lock


def functions(services: Services) -> Mapping[str, Function]:
    real = _State(services.database)
    pretended = Pretended(real)
    names = ("get", "set", "delete", "exists", "keys", "incr", "compare_and_swap", "lock", "unlock")
    return {
        f"state.{name}": Function(getattr(real, name), waits=True, pretend=getattr(pretended, name)) for name in names
    }


class _State:
    """Each function takes the name of a shared namespace, or None for the hook's own keys, and then what Lua was given.

    Values are JSON text.
    """

    def __init__(self, database: Database | None) -> None:
        self._pool = SessionPool(database, "state", _SESSIONS) if database is not None else None

    @property
    def has_database(self) -> bool:
        return self._pool is not None

    def get(self, call: Call, shared: object, key: object) -> bytes | None:
        namespace, name = namespace_of(call, shared), checked_key(call, key)
        with self._session(call) as session:
            return state.get(session, namespace, name)

    def exists(self, call: Call, shared: object, key: object) -> bool:
        return self.get(call, shared, key) is not None

    def set(self, call: Call, shared: object, key: object, value: object, ttl: object) -> bool:
        namespace, name = namespace_of(call, shared), checked_key(call, key)
        text, seconds = checked_value(call, value), checked_ttl(ttl)
        with self._session(call) as session:
            state.put(session, namespace, name, text, seconds)
        return True

    def delete(self, call: Call, shared: object, key: object) -> bool:
        namespace, name = namespace_of(call, shared), checked_key(call, key)
        with self._session(call) as session:
            return state.delete(session, namespace, name)

    def keys(self, call: Call, shared: object, prefix: object) -> bytes:
        namespace, beginning = namespace_of(call, shared), checked_key(call, prefix, "prefix", least=0)
        with self._session(call) as session:
            return orjson.dumps(state.keys(session, namespace, beginning))

    def incr(self, call: Call, shared: object, key: object, by: object, ttl: object) -> bytes:
        namespace, name = namespace_of(call, shared), checked_key(call, key)
        number, seconds = checked_value(call, by), checked_ttl(ttl)
        with self._session(call) as session:
            return state.increase(session, namespace, name, number, seconds)

    def compare_and_swap(
        self, call: Call, shared: object, key: object, expected: object, new: object, ttl: object
    ) -> bool:
        namespace, name = namespace_of(call, shared), checked_key(call, key)
        before = None if expected is None else checked_value(call, expected)
        after = None if new is None else checked_value(call, new)
        seconds = checked_ttl(ttl)
        with self._session(call) as session:
            return state.compare_and_swap(session, namespace, name, before, after, seconds)

    def lock(self, call: Call, shared: object, lock: object, ttl: object, wait: object) -> Value:
        """True, None and whether the run held the lock before; False and a reason if it is not had within `wait`."""
        namespace, name = namespace_of(call, shared), checked_key(call, lock, "lock")
        seconds = seconds_of("ttl", ttl, least=0.001, most=state_locks.MAX_TTL)
        ends_at = perf_counter() + min(seconds_of("wait", wait, least=0.0), call.left)
        owner, given, pause = _owner(call), given_locks(call), _FIRST_PAUSE
        while True:
            with self._session(call) as session:
                # One whose taking was never confirmed is the run's, too, but nothing in the run would release it.
                held = (shared, lock) in given and state_locks.is_held(session, namespace, name, owner)
                if state_locks.take(session, namespace, name, owner, seconds):
                    given.add((shared, lock))
                    return True, None, held
            left = ends_at - perf_counter()
            if left <= 0 or call.cancelled.wait(min(pause, left)):
                return False, f"the lock {name!r} is held by another run".encode()
            pause = min(2 * pause, _LONGEST_PAUSE)

    def unlock(self, call: Call, shared: object, lock: object) -> Value:
        namespace, name = namespace_of(call, shared), checked_key(call, lock, "lock")
        given_locks(call).discard((shared, lock))
        with self._session(call) as session:
            if state_locks.release(session, namespace, name, _owner(call)):
                return True
        return False, f"this run does not hold the lock {name!r}, or no longer".encode()

    @contextmanager
    def _session(self, call: Call) -> Iterator[Connection[Any]]:
        if self._pool is None:
            raise Failed("there is no database here")
        try:
            with self._pool.session(min(call.left * _SHARE_OF_LEFT, _SECONDS)) as session:
                yield session
        except StateRefused as refusal:
            raise Misused(str(refusal)) from None
        except StoreUnavailable as fault:
            raise Failed(str(fault)) from None
        except Error as fault:
            raise Failed(f"the database refused: {one_line(fault)}") from None


def _owner(call: Call) -> UUID:
    """The run, as the owner of locks."""
    owner: UUID = call.scratch.setdefault("state.owner", uuid4())
    return owner
