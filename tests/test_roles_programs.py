"""The product's own programs as the roles of sql/roles.sql: each does its work, and is told what it may not."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path

import pytest
import seed
import watching
from commands import Hep
from factories import ago, insert_event, insert_execution
from logins import administrator, as_login, give_roles, make_login
from psql import psql
from psycopg import Connection
from running import add_hook, insert, running
from waiting import wait_for

from hook_event_processor.event import NewEvent
from hook_event_processor.processor import firing
from hook_event_processor.store import migrate, pauses, roles
from hook_event_processor.store.database import Database
from hook_event_processor.store.embedded import EmbeddedServer
from hook_event_processor.store.insert import Publisher

pytestmark = pytest.mark.store

ROOT = Path(__file__).parents[1]


@pytest.fixture
def administration(server: EmbeddedServer, database: Database, reachable_path: Path) -> Iterator[Connection]:
    with give_roles(server, database, reachable_path / "home") as connection:
        yield connection


@pytest.fixture
def as_role(
    administration: Connection, database: Database, hep: Hep, monkeypatch: pytest.MonkeyPatch
) -> Callable[[str], Hep]:
    """Makes the command line's database that of a login."""

    def become(name: str) -> Hep:
        monkeypatch.setenv("DATABASE_URL", as_login(database, name).conninfo)
        return hep

    return become


def test_a_processor_does_all_its_work(
    administration: Connection, database: Database, connection: Connection, tmp_path: Path
) -> None:
    """Pure and effectful hooks, state, dispatched events, retries, its row, counters, own events."""
    add_hook(
        connection,
        "pure",
        "task.done",
        "local event = require('event')\nreturn { execute = function() event.dispatch('task.after', {}) end }",
    )
    add_hook(
        connection,
        "remembers",
        "task.done",
        "local state = require('state')\nreturn { execute = function() state.incr('runs') end }",
    )
    add_hook(connection, "fails", "task.wrong", "return { execute = function() error('no') end }")
    done = insert(connection, "task.done", count=20)
    [wrong] = insert(connection, "task.wrong")
    low = insert(connection, "task.done", priority=2, count=3)
    with running(as_login(database, "processor"), tmp_path, max_retry_count=2, retry_delay=0.01) as processor:
        wait_for(lambda: _states(connection, [*done, *low]) == {"completed"}, 20)
        wait_for(lambda: _states(connection, [wrong]) == {"failed"}, 20)
        connection.execute("UPDATE hook_events SET retry_count = 0 WHERE id = %s", (wrong,))
        wait_for(lambda: _states(connection, [wrong]) == {"failed"}, 20)
        assert connection.execute("SELECT value::text FROM hook_state").fetchall() == [("23",)]
        pauses.pause(connection, "source", "task", reason="", paused_by="", lasts=timedelta(seconds=3))
        held: list[object] = []

        def is_paused() -> bool:
            held.extend(insert(connection, "task.quiet"))
            return "paused" in _states(connection, held)

        wait_for(is_paused, 3)
        wait_for(lambda: _states(connection, held) == {"completed"}, 10)
        wait_for(lambda: pauses.stored(connection) == [], 10)
        connection.execute("INSERT INTO hook_schedules (name, every_seconds) VALUES ('each', 1)")
        wait_for(lambda: connection.execute(_HAS_FIRED).fetchone() == (True,), 10)
        assert connection.execute("SELECT count(*) FROM hook_events WHERE action = 'after'").fetchone() == (23,)
    assert connection.execute("SELECT state FROM hook_processors").fetchall() == [("stopped",)]
    assert connection.execute("SELECT run_count FROM hooks WHERE name = 'pure'").fetchone() == (23,)
    assert [line for line in processor.log if "denied" in line or "policy" in line] == []


_HAS_FIRED = "SELECT count(*) > 1 FROM hook_events WHERE source = 'schedule' AND action = 'triggered'"


@pytest.mark.usefixtures("administration")
def test_a_right_that_is_lacking_keeps_a_processor_from_that_alone(
    database: Database, connection: Connection, tmp_path: Path
) -> None:
    connection.execute("REVOKE ALL ON hook_paused_events FROM hook_processor")
    connection.execute("INSERT INTO hook_schedules (name, every_seconds) VALUES ('each', 1)")
    with running(as_login(database, "processor"), tmp_path) as processor:
        wait_for(lambda: connection.execute(_HAS_FIRED).fetchone() == (True,), 10)
        said = [line for line in processor.log if "denied" in line]
    assert len(said) == 1
    assert "pauses do not end, trying again: permission denied for table hook_paused_events" in said[0]


