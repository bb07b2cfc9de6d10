"""Proposals of hooks: one role proposes, another approves, and neither can be got around."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import psycopg
import pytest
from commands import Hep
from factories import ago
from logins import as_login, give_roles, make_login
from pages import ROOT, blocks
from psycopg import Connection
from running import add_hook
from waiting import wait_for

from hook_event_processor.store import roles
from hook_event_processor.store.database import Database
from hook_event_processor.store.embedded import EmbeddedServer

pytestmark = pytest.mark.store

_HOOK = """local hook = {{ name = "{name}", event_type = "{event}"{more} }}
function hook.execute(event) return true, "{text}" end
return hook
"""
Become = Callable[[str], Hep]


@pytest.fixture
def administration(server: EmbeddedServer, database: Database, reachable_path: Path) -> Iterator[Connection]:
    """The superuser's session. agent and robot propose for web, alice writes and approves hooks of web, bob of shop."""
    with give_roles(server, database, reachable_path / "home") as connection:
        for name, role, stack in (
            ("agent", "hook_proposer", "web"),
            ("robot", "hook_proposer", "shop"),
            ("alice", "hook_author", "web"),
            ("bob", "hook_author", "shop"),
        ):
            login = make_login(connection, name, role)
            roles.grant(connection, [roles.Grant(login, "stack", stack)])
        yield connection


@pytest.fixture
def become(administration: Connection, database: Database, hep: Hep, monkeypatch: pytest.MonkeyPatch) -> Become:
    """Makes the command line's database that of a login."""

    def become(name: str) -> Hep:
        monkeypatch.setenv("DATABASE_URL", as_login(database, name).conninfo)
        return hep

    return become


@pytest.fixture
def session(administration: Connection, database: Database) -> Iterator[Callable[[str], Connection]]:
    """Opens a login's session for SQL."""
    opened: list[Connection] = []

    def of(name: str) -> Connection:
        opened.append(as_login(database, name).connect("tests", autocommit=True))
        return opened[-1]

    yield of
    for one in opened:
        one.close()


def _file(folder: Path, text: str = "one", name: str = "greet", event: str = "task.failed", stack: str = "web") -> str:
    file = folder / f"{name}.lua"
    more = f', stack = "{stack}"' if stack else ""
    file.write_text(_HOOK.format(name=name, event=event, more=more, text=text))
    return str(file)


def _kept(connection: Connection) -> list[Any]:
    return connection.execute(
        "SELECT action, name, role, reason FROM hook_audit WHERE action <> 'added' OR kind = 'hook' ORDER BY id"
    ).fetchall()


def _refused(connection: Connection, statement: str) -> str:
    with pytest.raises(psycopg.Error) as refusal, connection.transaction():
        connection.execute(statement)  # type: ignore[arg-type]
    return str(refusal.value)


def test_a_proposal_runs_once_somebody_else_has_approved_it(
    become: Become, connection: Connection, tmp_path: Path
) -> None:
    agent = become("agent")
    said = agent("hook", "propose", _file(tmp_path), "--priority", "3", "--reason", "tell of failures")
    assert said.splitlines()[0] == "proposed: proposal 1, the new hook greet, for task.failed of the stack web"
    assert "Somebody else approves it (an author of the stack web, or the owner): 'hep hook approve 1'" in said
    assert agent("hook", "list") == "No hooks.\n"
    assert "waits" not in agent("hook", "proposals")
    assert connection.execute("SELECT count(*) FROM hooks").fetchone() == (0,)
    alice = become("alice")
    [listed] = alice.document("hook", "proposals", "--format", "json")
    assert (listed["id"], listed["hook_name"], listed["stack"], listed["base_version"]) == (1, "greet", "web", None)
    assert (listed["proposed_by"], listed["reason"], listed["state"]) == ("login_agent", "tell of failures", "open")
    assert alice("hook", "approve", "1", "--reason", "read it").splitlines()[0] == (
        "added: hook greet, version 1, for task.failed of the stack web"
    )
    assert connection.execute("SELECT priority, overrides FROM hooks").fetchall() == [(3, {"priority": 3})]
    assert alice("hook", "proposals") == "No open proposals.\n"
    [decided] = alice.document("hook", "proposals", "--all", "--format", "json")
    assert [decided[key] for key in ("state", "decided_by", "answer", "version")] == [
        *("approved", "login_alice", "read it", 1)
    ]
    assert "approved by login_alice, version 1: read it" in alice("hook", "proposals", "--all")
    [version] = alice.document("hook", "versions", "greet", "--format", "json")["versions"]
    assert version["reason"] == "proposal 1 by login_agent"
    assert _kept(connection) == [
        ("proposed", "greet", "login_agent", "tell of failures"),
        ("added", "greet", "login_alice", "read it"),
        ("new version", "greet", "login_alice", "read it"),
        ("approved", "greet", "login_alice", "read it"),
    ]
    [(details,)] = connection.execute("SELECT details FROM hook_audit WHERE action = 'approved'").fetchall()
    assert {**details, "sha256": ""} == {"proposal": 1, "version": 1, "proposed_by": "login_agent", "sha256": ""}


