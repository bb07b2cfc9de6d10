"""The roles of sql/roles.sql: what each may do, and what each must not."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from uuid import UUID

import psycopg
import pytest
from factories import insert_event, insert_execution
from logins import as_login, give_roles, make_login
from psycopg import Connection
from running import add_hook
from waiting import wait_for

from hook_event_processor.errors import HookEventProcessorError, NotFound
from hook_event_processor.event import NewEvent
from hook_event_processor.store import roles
from hook_event_processor.store.database import Database
from hook_event_processor.store.embedded import EmbeddedServer
from hook_event_processor.store.insert import Publisher
from hook_event_processor.store.migrate import migrate

pytestmark = pytest.mark.store

EVENT = UUID("0199f0c2-6f0e-7c3a-8f7e-3d1f6c0f7a51")
LIMITED = ("ci", "web_author", "web_proposer", "far_watcher")


@pytest.fixture(scope="module")
def administration(server: EmbeddedServer, shared_database: Database, reachable_path: Path) -> Iterator[Connection]:
    """The superuser's session, on a database with all roles, hooks of two stacks and of none, an event, a secret."""
    with give_roles(server, shared_database, reachable_path / "home") as connection:
        make_login(connection, "ci", "hook_publisher")
        make_login(connection, "web_author", "hook_author")
        make_login(connection, "web_proposer", "hook_proposer")
        make_login(connection, "far_watcher", "hook_watcher")
        roles.grant(connection, [roles.Grant("login_ci", "source", "deploy")])
        roles.grant(connection, [roles.Grant("login_web_author", "stack", "web")])
        roles.grant(connection, [roles.Grant("login_web_proposer", "stack", "web")])
        roles.grant(connection, [roles.Grant("login_far_watcher", "host", "far")])
        for name, stack in (("of_web", "web"), ("of_shop", "shop"), ("of_all", None)):
            add_hook(connection, name, "task.failed", f"-- {name}", stack=stack)
            connection.execute(
                "INSERT INTO hook_state (stack, scope, name, key, value) VALUES (%s, 'hook', %s, 'k', '1')",
                (stack or "", name),
            )
        connection.execute("INSERT INTO hook_secrets (name, key_id, ciphertext) VALUES ('token', 'k', '\\x00')")
        connection.execute("INSERT INTO hosts (name) VALUES ('near'), ('far')")
        connection.execute("INSERT INTO watchers (id, type, host) VALUES ('w1', 'cpu', 'near'), ('w2', 'cpu', 'far')")
        connection.execute("INSERT INTO event_types (type) VALUES ('order.paid')")
        insert_event(connection, "failed", id=EVENT, payload={"card": "4000"})
        [hook_id] = connection.execute("SELECT id FROM hooks WHERE name = 'of_shop'").fetchone() or []
        insert_execution(connection, EVENT, "of_shop", hook_id=hook_id, output="shop's own")
        yield connection


@pytest.fixture(scope="module")
def sessions(administration: Connection, shared_database: Database) -> Iterator[dict[str, Connection]]:
    """A session of each login, by name."""
    names = [*(name.removeprefix("hook_") for name in roles.NAMES), *LIMITED]
    opened = {name: as_login(shared_database, name).connect("tests", autocommit=True) for name in names}
    yield opened
    for session in opened.values():
        session.close()


