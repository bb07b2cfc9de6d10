"""`hep catalog`, and what `hep events` says of types that are not in it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from commands import Hep
from psycopg import Connection

CANARY = {
    "title": "A canary was deployed.",
    "type": "object",
    "required": ["service"],
    "properties": {
        "service": {"type": "string", "description": "what is deployed"},
        "share": {"type": "integer", "minimum": 1, "maximum": 100},
    },
}


def _write(path: Path, content: object) -> str:
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    return str(path)


@pytest.fixture
def canary(hep: Hep, tmp_path: Path) -> None:
    schema = _write(tmp_path / "canary.json", CANARY)
    assert hep("catalog", "add", "deploy.canary", "--schema", schema) == "added: event type deploy.canary\n"


def _names(hep: Hep, *arguments: str) -> list[str]:
    return [listed["name"] for listed in hep.document("catalog", *arguments, "--format", "json")]


def _count(connection: Connection) -> int:
    row = connection.execute("SELECT count(*) FROM hook_events").fetchone()
    assert row is not None
    return int(row[0])


def test_all_types_are_listed_by_category(hep: Hep) -> None:
    lines = hep("catalog").splitlines()
    assert lines[0].split() == ["Category", "Type", "What", "it", "tells", "Origin"]
    assert lines[-1] == "160 event types"
    categories = [line.split()[0] for line in lines[1:-1]]
    assert categories == sorted(categories)
    assert len(_names(hep)) == 160


def test_a_category_or_the_first_part_of_types_names_several(hep: Hep) -> None:
    cases = [
        ("task", 6, "task.failed"),
        ("backup", 6, "restore.failed"),
        ("port", 4, "port.latency_high"),
        ("resource", 4, "resource.created"),
        ("custom", 3, "custom"),
    ]
    for name, count, one in cases:
        names = _names(hep, name)
        assert (len(names), one in names) == (count, True)
        assert f"{count} event types\n" in hep("catalog", name)


def test_a_type_is_shown_with_its_fields(hep: Hep) -> None:
    shown = hep("catalog", "task.failed")
    assert "the fields may also stand in an object named task" in shown
    assert "exit_code   integer   exit status of what it ran" in shown
    assert hep("catalog", "list", "task/failed") == shown
    document = hep.document("catalog", "task.failed", "--format", "json")
    assert document["fields"][0] == {
        "name": "task_name",
        "kind": "string",
        "meaning": "name of the task",
        "inferred": False,
    }
    assert document["schema"]["properties"]["exit_code"] == {"type": ["integer", "null"]}


def test_a_type_that_is_also_a_category_is_shown_below_it(hep: Hep) -> None:
    shown = hep("catalog", "custom")
    assert "3 event types" in shown
    assert "data of its own" in shown


@pytest.mark.parametrize(
    ("name", "origin"),
    [
        ("task.failed", "documented, with its fields"),
        ("stack.locked", "declared by its name alone"),
        ("port.opened", "emitted by watchers or agents"),
        ("service.started", "named among what watchers emit"),
        ("custom.ended", "emitted by this product's watchers, beyond what is documented"),
        ("event.failed", "the processor's own"),
    ],
)
def test_a_type_s_origin_is_told_in_words(hep: Hep, name: str, origin: str) -> None:
    assert origin in " ".join(hep("catalog", name).split())


def test_an_inferred_field_is_told_as_such(hep: Hep) -> None:
    assert "(inferred)" in hep("catalog", "process.crashed")
    assert "(inferred)" not in hep("catalog", "task.failed")
    assert "No fields are known." in hep("catalog", "resource.created")


def test_an_unknown_name_is_told_with_the_nearest(hep: Hep) -> None:
    cases = [
        ("tsk", "did you mean task?"),
        ("task.faild", "did you mean task.failed?"),
        ("zzz", "categories are agent, backup, "),
        ("", "categories are agent"),
    ]
    for name, hint in cases:
        said = hep.fault("catalog", name)
        assert said.startswith(f"hep: no category and no event type is named {name!r}: ")
        assert hint in said


def test_the_program_s_own_types_are_listed_without_a_database(hep: Hep, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DATABASE_URL", "postgresql://127.0.0.1:9/none")
    finished = hep.run("catalog", "task.failed")
    assert finished.status == 0
    assert "name of the task" in finished.output
    assert finished.errors.startswith("note: types that were added are not listed: the database cannot be reached: ")


def test_an_added_type_is_listed_and_shown(hep: Hep, canary: None) -> None:
    assert _names(hep, "own") == ["deploy.canary"]
    assert "deploy.canary" in _names(hep, "deploy")
    shown = hep("catalog", "deploy.canary")
    assert "A canary was deployed." in shown
    assert "what is deployed" in shown
    assert hep.document("catalog", "deploy.canary", "--format", "json")["schema"] == CANARY


def test_adding_again_changes_what_is_new(hep: Hep, canary: None) -> None:
    assert hep("catalog", "add", "deploy.canary", "--schema", "canary.json") == "unchanged: event type deploy.canary\n"
    assert hep.document("catalog", "add", "deploy/canary", "--schema", "-", "--format", "json", stdin="{}") == {
        "type": "deploy.canary",
        "change": "changed",
    }
    assert hep("catalog", "add", "build") == "added: event type build\n"
    assert hep("catalog", "add", "task.failed", "--description", "Ours.") == (
        "added: event type task.failed (in place of the one that the program knows)\n"
    )
    assert "Ours." in hep("catalog", "task.failed")


def test_what_no_option_says_of_an_added_type_stays(hep: Hep, canary: None, tmp_path: Path) -> None:
    def shown() -> tuple[str, object]:
        document = hep.document("catalog", "deploy.canary", "--format", "json")
        return document["description"], document["schema"]

    other = {**CANARY, "title": "A canary went out."}
    file = _write(tmp_path / "other.json", other)
    hep("catalog", "add", "deploy.canary", "--schema", file)
    assert shown() == ("A canary went out.", other)
    hep("catalog", "add", "deploy.canary", "--description", "By hand.")
    assert shown() == ("By hand.", other)
    hep("catalog", "add", "deploy.canary", "--schema", "canary.json")
    assert shown() == ("By hand.", CANARY)
    assert hep("catalog", "add", "deploy.canary") == "unchanged: event type deploy.canary\n"


def test_a_removed_type_is_gone(hep: Hep, canary: None) -> None:
    assert "did you mean deploy.canary?" in hep.fault("catalog", "remove", "deploy.canry")
    assert hep("catalog", "remove", "deploy.canary") == "removed: event type deploy.canary\n"
    assert _names(hep, "deploy") == ["deploy.started", "deploy.completed", "deploy.failed", "deploy.rollback"]
    assert "'hep catalog own' lists what was" in hep.fault("catalog", "remove", "deploy.canary")
    assert "only added ones can be removed" in hep.fault("catalog", "remove", "task.failed")


def test_the_category_of_added_types_is_there_before_the_first(hep: Hep) -> None:
    none = "No event types of your own: 'hep catalog add' adds them.\n"
    assert hep("catalog", "own") == none
    assert hep.document("catalog", "own", "--format", "json") == []
    assert "'hep catalog own' lists what was" in hep.fault("catalog", "remove", "nope.x")
    hep("catalog", "add", "build")
    assert _names(hep, "own") == ["build"]


def test_a_bad_schema_is_told_with_its_file(hep: Hep, tmp_path: Path) -> None:
    cases = [
        ("{", "it is not JSON: Expecting property name enclosed in double quotes at character 2"),
        ("[]", "it is not a JSON object"),
        ('{"type": "strin"}', 'the schema is not valid: schema.type is "strin"'),
        ('{"$ref": "https://example.com/s"}', "has the $ref 'https://example.com/s'"),
        ('{"pattern": "(?=x)"}', "no regular expression of RE2"),
        ('{"title": "\\u0000"}', "NUL character"),
        (" " * 2_000_000, "more than 1,048,576 bytes"),
        (json.dumps({"enum": list(range(30_000))}), "at most 65,536 are taken"),
        ("[" * 100_000, "nested too deeply"),
    ]
    for content, reason in cases:
        file = _write(tmp_path / "s.json", content)
        said = hep.fault("catalog", "add", "a.b", "--schema", file)
        assert said.startswith(f"hep: {file}")
        assert reason in said
        assert _names(hep, "task") != []
        assert "no event type 'a.b' was added" in hep.fault("catalog", "remove", "a.b")


def test_what_is_no_type_cannot_be_added(hep: Hep) -> None:
    for name in ("", ".b", "task.*", "~x", "a\nb", " a", "x" * 300):
        hep.fault("catalog", "add", name)
    assert _names(hep, "own") == []


def test_a_schema_that_cannot_be_read_is_named(hep: Hep) -> None:
    assert hep.fault("catalog", "add", "a.b", "--schema", "none.json") == (
        "hep: none.json cannot be read: No such file or directory"
    )


def test_strict_refuses_one_event(hep: Hep, canary: None, connection: Connection) -> None:
    cases = [
        (("deploy.canry",), "the event type deploy.canry is not in the catalog: did you mean deploy.canary?"),
        (("deploy.canary", '{"share": 1}'), "deploy.canary: payload.service is missing: it takes a string"),
        (("deploy.canary", '{"service": "web", "share": 101}'), "payload.share is 101: it takes at most 100"),
        (("task.failed", '{"exit_code": "x"}'), 'payload.exit_code is "x": it takes an integer'),
    ]
    for arguments, reason in cases:
        assert reason in hep.fault("events", "emit", "--strict", *arguments)
        assert _count(connection) == 0
    for arguments, _ in cases:
        assert hep("events", "emit", *arguments).startswith("published: ")


def test_strict_takes_what_fits(hep: Hep, canary: None) -> None:
    for arguments in (("deploy.canary", '{"service": "web"}'), ("task.failed",), ("Stop/session_stopped",)):
        finished = hep.run("events", "emit", "--strict", *arguments)
        assert (finished.status, finished.errors) == (0, "")


def test_strict_names_the_line_of_a_file(hep: Hep, canary: None, connection: Connection, tmp_path: Path) -> None:
    cases = [
        ({"type": "deploy.canry"}, "the event type deploy.canry is not in the catalog"),
        ({"type": "deploy.canary", "data": {"service": 1}}, "deploy.canary: payload.service is 1: it takes a string"),
        ({"source": "task", "action": "failed", "data": {"error": 5}}, "task.failed: payload.error is 5"),
    ]
    for line, reason in cases:
        good = json.dumps({"type": "deploy.canary", "data": {"service": "web"}}) + "\n"
        file = _write(tmp_path / "events.jsonl", f"{good}\n{good}{json.dumps(line)}\n{good}")
        said = hep.fault("events", "emit", "--jsonl", file, "--strict")
        assert said.startswith(f"hep: {file}, line 4: {reason}")
        assert said.endswith("; nothing was published")
        assert _count(connection) == 0


def test_an_unknown_type_is_published_and_noted(hep: Hep, canary: None, connection: Connection) -> None:
    finished = hep.run("events", "emit", "deploy.canry")
    assert finished.status == 0
    assert finished.errors == ("note: the event type deploy.canry is not in the catalog: did you mean deploy.canary?\n")
    # Types that begin with custom. are everybody's own.
    for known in ("deploy.canary", "custom.deployment"):
        assert hep.run("events", "emit", known).errors == ""
    assert _count(connection) == 3


def test_the_unknown_types_of_a_file_are_noted_once_each(hep: Hep, canary: None, tmp_path: Path) -> None:
    lines = "".join(f'{{"type": "{name}"}}\n' * 2 for name in ("deploy.canary", "task.faild", *"abcdefg"))
    finished = hep.run("events", "emit", "--jsonl", _write(tmp_path / "events.jsonl", lines))
    assert (finished.status, finished.output) == (0, "published: 18 events\n")
    notes = finished.errors.splitlines()
    assert notes[0] == "note: the event type task.faild is not in the catalog: did you mean task.failed?"
    assert notes[5:] == ["note: and 3 other types are not in it"]


def test_a_writer_that_may_not_read_the_catalog_publishes(hep: Hep, connection: Connection) -> None:
    connection.execute("DROP TABLE event_types")
    finished = hep.run("events", "emit", "my.own")
    assert (finished.status, finished.output[:10]) == (0, "published:")
    assert "my.own is not in the catalog" in finished.errors


def test_a_list_without_events_notes_a_slip_in_its_type(hep: Hep) -> None:
    finished = hep.run("events", "list", "--type", "task.faild")
    assert (finished.status, finished.output) == (0, "No events.\n")
    assert "did you mean task.failed?" in finished.errors
    for pattern in ("task.failed", "task.fail*", "~faild", "invoice.paid"):
        assert hep.run("events", "list", "--type", pattern).errors == ""


def test_a_hook_for_a_type_that_is_nearly_a_known_one_is_added_and_noted(hep: Hep, tmp_path: Path) -> None:
    file = _write(tmp_path / "h.lua", "return {execute = function() return true end}")
    patterns = ("task.faild", "task.fail*", "~faild", "invoice.paid", "custom.x", "PreToolUse/tool_invocation")
    finished = hep.run("hook", "add", file, *(word for pattern in patterns for word in ("--event", pattern)))
    assert (finished.status, finished.output[:6]) == (0, "added:")
    assert finished.errors == "note: the event type task.faild is not in the catalog: did you mean task.failed?\n"


def test_a_type_that_a_hook_names_is_no_slip(hep: Hep, tmp_path: Path) -> None:
    file = _write(tmp_path / "h.lua", 'return {event_type = "greeting.sent", execute = function() return true end}')
    assert "greeting.sent is not in the catalog" in hep.run("events", "emit", "greeting.sent").errors
    hep("hook", "add", file, "--event", "greeting.sent", "--event", "invoice/paid", "--event", "order.*")
    for named in ("greeting.sent", "invoice/paid", "invoice.paid"):
        assert hep.run("events", "emit", named).errors == ""
    assert "order.paid is not in the catalog" in hep.run("events", "emit", "order.paid").errors


def test_a_source_with_a_dot_is_noted_as_no_type(hep: Hep, tmp_path: Path) -> None:
    note = "note: the event type task. has no action: did you mean task.*?\n"
    file = _write(tmp_path / "h.lua", "return {execute = function() return true end}")
    finished = hep.run("hook", "add", file, "--event", "task.")
    assert (finished.status, finished.errors) == (0, note)
    assert hep.run("events", "list", "--type", "task.").errors == note
    for pattern in ("~task.", "task*.", "a/task."):
        assert hep.run("events", "list", "--type", pattern).errors == ""
