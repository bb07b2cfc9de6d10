"""Events that kill the process which runs them: it dies once, and everything else is done."""

from __future__ import annotations

import ctypes
import faulthandler
import os
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from uuid import UUID

from commands import Hep
from psycopg import Connection
from running import add_hook, count, doomed, insert, running, start, state
from waiting import wait_for

from hook_event_processor.event_handlers import EventHandlerRegistry, HandlerResult
from hook_event_processor.lua.door import Function
from hook_event_processor.lua.modules import crypto
from hook_event_processor.policy import Grants, Policy
from hook_event_processor.processor.quarantine.keeper import Keeper
from hook_event_processor.store.database import Database

# Pure Lua; the test's own crypto.sha256 crashes in C when it is asked for the digest of "poison".
DIGESTS = """return {execute = function(e) return true, require("crypto").sha256(e.data.word or "") end}"""
SHOOTS = """return {execute = function(e)
  local done = require("exec").run({"sh", "-c", e.data.line}, {timeout = 3})
  return done.exit_code == 0, "shot"
end}"""
NOTHING = "return {execute = function() end}"
QUICK: dict[str, Any] = {"retry_delay": 0.05, "retry_max_delay": 0.05}


def crashing_digest(registry: EventHandlerRegistry) -> None:
    """A library function with a fault, as one in C may have: it reads where there is nothing."""
    faulthandler.disable()  # pytest's; these deaths are nothing to report
    functions = crypto.functions

    def faulty(services: Any) -> Any:
        sound = functions(services)["crypto.digest"]

        def digest(call: Any, algorithm: bytes, data: bytes) -> Any:
            if data == b"poison":
                ctypes.string_at(0)
            return sound.run(call, algorithm, data)

        return {**functions(services), "crypto.digest": Function(digest)}

    crypto.functions = faulty


def sleeping_handler(folder: Path) -> Callable[[EventHandlerRegistry], None]:
    """A handler that sleeps for as long as the payload says, and writes into `folder` in which process it did.

    `seconds`, and `again` when it has begun with the event before; `folder` has the events with which it has.
    """

    def register(registry: EventHandlerRegistry) -> None:
        def handle(event: dict[str, Any]) -> HandlerResult:
            began, given = Path(folder, f"{event['id']}.began"), event["payload"]
            seconds = given.get("again", given["seconds"]) if began.exists() else given["seconds"]
            began.touch()
            Path(folder, f"{os.getpid()}.process").touch()
            time.sleep(seconds)
            return HandlerResult(True, "slept")

        registry.register("sleep", "*", handle)

    return register


def silent(_: EventHandlerRegistry) -> None:
    faulthandler.disable()


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
        for process in one.logs:
            print("\n".join([*process.log[:5], "...", *process.log[-40:]]))
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


def suspects(connection: Connection) -> list[UUID]:
    return [row[0] for row in connection.execute("SELECT event_id FROM hook_suspects").fetchall()]


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
    connection: Connection, database: Database, tmp_path: Path, hep: Hep
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
        letters = "source = 'event' AND action = 'failed' AND payload ->> 'event_id' = %s"
        assert count(connection, letters, str(poison)) == 1
        assert suspects(connection) == [poison]
        assert "it kills what runs it: digests has ended 2 processes of its own" in " ".join(
            hep("events", "explain", str(poison)).split()
        )
        # Brought back by hand it still runs apart.
        connection.execute("UPDATE hook_events SET retry_count = 0, processing_errors = NULL WHERE id = %s", (poison,))
        one.until(lambda: count(connection, letters, str(poison)) == 2)
        assert len(one.deaths) == 1


def test_two_poisons_in_one_claim_end_the_process_once_each_at_most(
    connection: Connection, database: Database, tmp_path: Path
) -> None:
    add_hook(connection, "digests", "digest.*", DIGESTS)
    add_hook(connection, "other", "other.*", NOTHING)
    with connection.transaction():
        insert(connection, "digest.good", '{"word": "water"}', count=20)
        poisons = insert(connection, "digest.bad", '{"word": "poison"}', count=2)
        insert(connection, "digest.good", '{"word": "water"}', count=200)
        insert(connection, "other.one", count=200)
    with service(database, tmp_path, crashing_digest) as one:
        one.until(lambda: settled(connection))
        assert 1 <= len(one.deaths) <= 2
        assert [state(connection, poison) for poison in poisons] == ["failed", "failed"]
        assert completed_once(connection, "digest.good") == 220
        assert completed_once(connection, "other.one") == 200