def _states(connection: Connection, ids: list[object]) -> set[str]:
    return {row[0] for row in connection.execute("SELECT state FROM events WHERE id = ANY(%s)", (ids,))}


@pytest.mark.usefixtures("counting_kinds")
def test_a_watcher_daemon_does_all_its_work(
    administration: Connection,
    database: Database,
    connection: Connection,
    tmp_path: Path,
) -> None:
    (tmp_path / "number").write_text("0")
    watcher = watching.add(connection, tmp_path / "number")
    with watching.watching(as_login(database, "watcher"), tmp_path) as daemon:
        wait_for(lambda: watching.looked(connection, watcher).last_check is not None, 20)
        watching.write_number(tmp_path / "number", 3)
        wait_for(lambda: watching.reached(connection) == [1, 2, 3], 20)
    assert connection.execute("SELECT status FROM hosts").fetchall() == [("stopped",)]
    assert [line for line in daemon.log if "denied" in line or "policy" in line] == []


@pytest.mark.usefixtures("counting_kinds")
def test_a_watcher_daemon_that_may_publish_one_source_alone_sends_what_is_of_it(
    administration: Connection, database: Database, connection: Connection, tmp_path: Path, hep: Hep
) -> None:
    hep("db", "grant", "login_watcher", "--source", "count")
    (tmp_path / "number").write_text("0")
    watcher = watching.add(connection, tmp_path / "number")
    with watching.watching(as_login(database, "watcher"), tmp_path) as daemon:
        wait_for(lambda: watching.looked(connection, watcher).last_check is not None, 20)
        watching.write_number(tmp_path / "number", 3)
        wait_for(lambda: watching.reached(connection) == [1, 2, 3], 20)
        administration.execute("REVOKE INSERT ON hook_events FROM hook_watcher")
        watching.write_number(tmp_path / "number", 4)
        wait_for(lambda: daemon.said("permission denied for table hook_events"), 20)
        administration.execute("GRANT INSERT ON hook_events TO hook_watcher")
        wait_for(lambda: watching.reached(connection) == [1, 2, 3, 4], 20)
    for source in ("agent", "system"):
        [said, *_] = daemon.said(f"given up: the role login_watcher may not publish events of the source '{source}'")
        assert "hep db grant" in said
    assert connection.execute("SELECT DISTINCT source FROM hook_events").fetchall() == [("count",)]


def test_a_publisher_publishes_by_every_way(
    administration: Connection,
    database: Database,
    connection: Connection,
    as_role: Callable[[str], Hep],
    tmp_path: Path,
) -> None:
    hep = as_role("publisher")
    assert "published: a.b" in hep("events", "emit", "a.b", '{"n": 1}', "--delay", "1m")
    (tmp_path / "events.jsonl").write_text('{"type": "a.b"}\n{"type": "a.b"}\n')
    hep("events", "emit", "--jsonl", str(tmp_path / "events.jsonl"))
    with as_login(database, "publisher").session("tests") as session:
        publisher = Publisher(session)
        keyed = NewEvent("a", "b", {}, id=publisher.publish("a.b").id)
        assert publisher.publish_many([NewEvent("a", "b", {}), keyed]) == 1
    assert connection.execute("SELECT count(*) FROM hook_events").fetchone() == (5,)
    assert "permission denied" in hep.fault("events", "list")


_HOOK = """local hook = {{ name = "{name}", event_type = "task.failed"{stack} }}
function hook.execute(event) return true, "{text}" end
return hook
"""


def _file(folder: Path, name: str, stack: str | None, text: str = "") -> str:
    file = folder / f"{name}.lua"
    file.write_text(_HOOK.format(name=name, stack=f', stack = "{stack}"' if stack else "", text=text))
    return str(file)