def test_what_a_proposal_would_change_is_shown(become: Become, tmp_path: Path) -> None:
    become("alice")("hook", "add", _file(tmp_path))
    agent = become("agent")
    text = 'return { event_type = { "task.failed", "task.done" }, stack = "web", execute = require("http").get }\n'
    (tmp_path / "greet.lua").write_text(text)
    assert "changes version 1 of hook greet" in agent("hook", "propose", str(tmp_path / "greet.lua"), "--priority", "7")
    shown = become("alice")("hook", "proposal", "1")
    for part in (
        *("Changes:    version 1", "Proposed:   ", "by login_agent (hook-event-processor command of "),
        *("event types: task.failed -> task.failed, task.done", "priority: 0 -> 7", "http", "HOOK_HTTP_ALLOW"),
        *("--- greet.lua\tversion 1\n+++ greet.lua\tproposal 1\n", '+return { event_type = { "task.failed"'),
    ):
        assert part in shown
    document = become("alice").document("hook", "proposal", "1", "--format", "json")
    assert document["settings"]["priority"] == {"from": 0, "to": 7}
    assert document["hook"]["modules"] == ["http"]
    assert document["uses"][0]["setting"] == "HOOK_HTTP_ALLOW"
    assert (document["refusal"], document["source_text"]) == (None, text)
    assert "this role's own" in become("agent").document("hook", "proposal", "1", "--format", "json")["refusal"]
    become("alice")("hook", "approve", "1")
    assert "+++ greet.lua" in become("alice")("hook", "proposal", "1")


def test_what_runs_already_makes_no_proposal_and_the_same_one_makes_no_second(become: Become, tmp_path: Path) -> None:
    become("alice")("hook", "add", _file(tmp_path))
    agent = become("agent")
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    assert agent("hook", "propose", _file(elsewhere)) == "unchanged: hook greet, version 1, is what is proposed\n"
    assert agent.document("hook", "propose", _file(tmp_path), "--format", "json")["proposal"] is None
    assert agent("hook", "proposals") == "No open proposals.\n"
    assert "proposed: proposal 1" in agent("hook", "propose", _file(tmp_path, "two"))
    assert "proposed already: proposal 1" in agent("hook", "propose", _file(tmp_path, "two"))
    assert "proposed: proposal 2" in agent("hook", "propose", _file(tmp_path, "two"), "--disabled")


def test_a_proposer_changes_nothing_and_is_told_what_it_may(become: Become, tmp_path: Path) -> None:
    become("alice")("hook", "add", _file(tmp_path))
    agent = become("agent")
    told = "hep: this role may not change hooks: it may propose them, with 'hep hook propose'"
    for command in (
        ("add", _file(tmp_path, "two")),
        ("add", _file(tmp_path, name="other")),
        *(("disable", "greet"), ("remove", "greet")),
    ):
        assert agent.fault("hook", *command) == told
    applied = agent.run("hook", "apply", str(tmp_path))
    assert (applied.status, told in applied.errors) == (1, True)
    for command in (("list",), ("get", "greet", "--text"), ("versions", "greet")):
        assert "greet" in agent("hook", *command)
    assert "permission denied" in become("reader").fault("hook", "add", _file(tmp_path, "two"))
    assert "permission denied" in become("reader").fault("hook", "propose", _file(tmp_path, "two"))