def test_a_hook_that_kills_with_every_event_runs_apart_as_a_whole(
    connection: Connection, database: Database, tmp_path: Path, hep: Hep
) -> None:
    """It ends the service once or twice, not once an event; other hooks go on, and so does it when it is mended."""
    hook_id = add_hook(connection, "digests", "digest.*", DIGESTS)
    add_hook(connection, "other", "other.*", NOTHING)
    insert(connection, "digest.bad", '{"word": "poison"}', count=12)
    with service(database, tmp_path, crashing_digest) as one:
        one.until(lambda: settled(connection))
        before = len(one.deaths)
        assert before <= 2
        insert(connection, "digest.bad", '{"word": "poison"}', count=3)
        insert(connection, "digest.good", '{"word": "water"}', count=40)
        insert(connection, "other.one", count=100)
        one.until(lambda: settled(connection))
        assert len(one.deaths) == before
        assert count(connection, "failed_at IS NOT NULL") == 15
        assert completed_once(connection, "digest.good") == 40
        assert completed_once(connection, "other.one") == 100
        assert "digests" in hep("status")
        assert "apart" in hep("hook", "list")
        connection.execute("UPDATE hooks SET version = 2 WHERE id = %s", (hook_id,))
        assert "apart" not in hep("hook", "list")


def test_an_effectful_poison_ends_the_process_once(connection: Connection, database: Database, tmp_path: Path) -> None:
    """A program that a hook starts kills its parent: the service, and then the cell."""
    add_hook(connection, "shoots", "shoot.*", SHOOTS)
    insert(connection, "shoot.nothing", '{"line": "exit 0"}', count=15)
    [poison] = insert(connection, "shoot.parent", '{"line": "kill -SEGV $PPID; sleep 5"}')
    insert(connection, "shoot.nothing", '{"line": "exit 0"}', count=15)
    granted = Policy(Grants(exec=True))
    with service(database, tmp_path, silent, hook_exec=True, policy=granted) as one:
        one.until(lambda: settled(connection))
        assert one.deaths == [-signal.SIGSEGV]
        assert completed_once(connection, "shoot.nothing") == 30
        assert [result for _, result, _ in runs(connection, poison)] == ["died", "died"]


def test_what_ran_as_a_healthy_processor_was_killed_completes_soon(
    connection: Connection, database: Database, tmp_path: Path
) -> None:
    """Suspicion costs it nothing but an entry among its errors, whatever MAX_RETRY_COUNT says."""
    events = insert(connection, "sleep.well", '{"seconds": 5, "again": 0.4}', count=6)
    with service(database, tmp_path, sleeping_handler(tmp_path), max_retry_count=1) as one:
        one.until(lambda: len(list(tmp_path.glob("*.began"))) == 6)
        one.kill()
        one.until(lambda: settled(connection), 8)
        assert completed_once(connection, "sleep.well") == 6
        assert [errors(connection, event) for event in events] == [["handle: the process died while this ran"]] * 6
        assert suspects(connection) == []


def test_a_suspect_survives_a_second_death_and_its_process_does_not(
    connection: Connection, database: Database, tmp_path: Path
) -> None:
    """Killed again while the suspect is in its cell, the service counts that attempt, too; the cell goes with it."""
    [event] = insert(connection, "sleep.long", '{"seconds": 3}')
    with service(database, tmp_path, sleeping_handler(tmp_path)) as one:
        one.until(lambda: len(list(tmp_path.glob("*.process"))) == 1)
        one.kill()
        one.until(lambda: len(list(tmp_path.glob("*.process"))) == 2)
        [cell] = [int(path.stem) for path in tmp_path.glob("*.process") if int(path.stem) != one.logs[0].pid]
        assert cell != one.running.pid
        one.kill()
        wait_for(lambda: not Path(f"/proc/{cell}").exists(), 5)
        one.until(lambda: settled(connection))
        assert completed_once(connection, "sleep.long") == 1
        assert errors(connection, event) == ["handle: the process died while this ran"] * 2
        assert suspects(connection) == []


