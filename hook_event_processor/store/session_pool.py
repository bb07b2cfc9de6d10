"""A few sessions that many threads share, each statement with an end in time."""

from __future__ import annotations

import logging
import select
import threading
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from time import perf_counter
from typing import Any, TypeVar

from psycopg import Connection, OperationalError, errors
from psycopg_pool import ConnectionPool, PoolClosed, PoolTimeout, TooManyRequests

from hook_event_processor.errors import StoreUnavailable
from hook_event_processor.store.database import Database, one_line

# A statement that the server would go on with for longer than its caller has is ended there, too.
_LIMITS_MS = (5000, 2000, 1000, 500, 200, 100, 50)
_IDLE_SECONDS = 60.0  # that a session without work is kept
_MAX_WAITING = 1000  # threads

_Result = TypeVar("_Result")


class _Session(Connection[Any]):
    """A connection that gives up waiting for the server at `ends_at`, by time.perf_counter()."""

    ends_at: float | None = None

    def wait(self, gen: Generator[Any, Any, _Result], *args: Any, **options: Any) -> _Result:
        if self.ends_at is None:
            return super().wait(gen, *args, **options)
        try:
            return super().wait(_until(gen, self.ends_at), *args, **options)
        except _NoAnswer:
            self.close()  # it is in the middle of a statement
            raise


class _NoAnswer(OperationalError):
    """The time is over, and the server has not even refused."""


def _until(gen: Generator[Any, Any, _Result], ends_at: float) -> Generator[Any, Any, _Result]:
    """The steps of `gen`, as long as there is time: a server that is cut off or frozen answers nothing."""
    try:
        wanted = next(gen)
        while True:
            ready = yield wanted
            if not ready and perf_counter() >= ends_at:
                raise _NoAnswer
            wanted = gen.send(ready)
    except StopIteration as end:
        result: _Result = end.value
        return result


class SessionPool:
    """Up to `size` sessions, opened when they are first needed and closed when nothing uses them.

    Their application_name says the role. May be used by any thread.
    """

    def __init__(self, database: Database, role: str, size: int) -> None:
        self._database = database
        self._role = role
        self._size = size
        self._lock = threading.Lock()
        self._pool: ConnectionPool[_Session] | None = None

    @contextmanager
    def session(self, seconds: float) -> Iterator[Connection[Any]]:
        """A session in a transaction, for work that ends in so many seconds, waiting for a free session included.

        What is done is committed at the end, or undone when something is raised.
        Raises StoreUnavailable, without the password, when the database cannot
        be reached, is lost or does not answer in time.
        """
        ends_at = perf_counter() + seconds
        try:
            with self._opened().connection(timeout=max(seconds, 0.001)) as session, _translated(session):
                try:
                    _begin(session, ends_at)
                    yield session
                    session.commit()
                finally:
                    if not session.closed:
                        session.rollback()
                    session.ends_at = None
        except (PoolTimeout, PoolClosed, TooManyRequests):
            raise StoreUnavailable("the database cannot be reached in time") from None

    def close(self) -> None:
        """Close all sessions; the next use opens them again."""
        with self._lock:
            pool, self._pool = self._pool, None
        if pool is not None:
            pool.close(timeout=1.0)

    def _opened(self) -> ConnectionPool[_Session]:
        with self._lock:
            if self._pool is None:
                # It reports each of its own steps; whoever asked is told what matters.
                logging.getLogger("psycopg.pool").setLevel(logging.ERROR)
                self._pool = self._make()
            return self._pool

    def _make(self) -> ConnectionPool[_Session]:
        return ConnectionPool(
            self._database.session_conninfo(self._role),
            connection_class=_Session,
            kwargs={"autocommit": True, "prepare_threshold": None},
            configure=self._database.set_up,
            check=_check,
            min_size=0,
            max_size=self._size,
            max_waiting=_MAX_WAITING,
            max_idle=_IDLE_SECONDS,
            reconnect_timeout=5.0,
            num_workers=2,
            open=True,
        )


@contextmanager
def _translated(session: _Session) -> Iterator[None]:
    try:
        yield
    except (_NoAnswer, errors.QueryCanceled):
        raise StoreUnavailable("the database did not answer in time") from None
    except OperationalError as fault:
        what = "was lost" if session.closed else "refused"
        raise StoreUnavailable(f"the database {what}: {one_line(fault)}") from None


def _check(session: _Session) -> None:
    """Close a session that the server has ended, and raise: it has something to say although nothing was asked."""
    poll = select.poll()
    poll.register(session.fileno(), select.POLLIN | select.POLLHUP | select.POLLERR)
    if poll.poll(0):
        session.close()
        raise OperationalError("the server has ended the session")


def _begin(session: _Session, ends_at: float) -> None:
    left_ms = (ends_at - perf_counter()) * 1000
    limit = next((limit for limit in _LIMITS_MS if limit <= left_ms), _LIMITS_MS[-1])
    session.ends_at = ends_at
    # Of the transaction, not of the session: a pooler would lend it on.
    session.execute(f"BEGIN; SET LOCAL statement_timeout = {limit}")