_EVENT_INSERT = "INSERT INTO hook_events (source, action) VALUES ('deploy', 'done')"
_PROPOSAL = (
    "INSERT INTO hook_proposals (hook_name, stack, event_types, source_text) VALUES ('of_{0}', '{0}', '{{a.b}}', '')"
)
_HANDLER = "INSERT INTO hooks (name, kind, event_types) VALUES ('handler', 'python', '{a.b}')"
MAY = [
    ("owner", "UPDATE hook_events SET payload = '{}'"),
    ("owner", "ALTER TABLE hook_events ADD COLUMN later text"),
    ("owner", "DELETE FROM hooks"),
    ("owner", "SELECT ciphertext FROM hook_secrets"),
    ("owner", "INSERT INTO hook_grants VALUES ('login_ci', 'source', 'task')"),
    ("owner", "DELETE FROM hook_grants"),
    ("owner", "INSERT INTO hook_schedules (name, cron) VALUES ('nightly', '@daily')"),
    ("owner", "CREATE TABLE hook_of_a_later_migration (id int)"),
    ("processor", "SELECT payload FROM hook_events FOR UPDATE SKIP LOCKED"),
    ("processor", "UPDATE hook_events SET processed = TRUE, processed_at = now(), lease_token = NULL"),
    ("processor", "UPDATE hook_events SET retry_count = 0, failed_at = NULL, processing_errors = NULL"),
    ("processor", _EVENT_INSERT),
    ("processor", _HANDLER),
    ("processor", "SELECT ciphertext FROM hook_secrets"),
    ("processor", "DELETE FROM hook_state"),
    ("processor", "UPDATE hook_events_floor SET seq = 1"),
    ("processor", "UPDATE hooks SET run_count = run_count + 1, last_run = now()"),
    ("processor", f"{_HANDLER}; UPDATE hooks SET event_types = '{{c.d}}', description = 'new' WHERE kind = 'python'"),
    ("processor", "INSERT INTO hook_schedule_times (schedule_id, next_at) SELECT id, now() FROM hook_schedules"),
    ("processor", "UPDATE hook_schedule_times SET next_at = now(), last_at = now(), error = 'x'"),
    ("publisher", _EVENT_INSERT),
    ("publisher", "INSERT INTO hook_events (id, source, action) SELECT id, 'a', '' FROM hook_uuidv7() AS id"),
    ("publisher", "SELECT hook_publish('task.failed', '{\"n\": 1}', delay => '1 hour', stack => 'web')"),
    ("ci", _EVENT_INSERT),
    ("ci", "SELECT hook_publish('deploy.done')"),
    ("watcher", _EVENT_INSERT),
    ("watcher", "INSERT INTO hosts (name) VALUES ('new')"),
    ("watcher", "UPDATE hosts SET last_seen = now() WHERE name = 'near'"),
    ("watcher", "UPDATE watchers SET last_check = now(), last_error = 'x' WHERE host = 'near'"),
    ("far_watcher", "UPDATE hosts SET last_seen = now() WHERE name = 'far'"),
    ("web_author", "UPDATE hooks SET enabled = FALSE WHERE name = 'of_web'"),
    ("web_author", "INSERT INTO hooks (name, event_types, stack) VALUES ('another', '{a.b}', 'web')"),
    ("web_author", "DELETE FROM hooks WHERE name = 'of_web'"),
    ("web_author", "UPDATE hooks SET event_types = '{a.b}', description = 'another' WHERE name = 'of_web'"),
    ("web_author", "SELECT id, type FROM events"),
    ("web_author", _PROPOSAL.format("web")),
    ("web_author", "SELECT source_text FROM hook_proposals"),
    ("web_author", "UPDATE hook_proposals SET state = 'rejected', answer = 'no'"),
    ("web_proposer", _PROPOSAL.format("web")),
    ("web_proposer", "SELECT source_text FROM hook_proposals"),
    ("web_proposer", "SELECT source_text FROM hook_versions"),
    ("reader", "SELECT source_text FROM hook_proposals"),
    ("reader", "SELECT payload FROM hook_events"),
    ("reader", "SELECT * FROM events"),
    ("reader", "SELECT output FROM event_hook_executions"),
    ("reader", "SELECT source_text FROM hook_versions"),
    ("reader", "SELECT name FROM hook_secrets"),
    ("reader", "SELECT * FROM hook_audit"),
    ("reader", "SELECT * FROM hook_schedules JOIN hook_schedule_times ON schedule_id = id"),
    ("retention", "DELETE FROM hook_events WHERE processed AND processed_at < now()"),
    ("retention", "DELETE FROM event_hook_executions WHERE executed_at < now()"),
    ("retention", "DELETE FROM hook_audit WHERE at < now() - interval '1 year'"),
    ("retention", "DELETE FROM hook_proposals WHERE state <> 'open' AND decided_at < now() - interval '1 year'"),
]
_AUDIT = (
    "INSERT INTO hook_audit (action, kind) VALUES ('a', 'b')",
    "UPDATE hook_audit SET role = 'somebody else'",
    "TRUNCATE hook_audit",
    "SELECT hook_audit_note('approved', 'event', 'x')",
    "ALTER TABLE hook_audit DISABLE TRIGGER ALL",
)
_ALL = (
    *("processor", "watcher", "publisher", "ci", "author", "web_author", "proposer", "web_proposer", "reader"),
    "retention",
)
_PROPOSING = ("author", "web_author", "proposer", "web_proposer")
MUST_NOT = [
    *((role, statement) for role in _ALL for statement in _AUDIT),
    *((role, "DELETE FROM hook_audit") for role in _ALL if role != "retention"),
    *((role, "INSERT INTO hook_grants VALUES ('login_ci', 'source', 'task')") for role in _ALL),
    *((role, "DELETE FROM hook_grants") for role in _ALL),
    *((role, "UPDATE hook_registry SET revision = 0") for role in _ALL),
    *((role, "CREATE TABLE hook_trap (id int)") for role in _ALL),
    *((role, "TRUNCATE hook_events") for role in _ALL),
    *((role, "SELECT ciphertext FROM hook_secrets") for role in _ALL if role != "processor"),
    *((role, "INSERT INTO hook_secrets VALUES ('new', 'k', '\\x00')") for role in _ALL),
    *((role, "DELETE FROM hook_events") for role in _ALL if role != "retention"),
    *((role, "UPDATE hook_versions SET source_text = ''") for role in _ALL),
    *((role, "INSERT INTO hook_schedules (name, cron) VALUES ('mine', '@daily')") for role in _ALL),
    *((role, "UPDATE hook_schedules SET payload = '{}', enabled = TRUE") for role in _ALL),
    *((role, "DELETE FROM hook_schedules") for role in _ALL),
    *((role, "UPDATE hook_schedule_times SET next_at = now()") for role in _ALL if role != "processor"),
    *((role, _PROPOSAL.format("web")) for role in _ALL if role not in ("web_author", "web_proposer")),
    *((role, _PROPOSAL.format("shop")) for role in _ALL),
    *((role, "UPDATE hook_proposals SET state = 'rejected'") for role in _ALL if role not in _PROPOSING),
    *((role, "UPDATE hook_proposals SET source_text = ''") for role in _ALL),
    *((role, "DELETE FROM hook_proposals") for role in _ALL if role != "retention"),
    *((role, "TRUNCATE hook_proposals") for role in _ALL),
    *((role, "ALTER TABLE hook_proposals DISABLE TRIGGER ALL") for role in _ALL),
    *((role, "SET ROLE hook_owner") for role in _ALL),
    *(
        ("processor", f"UPDATE hook_events SET {change}")
        for change in (
            "payload = '{}'",
            "metadata = '{}'",
            "source = 'x'",
            "created_at = now()",
            "priority = 1",
            "seq = 1",
        )
    ),
    ("processor", "INSERT INTO hook_events (source, action, processed) VALUES ('a', 'b', TRUE)"),
    ("processor", "UPDATE event_hook_executions SET output = ''"),
    ("processor", "DELETE FROM event_hook_executions"),
    ("processor", "INSERT INTO hooks (name, event_types) VALUES ('planted', '{*}')"),
    ("processor", "INSERT INTO hook_versions (hook_id, version, source_text, sha256) VALUES (1, 9, '', '')"),
    ("processor", "UPDATE hooks SET enabled = FALSE"),
    ("processor", "UPDATE hooks SET event_types = '{never.*}' WHERE name = 'of_web'"),
    ("processor", "UPDATE hooks SET description = '' WHERE name = 'of_web'"),
    (
        "processor",
        f"{_HANDLER}, ('of_web', 'python', '{{a.b}}') ON CONFLICT (name) DO UPDATE SET event_types = '{{c.d}}'",
    ),
    ("processor", "DELETE FROM hooks"),
    ("processor", "UPDATE watchers SET config = '{}'"),
    *(
        (role, f"SELECT FROM {table}")
        for role in ("publisher", "ci")
        for table in (
            "hook_events",
            "events",
            "hooks",
            "hook_versions",
            "event_hook_executions",
            "hook_grants",
            "hosts",
        )
    ),
    *((role, "SELECT payload FROM hook_events") for role in ("watcher", "author", "web_author", "web_proposer")),
    *(
        (role, statement)
        for role in ("proposer", "web_proposer")
        for statement in (
            "INSERT INTO hooks (name, event_types, stack) VALUES ('planted', '{*}', 'web')",
            "UPDATE hooks SET enabled = FALSE",
            "DELETE FROM hooks",
            "INSERT INTO hook_versions (hook_id, version, source_text, sha256) VALUES (1, 9, '', '')",
            "SELECT output FROM event_hook_executions",
            "SELECT value FROM hook_state",
            "SELECT FROM hook_audit",
            _EVENT_INSERT,
        )
    ),
    ("publisher", "INSERT INTO hook_events (source, action) VALUES ('a', 'b') RETURNING id"),
    ("publisher", "UPDATE hook_events SET processed = TRUE"),
    ("publisher", "INSERT INTO hook_events (source, action, seq) VALUES ('a', 'b', 1)"),
    ("publisher", "INSERT INTO hook_events (source, action, failed_at) VALUES ('a', 'b', now())"),
    ("ci", "INSERT INTO hook_events (source, action) VALUES ('deploy', 'done'), ('task', 'failed')"),
    ("ci", "INSERT INTO hook_events (source, action) VALUES ('Deploy', 'done')"),
    ("ci", "SELECT hook_publish('task.failed')"),
    ("watcher", "UPDATE watchers SET config = '{}'"),
    ("watcher", "INSERT INTO watchers (id, type, host) VALUES ('w3', 'cpu', 'near')"),
    ("watcher", "DELETE FROM hosts"),
    ("far_watcher", "INSERT INTO hosts (name) VALUES ('near too')"),
    ("web_author", "UPDATE hooks SET stack = 'shop'"),
    ("web_author", "UPDATE hooks SET stack = NULL"),
    ("web_author", "UPDATE hooks SET run_count = 9"),
    ("web_author", "INSERT INTO hooks (name, event_types, stack) VALUES ('planted', '{*}', 'shop')"),
    ("web_author", "INSERT INTO hooks (name, event_types) VALUES ('planted', '{*}')"),
    ("web_author", "INSERT INTO hooks (name, event_types, stack, kind) VALUES ('planted', '{*}', 'web', 'python')"),
    ("web_author", "INSERT INTO hook_libraries (name) VALUES ('planted')"),
    ("web_author", "INSERT INTO hook_state (stack, scope, name, key, value) VALUES ('shop', 'hook', 'n', 'k', '1')"),
    ("author", "INSERT INTO hooks (name, event_types, stack) VALUES ('planted', '{*}', 'web')"),
    ("reader", "SELECT value FROM hook_state"),
    ("reader", "SELECT * FROM hook_secrets"),
    ("reader", _EVENT_INSERT),
    ("retention", "SELECT payload FROM hook_events"),
    ("retention", "UPDATE hook_events SET processed = TRUE"),
    ("retention", "SELECT FROM hooks"),
]


