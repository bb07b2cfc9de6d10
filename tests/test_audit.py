"""The audit: what is kept of whom, whatever program a change comes from, and that it stays."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import psycopg
import pytest
import seed
from commands import Hep
from factories import ago, insert_event
from logins import as_login, give_roles, make_login
from psql import psql
from psycopg import Connection
from running import add_hook

from hook_event_processor.store import audit, own_events, roles, small_steps
from hook_event_processor.store.database import Database
from hook_event_processor.store.embedded import EmbeddedServer

pytestmark = pytest.mark.store

SECRET = "xoxb-12345-very-secret"


def _kept(connection: Connection, columns: str = "action, kind, name") -> list[Any]:
    return connection.execute(f"SELECT {columns} FROM hook_audit ORDER BY id").fetchall()


def _hook(folder: Path, text: str = "") -> str:
    file = folder / "greet.lua"
    file.write_text(
        'local hook = { name = "greet", event_type = "task.failed", params = { token = "none" } }\n'
        f"function hook.execute() return true, '{text}' end\nreturn hook\n"
    )
    return str(file)


def test_the_life_of_a_hook(hep: Hep, connection: Connection, tmp_path: Path) -> None:
    hep("hook", "add", _hook(tmp_path))
    hep("hook", "add", _hook(tmp_path, "two"), "--set", f"token={SECRET}")
    hep("hook", "disable", "greet", "--reason", "too loud")
    hep("hook", "enable", "greet")
    connection.execute("UPDATE hooks SET run_count = 7, last_run = now()")
    hep("hook", "remove", "greet")
    assert _kept(connection, "action, reason") == [
        ("added", ""),
        ("new version", ""),
        ("changed", ""),
        ("new version", ""),
        ("disabled", "too loud"),
        ("enabled", ""),
        ("removed", ""),
    ]
    [(added,), (first,), (changed,), (second,), *_] = _kept(connection, "details")
    assert (added["event_types"], added["version"]) == (["task.failed"], 1)
    assert changed == {"version": [1, 2], "params": "hidden"}
    assert (first["version"], second["version"]) == (1, 2)
    assert len({first["sha256"], second["sha256"]}) == 2
    assert SECRET not in str(_kept(connection, "hook_audit::text"))
    assert hep("hook", "add", _hook(tmp_path, "two"))
    assert hep("hook", "add", _hook(tmp_path, "two"))
    assert len(_kept(connection)) == 9  # what changes nothing is not kept


def test_secrets_are_kept_by_name_alone(hep: Hep, connection: Connection) -> None:
    hep("secret", "set", "slack", stdin=SECRET)
    hep("secret", "set", "slack", stdin=SECRET + "2")
    hep("secret", "rotate")
    hep("secret", "remove", "slack", "--reason", "leaked")
    assert _kept(connection) == [
        ("added", "secret", "slack"),
        ("changed", "secret", "slack"),
        ("changed", "secret", "slack"),
        ("removed", "secret", "slack"),
    ]
    assert connection.execute("SELECT count(*) FROM hook_audit WHERE details::text ~ 'x[0-9a-f]{20}'").fetchone() == (
        0,
    )


def test_who_it_was(hep: Hep, connection: Connection, database: Database, tmp_path: Path) -> None:
    """The role that has logged in, and of a command of hep its user; psql is seen, too."""
    hep("hook", "add", _hook(tmp_path))
    psql(database, "-c", "UPDATE hooks SET priority = 3, timeout_seconds = 5")
    by_hep, by_psql = hep.document("audit", "--object", "hook:greet", "--format", "json")[-1::-1][::2]
    assert (by_hep["role"], by_hep["user"]) == (connection.info.user, f"{own_events.actor()}@{socket.gethostname()}")
    assert (by_psql["role"], by_psql["user"], by_psql["client"]) == (connection.info.user, None, "psql")
    assert by_psql["details"] == {"priority": [0, 3], "timeout_seconds": [30, 5]}


@pytest.mark.parametrize(
    ("user", "host", "kept"),
    [
        ("deploy", "web-1.example.com", "deploy@web-1.example.com"),
        ("deploy", "web-1.production.eu.example.com", "deploy@web-1"),
        ("hook notify-of-failures", "build-runner-1.example.com", "hook notify-of-failures@build-r"),
        ("hook notify-of-all-that-fails-anywhere", "web-1", "hook notify-of-all-that-fails-a"),
    ],
)
def test_who_it_was_is_found_by_the_whole_however_much_of_it_has_room(
    hep: Hep, connection: Connection, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, user: str, host: str, kept: str
) -> None:
    monkeypatch.setattr(own_events, "actor", lambda: user)
    monkeypatch.setattr(socket, "gethostname", lambda: host)
    hep("hook", "add", _hook(tmp_path))
    for who in (user, f"{user}@{host}", kept):
        found = hep.document("audit", "--who", who, "--object", "hook:greet", "--format", "json")
        assert {entry["user"] for entry in found} == {kept}, who
    assert hep("audit", "--who", "somebody-of-another-name@web-1.production.eu.example.com") == "Nothing.\n"


def test_retried_events_are_kept_each_however_they_are_reset(hep: Hep, connection: Connection) -> None:
    one, two, three = (
        insert_event(connection, "failed", source="PreToolUse", created_at=ago(minutes=n)) for n in (3, 2, 1)
    )
    hep("events", "retry", str(one), "--reason", "the disk is free again")
    connection.execute(seed.RESET)
    assert _kept(connection) == [
        ("retried", "event", str(one)),
        ("retried", "event", str(two)),
        ("retried", "event", str(three)),
    ]
    assert _kept(connection, "reason")[0] == ("the disk is free again",)
    assert _kept(connection, "details")[0] == ({"type": "PreToolUse.failed", "attempts": 3},)
    listed = hep("audit", "--object", str(two)[:13])
    assert str(two) in listed
    assert str(one) not in listed


@pytest.mark.parametrize(
    ("table", "kept"),
    [
        ("hook_grants", ("emptied", "grant")),
        ("hook_libraries, hook_library_versions", ("emptied", "library")),
        ("hook_library_versions", ("versions emptied", "library")),
        ("hook_versions", ("versions emptied", "hook")),
        ("event_types", ("emptied", "event type")),
        ("hosts", ("emptied", "host")),
        ("hook_state", ("emptied", "state")),
    ],
)
def test_an_emptied_table_is_kept(connection: Connection, table: str, kept: tuple[str, str]) -> None:
    connection.execute(f"TRUNCATE {table}")
    assert kept in _kept(connection, "action, kind")


def test_removed_events_are_counted_by_statement(hep: Hep, connection: Connection) -> None:
    one = insert_event(connection, "completed")
    for _ in range(3):
        insert_event(connection, "completed", created_at=ago(days=60))
    insert_event(connection, "pending")
    hep("events", "delete", str(one))
    hep("events", "cleanup", "--older-than", "30d")
    connection.execute("DELETE FROM hook_events")
    connection.execute("DELETE FROM hook_events")
    connection.execute("TRUNCATE hook_events")
    assert _kept(connection, "action, name, details -> 'count', details -> 'unfinished'") == [
        ("removed", str(one), 1, 0),
        ("removed", "", 3, 0),
        ("removed", _only_name(connection), 1, 1),
        ("emptied", "", None, None),
    ]


def _only_name(connection: Connection) -> str:
    [(name,)] = connection.execute("SELECT name FROM hook_audit WHERE details -> 'unfinished' = '1'").fetchall()
    return str(name)


def test_an_event_that_is_rewritten_is_kept(connection: Connection) -> None:
    insert_event(connection)
    connection.execute("UPDATE hook_events SET processed = TRUE, processed_at = now()")
    assert _kept(connection) == []
    connection.execute("UPDATE hook_events SET payload = '{}'")
    assert _kept(connection) == [("rewritten", "event", "")]


def test_a_text_that_is_changed_in_place_is_kept_by_its_hash(connection: Connection) -> None:
    add_hook(connection, "greet", "a.b", "-- one")
    connection.execute("UPDATE hook_versions SET source_text = '-- another'")
    [*_, (action, name, details)] = _kept(connection, "action, name, details")
    assert (action, name) == ("version changed", "greet")
    assert details["sha256"] != details["sha256_before"]


def test_watchers_types_state_hosts_and_grants(hep: Hep, connection: Connection, database: Database) -> None:
    connection.execute("INSERT INTO watchers (id, type, host, name) VALUES ('watcher-1', 'cpu', 'web-1', 'busy')")
    hep("watcher", "disable", "busy")
    connection.execute("UPDATE watchers SET last_check = now(), last_error = 'none'")
    connection.execute("INSERT INTO event_types (type) VALUES ('order.paid')")
    connection.execute("INSERT INTO hosts (name) VALUES ('web-1')")
    connection.execute("UPDATE hosts SET last_seen = now()")
    hep("hosts", "forget", "web-1")
    assert hep.run("state", "set", "--hook", "greet", "k", f'"{SECRET}"').status == 0
    with database.session("state") as hooks_own:
        hooks_own.execute("UPDATE hook_state SET value = '2'")
    assert _kept(connection) == [
        ("added", "watcher", "busy"),
        ("disabled", "watcher", "busy"),
        ("added", "event type", "order.paid"),
        ("removed", "host", "web-1"),
        ("added", "state", "k"),
    ]
    assert SECRET not in str(_kept(connection, "hook_audit::text"))


@pytest.fixture
def author(server: EmbeddedServer, database: Database, reachable_path: Path) -> Database:
    """The database as an author of the stack web reaches it; there are logins for all other roles, too."""
    with give_roles(server, database, reachable_path / "home") as administration:
        make_login(administration, "web_author", "hook_author")
        roles.grant(administration, [roles.Grant("login_web_author", "stack", "web")])
    return as_login(database, "web_author")


_VERSION = "INSERT INTO hook_versions (hook_id, version, source_text, sha256) VALUES ({}, 2, '', '')"


def test_a_text_that_an_authors_own_trigger_adds_is_kept(connection: Connection, author: Database) -> None:
    hook_id = add_hook(connection, "greet", "a.b", "-- one", stack="web")
    with author.session("tests") as session:
        session.execute("CREATE TEMP TABLE mine (id int)")
        session.execute(
            "CREATE FUNCTION pg_temp.add() RETURNS trigger LANGUAGE plpgsql AS"  # type: ignore[arg-type]
            f" $$ BEGIN {_VERSION.format(hook_id)}; RETURN NULL; END $$"
        )
        session.execute("CREATE TRIGGER add AFTER INSERT ON mine FOR EACH ROW EXECUTE FUNCTION pg_temp.add()")
        session.execute("INSERT INTO mine VALUES (1)")
    kept = _kept(connection, "action, name, details -> 'version', role")
    assert kept[-1] == ("new version", "greet", 2, "login_web_author")


def test_versions_that_are_removed_are_kept_unless_their_hook_goes(connection: Connection) -> None:
    hook_id = add_hook(connection, "greet", "a.b", "-- one")
    connection.execute(_VERSION.format(hook_id))  # type: ignore[call-overload]
    connection.execute("DELETE FROM hook_versions WHERE version = 1")
    connection.execute("DELETE FROM hooks")
    assert _kept(connection, "action, details -> 'version'")[-2:] == [("version removed", 1), ("removed", 1)]


@pytest.mark.parametrize("own", ["state", "housekeeping"])
def test_an_author_that_calls_its_session_as_a_processor_does_is_kept(
    connection: Connection, database: Database, author: Database, own: str
) -> None:
    """What a processor does itself is not: hooks change what they remember with every run."""
    connection.execute(
        "INSERT INTO hook_state (stack, scope, name, key, value) VALUES ('web', 'hook', 'greet', 'k', '1')"
    )
    for who in (as_login(database, "processor"), author):
        with who.session(own) as session:
            assert session.execute("UPDATE hook_state SET value = to_jsonb(session_user::text)").rowcount == 1
    assert _kept(connection, "action, kind, role")[-2:] == [
        ("added", "state", connection.info.user),
        ("changed", "state", "login_web_author"),
    ]


@pytest.mark.parametrize(
    "statement", ["UPDATE hook_audit SET role = 'x'", "DELETE FROM hook_audit", "TRUNCATE hook_audit"]
)
def test_the_owner_is_stopped_too(connection: Connection, statement: str) -> None:
    add_hook(connection, "greet", "a.b", "")
    with pytest.raises(psycopg.errors.InsufficientPrivilege, match="hook_audit is only added to"):
        connection.execute(statement)


def test_the_owner_writes_in_nobody_elses_name(connection: Connection) -> None:
    connection.execute(
        "INSERT INTO hook_audit (at, role, client, address, action, kind)"
        " VALUES (now() - interval '1 year', 'alice', 'psql', '192.0.2.1', 'removed', 'hook')"
    )
    [(at, role, client, address)] = _kept(connection, "at, role, client, address")
    assert at > ago(seconds=60)
    assert (role, client, address) == (connection.info.user, "hook-event-processor tests", None)


@contextmanager
def _unsigned(connection: Connection) -> Iterator[None]:
    """Entries keep what is said of them, as those that are restored do."""
    connection.execute("ALTER TABLE hook_audit DISABLE TRIGGER hook_audit_signed")
    yield
    connection.execute("ALTER TABLE hook_audit ENABLE TRIGGER hook_audit_signed")


def test_what_is_old_goes_with_retention_and_never_the_last_thirty_days(hep: Hep, connection: Connection) -> None:
    with _unsigned(connection):
        for days in (400, 300, 40, 20, 1):
            connection.execute(
                "INSERT INTO hook_audit (at, action, kind, name) VALUES (%s, 'added', 'hook', %s)",
                (ago(days=days), str(days)),
            )
    hep("events", "cleanup")
    assert [name for (name,) in _kept(connection, "name")] == ["300", "40", "20", "1"]
    assert audit.forget(connection, ago(days=0) - ago(days=1)) == 2
    assert [name for (name,) in _kept(connection, "name")] == ["20", "1"]


def test_what_is_old_goes_in_steps(connection: Connection, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(small_steps, "STEP_ROWS", 3)
    with _unsigned(connection):
        connection.execute(
            """
            INSERT INTO hook_audit (at, action, kind, name)
            SELECT now() - interval '400 days', 'added', 'hook', n::text FROM generate_series(1, 7) n
            """
        )
    connection.execute(
        """
        CREATE TABLE steps (number bigint, transaction xid8 DEFAULT pg_current_xact_id());
        CREATE FUNCTION note_step() RETURNS trigger LANGUAGE plpgsql AS $$
        BEGIN INSERT INTO steps SELECT count(*) FROM gone; RETURN NULL; END $$;
        CREATE TRIGGER steps AFTER DELETE ON hook_audit REFERENCING OLD TABLE AS gone
            FOR EACH STATEMENT EXECUTE FUNCTION note_step();
        """
    )
    assert audit.forget(connection, timedelta(days=365)) == 7
    assert connection.execute("SELECT number FROM steps ORDER BY transaction").fetchall() == [(3,), (3,), (1,)]
    assert connection.execute("SELECT count(DISTINCT transaction) FROM steps").fetchone() == (3,)
    assert _kept(connection) == []


def test_what_was_rolled_back_is_not_kept(connection: Connection) -> None:
    with connection.transaction(force_rollback=True):
        add_hook(connection, "greet", "a.b", "")
    assert _kept(connection) == []


def test_the_list_is_narrowed_and_readable(hep: Hep, connection: Connection, tmp_path: Path) -> None:
    assert hep("audit") == "Nothing.\n"
    hep("hook", "add", _hook(tmp_path))
    hep("hook", "disable", "greet", "--reason", "too loud")
    head, newest, *_ = hep("audit").splitlines()
    assert head.split() == ["Time", "Who", "Action", "Object", "Details", "Reason"]
    for part in (f"({own_events.actor()}@", "disabled", "hook greet", "enabled: true -> false", "too loud"):
        assert part in newest
    assert len(hep.document("audit", "--limit", "1", "--format", "json")) == 1
    for narrowed in (
        ("--who", own_events.actor()),
        ("--who", connection.info.user),
        ("--since", "1h"),
        ("--object", "hook"),
    ):
        assert len(hep.document("audit", *narrowed, "--format", "json")) == 3
    for narrowed in (("--who", "somebody"), ("--since", "0s"), ("--object", "secret")):
        assert hep("audit", *narrowed) == "Nothing.\n"


def test_python_handlers_are_kept_as_such(connection: Connection) -> None:
    connection.execute("INSERT INTO hooks (name, kind, event_types) VALUES ('mine', 'python', '{a.b}')")
    assert _kept(connection) == [("added", "handler", "mine")]
