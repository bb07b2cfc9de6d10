"""Watchers and hosts in the database: what operators write and daemons read."""

from __future__ import annotations

import json
from datetime import datetime
from uuid import uuid4

import pytest
from factories import ago
from psycopg import Connection

from hook_event_processor.errors import Ambiguous, HookEventProcessorError, NotFound
from hook_event_processor.store import hosts, watchers
from hook_event_processor.store.database import Database
from hook_event_processor.store.hosts import Host
from hook_event_processor.store.watcher_config import WatcherConfig
from hook_event_processor.store.watchers import Looked, NewWatcher
from hook_event_processor.timestamp import rfc3339

pytestmark = pytest.mark.store

UNREADABLE = "its config holds a number of thousands of digits, or is nested too deeply"

WEB = Host("web-1", "10.0.0.1", ("web", "prod"), "1.0", {"os": "linux", "arch": "x86_64"})


def test_a_watcher_comes_back_as_it_was_stored(connection: Connection) -> None:
    new = NewWatcher("web-1", "file", ("changed",), {"path": "/etc/motd"}, 10.0, name="motd", stack="prod")
    added = watchers.add(connection, new)
    assert added.id.startswith("watcher-")
    assert watchers.known(connection) == [added]
    assert added.config == WatcherConfig(["changed"], {"path": "/etc/motd"}, 10.0)
    assert (added.name, added.stack, added.enabled, added.last_check) == ("motd", "prod", True, None)
    assert watchers.known(connection, type="cpu") == watchers.known(connection, "db-1") == []


def test_a_configuration_written_by_hand_is_read_as_texts(connection: Connection) -> None:
    connection.execute(
        "INSERT INTO watchers (id, type, host, config) VALUES"
        """ ('watcher-1', 'port', 'web-1', '{"options": {"port": 80, "per_core": true}}')"""
    )
    watcher = watchers.get(connection, "watcher-1")
    assert watcher.config == WatcherConfig([], {"port": "80", "per_core": "true"}, None)


@pytest.mark.parametrize(
    ("config", "read"),
    [
        ('{"conditions": 5}', WatcherConfig(fault="its config has a number for its conditions: write a list of texts")),
        (
            '{"conditions": ["changed", ["x"]], "options": {"path": "/"}}',
            WatcherConfig([], {"path": "/"}, None, "its config has a list among its conditions: write a text"),
        ),
        (
            '{"conditions": ["changed"], "options": [1]}',
            WatcherConfig(["changed"], fault="its config has a list for its options: write an object of texts by name"),
        ),
        (
            '{"options": {"path": null}, "interval": "10s"}',
            WatcherConfig(
                fault="its config has null for its option path: write a text;"
                " its config has a text for its interval: write seconds, a number"
            ),
        ),
        (
            f'{{"interval": 1{"0" * 400}}}',
            WatcherConfig(fault="its config has a number of hundreds of digits for its interval: write seconds"),
        ),
        (f'{{"interval": 1{"0" * 5000}}}', WatcherConfig(fault=UNREADABLE)),
        (f'{{"options": {"[" * 3000}{"]" * 3000}}}', WatcherConfig(fault=UNREADABLE)),
        ('{"conditions": null, "options": {}, "interval": null}', WatcherConfig()),
    ],
    ids=lambda value: value[:40] if isinstance(value, str) else "",
)
def test_a_configuration_that_makes_no_sense_is_read_as_far_as_it_does(
    connection: Connection, config: str, read: WatcherConfig
) -> None:
    connection.execute("INSERT INTO watchers (id, type, host, config) VALUES ('watcher-1', 'cpu', 'h', %s)", (config,))
    assert watchers.get(connection, "watcher-1").config == read


def test_a_name_is_given_once_a_host(connection: Connection) -> None:
    watchers.add(connection, NewWatcher("web-1", "cpu", name="busy"))
    watchers.add(connection, NewWatcher("web-2", "cpu", name="busy"))
    with pytest.raises(HookEventProcessorError, match="web-1 has a watcher named 'busy' already"):
        watchers.add(connection, NewWatcher("web-1", "load", name="busy"))