def test_an_author_works_on_the_hooks_of_its_stacks(
    administration: Connection, connection: Connection, tmp_path: Path, as_role: Callable[[str], Hep]
) -> None:
    make_login(administration, "web_author", "hook_author")
    roles.grant(administration, [roles.Grant("login_web_author", "stack", "web")])
    add_hook(connection, "theirs", "task.failed", "-- theirs", stack="shop")
    hep = as_role("web_author")
    assert "added: hook mine" in hep("hook", "add", _file(tmp_path, "mine", "web", "one"))
    assert "version 2" in hep("hook", "add", _file(tmp_path, "mine", "web", "two"))
    hep("hook", "disable", "mine", "--reason", "too loud")
    hep("hook", "enable", "mine")
    hep("hook", "rollback", "mine", "--to", "1")
    assert [hook["name"] for hook in hep.document("hook", "list", "--format", "json")] == ["mine"]
    assert "mine" in hep("hook", "show", "mine")
    [known] = connection.execute("SELECT id FROM hooks WHERE name = 'mine'").fetchone() or []
    insert_execution(connection, insert_event(connection), "mine", hook_id=known)
    assert hep.document("hook", "logs", "mine", "--format", "json")["total_shown"] == 1
    own_stacks = "this role may change the hooks of its own stacks only"
    assert own_stacks in hep.fault("hook", "add", _file(tmp_path, "mine", "shop"))
    assert own_stacks in hep.fault("hook", "add", _file(tmp_path, "for_all", None))
    taken = hep.fault("hook", "add", _file(tmp_path, "theirs", "web"))
    assert "the name 'theirs' is taken by a hook of another stack" in taken
    for command in ("show", "disable", "remove"):
        assert "no hook has the name 'theirs'" in hep.fault("hook", command, "theirs")
    assert "permission denied" in hep.fault("events", "list")
    assert "permission denied" in hep.fault("secret", "list")
    assert "permission denied" in hep.fault("audit")
    hep("hook", "remove", "mine")
    by_author = connection.execute("SELECT action, reason FROM hook_audit WHERE role = 'login_web_author' ORDER BY id")
    assert [action for action, _ in by_author.fetchall()] == [
        *("added", "new version", "changed", "new version", "disabled", "enabled", "changed", "new version", "removed")
    ]
    assert connection.execute("SELECT name FROM hook_audit WHERE reason = 'too loud'").fetchall() == [("mine",)]


@pytest.mark.parametrize(
    ("role", "table", "command"),
    [
        ("author", "hook_pauses", ("hook", "list")),
        ("author", "hook_suspects", ("hook", "list")),
        ("reader", "hook_pauses", ("events", "explain")),
    ],
)
def test_a_role_that_lacks_what_a_later_version_needs_is_told_where_it_comes_from(
    administration: Connection,
    connection: Connection,
    as_role: Callable[[str], Hep],
    role: str,
    table: str,
    command: tuple[str, ...],
) -> None:
    administration.execute(f"REVOKE ALL ON {table} FROM hook_{role}")
    if command == ("events", "explain"):
        command += (str(insert_event(connection)),)
    hep = as_role(role)
    assert hep.fault(*command) == (
        f"hep: the database refused: permission denied for table {table};"
        " after an upgrade, the owner runs 'hep db roles' again"
    )
    roles.apply(administration)
    hep(*command)