def test_a_proposer_changes_nothing_by_sql(
    become: Become, session: Callable[[str], Connection], tmp_path: Path
) -> None:
    become("alice")("hook", "add", _file(tmp_path))
    agent = session("agent")
    for statement in (
        "INSERT INTO hooks (name, event_types, stack) VALUES ('planted', '{*}', 'web')",
        "UPDATE hooks SET enabled = FALSE",
        "DELETE FROM hooks",
        "INSERT INTO hook_versions (hook_id, version, source_text, sha256) VALUES (1, 9, '', '')",
        "UPDATE hook_versions SET source_text = ''",
        "DELETE FROM hook_proposals",
        "TRUNCATE hook_proposals",
        "INSERT INTO hook_libraries (name) VALUES ('planted')",
        "ALTER TABLE hook_proposals DISABLE TRIGGER ALL",
        "SELECT hook_audit_note('approved', 'hook', 'x')",
        "SELECT output FROM event_hook_executions",
        "SELECT value FROM hook_state",
        "SET ROLE hook_author",
        "SET ROLE hook_owner",
    ):
        assert "denied" in _refused(agent, statement) or "owner" in _refused(agent, statement)


@pytest.mark.parametrize("level", ["repeatable read", "serializable"])
def test_an_older_snapshot_neither_proposes_nor_grants(
    session: Callable[[str], Connection], administration: Connection, level: str
) -> None:
    """It would count without what others have added since it was taken."""
    own = "INSERT INTO hook_proposals (hook_name, stack, event_types, source_text) VALUES ('x', 'web', '{a.b}', '')"
    grant = "INSERT INTO hook_grants (role, kind, value) VALUES ('login_agent', 'source', 'task')"
    for connection, statement in ((session("agent"), own), (administration, grant)):
        connection.execute(f"SET default_transaction_isolation TO '{level}'")
        assert "READ COMMITTED alone" in _refused(connection, statement)


def test_each_sees_the_proposals_of_its_stacks(
    become: Become, session: Callable[[str], Connection], tmp_path: Path
) -> None:
    become("agent")("hook", "propose", _file(tmp_path))
    become("robot")("hook", "propose", _file(tmp_path, name="shop", stack="shop"))
    for name, seen in (
        ("agent", [1]),
        ("robot", [2]),
        ("alice", [1]),
        ("bob", [2]),
        ("reader", [2, 1]),
        ("owner", [2, 1]),
    ):
        hep = become(name)
        assert [each["id"] for each in hep.document("hook", "proposals", "--format", "json")] == seen, name
    for name in ("robot", "bob", "proposer", "author"):
        hep = become(name)
        for command in (("proposal", "1"), ("approve", "1"), ("reject", "1", "--reason", "no")):
            assert "there is no proposal 1: 'hep hook proposals --all' lists them" in hep.fault("hook", *command)
        # No column read, no policy for SELECT: this one alone stands in the way.
        with session(name).transaction(force_rollback=True) as transaction:
            blind = transaction.connection.execute("UPDATE hook_proposals SET state = 'rejected', answer = ''").rowcount
        assert blind == (name in ("robot", "bob"))
    assert "permission denied" in become("publisher").fault("hook", "proposals")
    refused = become("agent").fault("hook", "propose", _file(tmp_path, name="shop", stack="shop"))
    assert "is of the stack 'shop': this role may propose the hooks of its own stacks only" in refused
    assert "is of no stack" in become("agent").fault("hook", "propose", _file(tmp_path, name="all", stack=""))


def test_nobody_approves_what_is_their_own(
    become: Become, session: Callable[[str], Connection], administration: Connection, tmp_path: Path
) -> None:
    """Whatever else they may do, and whoever they become."""
    for name in ("agent", "alice", "owner"):
        number = str(become(name).document("hook", "propose", _file(tmp_path, name), "--format", "json")["proposal"])
        refused = become(name).fault("hook", "approve", number)
        assert refused == (
            f"hep: proposal {number} is this role's own, login_{name}: somebody else approves it,"
            f" and 'hep hook reject {number}' withdraws it"
        )
    for name, number in (("alice", 2), ("owner", 3)):
        own = session(name)
        own.execute("SET ROLE " + {"alice": "hook_author", "owner": "hook_owner"}[name])  # type: ignore[arg-type]
        become(name)("hook", "add", _file(tmp_path, name))
        mine = f"UPDATE hook_proposals SET state = 'approved' WHERE id = {number}"
        assert f"the role login_{name} has made proposal {number} itself" in _refused(own, mine)
    assert administration.execute("SELECT count(*) FROM hook_proposals WHERE state <> 'open'").fetchone() == (0,)
    assert "withdrawn: proposal 1" in become("agent")("hook", "reject", "1", "--reason", "changed my mind")


def test_a_proposer_that_is_an_author_too_approves_what_others_proposed(
    become: Become, administration: Connection, tmp_path: Path
) -> None:
    both = make_login(administration, "carol", "hook_author", "hook_proposer")
    roles.grant(administration, [roles.Grant(both, "stack", "web")])
    become("agent")("hook", "propose", _file(tmp_path))
    assert "added: hook greet" in become("carol")("hook", "approve", "1")