@pytest.mark.parametrize(("role", "statement"), MAY)
def test_a_role_may(sessions: dict[str, Connection], role: str, statement: str) -> None:
    with sessions[role].transaction(force_rollback=True):
        sessions[role].execute(statement)


@pytest.mark.parametrize("role", sorted({role for role, _ in MUST_NOT}))
def test_a_role_must_not(sessions: dict[str, Connection], role: str) -> None:
    """Everything of the table that is the role's; a statement that passes is named."""
    passed = []
    for statement in (statement for name, statement in MUST_NOT if name == role):
        try:
            with sessions[role].transaction(force_rollback=True):
                sessions[role].execute(statement)
        except psycopg.errors.InsufficientPrivilege:
            continue
        passed.append(statement)
    assert passed == []


@pytest.mark.parametrize(
    ("role", "statement", "seen"),
    [
        ("web_author", "SELECT name FROM hooks", ["of_web"]),
        ("web_author", "SELECT source_text FROM hook_versions", ["-- of_web"]),
        ("web_author", "SELECT output FROM event_hook_executions", []),
        ("web_author", "SELECT name FROM hook_state", ["of_web"]),
        ("author", "SELECT name FROM hooks", []),
        ("web_proposer", "SELECT name FROM hooks", ["of_web"]),
        ("web_proposer", "SELECT source_text FROM hook_versions", ["-- of_web"]),
        ("proposer", "SELECT name FROM hooks", []),
        ("processor", "SELECT name FROM hooks ORDER BY id", ["of_web", "of_shop", "of_all"]),
        ("far_watcher", "SELECT name FROM hosts", ["far"]),
        ("far_watcher", "SELECT id FROM watchers", ["w2"]),
        ("watcher", "SELECT id FROM watchers ORDER BY id", ["w1", "w2"]),
    ],
)
def test_a_role_sees(sessions: dict[str, Connection], role: str, statement: str, seen: list[str]) -> None:
    assert [row[0] for row in sessions[role].execute(statement)] == seen