def test_a_processor_that_may_not_fire_schedules_says_so_once_and_works(
    administration: Connection,
    database: Database,
    connection: Connection,
    tmp_path: Path,
    hep: Hep,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """As after an upgrade, until the owner runs 'hep db roles' again; nothing else is needed then."""
    monkeypatch.setattr(firing, "_LOOK_SECONDS", 1.0)
    hep("schedule", "set", "pulse", "--every", "1s")
    administration.execute("REVOKE ALL ON hook_schedules, hook_schedule_times FROM hook_processor")
    with running(as_login(database, "processor"), tmp_path) as processor:
        wait_for(lambda: bool(processor.said("schedules do not fire: permission denied for table hook_schedule")), 10)
        [event] = insert(connection, "task.done")
        wait_for(lambda: _states(connection, [event]) == {"completed"}, 10)
        assert "healthy" in hep("health")
        fired = "SELECT count(*) FROM hook_events WHERE source = 'schedule' AND action = 'triggered'"
        assert connection.execute(fired).fetchone() == (0,)
        time.sleep(2.5)
        assert len(processor.said("'hep db roles' again")) == 1
        roles.apply(administration)
        wait_for(lambda: connection.execute(fired).fetchone() != (0,), 10)


def test_a_reader_sees_how_everything_is(
    administration: Connection, database: Database, connection: Connection, as_role: Callable[[str], Hep]
) -> None:
    add_hook(connection, "greet", "task.failed", "-- greet")
    connection.execute("INSERT INTO hook_secrets (name, key_id, ciphertext) VALUES ('token', 'k', '\\x00')")
    event_id = insert_event(connection, "failed")
    hep = as_role("reader")
    for command in (
        *(
            ("status",),
            ("events", "list"),
            ("events", "show", str(event_id)),
            ("hook", "list"),
            ("hook", "show", "greet"),
        ),
        *(("hook", "logs", "greet"), ("hook", "versions", "greet"), ("hosts",), ("watcher", "list"), ("audit",)),
        *(("catalog",), ("db", "check"), ("db", "grants"), ("secret", "list"), ("events", "explain", str(event_id))),
    ):
        hep(*command)
    assert "token" in hep("secret", "list")
    for command in (("events", "retry", "--failed"), ("hook", "disable", "greet"), ("events", "delete", str(event_id))):
        assert "permission denied" in hep.fault(*command)
    with as_login(database, "reader").session("tests") as reader:
        for query in (seed.STATISTICS, seed.ERROR_ANALYSIS, seed.OVER_TARGET, seed.RETRY_COUNTS):
            reader.execute(query)
    psql(as_login(database, "reader"), *(f"--file={file}" for file in sorted((ROOT / "ops/sql").glob("*.sql"))))


def test_retention_removes_what_is_old(
    administration: Connection, connection: Connection, as_role: Callable[[str], Hep]
) -> None:
    insert_event(connection, "completed", created_at=ago(days=60))
    kept = insert_event(connection, "pending", created_at=ago(days=60))
    hep = as_role("retention")
    assert "removed: 1 event" in hep("events", "cleanup", "--older-than", "30d")
    assert connection.execute("SELECT id FROM hook_events").fetchall() == [(kept,)]


def test_who_makes_roles_does_not_keep_others_waiting(
    administration: Connection, database: Database, hep: Hep, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Behind somebody who reads, for as long as a dump takes: whoever comes next would queue behind it."""
    monkeypatch.setattr(migrate, "_LOCK_ATTEMPTS", 1)
    monkeypatch.setattr(migrate, "BEGUN", migrate.BEGUN.replace("'3s'", "'100ms'"))
    assert "SET LOCAL lock_timeout" in hep("db", "roles", "--print")
    with database.session("dump") as dump, dump.transaction():
        dump.execute("SELECT FROM event_hook_executions")
        said = hep.fault("db", "roles")
    assert "'hep db roles' did not get its table locks in 1 attempts: see 'Database Lock Issues'" in said


def test_what_somebody_else_has_given_a_products_name_stays_theirs(
    server: EmbeddedServer, database: Database, hep: Hep, administration: Connection
) -> None:
    """Their function runs as its owner, whoever calls it."""
    made = "CREATE FUNCTION hook_x() RETURNS text LANGUAGE sql SECURITY DEFINER AS 'SELECT current_user::text'"
    with administrator(server, database) as superuser:
        superuser.execute("GRANT CREATE ON SCHEMA public TO login_reader")
        superuser.execute(f"SET ROLE login_reader; {made}; CREATE TABLE hook_y (n int)")
        superuser.execute("RESET ROLE; CREATE TABLE hook_z (n int)")  # as a migration of a superuser's
        superuser.execute(hep("db", "roles", "--print").removeprefix("\\set ON_ERROR_STOP on\n").encode())
        owners = superuser.execute(
            "SELECT proname, proowner::regrole::text FROM pg_proc WHERE proname = 'hook_x' UNION ALL"
            " SELECT relname, relowner::regrole::text FROM pg_class WHERE relname IN ('hook_y', 'hook_z') ORDER BY 1"
        ).fetchall()
        superuser.execute("DROP FUNCTION hook_x(); DROP TABLE hook_y, hook_z")
    assert owners == [("hook_x", "login_reader"), ("hook_y", "login_reader"), ("hook_z", "hook_owner")]


def test_roles_may_be_made_by_one_that_is_no_superuser(
    server: EmbeddedServer, database: Database, connection: Connection, hep: Hep
) -> None:
    """It owns the tables, and has CREATEROLE; without that it is told what to do."""
    with administrator(server, database) as superuser:
        for name in roles.NAMES:
            superuser.execute(f"DROP ROLE IF EXISTS {name}")
        assert "hep db roles --print" in hep.fault("db", "roles")
        superuser.execute(f"ALTER ROLE {connection.info.user} CREATEROLE")
        try:
            assert hep.document("db", "roles", "--format", "json")[0] == {
                "name": "hook_owner",
                "members": [connection.info.user],
            }
            hep("db", "roles")
        finally:
            superuser.execute(f"ALTER ROLE {connection.info.user} NOCREATEROLE")
        hep("db", "migrate")
        hep("events", "emit", "a.b")
        owner = superuser.execute("SELECT relowner::regrole::text FROM pg_class WHERE relname = 'hook_events'")
        assert owner.fetchone() == ("hook_owner",)


def test_what_print_prints_does_the_same(
    server: EmbeddedServer, database: Database, hep: Hep, monkeypatch: pytest.MonkeyPatch
) -> None:
    with administrator(server, database) as superuser:
        superuser.execute(hep("db", "roles", "--print").removeprefix("\\set ON_ERROR_STOP on\n").encode())
        assert superuser.execute("SELECT has_table_privilege('hook_reader', 'hook_events', 'SELECT')").fetchone() == (
            True,
        )
    monkeypatch.setenv("DB_SCHEMA", "Automation")
    assert 'SET LOCAL search_path TO "Automation"' in hep("db", "roles", "--print")


def test_single_grants_are_given_listed_and_taken(administration: Connection, hep: Hep) -> None:
    make_login(administration, "ci", "hook_publisher")
    assert hep("db", "grants") == "No grants.\n"
    assert "2 grants added" in hep("db", "grant", "login_ci", "--source", "deploy", "--source", "build")
    assert "0 grants added" in hep("db", "grant", "login_ci", "--source", "deploy")
    assert [(g["kind"], g["value"]) for g in hep.document("db", "grants", "--format", "json")] == [
        ("source", "build"),
        ("source", "deploy"),
    ]
    assert "1 grant taken" in hep("db", "revoke", "login_ci", "--source", "build")
    assert "1 grant taken" in hep("db", "revoke", "login_ci")
    assert "say what: --source, --stack or --host" in hep.fault("db", "grant", "login_ci")
    assert "an empty name" in hep.fault("db", "grant", "login_ci", "--stack", "")
    assert "has no role 'nobody_there'" in hep.fault("db", "grant", "nobody_there", "--stack", "web")


def test_a_role_whose_last_limit_is_taken_is_said_to_be_unlimited(administration: Connection, hep: Hep) -> None:
    make_login(administration, "ci", "hook_publisher")
    make_login(administration, "far_watcher", "hook_watcher")
    make_login(administration, "of_none")
    administration.execute("DROP ROLE IF EXISTS hook_of_hosts")
    administration.execute("CREATE ROLE hook_of_hosts")
    hep("db", "grant", "login_ci", "--source", "deploy", "--source", "build", "--stack", "web")
    hep("db", "grant", "login_far_watcher", "--host", "far", "--host", "near")
    hep("db", "grant", "login_of_none", "--source", "deploy", "--host", "far")
    assert hep("db", "revoke", "login_ci", "--source", "build", "--stack", "web") == "2 grants taken from login_ci\n"
    assert hep("db", "revoke", "login_of_none") == "2 grants taken from login_of_none\n"
    assert hep("db", "revoke", "login_ci", "--source", "deploy") == (
        "1 grant taken from login_ci; it is limited to no source any more, and may publish events of any:"
        " REVOKE hook_publisher FROM login_ci ends that\n"
    )
    assert hep("db", "revoke", "login_ci", "--source", "deploy") == "0 grants taken from login_ci\n"
    administration.execute("GRANT hook_of_hosts TO login_far_watcher")
    hep("db", "grant", "hook_of_hosts", "--host", "near")
    assert hep.document("db", "revoke", "login_far_watcher", "--host", "far", "--format", "json")["unlimited"] == {}
    assert hep.document("db", "revoke", "login_far_watcher", "--format", "json")["unlimited"] == {}
    hep("db", "revoke", "hook_of_hosts")
    hep("db", "grant", "login_far_watcher", "--host", "far")
    assert hep.document("db", "revoke", "login_far_watcher", "--format", "json") == {
        "role": "login_far_watcher",
        "removed": 1,
        "unlimited": {"host": "REVOKE hook_watcher FROM login_far_watcher"},
    }
    administration.execute("DROP ROLE hook_of_hosts")