def test_another_proposer_neither_approves_nor_rejects(
    become: Become, session: Callable[[str], Connection], administration: Connection, tmp_path: Path
) -> None:
    roles.grant(administration, [roles.Grant("login_robot", "stack", "web")])
    become("agent")("hook", "propose", _file(tmp_path))
    robot = become("robot")
    assert robot.fault("hook", "approve", "1") == (
        "hep: this role may not change hooks: it may propose them, with 'hep hook propose'"
    )
    assert robot.fault("hook", "reject", "1", "--reason", "no") == (
        "hep: proposal 1 is login_agent's: this role may decide its own alone"
    )
    assert session("robot").execute("UPDATE hook_proposals SET state = 'rejected'").rowcount == 0


def test_an_author_approves_hooks_of_its_own_stacks_alone(become: Become, tmp_path: Path) -> None:
    """The hook that is there is of another stack than the one that is proposed."""
    become("bob")("hook", "add", _file(tmp_path, name="greet", stack="shop"))
    become("agent")("hook", "propose", _file(tmp_path))
    assert "the name 'greet' is taken by a hook of another stack" in become("alice").fault("hook", "approve", "1")
    assert "the hook 'greet' has changed since" in become("owner").fault("hook", "approve", "1")


def test_a_hook_that_has_changed_since_stays_as_it_is(become: Become, connection: Connection, tmp_path: Path) -> None:
    become("alice")("hook", "add", _file(tmp_path, "one"))
    become("agent")("hook", "propose", _file(tmp_path, "two"))
    become("agent")("hook", "propose", _file(tmp_path, name="fresh"))
    alice = become("alice")
    alice("hook", "add", _file(tmp_path, "three"))
    alice("hook", "add", _file(tmp_path, "mine", name="fresh"))
    assert alice.fault("hook", "approve", "1") == (
        "hep: the hook 'greet' has changed since: proposal 1 was made for version 1, and now version 2 runs;"
        " 'hep hook propose' makes one for that"
    )
    assert "proposal 2 was made for a new hook, and now version 1 runs" in alice.fault("hook", "approve", "2")
    assert "has changed since" in alice("hook", "proposal", "1")
    alice("hook", "remove", "greet")
    assert "and now there is none;" in alice.fault("hook", "approve", "1")
    alice("hook", "add", _file(tmp_path, "another", name="greet"))
    assert "and now version 1 runs" in alice.fault("hook", "approve", "1")  # of another hook
    assert connection.execute("SELECT DISTINCT state FROM hook_proposals").fetchall() == [("open",)]


def test_a_hook_whose_settings_have_changed_since_keeps_them(
    become: Become, connection: Connection, tmp_path: Path
) -> None:
    become("alice")("hook", "add", _file(tmp_path))
    become("agent")("hook", "propose", _file(tmp_path, "two"))
    alice = become("alice")
    alice("hook", "add", _file(tmp_path), "--event", "task.lost")
    assert alice.fault("hook", "approve", "1") == (
        "hep: the settings of the hook 'greet' have changed since proposal 1 was made:"
        " 'hep hook propose' makes one for what it is now"
    )
    assert "have changed since proposal 1" in alice("hook", "proposal", "1")
    assert connection.execute("SELECT event_types, version FROM hooks").fetchall() == [(["task.lost"], 1)]
    for _ in range(2):
        assert "proposal 2" in become("agent")("hook", "propose", _file(tmp_path, "two"))
    become("alice")("hook", "approve", "2")


def test_a_hook_that_one_does_not_see_is_no_base(
    become: Become, session: Callable[[str], Connection], connection: Connection, tmp_path: Path
) -> None:
    """A proposal that claims to change another stack's hook would look to the owner like any other."""
    become("bob")("hook", "add", _file(tmp_path, stack="shop"))
    [(number,)] = connection.execute("SELECT id FROM hooks").fetchall()
    insert = (
        "INSERT INTO hook_proposals (hook_name, stack, event_types, base_hook, base_version, source_text)"
        f" VALUES ('greet', 'web', '{{a.b}}', {number}, 1, '')"
    )
    assert "row-level security" in _refused(session("agent"), insert)