@pytest.mark.parametrize(
    ("role", "statement"),
    [
        ("web_author", "UPDATE hooks SET enabled = FALSE WHERE name <> 'of_web'"),
        ("web_author", "DELETE FROM hooks WHERE name <> 'of_web'"),
        ("web_author", "DELETE FROM hook_state WHERE name <> 'of_web'"),
        ("far_watcher", "UPDATE hosts SET status = 'stopped' WHERE name = 'near'"),
        ("far_watcher", "UPDATE watchers SET last_error = 'x' WHERE host = 'near'"),
    ],
)
def test_what_a_role_does_not_see_it_does_not_change(
    sessions: dict[str, Connection], role: str, statement: str
) -> None:
    with sessions[role].transaction(force_rollback=True):
        assert sessions[role].execute(statement).rowcount == 0


def test_a_publisher_cannot_leave_its_limits_by_becoming_another_role(sessions: dict[str, Connection]) -> None:
    session = sessions["ci"]
    with session.transaction(force_rollback=True):
        session.execute("SET LOCAL ROLE hook_publisher")
        with pytest.raises(psycopg.errors.InsufficientPrivilege, match="login_ci may not publish events of the source"):
            session.execute("INSERT INTO hook_events (source, action) VALUES ('task', 'failed')")


def test_a_limit_holds_for_copy(sessions: dict[str, Connection]) -> None:
    publisher = Publisher(sessions["ci"])
    with sessions["ci"].transaction(force_rollback=True):
        assert publisher.publish_many([NewEvent("deploy", "done", {})] * 3) == 3
    with pytest.raises(psycopg.errors.InsufficientPrivilege, match="may not publish events of the source 'task'"):
        publisher.publish_many([NewEvent("deploy", "done", {}), NewEvent("task", "failed", {})])


