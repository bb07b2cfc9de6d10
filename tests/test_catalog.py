"""The catalog: what it holds, what is near to a slip of the pen, and publishers that go by it."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from psycopg import Connection

from hook_event_processor import catalog
from hook_event_processor.errors import EventRefused
from hook_event_processor.event import OWN_TYPES, NewEvent
from hook_event_processor.event_handlers import DEFAULT_HANDLERS
from hook_event_processor.payload_schema import PayloadSchema
from hook_event_processor.processor.attempt import DEAD_LETTER
from hook_event_processor.store import event_types
from hook_event_processor.store.insert import Publisher

# "Event Categories" of seed 000: how many types each category has.
COUNTS = {
    "agent": 7,
    "task": 6,
    "workflow": 6,
    "system": 8,
    "schedule": 7,
    "state": 6,
    "secret": 6,
    "stack": 5,
    "backup": 6,
    "db": 5,
    "network": 4,
    "security": 5,
    "file": 6,
    "deploy": 4,
    "health": 4,
    "custom": 1,
}
# "Event Types Generated" in "Watchers System" of seed 000.
WATCHED = (
    *("file.created", "file.modified", "file.deleted", "file.renamed"),
    *("system.cpu_high", "system.cpu_normal", "system.memory_low", "system.memory_normal"),
    *("process.started", "process.stopped", "process.crashed"),
    *("port.opened", "port.closed", "port.latency_high"),
    *("service.started", "service.stopped", "service.failed", "service.restarted"),
)
CANARY = {
    "type": "object",
    "required": ["service"],
    "properties": {"service": {"type": "string"}, "share": {"type": "integer", "minimum": 1}},
    "additionalProperties": False,
}


def test_each_category_has_the_types_that_are_documented() -> None:
    known = catalog.known(None).values()
    assert Counter(each.category for each in known if each.origin == "documented") == COUNTS
    assert len(COUNTS) == 16


def test_all_112_types_are_known_and_what_watchers_add() -> None:
    origins = Counter(each.origin for each in catalog.known(None).values())
    assert origins == {"documented": 86, "declared": 11, "emitted": 15, "named": 8, "product": 15, "watched": 25}
    assert origins["documented"] + origins["declared"] + origins["emitted"] == 112
    assert set(WATCHED) <= catalog.known(None).keys()


def test_the_product_knows_its_own_types() -> None:
    own = {f"{source}.{action}" for source, action in (*DEFAULT_HANDLERS, DEAD_LETTER)} - {"*.*"}
    own |= {name for name in OWN_TYPES if name.startswith(("hook.", "watcher."))}
    assert {name for name, each in catalog.known(None).items() if each.origin == "product"} == own


def test_every_type_is_described_and_nothing_is_described_that_no_type_has() -> None:
    import tomllib

    for file in (Path(catalog.__file__).parent / "event_types").glob("*.toml"):
        content = tomllib.loads(file.read_text())
        used = {
            name for entry in content["types"].values() for key in ("fields", "inferred") for name in entry.get(key, ())
        }
        assert used == content["fields"].keys(), file.name
        for name, entry in content["types"].items():
            assert entry.keys() <= {"description", "origin", "object", "fields", "inferred"}, name
            assert entry["description"].endswith("."), name
    for each in catalog.known(None).values():
        assert all(field.kind in catalog.KINDS and field.meaning for field in each.fields), each.name


def test_what_is_documented_nowhere_is_not_told_as_certain() -> None:
    known = catalog.known(None)
    for each in known.values():
        if each.origin in ("declared", "named"):
            assert all(field.inferred for field in each.fields), each.name
    others = {each.name for each in known.values() if each.origin not in ("declared", "named")}
    inferred = {name for name in others if any(field.inferred for field in known[name].fields)}
    # What cpu_high has of the resource is likely for two others, what one watcher knows of a process for all.
    assert inferred == {"system.disk_full", "system.memory_low", "process.started", "process.stopped"}


@pytest.mark.parametrize(
    ("written", "near"),
    [
        ("task.faild", ["task.failed"]),
        ("Task.Failed", ["task.failed"]),
        ("task/failed", ["task.failed"]),
        ("cpu_high", ["system.cpu_high"]),
        ("system-cpu-high", ["system.cpu_high"]),
        ("deploy.complete", ["deploy.completed"]),
        ("pretooluse/tool_invocation", ["PreToolUse.tool_invocation"]),
        ("invoice.paid", []),
        (".", []),
        ("", []),
    ],
)
def test_the_nearest_type_to_a_slip(written: str, near: list[str]) -> None:
    assert catalog.nearest(written) == near


def test_added_types_are_known_with_a_connection(connection: Connection) -> None:
    assert event_types.add(connection, "deploy.canary", "A canary.", CANARY) == "added"
    assert event_types.add(connection, "deploy.canary", "A canary.", CANARY) == "unchanged"
    assert event_types.add(connection, "deploy.canary", "Another.", CANARY) == "changed"
    known = catalog.known(connection)["deploy.canary"]
    assert (known.category, known.description, known.origin) == ("own", "Another.", "added")
    assert {(field.name, field.kind) for field in known.fields} == {("service", "string"), ("share", "integer")}
    assert "deploy.canary" not in catalog.known(None)


def test_an_added_type_stands_in_place_of_a_known_one_until_it_is_removed(connection: Connection) -> None:
    event_types.add(connection, "task.failed", "Ours.", CANARY)
    assert (catalog.known(connection)["task.failed"].category, len(catalog.known(connection))) == ("task", 160)
    assert event_types.remove(connection, "task.failed")
    assert catalog.known(connection)["task.failed"].origin == "documented"
    assert not event_types.remove(connection, "task.failed")


def test_the_payloads_that_are_documented_fit_their_types() -> None:
    # Seed 000, "Event-Specific Data" and "File Watcher".
    payloads: dict[str, Any] = {
        "agent.registered": {
            "agent": {
                "name": "web-server-01",
                "address": "192.168.1.100:50051",
                "tags": ["production", "web"],
                "version": "1.0.0",
                "system_info": {"os": "linux", "arch": "amd64", "cpu_cores": 8, "memory_gb": 16},
            }
        },
        "task.failed": {
            "task": {"task_name": "a", "agent_name": "b", "status": "failed", "exit_code": 1, "duration": "2m30s"}
        },
        "file.modified": {"path": "/etc/x", "old_size": 4096, "new_size": 4320, "new_mtime": "2025-10-08T13:49:30Z"},
        "system.resource_high": {"resource": {"resource": "cpu", "current": 95.5, "threshold": 80}},
    }
    known = catalog.known(None)
    for name, payload in payloads.items():
        assert PayloadSchema(known[name].payload_schema()).fault(payload) is None, name
    for each in known.values():
        assert PayloadSchema(each.payload_schema()).fault({}) is None, each.name


def _count(connection: Connection) -> int:
    row = connection.execute("SELECT count(*) FROM hook_events").fetchone()
    assert row is not None
    return int(row[0])


def test_a_strict_publisher_refuses(connection: Connection) -> None:
    event_types.add(connection, "deploy.canary", "", CANARY)
    publisher = Publisher(connection, strict=True)
    for event_type, payload, reason in REFUSED:
        with pytest.raises(EventRefused) as refusal:
            publisher.publish(event_type, payload)
        assert reason in str(refusal.value)
        with pytest.raises(EventRefused):
            publisher.publish_many([NewEvent("task", "failed"), NewEvent(*event_type.split("."), payload)])
        assert _count(connection) == 0
    for event_type, payload, _ in REFUSED:
        Publisher(connection).publish(event_type, payload)


REFUSED: tuple[tuple[str, dict[str, Any], str], ...] = (
    ("task.faild", {}, "the event type task.faild is not in the catalog: did you mean task.failed?"),
    ("invoice.paid", {}, "'hep catalog add' adds yours"),
    ("task.failed", {"exit_code": "one"}, 'task.failed: payload.exit_code is "one": it takes an integer'),
    ("task.failed", {"task": {"exit_code": []}}, "payload.task.exit_code is []: it takes an integer"),
    ("deploy.canary", {}, "payload.service is missing: it takes a string"),
    ("deploy.canary", {"service": "web", "share": 0}, "payload.share is 0: it takes at least 1"),
    ("deploy.canary", {"service": "web", "shar": 1}, "payload.shar is not a field of this type: did you mean share?"),
)


def test_a_strict_publisher_takes_what_fits(connection: Connection) -> None:
    event_types.add(connection, "deploy.canary", "", CANARY)
    publisher = Publisher(connection, strict=True)
    publisher.publish("deploy/canary", {"service": "web"})
    assert publisher.publish_many([NewEvent("deploy", "canary", {"service": "web", "share": 5})] * 3) == 3
    publisher.publish("Stop/session_stopped")


def test_a_strict_publisher_learns_of_types_that_are_added_later(connection: Connection) -> None:
    publisher = Publisher(connection, strict=True)
    publisher.publish("task.failed")
    event_types.add(connection, "deploy.canary", "", CANARY)
    publisher.publish("deploy.canary", {"service": "web"})
    event_types.add(connection, "deploy.blue", "", {})
    assert publisher.publish_many([NewEvent("deploy", "blue", {"any": 1})]) == 1


def test_a_schema_that_was_written_past_the_command_line_refuses_and_harms_nothing(connection: Connection) -> None:
    for schema in ('{"$ref": "http://127.0.0.1:9/x"}', '{"type": "strin"}', '{"$ref": "#"}', '{"pattern": "(?=a)"}'):
        connection.execute(
            "INSERT INTO event_types (type, schema) VALUES ('a.b', %s)"
            " ON CONFLICT (type) DO UPDATE SET schema = excluded.schema",
            (schema,),
        )
        with pytest.raises(EventRefused, match=r"^a\.b, as the catalog has it: the schema"):
            Publisher(connection, strict=True).publish("a.b")
    assert _count(connection) == 0