def test_a_suspect_that_somebody_has_locked_is_taken_over_when_it_is_free(
    connection: Connection, database: Database, tmp_path: Path
) -> None:
    """Meanwhile everything else goes on."""
    add_hook(connection, "digests", "digest.*", DIGESTS)
    [poison] = insert(connection, "digest.bad", '{"word": "poison"}')
    with doomed(database, tmp_path, crashing_digest) as first:
        assert first.wait(10) == -signal.SIGSEGV
    with database.session("psql") as other, other.transaction():
        other.execute("SET idle_in_transaction_session_timeout = 0")
        other.execute("SELECT FROM hook_events WHERE id = %s FOR UPDATE", (poison,))
        with service(database, tmp_path, crashing_digest) as one:
            insert(connection, "digest.good", '{"word": "water"}', count=10)
            one.until(lambda: completed_once(connection, "digest.good") == 10)
            assert suspects(connection) == []
            other.execute("COMMIT")
            other.execute("BEGIN")
            one.until(lambda: settled(connection))
            assert state(connection, poison) == "failed"
            assert len(one.deaths) <= 1


def suspect(connection: Connection, hook_id: int, event_type: str, payload: str = "{}") -> UUID:
    """An event that was running as some processor died."""
    with connection.transaction():
        [event] = insert(connection, event_type, payload, available_at="now")
        connection.execute(
            "INSERT INTO hook_suspects (event_id, hook_id, version, node) VALUES (%s, %s, 1, 'gone:1')",
            (event, hook_id),
        )
    return event


def test_a_run_does_not_pay_for_the_start_of_its_cell(
    connection: Connection, database: Database, tmp_path: Path
) -> None:
    def start_slowly(_: EventHandlerRegistry) -> None:
        cell = Keeper.cell

        def slow(self: Keeper) -> Any:
            time.sleep(4.0)
            return cell(self)

        Keeper.cell = slow  # type: ignore[method-assign]

    naps = 'return {execute = function() require("time").sleep(0.1) end}'
    event = suspect(connection, add_hook(connection, "naps", "nap.*", naps, timeout_seconds=1), "nap.now")
    with running(database, tmp_path, register=start_slowly):
        wait_for(lambda: state(connection, event) == "completed", 15)
    assert runs(connection, event) == [(1, "continue", None)]


def test_a_suspect_for_which_no_cell_could_be_had_stays_one(
    connection: Connection, database: Database, tmp_path: Path
) -> None:
    """Among others it would end the processor, which goes on here."""
    full = tmp_path / "full"
    full.touch()

    def crash_and_refuse(registry: EventHandlerRegistry) -> None:
        crashing_digest(registry)
        cell = Keeper.cell

        def refused(self: Keeper) -> Any:
            if full.exists():
                raise BlockingIOError(11, "Resource temporarily unavailable")
            return cell(self)

        Keeper.cell = refused  # type: ignore[method-assign]

    poison = suspect(
        connection, add_hook(connection, "digests", "digest.*", DIGESTS), "digest.bad", '{"word": "poison"}'
    )
    with running(database, tmp_path, register=crash_and_refuse, retry_delay=1.0, retry_max_delay=1.0) as process:
        wait_for(lambda: bool(runs(connection, poison)), 10)
        assert process.said("no cell could be had to run this in: [Errno 11]")
        assert suspects(connection) == [poison]
        full.unlink()
        wait_for(lambda: state(connection, poison) == "failed", 15)
    assert [result for _, result, _ in runs(connection, poison)][-2:] == ["died", "died"]


def test_a_lease_that_ran_out_without_a_word_is_a_suspicion_on_every_host(
    connection: Connection, database: Database, tmp_path: Path
) -> None:
    """Another processor, which knows nothing of the first one's files, does not die of what that one died of."""
    add_hook(connection, "shoots", "shoot.*", SHOOTS)
    there, here = tmp_path / "there", tmp_path / "here"
    there.mkdir()
    here.mkdir()
    granted: dict[str, Any] = {"hook_exec": True, "policy": Policy(Grants(exec=True))}
    [poison] = insert(connection, "shoot.parent", '{"line": "kill -SEGV $PPID; sleep 5"}')
    with doomed(database, there, silent, **granted) as first:
        assert first.wait(10) == -signal.SIGSEGV
    assert count(connection, "lease_token IS NOT NULL") == 1
    # Instead of waiting for the end of the lease.
    connection.execute("UPDATE hook_events SET available_at = now() WHERE lease_token IS NOT NULL")
    with service(database, here, silent, **granted) as one:
        one.until(lambda: settled(connection))
        assert one.deaths == []
        assert state(connection, poison) == "failed"
        assert [result for _, result, _ in runs(connection, poison)] == ["died"] * 3
