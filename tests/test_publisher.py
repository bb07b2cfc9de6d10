"""The Publisher: one event, many, in the caller's transaction; what it refuses."""

from __future__ import annotations

import math
import time
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime, timedelta, timezone
from types import MappingProxyType
from typing import Any
from uuid import UUID, uuid4

import psycopg
import pytest
from factories import ago
from psycopg import Connection, errors, sql
from psycopg.conninfo import make_conninfo

from hook_event_processor import Publisher
from hook_event_processor.errors import EventRefused, StoreUnavailable
from hook_event_processor.event import NewEvent
from hook_event_processor.store import database as database_module
from hook_event_processor.store import insert as insert_module
from hook_event_processor.store.database import Database
from hook_event_processor.store.embedded import EmbeddedServer

HOSTILE = 'tab\t newline\n return\r backslash\\ \\. \\N quote" \u2028 é 🚀'


def _events(connection: Connection, columns: str = "source, action") -> list[Any]:
    return connection.execute(f"SELECT {columns} FROM hook_events ORDER BY seq").fetchall()


def test_an_event_gets_a_uuid7_an_origin_and_a_correlation(connection: Connection) -> None:
    published = Publisher(connection, component="tests").publish("task.failed", {"n": 1})
    assert published.is_new
    assert published.id.version == 7
    metadata = _events(connection, "metadata")[0][0]
    assert metadata["correlation_id"] == str(published.id)
    assert metadata["origin"]["component"] == "tests"
    assert set(metadata["origin"]) == {"component", "host", "version"}


def test_given_metadata_wins_over_what_would_be_added(connection: Connection) -> None:
    Publisher(connection).publish("a.b", metadata={"correlation_id": "c", "agent_id": "x"}, stack="production")
    metadata = _events(connection, "metadata")[0][0]
    assert (metadata["correlation_id"], metadata["agent_id"], metadata["stack"]) == ("c", "x", "production")
    assert "origin" in metadata


def test_every_column_arrives(connection: Connection) -> None:
    occurred_at, event_id = ago(hours=1), uuid4()
    event = NewEvent(
        "s", "a", {"k": [1, None, {}, 2**63 - 1]}, "r", "i", priority=2, occurred_at=occurred_at, id=event_id
    )
    for publish in (Publisher(connection).publish_event, lambda e: Publisher(connection).publish_many([e])):
        connection.execute("DELETE FROM hook_events")
        publish(event)
        columns = "id, source, action, payload, resource, resource_id, priority, occurred_at, available_at"
        assert _events(connection, columns) == [
            (event_id, "s", "a", {"k": [1, None, {}, 2**63 - 1]}, "r", "i", 2, occurred_at, None)
        ]


def test_a_delay_makes_the_event_available_later(connection: Connection) -> None:
    Publisher(connection).publish("a.b", delay=timedelta(hours=1))
    available_at = _events(connection, "available_at")[0][0]
    assert timedelta(minutes=59) < available_at - datetime.now(UTC) <= timedelta(hours=1)


def test_an_id_that_is_there_changes_nothing(connection: Connection) -> None:
    publisher, event_id = Publisher(connection), uuid4()
    assert publisher.publish("a.first", id=event_id).is_new
    again = publisher.publish("a.second", id=event_id)
    assert (again.id, again.is_new) == (event_id, False)
    assert _events(connection) == [("a", "first")]


def test_many_come_in_their_order_with_growing_ids(connection: Connection) -> None:
    assert Publisher(connection).publish_many(NewEvent("n", str(n)) for n in range(5_000)) == 5_000
    rows = _events(connection, "action, id")
    assert [int(action) for action, _ in rows] == list(range(5_000))
    ids = [row[1] for row in rows]
    assert ids == sorted(ids)


def test_many_with_and_without_ids_keep_their_order(connection: Connection) -> None:
    known = uuid4()
    publisher = Publisher(connection)
    publisher.publish("known.already", id=known)
    events = [NewEvent("a"), NewEvent("b", id=known), NewEvent("c"), NewEvent("d", id=uuid4()), NewEvent("e")]
    assert publisher.publish_many(events) == 4
    assert [source for source, _ in _events(connection)] == ["known", "a", "c", "d", "e"]
    assert publisher.publish_many([NewEvent("b", id=known)]) == 0


def test_no_events_are_no_work(connection: Connection) -> None:
    assert Publisher(connection).publish_many([]) == 0


