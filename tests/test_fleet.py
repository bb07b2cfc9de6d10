"""What processors tell of hosts: silence, once each, and versions that differ."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from importlib.metadata import version
from typing import Any

import pytest
from factories import ago
from psycopg import Connection

from hook_event_processor.processor import fleet
from hook_event_processor.store import hosts
from hook_event_processor.store.database import Database
from hook_event_processor.store.hosts import Host
from hook_event_processor.watchers.daemon import agent

pytestmark = pytest.mark.store

OWN = version("hook-event-processor")
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
    agent.register(connection, Host("web-1", "192.168.1.100", ("web",), OWN, INFO))
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


def test_an_agent_of_another_version_is_told_of_once(connection: Connection) -> None:
    agent.register(connection, Host("web-1", "192.168.1.100", (), "0.0.9", INFO))
    fleet.tell(connection)
    fleet.tell(connection)
    assert _types(connection)[2:] == ["agent.version_mismatch"]
    data = _events(connection)[-1][1]
    assert (data["agent_version"], data["server_version"]) == ("0.0.9", OWN)