def test_a_hook_of_another_stack_is_not_marked_as_approved(
    become: Become, session: Callable[[str], Connection], tmp_path: Path
) -> None:
    """Nor may it be learnt so what its text is."""
    text = Path(_file(tmp_path, stack="shop")).read_text()
    become("bob")("hook", "add", str(tmp_path / "greet.lua"))
    for event_type in ("task.failed", "task.*"):
        session("agent").execute(
            "INSERT INTO hook_proposals (hook_name, stack, event_types, source_text) VALUES ('greet', 'web', %s, %s)",
            ([event_type], text),
        )
    assert "is not what the hook 'greet' has" in _refused(
        session("alice"), "UPDATE hook_proposals SET state = 'approved'"
    )


def test_a_hook_that_was_disabled_since_takes_its_mended_text(
    become: Become, connection: Connection, tmp_path: Path
) -> None:
    become("alice")("hook", "add", _file(tmp_path))
    become("agent")("hook", "propose", _file(tmp_path, "mended"))
    become("alice")("hook", "disable", "greet")
    said = become("alice").document("hook", "approve", "1", "--format", "json")
    assert [said[key] for key in ("change", "version", "proposal", "enabled")] == ["replaced", 2, 1, False]
    assert connection.execute("SELECT enabled, version FROM hooks").fetchall() == [(False, 2)]


def test_what_is_decided_stays_so(
    become: Become, session: Callable[[str], Connection], administration: Connection, tmp_path: Path
) -> None:
    become("agent")("hook", "propose", _file(tmp_path))
    become("agent")("hook", "propose", _file(tmp_path, name="other"))
    become("alice")("hook", "approve", "1")
    said = become("alice")("hook", "reject", "2", "--reason", "too loud")
    assert said == "rejected: proposal 2, hook other\n"
    for number, state in (("1", "approved"), ("2", "rejected")):
        for command in (("approve", number), ("reject", number, "--reason", "no")):
            refused = become("owner").fault("hook", *command)
            assert refused == f"hep: proposal {number} was {state} by login_alice"
    assert "rejected by login_alice: too loud" in become("agent")("hook", "proposals", "--all")
    for who in (session("alice"), session("owner"), administration):
        for change in ("state = 'open'", "state = 'approved'", "answer = 'x'"):
            assert "was " in _refused(who, f"UPDATE hook_proposals SET {change}")
    for change in ("proposed_by = 'x'", "source_text = ''", "version = 7", "decided_by = 'x'", "sha256 = ''"):
        assert "was " in _refused(administration, f"UPDATE hook_proposals SET {change}")
    assert [row[0] for row in _kept(administration) if row[1] == "other"] == ["proposed", "rejected"]


def test_an_open_proposal_is_changed_in_nothing_else(
    become: Become, session: Callable[[str], Connection], administration: Connection, tmp_path: Path
) -> None:
    become("agent")("hook", "propose", _file(tmp_path))
    for change in ("source_text = 'x'", "proposed_by = 'x'", "hook_name = 'x', state = 'rejected'", "answer = 'later'"):
        assert "proposal 1 can only be approved or rejected" in _refused(
            administration, f"UPDATE hook_proposals SET {change}"
        )
    assert "proposal 1 is open" in _refused(administration, "DELETE FROM hook_proposals")
    approved = "UPDATE hook_proposals SET state = 'approved', answer = 'without adding it'"
    assert "the text of proposal 1 is not what the hook 'greet' has" in _refused(session("alice"), approved)
    become("alice")("hook", "add", _file(tmp_path, "another text"))
    assert "is not what the hook 'greet' has" in _refused(session("alice"), approved)


_INSERT = (
    "INSERT INTO hook_proposals (hook_name, stack, event_types, source_text{}) VALUES ('x', 'web', '{{a.b}}', ''{})"
)


def test_who_proposes_is_not_theirs_to_say(
    session: Callable[[str], Connection], administration: Connection, connection: Connection
) -> None:
    """A proposer may not name these columns; whoever may, is not believed."""
    forged = {
        "proposed_by": "'login_bob'",
        "client": "'psql'",
        "proposed_at": "'2001-01-01'",
        "state": "'approved'",
        "decided_by": "'login_bob'",
        "decided_at": "now()",
        "version": "7",
        "answer": "'yes'",
        "sha256": "'0'",
    }
    for column, value in forged.items():
        assert "denied" in _refused(session("agent"), _INSERT.format(f", {column}", f", {value}"))
    columns, values = (", " + ", ".join(words) for words in (forged, forged.values()))
    administration.execute(_INSERT.format(columns, values))  # type: ignore[arg-type]
    [row] = connection.execute(
        "SELECT proposed_by, state, decided_by, decided_at, version, answer, proposed_at > now() - interval '1 hour',"
        " sha256 = encode(sha256(''), 'hex'), client = 'psql' FROM hook_proposals"
    ).fetchall()
    assert row == (administration.info.user, "open", None, None, None, "", True, True, False)


