"""Connections that are kept from one request to the next, each in the hands of one request at a time.

httpcore's own pool looks whether a connection is idle in one step, and closes
it in another. Between the two another thread may have sent a request on it:
that one's answer would be lost, and the request be sent a second time.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, cast

from hook_event_processor.lua.web.authorities import tls_context

if TYPE_CHECKING:  # imported when first used: most processors never send a request
    import httpcore

_IDLE_SECONDS = 15.0
_MOST_IDLE = 20


class Connections:
    """Idle connections that `backend` has opened. Safe for many threads.

    How many are open needs no bound of its own: a run sends one request at a
    time, and runs are bounded.
    """

    def __init__(self, backend: object) -> None:
        """`backend` opens them: httpcore's NetworkBackend, or as much of it as is needed."""
        self._backend = backend
        self._lock = threading.Lock()
        self._idle: list[httpcore.HTTPConnection] = []  # the one that was used last is the last

    @contextmanager
    def connection(self, origin: httpcore.Origin) -> Iterator[httpcore.HTTPConnection]:
        """A connection to `origin`, opened by its first request; nobody else has it meanwhile."""
        connection = self._take(origin) or self._new(origin)
        try:
            yield connection
        finally:
            self._put_back(connection)

    def _take(self, origin: httpcore.Origin) -> httpcore.HTTPConnection | None:
        with self._lock:
            ended = [each for each in self._idle if each.has_expired()]
            self._idle = [each for each in self._idle if each not in ended]
            found = next((each for each in reversed(self._idle) if each.can_handle_request(origin)), None)
            if found is not None:
                self._idle.remove(found)
        for each in ended:
            each.close()
        return found

    def _put_back(self, connection: httpcore.HTTPConnection) -> None:
        # One that could not be opened says that it is idle, and expired.
        if not connection.is_idle() or connection.has_expired() or _may_hold_more(connection):
            connection.close()
            return
        with self._lock:
            self._idle.append(connection)
            surplus = self._idle[:-_MOST_IDLE]
            del self._idle[:-_MOST_IDLE]
        for each in surplus:
            each.close()

    def _new(self, origin: httpcore.Origin) -> httpcore.HTTPConnection:
        import httpcore

        return httpcore.HTTPConnection(
            origin,
            ssl_context=tls_context("http") if origin.scheme == b"https" else None,
            keepalive_expiry=_IDLE_SECONDS,
            network_backend=cast(Any, self._backend),
        )


def _may_hold_more(connection: httpcore.HTTPConnection) -> bool:
    """Whether bytes may have come behind the answer: the next request would take them for its own."""
    try:
        # h11 tells it; httpcore above it has no word for it.
        return bool(cast(Any, connection)._connection._h11_state.trailing_data[0])
    except AttributeError:
        return True  # another httpcore than was known: what cannot be told is not kept