@pytest.mark.parametrize("with_id", [True, False])
def test_hostile_text_survives_copy(connection: Connection, with_id: bool) -> None:
    event = NewEvent(HOSTILE, HOSTILE, {HOSTILE: HOSTILE}, HOSTILE, HOSTILE, id=uuid4() if with_id else None)
    Publisher(connection).publish_many([event])
    columns = "source, action, payload, resource, resource_id"
    assert _events(connection, columns) == [(HOSTILE, HOSTILE, {HOSTILE: HOSTILE}, HOSTILE, HOSTILE)]


def test_a_refused_event_leaves_none_of_the_many(connection: Connection) -> None:
    def events() -> Iterator[NewEvent]:
        yield from (NewEvent("good", str(n)) for n in range(2_000))
        yield NewEvent("bad", payload={"text": "\0"})

    with pytest.raises(EventRefused):
        Publisher(connection).publish_many(events())
    assert _events(connection) == []
    assert Publisher(connection).publish_many([NewEvent("good")]) == 1


@pytest.mark.parametrize("many", [False, True])
def test_the_callers_transaction_decides(database: Database, connection: Connection, many: bool) -> None:
    with database.connect("tests") as caller:
        publisher = Publisher(caller)
        if many:
            publisher.publish_many([NewEvent("a"), NewEvent("b", id=uuid4())])
            publisher.publish_many([NewEvent("c", id=uuid4())])
        else:
            publisher.publish("a")
        assert _events(connection) == []
        caller.rollback()
        assert _events(caller) == []
        publisher.publish_many([NewEvent("kept")])
        caller.commit()
    assert _events(connection) == [("kept", "")]


def test_a_refusal_leaves_the_callers_transaction_usable(database: Database, connection: Connection) -> None:
    with database.connect("tests") as caller:
        publisher = Publisher(caller)
        publisher.publish("before")
        with pytest.raises(EventRefused):
            publisher.publish_many([NewEvent("lost"), NewEvent("bad", payload={"text": "\0"})])
        caller.commit()
    assert _events(connection) == [("before", "")]


def test_a_session_of_its_own(database: Database, connection: Connection) -> None:
    with Publisher.connect(database.conninfo) as publisher:
        publisher.publish("a.b")
    assert _events(connection) == [("a", "b")]


def _slowly(events: Iterable[NewEvent], seconds: float) -> Iterator[NewEvent]:
    for event in events:
        time.sleep(seconds)
        yield event


@pytest.mark.parametrize("ids", [(None, None), (None, uuid4()), (uuid4(), None)])
def test_an_iterable_may_take_its_time(
    database: Database, connection: Connection, monkeypatch: pytest.MonkeyPatch, ids: tuple[UUID | None, ...]
) -> None:
    monkeypatch.setattr(database_module, "IDLE_IN_TRANSACTION_SECONDS", 1)
    with Publisher.connect(database.conninfo) as publisher:
        assert publisher.publish_many(_slowly([NewEvent("a", "b", id=each) for each in ids], 1.5)) == 2
    assert len(_events(connection)) == 2


def test_a_session_that_was_ended_is_told_from_an_error_in_it(database: Database) -> None:
    with pytest.raises(errors.QueryCanceled):
        _cancel(database)
    with pytest.raises(StoreUnavailable, match="the database was lost"):
        _end(database)


def _cancel(database: Database) -> None:
    with database.session("cancelled") as connection:
        connection.execute("SET statement_timeout = '10ms'; SELECT pg_sleep(5)")


def _end(database: Database) -> None:
    with database.session("ended") as connection:
        connection.execute("SELECT pg_terminate_backend(pg_backend_pid())")


@pytest.mark.parametrize("autocommit", [True, False])
def test_in_a_pipeline_it_is_known_what_became_of_an_event(
    database: Database, connection: Connection, autocommit: bool
) -> None:
    known = uuid4()
    with database.connect("tests", autocommit=autocommit) as caller:
        publisher = Publisher(caller)
        with caller.pipeline():
            news = [publisher.publish("a.b", id=event_id).is_new for event_id in (known, known, None)]
        caller.commit()
    assert news == [True, False, True]
    assert len(_events(connection)) == 2


def test_a_delay_is_counted_on_the_servers_clock(connection: Connection) -> None:
    """From now, and not from when the transaction began."""
    with connection.transaction():
        connection.execute("SELECT pg_sleep(0.2)")
        published = Publisher(connection).publish("a.b", delay=timedelta(hours=1))
        columns = "available_at - now() > '1 hour 0.2 s', available_at <= clock_timestamp() + '1 hour'::interval"
        assert _events(connection, columns) == [(True, True)]
    assert published.is_new