@pytest.mark.parametrize(
    ("columns", "values", "fault"),
    [
        ("event_types", "'{a.b,NULL}'", "violates check constraint"),
        ("event_types", "'{}'", "violates check constraint"),
        ("said", "'[]'", "violates check constraint"),
        ("source_text", "repeat('x', 262145)", "violates check constraint"),
        ("said", "jsonb_build_object('x', repeat('x', 131072))", "violates check constraint"),
        ("hook_name", "repeat('x', 201)", "violates check constraint"),
        ("reason", "repeat('x', 2001)", "violates check constraint"),
        ("source_text", "E'-- seen\\rhidden()'", "violates check constraint"),
        ("base_version", "7", "violates check constraint"),
        ("base_hook, base_version", "7, 1", "row-level security"),
        ("stack", "'shop'", "row-level security"),
        ("stack", "NULL", "row-level security"),
    ],
)
def test_what_no_proposal_can_hold_is_refused(
    session: Callable[[str], Connection], columns: str, values: str, fault: str
) -> None:
    row = {"hook_name": "'x'", "stack": "'web'", "event_types": "'{a.b}'", "source_text": "''", columns: values}
    statement = f"INSERT INTO hook_proposals ({', '.join(row)}) VALUES ({', '.join(row.values())})"
    assert fault in _refused(session("agent"), statement)


@pytest.mark.parametrize(
    ("said", "fault"),
    [
        ('{"overrides": {"event_types": ["*"]}}', "says that it is for 'task.failed' of the stack 'web', and its text"),
        ('{"overrides": {"stack": ""}}', "and its text, with the options, is for 'task.failed'"),
        ('{"overrides": {"event_types": "*"}}', "event_types is '*'"),
        ('{"overrides": {"event_types": [7]}}', "it takes a pattern or a list of patterns"),
        ('{"overrides": {"event_types": ["~("]}}', "proposal 1: "),
        ('{"overrides": {"priority": "first"}}', "priority is 'first': it takes a number"),
        ('{"overrides": {"priority": 99999999999}}', "priority is 99999999999: it takes a number"),
        ('{"overrides": {"name": "another"}}', "name is 'another'"),
        ('{"overrides": {"colour": 1}}', "colour is 1"),
        ('{"overrides": [1]}', "overrides is [1]"),
        ('{"overrides": {"description": 7}}', "description is 7: it takes a string"),
        ('{"params": {"threshold": 3}}', "threshold"),
        ('{"params": 7}', "params is 7"),
        ('{"disabled": "no"}', "disabled is 'no'"),
        ('{"params": {"n": 1e400}}', "proposal 1 makes no sense: said"),
    ],
)
def test_what_was_written_past_the_commands_is_not_believed(
    become: Become, session: Callable[[str], Connection], tmp_path: Path, said: str, fault: str
) -> None:
    text = Path(_file(tmp_path)).read_text()
    session("agent").execute(
        "INSERT INTO hook_proposals (hook_name, stack, event_types, source_text, said)"
        " VALUES ('greet', 'web', '{task.failed}', %s, %s)",
        (text, said),
    )
    alice = become("alice")
    assert fault in alice.fault("hook", "approve", "1")
    assert "it cannot be added: " in alice("hook", "proposal", "1")
    assert alice.document("hook", "proposal", "1", "--format", "json")["hook"] is None
    assert "greet" in alice("hook", "proposals")
    assert alice("hook", "list") == "No hooks.\n"


def test_a_text_that_cannot_be_added_is_not_proposed(become: Become, connection: Connection, tmp_path: Path) -> None:
    connection.execute("INSERT INTO hooks (name, kind, event_types) VALUES ('mine', 'python', '{a.b}')")
    owner = become("owner")
    broken = tmp_path / "broken.lua"
    for content, fault in (
        ("return {", "broken.lua:1:"),
        ("return { event_type = 'a.b' }", "execute"),
        ("return { execute = print }", "names no event_type"),
        ("return { execute = print, event_type = 'a.b', colour = 1 }", "colour"),
        ("-- \0", "NUL"),
        ("-- " + "x" * 262144, "at most 262144"),
    ):
        broken.write_text(content)
        assert fault in owner.fault("hook", "propose", str(broken))
    assert "a Python handler has the name 'mine'" in owner.fault("hook", "propose", _file(tmp_path, name="mine"))
    assert "cannot be read" in owner.fault("hook", "propose", str(tmp_path / "none.lua"))
    refused = owner.fault("hook", "propose", _file(tmp_path), "--reason", "x" * 2001)
    assert refused == "hep: the proposal cannot be kept: its reason is too long"
    assert connection.execute("SELECT count(*) FROM hook_proposals").fetchone() == (0,)


