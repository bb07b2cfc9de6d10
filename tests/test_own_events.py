"""What the product tells of its own doings: in the same transaction, once, without going in circles, switchable."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import pytest
from commands import Hep
from factories import ago
from psycopg import Connection, DataError
from psycopg.types.json import Jsonb
from running import add_hook, all_processed, count, insert, running
from waiting import wait_for

from hook_event_processor import catalog
from hook_event_processor.event import MAX_DEPTH, OWN_TYPES, Outcome
from hook_event_processor.event_handlers import EventHandlerRegistry
from hook_event_processor.policy import Grants, Policy
from hook_event_processor.processor import fleet
from hook_event_processor.processor.attempt import Attempts
from hook_event_processor.processor.lease_recording import LeaseRecorder
from hook_event_processor.processor.own_events import OwnEvents, _id_of
from hook_event_processor.registry import Hook
from hook_event_processor.retry import RetryPolicy
from hook_event_processor.run import ChunkResult
from hook_event_processor.settings import Settings
from hook_event_processor.store import hook_changes, key_ring, own_events, processors, secrets
from hook_event_processor.store.claim import Row
from hook_event_processor.store.database import Database
from hook_event_processor.store.own_events import CAUSE, OwnEvent, cause_of_row, cause_text

HOOK = 'return { name = "greet", event_type = "greeting.sent", execute = function() return true end }'
READS_SECRET = (
    'local secret = require("secret")\n'
    'return { execute = function() local value, reason = secret.get("token")\n'
    "if not value then error(reason) end return true end }"
)


def told(connection: Connection, event_type: str = "") -> list[tuple[str, Mapping[str, Any], Mapping[str, Any]]]:
    """Type, payload and metadata of own events, in their order."""
    rows = connection.execute(
        "SELECT source || '.' || action, payload, metadata FROM hook_events ORDER BY seq"
    ).fetchall()
    return [row for row in rows if row[0] == event_type or (not event_type and row[0] in OWN_TYPES)]


def types_told(connection: Connection) -> list[str]:
    return [row[0] for row in told(connection)]


@pytest.fixture
def greet(tmp_path: Path) -> Path:
    file = tmp_path / "greet.lua"
    file.write_text(HOOK)
    return file


def test_every_change_of_a_hook_is_told_once(hep: Hep, connection: Connection, greet: Path) -> None:
    hep("hook", "add", str(greet))
    hep("hook", "add", str(greet))
    hep("hook", "add", str(greet), "--stack", "prod", "--disabled")
    hep("hook", "enable", "greet")
    hep("hook", "enable", "greet")
    hep("hook", "disable", "greet")
    hep("hook", "remove", "greet")
    words = ("added", "updated", "disabled", "enabled", "disabled", "removed")
    assert types_told(connection) == [f"hook.{word}" for word in words]
    _, payload, metadata = told(connection)[0]
    assert {**payload, "added_by": ""} == {
        "hook_name": "greet",
        "event_types": ["greeting.sent"],
        "version": 1,
        "added_by": "",
    }
    assert payload["added_by"]
    assert metadata["origin"]["component"] == "hep"
    assert told(connection)[1][2]["stack"] == "prod"


def test_what_is_rolled_back_is_not_told(hep: Hep, connection: Connection, greet: Path) -> None:
    hep("hook", "apply", str(greet.parent), "--dry-run")
    assert types_told(connection) == []
    hep("hook", "apply", str(greet.parent))
    assert types_told(connection) == ["hook.added"]


def test_a_session_that_was_not_attached_tells_nothing(connection: Connection) -> None:
    add_hook(connection, "greet", "greeting.sent", HOOK)
    hook_changes.remove(connection, "greet")
    assert types_told(connection) == []


def test_own_events_can_be_switched_off(
    hep: Hep, connection: Connection, greet: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OWN_EVENTS", "off")
    hep("hook", "add", str(greet))
    hep("watcher", "create", "--type", "cpu")
    assert types_told(connection) == []


def test_changes_of_secrets_are_told_without_their_value(
    hep: Hep, connection: Connection, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("HEP_HOME", str(tmp_path))
    hep("secret", "set", "token", stdin="hunter-2-hunter")
    hep("secret", "set", "token", stdin="hunter-3-hunter")
    hep("secret", "remove", "token")
    assert types_told(connection) == ["secret.created", "secret.updated", "secret.deleted"]
    assert [payload["secret_name"] for _, payload, _ in told(connection)] == ["token"] * 3
    assert "hunter" not in json.dumps(told(connection))


def test_changes_of_state_are_told_with_short_values_alone(hep: Hep, connection: Connection) -> None:
    hep("state", "set", "limit", "5", "--shared", "team")
    hep("state", "set", "limit", '{"max": 123456789012345678901234}', "--shared", "team")
    hep("state", "set", "long", json.dumps("x" * 10_000), "--shared", "team")
    hep("state", "delete", "limit", "--shared", "team")
    created, updated, long, deleted = told(connection)
    assert (created[0], created[1]["value"], created[1]["namespace"]) == ("state.created", 5, "shared/team")
    assert (updated[0], updated[1]["old_value"]) == ("state.updated", 5)
    assert updated[1]["new_value"] == {"max": 123456789012345678901234}
    assert (long[0], "value" in long[1]) == ("state.created", False)
    assert (deleted[0], deleted[1]["state_key"]) == ("state.deleted", "limit")


def test_changes_of_watchers_are_told(hep: Hep, connection: Connection) -> None:
    created = hep.document("watcher", "create", "web-1", "--type", "cpu", "--name", "busy", "--format", "json")
    hep("watcher", "disable", "busy")
    hep("watcher", "enable", "busy")
    hep("watcher", "delete", "busy")
    assert types_told(connection) == [f"watcher.{word}" for word in ("created", "disabled", "enabled", "deleted")]
    payload = told(connection)[0][1]
    assert (payload["watcher_id"], payload["watcher_type"], payload["host"]) == (created["id"], "cpu", "web-1")


def test_every_own_type_is_in_the_catalog_with_what_is_told(hep: Hep, connection: Connection, greet: Path) -> None:
    by_name = {known.name: known for category in catalog.categories() for known in category.types}
    assert by_name.keys() >= OWN_TYPES
    hep("hook", "add", str(greet))
    hep("watcher", "create", "--type", "cpu")
    for event_type, payload, _ in told(connection):
        assert payload.keys() <= {field.name for field in by_name[event_type].fields}


def test_records_that_nobody_handles_are_done_without_a_run(
    hep: Hep, database: Database, connection: Connection, greet: Path, tmp_path: Path
) -> None:
    hep("hook", "add", str(greet))
    with running(database, tmp_path, lanes=1):
        wait_for(lambda: all_processed(connection), 5)
    assert connection.execute("SELECT count(*) FROM event_hook_executions").fetchone() == (0,)


def a_row(event_type: str, **metadata: Any) -> Row:
    source, _, action = event_type.partition(".")
    text = json.dumps(metadata).encode()
    return Row(uuid4().bytes, source.encode(), action.encode(), b"", b"", b"", b"{}", text, 1, 5, 1, b"", b"")


def test_a_command_that_a_hook_runs_tells_what_it_comes_of(
    hep: Hep, connection: Connection, greet: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    row = a_row("deploy.started", depth=3, correlation_id="c-1")
    monkeypatch.setenv(CAUSE, cause_text(cause_of_row(row, "rollout")))
    hep("hook", "add", str(greet))
    [(_, payload, metadata)] = told(connection)
    assert payload["added_by"] == "hook rollout"
    assert (metadata["correlation_id"], metadata["causation_id"]) == ("c-1", str(UUID(bytes=row.id)))
    assert metadata["depth"] == 4


@pytest.mark.parametrize("row", [a_row("hook.added"), a_row("deploy.started", depth=MAX_DEPTH)])
def test_an_own_event_never_comes_of_one_of_its_type_nor_of_one_too_deep(
    hep: Hep, connection: Connection, greet: Path, monkeypatch: pytest.MonkeyPatch, row: Row
) -> None:
    monkeypatch.setenv(CAUSE, cause_text(cause_of_row(row, "again")))
    hep("hook", "add", str(greet))
    assert types_told(connection) == []
    assert hep.document("hook", "get", "greet", "--format", "json")["version"] == 1


@pytest.mark.parametrize("text", ["", "{", "[]", '{"event_id": 5}', '{"event_id": "x", "type": 1}'])
def test_somebody_elses_words_are_no_cause(monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    monkeypatch.setenv(CAUSE, text)
    assert own_events.cause_of_environment() is None


def test_an_event_that_cannot_be_stored_keeps_nothing_from_being_done(connection: Connection) -> None:
    own_events.attach(connection, Settings(Path(), None, max_payload_size=10), "hep")
    assert not own_events.tell(connection, OwnEvent("hook.added", {"hook_name": "x" * 100}))
    assert not own_events.tell(connection, OwnEvent("hook.added", {"a": "\0"}))


def stored_secret(connection: Connection, home: Path) -> None:
    secrets.put(connection, lambda: key_ring.create(home / "secret.key"), "token", b"hunter-2-hunter")


def test_a_secret_that_a_hook_reads_is_told_once_a_minute(
    database: Database, connection: Connection, tmp_path: Path
) -> None:
    stored_secret(connection, tmp_path)
    add_hook(connection, "reader", "greeting.*", READS_SECRET, modules=["secret"])
    add_hook(connection, "again", "secret.accessed", READS_SECRET, modules=["secret"])
    [event] = insert(connection, "greeting.sent")
    granted = grants(tmp_path)
    with running(database, tmp_path, lanes=1, **granted):
        wait_for(lambda: len(told(connection, "secret.accessed")) == 1 and all_processed(connection), 10)
        insert(connection, "greeting.sent", count=20)
        wait_for(lambda: all_processed(connection), 10)
    runs = connection.execute(
        "SELECT hook_name, count(*), bool_and(success) FROM event_hook_executions GROUP BY 1 ORDER BY 1"
    ).fetchall()
    # A minute may end meanwhile.
    accesses = told(connection, "secret.accessed")
    assert 1 <= len(accesses) <= 2
    assert runs == [("again", len(accesses), True), ("reader", 21, True)]
    _, payload, metadata = accesses[0]
    assert (payload["secret_name"], payload["accessed_by"]) == ("token", "hook reader")
    assert (metadata["causation_id"], metadata["depth"]) == (str(event), 1)
    assert metadata["origin"]["component"] == "processor"
    assert "hunter" not in json.dumps(accesses)


def grants(home: Path) -> dict[str, Any]:
    """Settings under which hooks read every secret."""
    return {
        "hook_secret_key_file": home / "secret.key",
        "hook_secrets": ("*",),
        "policy": Policy(Grants(False, ("*",), (), (), (), ("*",))),
    }


def a_hook(name: str, number: int = 1) -> Hook:
    return Hook(number, name, None)


def access_ids() -> set[str | None]:
    """The ids that two processors give to what they tell of one access."""
    row, hook = a_row("greeting.sent"), a_hook("reader")
    return {child.id for _ in range(2) for _, child in OwnEvents({}).accessed([row], hook, {"token"})}


def test_two_processors_tell_of_one_access_by_one_id() -> None:
    # A minute may end meanwhile, but not twice.
    ids = min(access_ids(), access_ids(), key=len)
    assert [UUID(event_id).version for event_id in ids if event_id] == [8]


def test_an_access_is_told_again_with_the_event_that_told_it_and_with_no_other() -> None:
    """Its transaction may have come to nothing; if it did not, the id is there already."""

    def ids() -> tuple[set[str | None], ...]:
        own, hook, row, other = OwnEvents({}), a_hook("reader"), a_row("greeting.sent"), a_row("greeting.sent")
        told = [own.accessed(rows, hook, {"token"}) for rows in ([row], [other], [other, row])]
        return tuple({child.id for _, child in each} for each in told)

    # A minute may end meanwhile, but not twice.
    first, without, again = min(ids(), ids(), key=lambda told: len(set().union(*told)))
    assert first == again
    assert (len(first), without) == (1, set())


def test_an_access_is_told_though_the_first_recording_of_its_run_came_to_nothing(
    database: Database, connection: Connection, tmp_path: Path
) -> None:
    def refuse_once(_: EventHandlerRegistry) -> None:
        write, refused = LeaseRecorder._write, []

        def written(self: LeaseRecorder, *arguments: Any, **options: Any) -> None:
            write(self, *arguments, **options)
            if not refused:
                refused.append(True)
                raise DataError("not this one")

        LeaseRecorder._write = written  # type: ignore[method-assign]

    stored_secret(connection, tmp_path)
    text = READS_SECRET.replace("execute = function()", 'execute = function() require("time").sleep(0.01)')
    add_hook(connection, "reader", "greeting.*", text, modules=["secret", "time"])
    with running(database, tmp_path, register=refuse_once, **grants(tmp_path)) as process:
        insert(connection, "greeting.sent")
        wait_for(lambda: all_processed(connection), 10)
        assert process.said("could not be recorded at once")
    assert types_told(connection) == ["secret.accessed"]


@pytest.mark.parametrize("before", ["", 'require("time").sleep(0.01)'], ids=["pure", "leased"])
def test_an_access_that_an_open_transaction_tells_of_holds_up_nothing_else(
    before: str, database: Database, connection: Connection, tmp_path: Path
) -> None:
    stored_secret(connection, tmp_path)
    text = READS_SECRET.replace("execute = function()", f"execute = function() {before}")
    add_hook(connection, "reader", "greeting.*", text, modules=["secret", "time"])
    minute = int(datetime.now(UTC).timestamp()) // 60
    ids = [_id_of(f"secret.accessed reader token {each}") for each in (minute, minute + 1)]
    with running(database, tmp_path, lanes=1, **grants(tmp_path)) as process, database.session("other") as other:
        other.execute("SET idle_in_transaction_session_timeout = 0")
        with other.transaction():
            other.execute(
                "INSERT INTO hook_events (id, source, action) SELECT unnest(%s), 'secret', 'accessed'", (ids,)
            )
            insert(connection, "greeting.sent", count=20)
            # Sooner than whoever waits for the lock gives up; the access is the affair of one of them, or of two.
            wait_for(lambda: count(connection, "source = 'greeting' AND processed") >= 18, 4)
            insert(connection, "greeting.again", count=20)
            wait_for(lambda: count(connection, "source = 'greeting' AND processed") >= 38, 4)
        wait_for(lambda: all_processed(connection), 10)
        assert not process.said("trying again")
    assert types_told(connection) == ["secret.accessed"] * 2


def test_of_events_that_ran_together_an_access_is_nobodys_child_but_as_deep() -> None:
    rows = [a_row("greeting.sent", depth=2), a_row("greeting.sent", depth=5), a_row("secret.accessed", depth=9)]
    [(event_id, child)] = OwnEvents({}).accessed(rows, a_hook("reader"), {"token"})
    metadata = json.loads(child.metadata)
    assert event_id == rows[1].id
    assert (metadata["depth"], metadata["correlation_id"]) == (6, child.id)
    assert "causation_id" not in metadata


def test_a_thread_that_is_given_up_is_told() -> None:
    attempts = Attempts(RetryPolicy(3, 1.0, 10.0), {}, OwnEvents({"host": "web-1"}))
    row, again = a_row("greeting.sent", correlation_id="c-1"), a_row("system.error")
    stuck = ChunkResult.refused(Outcome.STUCK, "stuck: the run did not end", 1)
    [(event_id, child)] = attempts.own_events([row], a_hook("endless"), stuck)
    payload = json.loads(child.payload)
    assert (event_id, child.source, child.action) == (row.id, "system", "error")
    assert payload["error"] == "endless: stuck: the run did not end"
    assert (payload["component"], payload["severity"]) == ("processor", "error")
    assert json.loads(child.metadata)["correlation_id"] == "c-1"
    assert attempts.own_events([again], a_hook("endless"), stuck) == []
    assert Attempts(RetryPolicy(3, 1.0, 10.0), {}).own_events([row], a_hook("endless"), stuck) == []


def add_processor(connection: Connection, node: str, heard: float, started: float = 100.0, **columns: Any) -> None:
    values = {
        "node": node,
        "host": "web-1",
        "pid": 1,
        "version": "1",
        "state": "running",
        "wake": "poll",
        "workers": 1,
        "started_at": ago(seconds=started),
        "heartbeat_at": ago(seconds=heard),
        **columns,
    }
    marks = ", ".join(["%s"] * len(values))
    connection.execute(f"INSERT INTO hook_processors ({', '.join(values)}) VALUES ({marks})", list(values.values()))


def health(connection: Connection) -> list[tuple[str, str]]:
    fleet.tell(connection)
    rows = connection.execute(
        "SELECT action, payload->>'processor' FROM hook_events WHERE source = 'health' ORDER BY seq"
    ).fetchall()
    connection.execute("DELETE FROM hook_events")
    return [(row[0], row[1]) for row in rows]


def test_a_silent_processor_fails_its_check_once_and_recovers_once(connection: Connection) -> None:
    own_events.attach(connection, Settings(Path(), None), "processor")
    add_processor(connection, "web-1:1", heard=3)
    assert health(connection) == []
    connection.execute("UPDATE hook_processors SET heartbeat_at = %s", (ago(seconds=20),))
    assert health(connection) == [("check_failed", "web-1:1")]
    assert health(connection) == []
    connection.execute("UPDATE hook_processors SET heartbeat_at = clock_timestamp()")
    assert health(connection) == [("recovered", "web-1:1")]
    assert health(connection) == []


def test_a_processor_recovers_by_one_that_is_started_in_its_place(connection: Connection) -> None:
    own_events.attach(connection, Settings(Path(), None), "processor")
    add_processor(connection, "web-1:1", heard=20)
    assert health(connection) == [("check_failed", "web-1:1")]
    add_processor(connection, "web-1:2@b", heard=1, started=5, instance="b")
    assert health(connection) == []
    add_processor(connection, "web-1:3", heard=1, started=5)
    assert health(connection) == [("recovered", "web-1:1")]
    assert health(connection) == []


def test_one_that_stopped_in_order_or_was_replaced_at_once_is_healthy(connection: Connection) -> None:
    own_events.attach(connection, Settings(Path(), None), "processor")
    add_processor(connection, "web-1:1", heard=20, state="stopped")
    add_processor(connection, "web-1:2", heard=20)
    add_processor(connection, "web-1:3", heard=1, started=15)
    assert health(connection) == []


@pytest.mark.parametrize("state", ["stopped", "draining"])
def test_one_that_ended_degraded_recovers_by_one_that_is_well_in_its_place(connection: Connection, state: str) -> None:
    """It was ended for it, by the watchdog or by itself."""
    own_events.attach(connection, Settings(Path(), None), "processor")
    degraded = Jsonb({processors.TOLD: True})
    add_processor(connection, "web-1:1", heard=13, state=state, health=degraded)
    add_processor(connection, "web-1:2", heard=1, started=12, health=degraded)
    assert health(connection) == []
    connection.execute("UPDATE hook_processors SET health = '{}' WHERE node = 'web-1:2'")
    assert health(connection) == [("recovered", "web-1:1")]
    assert health(connection) == []


def test_one_over_the_row_of_another_that_had_its_name_is_not_that_one(connection: Connection) -> None:
    """A container's host may have a fixed name, and its process the number 1."""
    add_processor(connection, "web-1:1", heard=60, state="stopped", lost_at="infinity")
    row = {"node": "web-1:1", "host": "web-1", "instance": "", "pid": 1, "version": "2", "state": "running"}
    row |= {"wake": "listen", "workers": 8, "busy": 0, "stuck": 0, "stats": {}}
    processors.say(connection, row, anew=True)
    processors.say(connection, row)
    query = "SELECT version, workers, started_at > now() - interval '5 s', lost_at FROM hook_processors"
    assert connection.execute(query).fetchall() == [("2", 8, True, None)]


def test_health_is_not_told_when_own_events_are_off(connection: Connection) -> None:
    own_events.attach(connection, Settings(Path(), None, own_events=False), "processor")
    add_processor(connection, "web-1:1", heard=20)
    assert health(connection) == []
