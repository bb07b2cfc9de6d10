"""`hep hosts`, and what `hep status` says of them."""

from __future__ import annotations

import pytest
from commands import Hep
from factories import ago
from psycopg import Connection

from hook_event_processor.store import hosts, watchers
from hook_event_processor.store.hosts import Host
from hook_event_processor.store.watchers import Looked, NewWatcher

MACHINE = {"os": "linux", "arch": "x86_64", "cpu_cores": 4, "memory_gb": 16}


@pytest.fixture
def fleet(connection: Connection) -> None:
    """Two hosts: one with a watcher that works and one that is disabled, one that has gone."""
    hosts.register(connection, Host("web-1", "10.0.0.5", ("web", "prod"), "1.0", MACHINE))
    hosts.register(connection, Host("db-1", "10.0.0.6", (), "1.0", {}))
    watchers.add(connection, NewWatcher("web-1", "cpu"))
    watchers.add(connection, NewWatcher("web-1", "memory", enabled=False))
    connection.execute("UPDATE hosts SET last_seen = %s WHERE name = 'db-1'", (ago(seconds=100),))
    hosts.find_silent(connection)


def test_without_hosts_it_is_said_how_one_comes_to_be(hep: Hep) -> None:
    assert "'hep watcher run'" in hep("hosts")
    assert "Hosts:" not in hep("status")


@pytest.mark.usefixtures("fleet")
def test_hosts_are_listed_with_their_watchers(hep: Hep) -> None:
    header, db, web, total = hep("hosts").splitlines()
    assert header.split() == ["Host", "Address", "Version", "Last", "Seen", "Status", "Watchers", "Tags"]
    assert db.split()[:3] == ["db-1", "10.0.0.6", "1.0"]
    assert "disconnected" in db
    assert "2 (1 disabled)" in web
    assert web.endswith("web, prod")
    assert total == "2 hosts"
    assert [host["status"] for host in hep.document("hosts", "list", "--format", "json")] == [
        "disconnected",
        "connected",
    ]


@pytest.mark.usefixtures("fleet")
def test_a_host_is_shown_with_its_machine_and_watchers(hep: Hep) -> None:
    shown = hep("hosts", "show", "web-1")
    assert "cpu_cores" in shown
    assert "threshold: 80%" in shown
    document = hep.document("hosts", "show", "web-1", "--format", "json")
    assert document["system_info"] == MACHINE
    assert [watcher["type"] for watcher in document["watchers"]] == ["cpu", "memory"]
    assert "no host 'web-9' has registered" in hep.fault("hosts", "show", "web-9")


@pytest.mark.usefixtures("fleet")
@pytest.mark.parametrize(
    ("column", "value"),
    [
        ("system_info", "'5'"),
        ("system_info", "'{\"cpu_cores\": 1e131071}'"),
        ("system_info", "'{\"cpu_cores\": 123456789012345678901234567890}'"),
        ("tags", "'{NULL,web}'"),
        ("tags", "'{{web,prod},{db,prod}}'"),
    ],
)
def test_a_host_whose_row_makes_no_sense_is_listed_and_shown(
    hep: Hep, connection: Connection, column: str, value: str
) -> None:
    connection.execute(f"UPDATE hosts SET {column} = {value} WHERE name = 'web-1'")
    assert hep("hosts").endswith("2 hosts\n")
    assert hep("hosts", "show", "web-1").startswith("Host:")
    assert "web" in hep.document("hosts", "list", "--format", "json")[1]["tags"]
    assert hep.document("hosts", "show", "web-1", "--format", "json")["name"] == "web-1"


@pytest.mark.usefixtures("fleet")
def test_a_host_that_is_forgotten_keeps_its_watchers(hep: Hep) -> None:
    assert hep("hosts", "forget", "web-1") == "forgotten: host web-1; its watchers are kept\n"
    assert "no host 'web-1' has registered" in hep.fault("hosts", "forget", "web-1")
    listed = hep("watcher", "list", "web-1")
    assert "2 watchers" in listed
    assert "Nothing watches on web-1 yet" in listed


@pytest.mark.usefixtures("fleet")
def test_watchers_of_a_silent_host_are_listed_with_that(hep: Hep) -> None:
    hep("watcher", "create", "db-1", "--type", "cpu")
    assert "Nothing watches on db-1: its daemon was last heard of 1m4" in hep("watcher", "list", "db-1")


@pytest.mark.usefixtures("fleet")
def test_the_status_has_hosts_and_watchers_in_one_line(hep: Hep, connection: Connection) -> None:
    [watcher] = watchers.known(connection, "web-1", "cpu")
    watchers.say_looked(connection, [Looked(watcher.id, ago(), "no /proc")])
    [line] = [line for line in hep("status").splitlines() if line.startswith("Hosts:")]
    assert line.split(maxsplit=1)[1] == "1 connected, 1 disconnected; 2 watchers, 1 disabled, 1 cannot look"
    counts = hep.document("status", "--format", "json")["hosts"]
    assert (counts["connected"], counts["watchers"], counts["failing"]) == (1, 2, 1)