def test_a_watcher_is_found_by_id_beginning_of_id_and_name(connection: Connection) -> None:
    first = watchers.add(connection, NewWatcher("web-1", "cpu", name="busy"))
    second = watchers.add(connection, NewWatcher("web-2", "cpu", name="busy"))
    assert watchers.get(connection, first.id) == first
    assert watchers.get(connection, second.id[:-2] + second.id[-2:]) == second
    assert watchers.get(connection, first.id.removeprefix("watcher-")) == first
    assert watchers.get(connection, "busy", "web-2") == second
    with pytest.raises(Ambiguous, match=r"'busy' stands for more than one watcher: .* on web-1, .* on web-2"):
        watchers.get(connection, "busy")
    with pytest.raises(Ambiguous):
        watchers.get(connection, "watcher-")
    with pytest.raises(NotFound, match="there is no watcher 'idle' on web-1"):
        watchers.get(connection, "idle", "web-1")


def test_changes_of_what_is_watched_and_no_others_raise_the_revision(connection: Connection) -> None:
    revisions = [watchers.revision(connection)]
    watcher = watchers.add(connection, NewWatcher("web-1", "cpu"))
    revisions.append(watchers.revision(connection))
    assert watchers.set_enabled(connection, watcher, False)
    revisions.append(watchers.revision(connection))
    disabled = watchers.get(connection, watcher.id)
    assert not watchers.set_enabled(connection, disabled, False)
    watchers.say_looked(connection, [Looked(watcher.id, ago(seconds=1), "no such file")])
    assert watchers.revision(connection) == revisions[-1]
    watchers.remove(connection, watcher)
    revisions.append(watchers.revision(connection))
    assert revisions == sorted(set(revisions))


def test_a_change_is_notified_to_who_listens(connection: Connection) -> None:
    watchers.listen(connection)
    watchers.add(connection, NewWatcher("web-1", "cpu"))
    assert [notification.channel for notification in connection.notifies(timeout=5, stop_after=1)] == [
        "public.watchers"
    ]


def test_a_daemon_watches_what_is_enabled_of_its_host_and_types(connection: Connection) -> None:
    wanted = watchers.add(connection, NewWatcher("web-1", "cpu"))
    watchers.add(connection, NewWatcher("web-1", "cpu", enabled=False))
    watchers.add(connection, NewWatcher("web-1", "file"))
    watchers.add(connection, NewWatcher("web-2", "cpu"))
    assert watchers.to_watch(connection, "web-1", ["cpu", "load"]) == [wanted]


def test_what_is_said_of_looks_leaves_the_event_before_standing(connection: Connection) -> None:
    watcher = watchers.add(connection, NewWatcher("web-1", "cpu"))
    event_at = ago(seconds=20)
    told(connection, (watcher.id, event_at))
    watchers.say_looked(connection, [Looked(watcher.id, ago(seconds=10), "no"), Looked("gone", ago(), None)])
    said = watchers.get(connection, watcher.id)
    assert (said.last_event, said.last_error) == (event_at, "no")
    assert said.last_check is not None
    assert said.last_check > event_at


def test_what_is_said_late_of_a_watcher_that_was_disabled_since_changes_nothing(connection: Connection) -> None:
    watcher = watchers.add(connection, NewWatcher("web-1", "cpu"))
    watchers.say_looked(connection, [Looked(watcher.id, ago(seconds=10), "no")])
    watchers.set_enabled(connection, watcher, enabled=False)
    before = watchers.get(connection, watcher.id)
    watchers.say_looked(connection, [Looked(watcher.id, ago(), "no")])
    assert watchers.get(connection, watcher.id) == before
    assert before.last_error is None


def test_a_watchers_last_event_is_kept_with_the_event_itself(connection: Connection) -> None:
    of_cpu, of_load = (watchers.add(connection, NewWatcher("web-1", name)) for name in ("cpu", "load"))
    early, late = ago(seconds=20), ago(seconds=10)
    told(connection, (of_cpu.id, early), (of_cpu.id, late), (of_load.id, early), ("gone", late))
    told(connection, (of_cpu.id, early))  # what was spooled comes after what is new
    assert connection.execute("SELECT count(*) FROM hook_events").fetchone() == (5,)
    assert [watchers.get(connection, one.id).last_event for one in (of_cpu, of_load)] == [late, early]


