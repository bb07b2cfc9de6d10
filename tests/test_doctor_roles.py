"""`hep doctor roles`: what the roles may do in this database differs from sql/roles.sql, and is brought back."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from clinic import Clinic
from commands import Hep
from logins import administrator, as_login, let_in, make_login
from psycopg import Connection

from hook_event_processor.doctor.roles import expected, guarded
from hook_event_processor.store import roles
from hook_event_processor.store.checkup import rights
from hook_event_processor.store.database import Database
from hook_event_processor.store.embedded import EmbeddedServer

pytestmark = pytest.mark.store
LookAs = Callable[[str, str], None]


@pytest.fixture(scope="module")
def administration(server: EmbeddedServer, shared_database: Database) -> Iterator[Connection]:
    """The superuser's session, on a database with all roles; each test leaves it well."""
    with administrator(server, shared_database) as connection:
        roles.apply(connection)
        yield connection


@pytest.fixture
def clinic(
    offline_hep: Hep,
    administration: Connection,
    shared_database: Database,
    server: EmbeddedServer,
    monkeypatch: pytest.MonkeyPatch,
) -> Clinic:
    monkeypatch.setenv("DATABASE_URL", shared_database.conninfo)
    return Clinic(offline_hep, shared_database, server)


@pytest.fixture
def look_as(
    clinic: Clinic,
    administration: Connection,
    server: EmbeddedServer,
    reachable_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> LookAs:
    """From now on the doctor looks as a login of this name that belongs to this role."""

    def look(name: str, role: str) -> None:
        let_in(server, reachable_path / "home")
        make_login(administration, name, role)
        monkeypatch.setenv("DATABASE_URL", as_login(clinic.database, name).conninfo)

    return look


def test_the_description_is_what_the_script_makes(administration: Connection) -> None:
    """Otherwise: ops/schema, and commit what it writes."""
    made = {right for right in rights.rights(administration, roles.NAMES) if right.role != rights.EVERYBODY}
    assert made == expected(), "run ops/schema"
    guards = rights.guards(administration)
    assert {(guard.table, guard.policy) for guard in guards} == guarded().keys()
    assert all(guard.meaning in guarded()[guard.table, guard.policy] for guard in guards), "run ops/schema"


def test_roles_that_were_set_up_are_found_well_and_others_are_not_looked_at(
    clinic: Clinic, offline_hep: Hep, database: Database, server: EmbeddedServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert clinic.findings("roles") == []
    monkeypatch.setenv("DATABASE_URL", database.conninfo)
    # The server has the roles, and this database was never given to them.
    assert Clinic(offline_hep, database, server).findings("roles") == []


@pytest.mark.parametrize(
    ("harm", "what"),
    [
        ("REVOKE SELECT ON hook_state FROM hook_processor", "the role hook_processor lacks SELECT on hook_state"),
        (
            "REVOKE UPDATE (lease_token, dequeued) ON hook_events FROM hook_processor",
            "the role hook_processor lacks UPDATE (dequeued, lease_token) on hook_events",
        ),
        ("REVOKE USAGE ON SCHEMA public FROM hook_reader", "the role hook_reader lacks USAGE on the schema"),
        ("ALTER TABLE hook_pauses OWNER TO hep", "hook_owner does not own hook_pauses"),
    ],
)
def test_what_a_role_lacks_is_granted_again(clinic: Clinic, administration: Connection, harm: str, what: str) -> None:
    administration.execute(harm)  # type: ignore[call-overload]
    assert clinic.mends("roles", "grant-missing")["what"] == what
    assert clinic.findings("roles") == []


@pytest.mark.parametrize(
    ("harm", "what"),
    [
        (
            "GRANT SELECT, UPDATE (payload) ON hook_events TO hook_publisher",
            "the role hook_publisher has SELECT, UPDATE (payload) on hook_events, and is not meant to",
        ),
        (
            "GRANT SELECT ON hook_versions TO hook_reader WITH GRANT OPTION",
            "the role hook_reader has SELECT WITH GRANT OPTION on hook_versions, and is not meant to",
        ),
        ("GRANT SELECT ON hook_secrets TO PUBLIC", "everybody has SELECT on hook_secrets"),
        ("GRANT SELECT (value) ON hook_state TO PUBLIC", "everybody has SELECT (value) on hook_state"),
        ("GRANT CREATE ON SCHEMA public TO PUBLIC", "everybody has CREATE on the schema"),
    ],
)
def test_what_a_role_has_beyond_its_grants_is_taken_back(
    clinic: Clinic, administration: Connection, harm: str, what: str
) -> None:
    administration.execute(harm)  # type: ignore[call-overload]
    assert clinic.mends("roles", "grant-extra")["what"] == what
    roles.apply(administration)
    assert clinic.findings("roles") == []


def test_a_role_that_is_a_member_of_another_is_found(clinic: Clinic, administration: Connection) -> None:
    administration.execute("GRANT hook_owner TO hook_processor")
    found = clinic.mends("roles", "grant-extra")
    assert found["what"] == "the role hook_processor may do all that hook_owner may, being a member of it"


def test_a_processor_that_does_not_see_all_hooks_is_found(clinic: Clinic, administration: Connection) -> None:
    narrowed = make_login(administration, "narrowed processor", "hook_processor", "hook_author")
    make_login(administration, "not_narrowed", "hook_processor", "hook_author", "hook_owner")
    found = clinic.mends("roles", "processor-narrowed")
    assert found["what"] == f"the login {narrowed} is a member of hook_processor and of hook_author"
    administration.execute("DROP ROLE login_not_narrowed")


def test_what_cleanups_are_granted_by_choice_is_no_finding(clinic: Clinic, administration: Connection) -> None:
    administration.execute("GRANT SELECT ON hook_events, event_hook_executions, hooks, hook_versions TO hook_retention")
    administration.execute("GRANT DELETE ON hook_versions TO hook_retention")
    administration.execute("GRANT INSERT, SELECT ON hook_archived_events, hook_archived_executions TO hook_retention")
    assert clinic.findings("roles") == []
    roles.apply(administration)


@pytest.mark.parametrize(
    ("harm", "what"),
    [
        ("DROP POLICY own_stacks ON hooks", "the policy own_stacks of hooks is missing"),
        ("ALTER POLICY own_hosts ON watchers USING (true)", "the policy own_hosts of watchers is not as it was made"),
        ("ALTER TABLE hook_state DISABLE ROW LEVEL SECURITY", "row security of hook_state is off"),
        (
            "CREATE POLICY none ON hooks AS RESTRICTIVE USING (false)",
            "the policy none of hooks is nobody's of ours: AS RESTRICTIVE TO PUBLIC USING (false)",
        ),
        (
            "ALTER TABLE hook_events ENABLE ROW LEVEL SECURITY",
            "row security of hook_events is on, which hides rows from whoever no policy names",
        ),
    ],
)
def test_row_security_that_differs_is_brought_back(
    clinic: Clinic, administration: Connection, harm: str, what: str
) -> None:
    administration.execute(harm)  # type: ignore[call-overload]
    assert clinic.mends("roles", "row-security")["what"] == what
    assert clinic.findings("roles") == []


def test_a_superuser_mends_it_with_what_is_printed(clinic: Clinic, administration: Connection) -> None:
    administration.execute("REVOKE ALL ON hooks FROM hook_author")
    clinic.mends("roles", "grant-missing", 1)


def test_who_may_not_look_is_told_how_to_become_a_reader(
    clinic: Clinic, administration: Connection, look_as: LookAs
) -> None:
    look_as("watching", "hook_watcher")
    found = [one for one in clinic.document()["findings"] if one["kind"] == "not-allowed"]
    assert "events: permission denied for table hook_events" in [one["what"] for one in found]
    clinic.mend(found[0])
    assert [one for one in clinic.document()["findings"] if one["kind"] == "not-allowed"] == []
    clinic.mend(found[0], 1)  # it was done
    administration.execute("DROP ROLE login_watching")


def test_a_reader_is_not_told_to_become_a_processor_by_single_grants(
    clinic: Clinic, administration: Connection, look_as: LookAs
) -> None:
    look_as("reader", "hook_reader")
    found = clinic.mends("server", "not-for-processors")
    assert found["what"] == "the role login_reader belongs to hook_reader"
    assert clinic.findings("server", "privileges") == []
    administration.execute("REVOKE hook_processor FROM login_reader")
