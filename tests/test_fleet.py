"""What processors tell of hosts: silence, once each, and versions that differ."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from factories import ago
from psycopg import Connection, sql
from psycopg.errors import LockNotAvailable

from hook_event_processor import __version__
from hook_event_processor.processor import fleet
from hook_event_processor.store import hosts
from hook_event_processor.store.database import Database
from hook_event_processor.store.hosts import Host
from hook_event_processor.watchers.daemon import agent

pytestmark = pytest.mark.store

INFO = {"os": "linux", "arch": "amd64", "cpu_cores": 8, "memory_gb": 16}


def _events(connection: Connection) -> list[tuple[str, dict[str, Any]]]:
    rows = connection.execute("SELECT source || '.' || action, payload -> 'agent' FROM hook_events ORDER BY seq")
    return rows.fetchall()


def _types(connection: Connection) -> list[str]:
    return [row[0] for row in _events(connection)]


def test_a_host_registers_connects_updates_and_comes_back(connection: Connection) -> None:
    host = Host("web-1", "192.168.1.100", ("production", "web"), "1.0.0", INFO)
    agent.register(connection, host)
    agent.register(connection, host)
    assert _types(connection) == ["agent.registered", "agent.connected"]
    assert _events(connection)[0][1] == {
        "name": "web-1", "address": "192.168.1.100", "tags": ["production", "web"], "version": "1.0.0",
        "system_info": INFO,
    }  # fmt: skip
    agent.register(connection, Host("web-1", "192.168.1.100", (), "1.1.0", INFO))
    [event_type, data] = _events(connection)[-1]
    assert (event_type, data["old_version"], data["new_version"]) == ("agent.updated", "1.0.0", "1.1.0")
    hosts.say_stopped(connection, "web-1")
    agent.register(connection, Host("web-1", "192.168.1.100", (), "1.1.0", INFO))
    assert _types(connection)[3:] == ["agent.connected"]


def test_a_silent_host_is_told_of_once_by_whichever_processor_sees_it_first(
    connection: Connection, database: Database
) -> None:
    agent.register(connection, Host("web-1", "192.168.1.100", ("web",), __version__, INFO))
    connection.execute("UPDATE hosts SET last_seen = %s", (ago(seconds=40),))

    def tell(_: int) -> None:
        with database.session("tests") as session:
            fleet.tell(session)

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(tell, range(4)))
    assert _types(connection)[2:] == ["agent.heartbeat_failed"]
    data = _events(connection)[-1][1]
    assert (data["name"], data["address"], data["consecutive_failures"]) == ("web-1", "192.168.1.100", 4)
    connection.execute("UPDATE hosts SET last_seen = %s", (ago(seconds=90),))
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(tell, range(4)))
    assert _types(connection)[3:] == ["agent.disconnected"]
    assert set(_events(connection)[-1][1]) >= {"name", "last_seen", "address", "tags", "version"}


ODD_HOSTS = {
    "a system_info that is no object": ("system_info", "'5'"),
    "a number that fills a page": ("system_info", "'{\"cpu_cores\": 1e131071}'"),
    "numbers that are too much for any text": (
        "system_info",
        "(SELECT jsonb_build_object('cpu_cores', jsonb_agg(1e131071::numeric)) FROM generate_series(1, 12000))",
    ),
    "levels without end": (
        "system_info",
        "('{\"os\": ' || repeat('[', 2000) || repeat(']', 2000) || '}')::jsonb",
    ),
    "a tag that is none": ("tags", "'{NULL}'"),
    "tags in rows": ("tags", "'{{web,prod},{db,prod}}'"),
    "a last heartbeat before all times": ("last_seen", "'-infinity'"),
    "a name that no resource could have": ("name", "repeat('web', 100)"),
}


@pytest.mark.parametrize(("column", "value"), ODD_HOSTS.values(), ids=ODD_HOSTS)
def test_a_row_that_makes_no_sense_silences_no_host(connection: Connection, column: str, value: str) -> None:
    for name in ("a", "web-1", "z"):
        hosts.register(connection, Host(name, "192.168.1.100", ("web",), "0.0.9", INFO))
    connection.execute("UPDATE hosts SET last_seen = %s", (ago(minutes=9),))
    statement = sql.SQL("UPDATE hosts SET {} = {} WHERE name = 'web-1'")
    connection.execute(statement.format(sql.Identifier(column), sql.SQL(value)))
    fleet.tell(connection)
    assert _types(connection) == ["agent.disconnected"] * 3
    assert {data["name"][:3] for _, data in _events(connection)} == {"a", "web", "z"}


def test_what_cannot_be_told_of_one_host_silences_no_other(
    connection: Connection, caplog: pytest.LogCaptureFixture
) -> None:
    for name in ("a", "web-1", "z"):
        hosts.register(connection, Host(name, "192.168.1.100", (), "0.0.9", INFO))
    connection.execute("UPDATE hosts SET version = repeat('1', 200000) WHERE name = 'web-1'")
    fleet.tell(connection)
    assert {data["name"] for _, data in _events(connection)} == {"a", "z"}
    assert "agent.version_mismatch of host web-1 could not be told" in caplog.text
    connection.execute("UPDATE hosts SET last_seen = %s", (ago(minutes=9),))
    fleet.tell(connection)
    assert _types(connection)[2:] == ["agent.disconnected"] * 2


def test_a_host_whose_row_is_held_silences_no_other(connection: Connection, database: Database) -> None:
    for name in ("web-1", "web-2"):
        hosts.register(connection, Host(name, "192.168.1.100", (), __version__, INFO))
    connection.execute("UPDATE hosts SET last_seen = %s", (ago(minutes=9),))
    with database.session("tests") as other, other.transaction():
        other.execute("SET LOCAL idle_in_transaction_session_timeout = 0")
        other.execute("UPDATE hosts SET address = '' WHERE name = 'web-1'")
        fleet.tell(connection)
        assert [data["name"] for _, data in _events(connection)] == ["web-2"]
    fleet.tell(connection)
    assert [data["name"] for _, data in _events(connection)] == ["web-2", "web-1"]


def test_a_table_that_is_locked_loses_nothing_that_is_to_be_told(connection: Connection, database: Database) -> None:
    for name in ("web-1", "web-2"):
        hosts.register(connection, Host(name, "192.168.1.100", (), __version__, INFO))
    connection.execute("UPDATE hosts SET last_seen = %s", (ago(minutes=9),))
    connection.execute("SET lock_timeout = '10ms'")
    with database.session("tests") as migration, migration.transaction():
        migration.execute("SET LOCAL idle_in_transaction_session_timeout = 0")
        migration.execute("LOCK hook_events IN SHARE MODE")
        with pytest.raises(LockNotAvailable):
            fleet.tell(connection)
    fleet.tell(connection)
    assert {data["name"] for _, data in _events(connection)} == {"web-1", "web-2"}


def test_an_agent_of_another_version_is_told_of_once(connection: Connection) -> None:
    agent.register(connection, Host("web-1", "192.168.1.100", (), "0.0.9", INFO))
    fleet.tell(connection)
    fleet.tell(connection)
    assert _types(connection)[2:] == ["agent.version_mismatch"]
    data = _events(connection)[-1][1]
    assert (data["agent_version"], data["server_version"]) == ("0.0.9", __version__)