def test_a_watcher_that_somebody_has_locked_keeps_nothing_waiting(connection: Connection, database: Database) -> None:
    held, free = (watchers.add(connection, NewWatcher("web-1", name)) for name in ("cpu", "load"))
    at = ago(seconds=10)
    looks = [Looked(one.id, at, "no") for one in (held, free)]
    with database.session("psql") as other, other.transaction():
        other.execute("UPDATE watchers SET enabled = FALSE WHERE id = %s", (held.id,))
        told(connection, (held.id, at), (free.id, at))
        assert watchers.say_looked(connection, looks) == {held.id}
        assert connection.execute("SELECT count(*) FROM hook_events").fetchone() == (2,)
        said = [watchers.get(connection, one.id) for one in (held, free)]
        assert [(one.last_check, one.last_event, one.last_error) for one in said] == [(None,) * 3, (at, at, "no")]
    assert watchers.say_looked(connection, looks) == set()


def told(connection: Connection, *events: tuple[str, datetime]) -> None:
    """The database takes events of these watchers, of these times."""
    bodies = [
        {
            "source": "system",
            "action": "cpu_high",
            "resource": "",
            "metadata": {},
            "payload": {"watcher_id": watcher_id},
            "occurred_at": rfc3339(at),
        }
        for watcher_id, at in events
    ]
    watchers.insert_events(connection, [str(uuid4()) for _ in events], [json.dumps(body) for body in bodies])


def test_a_host_registers_once_and_tells_what_it_was(connection: Connection) -> None:
    assert hosts.register(connection, WEB) is None
    before = hosts.register(connection, Host("web-1", "10.0.0.2", (), "1.1", {}))
    assert before == hosts.Before("1.0", "connected")
    assert [(host.name, host.address, host.version) for host in hosts.known(connection)] == [
        ("web-1", "10.0.0.2", "1.1")
    ]
    hosts.remove(connection, "web-1")
    with pytest.raises(NotFound):
        hosts.get(connection, "web-1")


def test_hosts_are_listed_with_the_number_of_their_watchers(connection: Connection) -> None:
    hosts.register(connection, WEB)
    watchers.add(connection, NewWatcher("web-1", "cpu"))
    watchers.add(connection, NewWatcher("web-1", "load", enabled=False))
    host = hosts.get(connection, "web-1")
    assert (host.watchers, host.enabled, host.tags) == (2, 1, ["web", "prod"])


def test_a_silent_host_is_late_once_and_gone_once(connection: Connection) -> None:
    hosts.register(connection, WEB)
    assert hosts.find_silent(connection) == []
    connection.execute("UPDATE hosts SET last_seen = %s", (ago(seconds=40),))
    [late] = hosts.find_silent(connection)
    assert (late.name, late.gone, late.tags) == ("web-1", False, ["web", "prod"])
    assert late.silent_seconds > 39
    assert hosts.find_silent(connection) == []
    connection.execute("UPDATE hosts SET last_seen = %s", (ago(seconds=70),))
    [gone] = hosts.find_silent(connection)
    assert gone.gone
    assert hosts.find_silent(connection) == []
    assert not hosts.beat(connection, "web-1")
    assert hosts.register(connection, WEB) == hosts.Before("1.0", "disconnected")
    assert hosts.beat(connection, "web-1")


def test_a_host_whose_daemon_has_stopped_is_never_late_but_gone_in_time(connection: Connection) -> None:
    hosts.register(connection, WEB)
    hosts.say_stopped(connection, "web-1")
    connection.execute("UPDATE hosts SET last_seen = %s", (ago(seconds=40),))
    assert hosts.find_silent(connection) == []
    connection.execute("UPDATE hosts SET last_seen = %s", (ago(seconds=70),))
    assert [silent.gone for silent in hosts.find_silent(connection)] == [True]


def test_a_version_that_differs_is_found_once_for_each_pair(connection: Connection) -> None:
    hosts.register(connection, WEB)
    assert hosts.find_mismatched(connection, "1.0") == []
    assert [host.version for host in hosts.find_mismatched(connection, "1.1")] == ["1.0"]
    assert hosts.find_mismatched(connection, "1.1") == []
    assert len(hosts.find_mismatched(connection, "1.2")) == 1
    hosts.register(connection, Host("web-1", "", (), "1.2", {}))
    assert len(hosts.find_mismatched(connection, "1.1")) == 1
