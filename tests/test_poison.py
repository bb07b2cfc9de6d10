"""Events that kill the process which runs them: it dies once, and everything else is done."""

from __future__ import annotations

import ctypes
import os
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from uuid import UUID

from psycopg import Connection
from running import Running, add_hook, count, insert, start, state, wait_for

from hook_event_processor.event_handlers import EventHandlerRegistry, HandlerResult
from hook_event_processor.lua.door import Function
from hook_event_processor.lua.modules import crypto
from hook_event_processor.store.database import Database

# Pure Lua; the test's own crypto.sha256 crashes in C when it is asked for the digest of "poison".
DIGESTS = """return {execute = function(e) return true, require("crypto").sha256(e.data.word or "") end}"""
NOTHING = "return {execute = function() end}"
QUICK: dict[str, Any] = {"retry_delay": 0.05, "retry_max_delay": 0.05}


def crashing_digest(registry: EventHandlerRegistry) -> None:
    """A library function with a fault, as one in C may have: it reads where there is nothing."""
    functions = crypto.functions

    def faulty(services: Any) -> Any:
        sound = functions(services)["crypto.digest"]

        def digest(call: Any, algorithm: bytes, data: bytes) -> Any:
            if data == b"poison":
                ctypes.string_at(0)
            return sound.run(call, algorithm, data)

        return {**functions(services), "crypto.digest": Function(digest)}

    crypto.functions = faulty


def crashing_handler(registry: EventHandlerRegistry) -> None:
    def handle(event: dict[str, Any]) -> HandlerResult:
        how = event["payload"].get("how")
        if how == "signal":
            os.kill(os.getpid(), signal.SIGSEGV)
        elif how == "exit":
            os._exit(3)
        elif how == "memory":
            hoard = []
            while True:
                hoard.append(bytearray(16 * 1024 * 1024))
        return HandlerResult(True, "handled")

    registry.register("handled", "*", handle)


class Service:
    """A processor that is started again when it has died, as systemd does it; `deaths` holds its exit statuses."""

    def __init__(
        self, database: Database, folder: Path, register: Callable[[EventHandlerRegistry], None], **settings: Any
    ) -> None:
        self._start = lambda: start(database, folder, register, **{**QUICK, **settings})
        self.deaths: list[int] = []
        self.running = self._start()
        self.logs = [self.running]

    def see_to_it(self) -> None:
        """Start it again if it has died."""
        pid, status = os.waitpid(self.running.pid, os.WNOHANG)
        if pid:
            self.running.status = os.waitstatus_to_exitcode(status)
            self.again()

    def again(self) -> None:
        assert self.running.status is not None
        self.deaths.append(self.running.status)
        self.running = self._start()
        self.logs.append(self.running)

    def kill(self) -> None:
        """As the OOM killer would."""
        self.running.kill()
        self.again()

    def until(self, condition: Callable[[], bool], seconds: float = 20) -> None:
        def met() -> bool:
            self.see_to_it()
            return condition()

        wait_for(met, seconds)


@contextmanager
def service(
    database: Database, folder: Path, register: Callable[[EventHandlerRegistry], None], **settings: Any
) -> Iterator[Service]:
    one = Service(database, folder, register, **settings)
    try:
        yield one
        one.running.signal(signal.SIGTERM)
        assert one.running.wait(30) == 0
    except BaseException:
        for running in one.logs:
            print("\n".join([*running.log[:5], "...", *running.log[-40:]]))
        raise
    finally:
        one.running.kill()


def settled(connection: Connection) -> bool:
    """Whether every event is done or given up."""
    return count(connection, "NOT processed AND failed_at IS NULL") == 0


def runs(connection: Connection, event_id: UUID) -> list[tuple[Any, ...]]:
    return connection.execute(
        "SELECT attempt, result, error FROM event_hook_executions WHERE event_id = %s ORDER BY id", (event_id,)
    ).fetchall()


def errors(connection: Connection, event_id: UUID) -> list[str]:
    row = connection.execute("SELECT processing_errors FROM hook_events WHERE id = %s", (event_id,)).fetchone()
    assert row is not None
    return list(row[0] or [])


def completed_once(connection: Connection, event_type: str) -> int:
    """How many events of a type are completed, each with one success for each of its hooks."""
    source, _, action = event_type.partition(".")
    row = connection.execute(
        """
        SELECT count(*) FROM hook_events e WHERE source = %s AND action = %s AND processed AND 1 = ALL (
            SELECT count(*) FROM event_hook_executions WHERE event_id = e.id AND success GROUP BY hook_id)
        """,
        (source, action),
    ).fetchone()
    assert row is not None
    return int(row[0])


def test_a_poison_among_a_thousand_ends_the_process_once_and_is_given_up_alone(
    connection: Connection, database: Database, tmp_path: Path
) -> None:
    """The others complete, each once; the poison's errors and runs say what happened."""
    add_hook(connection, "digests", "digest.*", DIGESTS)
    insert(connection, "digest.good", '{"word": "water"}', count=600)
    [poison] = insert(connection, "digest.bad", '{"word": "poison"}')
    insert(connection, "digest.good", '{"word": "water"}', count=400)
    with service(database, tmp_path, crashing_digest) as one:
        one.until(lambda: settled(connection))
        assert one.deaths == [-signal.SIGSEGV]
        assert completed_once(connection, "digest.good") == 1000
        assert state(connection, poison) == "failed"
        [first, *more] = errors(connection, poison)
        assert first == "digests: the process died while this ran"
        assert more == ["digests: the process died while this ran: SIGSEGV"] * 2
        assert [(attempt, result) for attempt, result, _ in runs(connection, poison)] == [(2, "died"), (3, "died")]
        assert "SIGSEGV" in runs(connection, poison)[0][2]
        assert (
            count(connection, "source = 'event' AND action = 'failed' AND payload ->> 'event_id' = %s", str(poison))
            == 1
        )