def test_numbers_that_are_none(hep: Hep) -> None:
    for command in ("approve", "proposal"):
        for number in ("0", "-1", "x", "1.5", ""):
            assert hep.run("hook", command, number).status == 2
        assert "there is no proposal 7: 'hep hook proposals --all' lists them" in hep.fault("hook", command, "7")
    assert "--reason" in hep.fault("hook", "reject", "7")
    assert hep.run("hook", "reject", "7", "--reason", " ").status == 2
    assert "there is no proposal 7" in hep.fault("hook", "reject", "7", "--reason", "no")


def test_a_library_that_went_since_makes_no_hook(become: Become, connection: Connection, tmp_path: Path) -> None:
    (tmp_path / "lib").mkdir()
    (tmp_path / "lib" / "shared.lua").write_text("return { word = 'hello' }\n")
    owner = become("owner")
    owner("hook", "lib", "add", str(tmp_path / "lib" / "shared.lua"))
    (tmp_path / "greet.lua").write_text(
        "local shared = require('lib.shared')\n"
        "return { event_type = 'a.b', stack = 'web', execute = function() return true, shared.word end }\n"
    )
    said = become("agent")("hook", "propose", str(tmp_path / "greet.lua"))
    assert "libraries: lib.shared (version 1)" in said
    assert "lib/shared.lua\tversion 1" in become("alice")("hook", "proposal", "1").replace("\\t", "\t")
    become("owner")("hook", "lib", "remove", "shared")
    assert "it cannot be added: " in become("alice")("hook", "proposal", "1")
    assert "there is no library 'shared'" in become("alice").fault("hook", "approve", "1")
    assert connection.execute("SELECT state FROM hook_proposals").fetchone() == ("open",)


def test_a_role_has_a_hundred_new_proposals_and_no_more(
    become: Become, session: Callable[[str], Connection], administration: Connection, tmp_path: Path
) -> None:
    """What nobody can read, nobody approves; and what was withdrawn takes its place on the disk for long."""
    agent = session("agent")
    for _ in range(100):
        agent.execute(_INSERT.format("", ""))  # type: ignore[arg-type]
    too_many = (
        "hep: the role login_agent has 100 proposals that are open or not a day old:"
        " others approve or reject what is open"
    )
    assert become("agent").fault("hook", "propose", _file(tmp_path)) == too_many
    become("agent")("hook", "reject", "7", "--reason", "too many")
    assert become("agent").fault("hook", "propose", _file(tmp_path)) == too_many
    administration.execute("ALTER TABLE hook_proposals DISABLE TRIGGER hook_proposal_kept")
    administration.execute("UPDATE hook_proposals SET proposed_at = %s", (ago(days=2),))
    administration.execute("ALTER TABLE hook_proposals ENABLE TRIGGER hook_proposal_kept")
    assert "proposed: proposal" in become("agent")("hook", "propose", _file(tmp_path))
    assert "The newest 50 proposals; --limit shows more" in become("agent")("hook", "proposals", "--limit", "50")


def test_sessions_of_a_role_do_not_pass_its_bound_together(session: Callable[[str], Connection]) -> None:
    first, second = session("agent"), session("agent")
    for _ in range(99):
        first.execute(_INSERT.format("", ""))  # type: ignore[arg-type]
    with ThreadPoolExecutor(1) as beside:
        with first.transaction():
            first.execute(_INSERT.format("", ""))  # type: ignore[arg-type]
            other = beside.submit(_refused, second, _INSERT.format("", ""))
            wait_for(lambda: first.execute(_WAITS).fetchone() == (1,), 10)
        assert "has 100 proposals" in other.result(10)


_WAITS = "SELECT count(*) FROM pg_locks WHERE NOT granted AND locktype = 'advisory'"