def test_the_clients_clock_has_no_say_in_a_delay(connection: Connection, monkeypatch: pytest.MonkeyPatch) -> None:
    class Fast(datetime):
        @classmethod
        def now(cls, tz: Any = None) -> Fast:
            return cls(2200, 1, 1, tzinfo=tz)

    monkeypatch.setattr(insert_module, "datetime", Fast)
    Publisher(connection).publish("a.b", delay=timedelta(hours=1))
    assert _events(connection, "available_at < clock_timestamp() + '61 min'::interval") == [(True,)]


def test_no_delay_or_one_that_is_over_is_at_once(connection: Connection) -> None:
    for delay in (None, timedelta(0), timedelta(hours=-1), timedelta.min):
        Publisher(connection).publish("a.b", delay=delay)
    assert _events(connection, "available_at") == [(None,)] * 4


@pytest.mark.parametrize(
    ("delay", "more", "reason"),
    [
        (timedelta.max, {}, "delay is 999999999 days.*: at most 36,500 days"),
        (60, {}, "delay is 60: it takes a timedelta"),
        (timedelta(1), {"available_at": datetime.now(UTC)}, "delay stands beside available_at"),
    ],
)
def test_a_delay_out_of_range_is_refused(connection: Connection, delay: Any, more: dict[str, Any], reason: str) -> None:
    with pytest.raises(EventRefused, match=reason):
        Publisher(connection).publish("a.b", delay=delay, **more)
    assert _events(connection) == []


def test_a_session_of_its_own_takes_its_size_from_its_parameter(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOOK_MAX_PAYLOAD_SIZE", "100000")
    reason = r"at most 50 are taken .*the max_payload_size of the Publisher"
    with (
        Publisher.connect(database.conninfo, max_payload_size=50) as publisher,
        pytest.raises(EventRefused, match=reason),
    ):
        publisher.publish("a.b", {"text": "x" * 50})
    with Publisher.connect(database.conninfo, max_payload_size=200_000) as publisher:
        assert publisher.publish("a.b", {"text": "x" * 150_000}).is_new


def test_an_error_on_another_connection_is_no_loss_of_this_one(database: Database) -> None:
    with pytest.raises(errors.QueryCanceled), Publisher.connect(database.conninfo):
        _cancel(database)


WAYS = pytest.mark.parametrize("many", [False, True])


def _published(connection: Connection, event: NewEvent, many: bool) -> None:
    publisher = Publisher(connection)
    if many:
        publisher.publish_many([event])
    else:
        publisher.publish_event(event)


@WAYS
def test_a_mapping_of_any_kind_is_an_object(connection: Connection, many: bool) -> None:
    shown = MappingProxyType({"in": MappingProxyType({"n": 1})})
    _published(connection, NewEvent("a", payload=shown, metadata=MappingProxyType({"agent_id": "x"})), many)
    assert _events(connection, "payload, metadata ->> 'agent_id'") == [({"in": {"n": 1}}, "x")]


@WAYS
def test_none_counts_as_not_given(connection: Connection, many: bool) -> None:
    nothing: Any = None
    _published(connection, NewEvent("a", payload=nothing, metadata=nothing), many)
    Publisher(connection).publish("b", None, metadata=None, stack="production")
    assert _events(connection, "payload, metadata ->> 'stack'") == [({}, None), ({}, "production")]


@WAYS
def test_times_are_the_same_whatever_their_offset(connection: Connection, many: bool) -> None:
    zone = timezone(timedelta(hours=1, seconds=7, microseconds=500_000))
    at = datetime(2026, 1, 2, 3, 4, 5, tzinfo=zone)
    _published(connection, NewEvent("a", occurred_at=at, available_at=at), many)
    assert _events(connection, "occurred_at, available_at") == [(at, at)]


@WAYS
def test_the_text_of_a_uuid_is_an_id(connection: Connection, many: bool) -> None:
    event_id = uuid4()
    text: Any = str(event_id).upper()
    _published(connection, NewEvent("a", id=text), many)
    assert _events(connection, "id") == [(event_id,)]


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"source": None}, "source is None: it takes a text"),
        ({"source": 5, "action": 6, "resource": 7, "resource_id": 8}, "source is 5: it takes a text"),
        ({"action": b"b"}, "action is b'b': it takes a text"),
        ({"resource_id": 7}, "resource_id is 7: it takes a text"),
        ({"payload": [1]}, r"payload is of type list: it takes a mapping"),
        ({"payload": []}, r"payload is of type list: it takes a mapping"),
        ({"payload": "x" * 100}, "payload is of type str: it takes a mapping"),
        ({"metadata": [1]}, "metadata is of type list: it takes a mapping"),
        ({"metadata": ""}, "metadata is of type str: it takes a mapping"),
        ({"priority": True}, "priority is True: it takes 1"),
        ({"priority": 5.0}, r"priority is 5\.0: it takes 1"),
        ({"priority": "5"}, "priority is '5': it takes 1"),
        ({"priority": 11}, "priority is 11: it takes 1"),
        ({"id": "1"}, "id is '1': it takes a UUID"),
        ({"id": 1}, "id is 1: it takes a UUID"),
        ({"id": ""}, "id is '': it takes a UUID"),
        ({"occurred_at": "2026-01-01"}, "occurred_at is '2026-01-01': it takes a datetime"),
        ({"available_at": datetime(2026, 1, 1)}, "available_at is .*: it takes a datetime with a UTC offset"),
        ({"occurred_at": datetime.max.replace(tzinfo=timezone(timedelta(hours=-1)))}, "the years 1 to 9999"),
    ],
)
def test_a_field_of_another_kind_is_refused_by_its_name(fields: dict[str, Any], reason: str) -> None:
    with pytest.raises(EventRefused, match=reason):
        NewEvent(**{"source": "a", **fields})