def test_inserts_pay_for_limits_only_while_there_are_any(administration: Connection) -> None:
    limits = "SELECT count(*) FROM pg_trigger WHERE tgname = 'hook_events_limited'"
    with administration.transaction(force_rollback=True):
        assert administration.execute(limits).fetchone() == (1,)
        assert roles.revoke(administration, "login_ci").count == 1
        assert administration.execute(limits).fetchone() == (0,)


def test_grants_at_the_same_time_limit_everybody_that_they_name(database: Database, connection: Connection) -> None:
    """Both wait for a writer of events, and neither sees the other's grant before it is committed."""
    with database.session("one") as one, database.session("two") as two, ThreadPoolExecutor(2) as pool:
        with connection.transaction():
            insert_event(connection)
            granted = []
            for session, name in ((one, "first"), (two, "second")):
                granted.append(
                    pool.submit(session.execute, "INSERT INTO hook_grants VALUES (%s, 'source', 'a')", [name])
                )
                wait_for(partial(_waits, connection, session))
        for each in granted:
            each.result(30)
    assert _limited(connection) == "{first,second}"


def _waits(connection: Connection, other: Connection) -> bool:
    query = "SELECT FROM pg_locks WHERE NOT granted AND pid = %s"
    return connection.execute(query, (other.info.backend_pid,)).rowcount > 0