def test_what_is_rejected_while_it_is_approved_adds_nothing(
    become: Become, session: Callable[[str], Connection], connection: Connection, tmp_path: Path
) -> None:
    """And whoever holds a proposal, its proposer, say, holds up nobody who changes hooks."""
    become("agent")("hook", "propose", _file(tmp_path))
    owner, alice = become("owner"), session("alice")
    with alice.transaction():
        alice.execute("UPDATE hook_proposals SET state = 'rejected', answer = 'no'")
        assert owner.fault("hook", "approve", "1") == "hep: somebody is deciding proposal 1 now: look again"
    assert owner.fault("hook", "approve", "1") == "hep: proposal 1 was rejected by login_alice"
    assert connection.execute("SELECT count(*) FROM hooks").fetchone() == (0,)


def test_what_was_decided_long_ago_goes_with_the_audit(
    hep: Hep, connection: Connection, become: Become, tmp_path: Path, administration: Connection
) -> None:
    for name in ("old", "new", "open"):
        become("agent")("hook", "propose", _file(tmp_path, name=name))
    for number in ("1", "2"):
        become("alice")("hook", "reject", number, "--reason", "no")
    administration.execute("ALTER TABLE hook_proposals DISABLE TRIGGER hook_proposal_kept")
    administration.execute("UPDATE hook_proposals SET decided_at = %s WHERE id = 1", (ago(days=400),))
    administration.execute("UPDATE hook_proposals SET proposed_at = %s WHERE id = 3", (ago(days=400),))
    administration.execute("ALTER TABLE hook_proposals ENABLE TRIGGER hook_proposal_kept")
    become("retention")("events", "cleanup")
    assert connection.execute("SELECT id FROM hook_proposals ORDER BY id").fetchall() == [(2,), (3,)]
    assert _kept(connection)[-1][:3] == ("proposal removed", "old", "login_retention")
    administration.execute("REVOKE ALL ON hook_proposals FROM hook_retention")
    hep("events", "cleanup")  # as after an upgrade, until 'hep db roles' is run again


def test_a_comment_does_not_look_like_code(become: Become, tmp_path: Path) -> None:
    """Who approves sees which lines Lua sees, and no terminal is told anything."""
    file = tmp_path / "greet.lua"
    file.write_text(_HOOK.format(name="greet", event="a.b", more=', stack = "web"', text="one"))
    sly = file.read_text() + "-- \x0bif not allowed then error() end\u2028guard() \x1b[2K\u202e ad\u200bmin\n"
    file.write_text(sly)
    become("agent")("hook", "propose", str(file))
    shown = become("alice")("hook", "proposal", "1")
    assert r"+-- \x0bif not allowed then error() end\u2028guard() \x1b[2K\u202e ad\u200bmin" in shown.splitlines()


def test_the_operations_page_is_followed(become: Become, tmp_path: Path) -> None:
    section = (ROOT / "docs/operations.md").read_text().partition("\n### Four eyes\n")[2].partition("\n## ")[0]
    (tmp_path / "section.md").write_text(section)
    commands = [shlex.split(line, comments=True) for line in blocks(tmp_path / "section.md")[0].text.splitlines()]
    _file(tmp_path, name="notify", stack="")
    assert "proposed: proposal 1, the new hook notify" in become("agent")(*commands[0][1:])
    said = [become("owner")(*command[1:]) for command in commands[1:]]
    assert "tell of failures" in said[0]
    assert "+++ notify.lua\tproposal 1" in said[1]
    assert "added: hook notify, version 1" in said[2]
    assert "read and tried" in said[3]


def test_an_older_text_of_a_hook_is_no_approval(
    become: Become, session: Callable[[str], Connection], connection: Connection, tmp_path: Path
) -> None:
    """The version that runs is what counts, by its text and not by the hash that a row claims."""
    add_hook(connection, "greet", "task.failed", "-- another", stack="web")
    become("agent")("hook", "propose", _file(tmp_path))
    connection.execute(
        "UPDATE hook_versions SET sha256 = (SELECT sha256 FROM hook_proposals)"  # as an author could insert it
    )
    refused = _refused(session("alice"), "UPDATE hook_proposals SET state = 'approved'")
    assert "is not what the hook 'greet' has" in refused


def test_a_proposal_of_the_right_text_is_approved_beside_a_wrong_hash(
    become: Become, connection: Connection, tmp_path: Path
) -> None:
    become("alice")("hook", "add", _file(tmp_path))
    connection.execute("UPDATE hook_versions SET source_text = source_text || '-- tampered'")
    assert "proposed: proposal 1" in become("agent")("hook", "propose", _file(tmp_path))
    assert "replaced: hook greet, version 2" in become("alice")("hook", "approve", "1")