def test_a_writer_needs_insert_alone(server: EmbeddedServer, connection: Connection) -> None:
    with psycopg.connect(make_conninfo(server.administration, dbname=connection.info.dbname), autocommit=True) as root:
        writer = f"writer_{connection.info.dbname}"
        root.execute(sql.SQL("CREATE ROLE {0}; GRANT INSERT ON hook_events TO {0}").format(sql.Identifier(writer)))
        root.execute(sql.SQL("SET ROLE {}").format(sql.Identifier(writer)))
        assert Publisher(root).publish("a.single").is_new
        assert Publisher(root).publish_many([NewEvent("a", "bulk"), NewEvent("a", "keyed", id=uuid4())]) == 2
        root.execute("RESET ROLE")
        root.execute(sql.SQL("DROP OWNED BY {0}; DROP ROLE {0}").format(sql.Identifier(writer)))
    assert len(_events(connection)) == 3


@pytest.mark.parametrize(
    ("event", "reason"),
    [
        ({"payload": {"text": "x" * 100_000}}, "100,011 bytes of JSON: at most 100,000"),
        ({"metadata": {"text": "x" * 100_000}}, "the metadata has"),
        ({"payload": {"text": "a\0b"}}, r"NUL character \(\\u0000\)"),
        ({"payload": {"text\0": 1}}, "NUL character"),
        ({"metadata": {"text": "\\\0"}}, "the metadata holds a NUL"),
        ({"payload": {"number": 2**70}}, "64-bit"),
        ({"payload": {"text": "\ud800"}}, "not valid UTF-8"),
        ({"payload": {"set": {1, 2}}}, "set"),
        ({"resource": "\ud800"}, "resource is not valid Unicode"),
        ({"resource": "a\0"}, "resource holds a NUL"),
        ({"resource": "x" * 256}, "resource has 256 characters"),
    ],
)
def test_what_cannot_be_stored_is_refused(connection: Connection, event: dict[str, Any], reason: str) -> None:
    with pytest.raises(EventRefused, match=reason):
        Publisher(connection).publish_event(NewEvent("a", "b", **event))
    assert _events(connection) == []


def test_a_backslash_before_u0000_is_no_nul(connection: Connection) -> None:
    payload = {"text": "\\u0000", "path": "C:\\\\u0000"}
    Publisher(connection).publish("a.b", payload)
    assert _events(connection, "payload") == [(payload,)]


def test_nesting_deeper_than_the_fast_encoder_goes_is_stored(connection: Connection) -> None:
    payload: dict[str, Any] = {}
    for _ in range(600):
        payload = {"in": payload}
    Publisher(connection).publish("a.b", payload)
    assert _events(connection, "length(payload::text) > 600") == [(True,)]
    with pytest.raises(EventRefused, match="the payload cannot be written as JSON"):
        Publisher(connection).publish("a.b", {**payload, "n": math.nan})
    for _ in range(5_000):
        payload = {"in": payload}
    with pytest.raises(EventRefused, match="nested too deeply"):
        Publisher(connection).publish("a.b", payload)


def test_a_number_that_is_not_finite_becomes_null(connection: Connection) -> None:
    Publisher(connection).publish("a.b", {"n": math.nan, "i": math.inf})
    assert _events(connection, "payload") == [({"n": None, "i": None},)]


def test_a_type_needs_a_source(connection: Connection) -> None:
    for wrong in ("", ".failed", "/x"):
        with pytest.raises(EventRefused, match=r"task\.failed"):
            Publisher(connection).publish(wrong)


def test_ids_differ(connection: Connection) -> None:
    publisher = Publisher(connection)
    ids = {publisher.publish("a").id for _ in range(50)}
    assert len(ids) == 50
    assert all(isinstance(event_id, UUID) for event_id in ids)