def _limited(connection: Connection) -> str:
    """Whom the trigger names."""
    row = connection.execute(
        "SELECT substring(pg_get_triggerdef(oid) from '{.*}') FROM pg_trigger WHERE tgname = 'hook_events_limited'"
    ).fetchone()
    assert row is not None
    return str(row[0])


def test_a_migration_limits_whom_earlier_grants_at_the_same_time_left_out(connection: Connection) -> None:
    connection.execute("INSERT INTO hook_grants VALUES ('first', 'source', 'a'), ('second', 'source', 'a')")
    connection.execute(
        "CREATE OR REPLACE TRIGGER hook_events_limited AFTER INSERT ON hook_events FOR EACH ROW"
        " WHEN (session_user = ANY ('{second}'::name[])) EXECUTE FUNCTION hook_events_limited()"
    )
    connection.execute("DELETE FROM hook_migrations WHERE version = 20")
    assert migrate(connection) == 1
    assert _limited(connection) == "{first,second}"


def test_nobody_makes_a_trigger_of_a_function_that_runs_as_the_owner(administration: Connection) -> None:
    open_to_all = administration.execute(
        "SELECT proname FROM pg_proc WHERE prosecdef AND pronamespace = 'public'::regnamespace"
        " AND (has_function_privilege('login_publisher', oid, 'EXECUTE') OR proconfig IS NULL)"
    ).fetchall()
    assert open_to_all == []


def test_the_file_knows_every_table(administration: Connection) -> None:
    """A table that a migration adds is granted there, or named here as nobody's but the owner's."""
    strangers = administration.execute(
        """
        SELECT relname FROM pg_class c
        WHERE relnamespace = 'public'::regnamespace AND relkind IN ('r', 'v') AND NOT EXISTS (
            SELECT FROM unnest(%s::text[]) AS role WHERE has_any_column_privilege(role, c.oid, 'SELECT'))
        """,
        ([name for name in roles.NAMES if name != "hook_owner"],),
    ).fetchall()
    assert strangers == []


def test_everything_belongs_to_the_owner_and_again_after_a_migration(administration: Connection) -> None:
    others = (
        "SELECT relname FROM pg_class WHERE relnamespace = 'public'::regnamespace AND relowner <> 'hook_owner'::regrole"
    )
    with administration.transaction(force_rollback=True):
        administration.execute("CREATE TABLE hook_of_a_later_migration (id int)")
        assert administration.execute(others).fetchall() == [("hook_of_a_later_migration",)]
        roles.apply(administration)
        assert administration.execute(others).fetchall() == []
        administration.execute("SET LOCAL ROLE login_reader")
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            administration.execute("SELECT FROM hook_of_a_later_migration")


def test_a_grant_to_nobody_is_refused(administration: Connection) -> None:
    with pytest.raises(NotFound, match="the database server has no role 'nobody_there'"):
        roles.grant(administration, [roles.Grant("nobody_there", "stack", "web")])


def test_a_source_is_not_granted_to_a_role_that_would_not_be_limited(administration: Connection) -> None:
    with administration.transaction(force_rollback=True):
        administration.execute("CREATE ROLE builders; GRANT builders TO login_ci")
        assert roles.grant(administration, [roles.Grant("builders", "stack", "web")]) == 1
        with pytest.raises(HookEventProcessorError, match="'builders' does not log in, and a source limits nobody but"):
            roles.grant(administration, [roles.Grant("builders", "source", "deploy")])


def test_what_owned_the_tables_goes_on_as_before(administration: Connection, shared_database: Database) -> None:
    """The role that has migrated the database is made a member of the owner."""
    with shared_database.session("tests") as former, former.transaction(force_rollback=True):
        former.execute("ALTER TABLE hooks ADD COLUMN later text")
        former.execute("UPDATE hook_events SET payload = '{}'")
        assert former.execute("SELECT count(*) FROM hooks").fetchone() == (3,)
