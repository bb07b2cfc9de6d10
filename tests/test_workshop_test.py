"""`hep hook test`: a hook tried on one event; without --live nothing is left behind."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from commands import Hep
from factories import insert_event
from psycopg import Connection
from psycopg.types.json import Jsonb

from hook_event_processor import catalog
from hook_event_processor.workshop.trial_event import made_up, type_for

_EFFECTS = """\
local hook = { event_type = "deploy.started", params = { word = "x", n = 1 } }
function hook.execute(event)
  local exec, file, state = require("exec"), require("file"), require("state")
  local made = exec.run({ "touch", event.data.path })
  file.write("written.txt", "content")
  state.set("seen", { n = hook.params.n })
  event.dispatch("custom.child", { word = hook.params.word, seen = state.get("seen").n })
  print("attempt " .. event.attempt .. " of " .. tostring(event.stack))
  return true, "done"
end
return hook
"""


@pytest.fixture
def effects(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A hook with every kind of effect, all of them permitted; returns what it would touch."""
    (tmp_path / "files").mkdir()
    (tmp_path / "effects.lua").write_text(_EFFECTS)
    monkeypatch.setenv("HOOK_EXEC", "on")
    monkeypatch.setenv("HOOK_FILE_ROOTS", str(tmp_path / "files"))
    return tmp_path / "files" / "touched"


def _data(path: Path) -> str:
    return json.dumps({"path": str(path)})


def test_a_dry_run_tells_what_it_does_not_do(offline_hep: Hep, effects: Path) -> None:
    printed = offline_hep("hook", "test", "effects.lua", "--data", _data(effects), "--stack", "prod")
    assert list(effects.parent.iterdir()) == []
    head, _, rest = printed.partition("\n\n")
    assert [line.split(":")[0] for line in head.splitlines()] == ["Hook", "Event", "Result", "Time", "Memory"]
    assert "Result: Success\n" in head
    assert rest.startswith("Output:\nattempt 1 of prod\ndone\n\nWould have done (--live does it):\n")
    would = rest.split("\n\n")[1]
    assert [word in would for word in ("touch", "written.txt", "seen")] == [True, True, True]
    dispatched = rest.partition("Would have dispatched:\ncustom.child  ")[2]
    assert json.loads(dispatched) == {"word": "x", "seen": 1}


def test_a_live_run_does_it(hep: Hep, effects: Path, connection: Connection[Any]) -> None:
    document = hep.document("hook", "test", "effects.lua", "--data", _data(effects), "--live", "--format", "json")
    assert (document["success"], document["would_have_done"], document["live"]) == (True, [], True)
    assert effects.exists()
    assert (effects.parent / "written.txt").read_text() == "content"
    event = connection.execute("SELECT source, action, payload, metadata FROM hook_events").fetchone()
    assert event is not None
    assert event[:3] == ("custom", "child", {"word": "x", "seen": 1})
    assert (event[3]["causation_id"], event[3]["depth"]) == (document["event"]["id"], 1)
    assert connection.execute("SELECT key, value FROM hook_state").fetchall() == [("seen", {"n": 1})]


def test_a_dry_run_reads_state_and_writes_none(hep: Hep, effects: Path, connection: Connection[Any]) -> None:
    Path("reads.lua").write_text(
        'return { event_type = "a.b", execute = function() local s = require("state")'
        ' s.set("n", s.get("n", 0) + 1) return true, tostring(s.get("n")) end }'
    )
    hep("hook", "test", "reads.lua", "--live")
    assert hep.document("hook", "test", "reads.lua", "--format", "json")["output"] == "2"
    assert connection.execute("SELECT value FROM hook_state").fetchall() == [(1,)]
    assert connection.execute("SELECT count(*) FROM hook_events").fetchone() == (0,)


def test_what_is_dispatched_live_needs_a_database(offline_hep: Hep, effects: Path) -> None:
    Path("child.lua").write_text('return { event_type = "a.b", execute = function(e) e.dispatch("c.d") end }')
    would = "Would have dispatched:\nc.d  {}\n"
    assert offline_hep("hook", "test", "child.lua").endswith(would)
    finished = offline_hep.run("hook", "test", "child.lua", "--live")
    assert (finished.status, finished.output.endswith(would)) == (1, True)
    assert "there is no database to take them" in finished.errors


def test_what_was_done_live_is_told_where_its_events_cannot_be_stored(
    hep: Hep, effects: Path, connection: Connection[Any]
) -> None:
    connection.execute("ALTER TABLE hook_events ADD CHECK (source <> 'custom')")
    command = ("hook", "test", "effects.lua", "--data", _data(effects), "--live")
    finished = hep.run(*command)
    assert (finished.status, "done\n\nWould have dispatched:\ncustom.child" in finished.output) == (1, True)
    assert finished.errors.startswith("hep: the database refused: ")
    finished = hep.run(*command, "--format", "json")
    assert (finished.status, json.loads(finished.output)["dispatched"][0]["type"]) == (1, "custom.child")


def test_a_run_without_time_is_misuse(offline_hep: Hep, effects: Path) -> None:
    finished = offline_hep.run("hook", "test", "effects.lua", "--timeout", "0s")
    assert (finished.status, finished.fault) == (2, "hep: --timeout is 0: it takes the time of the run")


def test_a_past_event_is_tried_as_it_was(hep: Hep, effects: Path, connection: Connection[Any]) -> None:
    event_id = insert_event(
        connection,
        "retrying",
        source="deploy",
        action="started",
        payload=Jsonb({"path": "/x"}),
        metadata=Jsonb({"stack": "blue"}),
        retry_count=2,
    )
    document = hep.document("hook", "test", "effects.lua", "--event", str(event_id)[:13], "--format", "json")
    assert document["event"]["id"] == str(event_id)
    assert document["output"] == "attempt 3 of blue\ndone"
    Path("event.json").write_text(hep("events", "get", str(event_id)))
    from_file = hep.document("hook", "test", "effects.lua", "--event", "event.json", "--format", "json")
    assert (from_file["event"]["id"], from_file["event"]["data"]) == (str(event_id), {"path": "/x"})
    assert connection.execute("SELECT count(*), sum(retry_count) FROM hook_events").fetchone() == (1, 2)


def test_an_event_that_has_a_stack_is_tried_in_the_one_that_is_given(
    hep: Hep, effects: Path, connection: Connection[Any]
) -> None:
    event_id = insert_event(connection, metadata=Jsonb({"stack": "blue", "agent_id": "a"}))
    Path("event.json").write_text('{"type": "a.b", "data": {"stack": "red"}, "metadata": {"agent_id": "a"}}')
    command = ("hook", "test", "effects.lua", "--stack", "green", "--data", "{}", "--format", "json", "--event")
    for given in (str(event_id), "event.json"):
        document = hep.document(*command, given)
        assert document["event"]["metadata"] == {"stack": "green", "agent_id": "a"}
        assert document["output"].startswith("attempt 1 of green\n")
    assert hep.document(*command, "my.own")["event"]["metadata"] == {"stack": "green"}
    assert "an empty name is none" in hep.fault("hook", "test", "effects.lua", "--stack", "")


def test_a_hook_of_the_database_is_tried_as_it_is_there(hep: Hep, effects: Path) -> None:
    hep("hook", "add", "effects.lua", "--name", "stored", "--set", "word=stored", "--stack", "blue")
    Path("effects.lua").unlink()
    document = hep.document("hook", "test", "stored", "--data", "{}", "--set", "n=7", "--format", "json")
    assert document["dispatched"][0]["data"] == {"word": "stored", "seen": 7}
    assert document["event"]["metadata"] == {"stack": "blue"}
    assert "no hook has the name 'stord'; did you mean 'stored'?" in hep.fault("hook", "test", "stord")


@pytest.mark.parametrize(
    ("given", "stdin", "event_type", "data"),
    [
        (("--event", "-"), '{"type": "a.b", "data": {"x": 1}, "priority": 2}', "a.b", {"x": 1}),
        (("--event", "-"), '{"source": "a", "action": "c", "payload": {"x": 2}}', "a.c", {"x": 2}),
        (("--event", "-"), '{"x": 3}', "task.failed", {"x": 3}),
        (("--event", "file.json"), "", "task.failed", {"type": "own", "x": 4}),
        (("--event", "deploy.failed", "--data", "-"), '{"x": 5}', "deploy.failed", {"x": 5}),
        (("--event", "my.own"), "", "my.own", {}),
        (("--data", '{"x": 6}'), "", "task.failed", {"x": 6}),
        (("--data", '{"x":' * 300 + "7" + "}" * 300), "", "task.failed", json.loads('{"x":' * 300 + "7" + "}" * 300)),
    ],
)
def test_the_event_can_be_given_in_many_ways(
    offline_hep: Hep, given: tuple[str, ...], stdin: str, event_type: str, data: dict[str, Any]
) -> None:
    Path("file.json").write_text('{"type": "own", "x": 4}')
    Path("hook.lua").write_text('return { event_type = "task.failed", execute = function(e) print(e.type) end }')
    document = offline_hep.document("hook", "test", "hook.lua", *given, "--format", "json", stdin=stdin)
    assert (document["event"]["type"], document["event"]["data"]) == (event_type, data)
    assert document["matches"] is (event_type == "task.failed")


@pytest.mark.parametrize(
    ("arguments", "status", "said"),
    [
        (("nowhere.lua",), 1, "nowhere.lua cannot be read: there is no such file"),
        (("hook.lua", "--event", "nowhere.json"), 1, "nowhere.json cannot be read: there is no such file"),
        (("hook.lua", "--data", "[1]"), 2, "--data is not a JSON object"),
        (("hook.lua", "--data", "{"), 2, "--data is not JSON"),
        (("hook.lua", "--data", '{"x": 123456789012345678901}'), 2, "the payload cannot be written as JSON: Integer"),
        (("hook.lua", "--data", r'{"x": "\ud800"}'), 2, "the payload cannot be written as JSON: str is not valid"),
        (("hook.lua", "--event", "odd.json"), 2, "the metadata cannot be written as JSON: Integer"),
        (("hook.lua", "--event", '{"type": "task.failed"}'), 2, "--event takes a file of JSON, not JSON itself"),
        (("hook.lua", "--event", '{"x": "' + "y" * 300 + '"}'), 2, "--event takes a file of JSON, not JSON itself"),
        (("hook.lua", "--event", ".x"), 2, "the event type '.x' has no source"),
        (("hook.lua", "--set", "n=1"), 1, "there is no parameter 'n'"),
        (("hook.lua", "--event", "0198c0de"), 1, "no database"),
        (("stored",), 1, "no database"),
        (("broken.lua",), 1, "broken.lua:1: unexpected symbol near <eof>"),
    ],
)
def test_what_cannot_be_tried_is_one_line(offline_hep: Hep, arguments: tuple[str, ...], status: int, said: str) -> None:
    Path("hook.lua").write_text('return { event_type = "task.failed", execute = print }')
    Path("broken.lua").write_text("return {")
    Path("odd.json").write_text('{"type": "a.b", "metadata": {"x": 123456789012345678901}}')
    finished = offline_hep.run("hook", "test", *arguments)
    assert (finished.status, said in finished.fault) == (status, True), finished


@pytest.mark.parametrize(
    ("body", "result", "said"),
    [
        ("return false, 'why'", "Failed", "\nError:\nwhy\n"),
        ("error('broken')", "Failed", "\nError:\nhook.lua:1: broken\n"),
        (
            "\nwhile true do end",
            "Failed (timeout)",
            "\nError:\nthe run took longer than it may\nstack traceback:\n    hook.lua:2: in function <hook.lua:1>\n",
        ),
        ("return {}", "Failed (refused)", "a table that is no known result"),
        ("local t = {} for i = 1, 1e9 do t[i] = ('x'):rep(1e6) .. i end", "Failed (memory)", "(HOOK_MEMORY_MB)"),
    ],
)
def test_a_failure_is_told_with_status_1(offline_hep: Hep, body: str, result: str, said: str) -> None:
    Path("hook.lua").write_text(f'return {{ event_type = "a.b", execute = function() {body} end }}')
    # A busy machine needs its time for all but the endless.
    timeout = "200ms" if "timeout" in result else "10s"
    finished = offline_hep.run("hook", "test", "hook.lua", "--timeout", timeout)
    assert (finished.status, finished.errors) == (1, "")
    assert f"Result: {result}\n" in finished.output
    assert said in finished.output


def test_a_filter_that_leaves_the_event_alone_is_told(offline_hep: Hep) -> None:
    Path("hook.lua").write_text('return { event_type = "a.*", filter = function() end, execute = print }')
    printed = offline_hep("hook", "test", "hook.lua", "--event", "b.c")
    assert "Note: the hook does not run for events of this type" in printed
    assert "Note: the hook's filter left the event alone" in printed


@pytest.mark.parametrize("known", catalog.known(None).values(), ids=lambda known: known.name)
def test_a_sample_has_what_the_catalog_says(known: catalog.EventType) -> None:
    data = json.loads(made_up(known.name).data)
    fields = data[known.object] if known.object else data
    assert list(fields) == [field.name for field in known.fields]
    for field in known.fields:
        kinds = catalog.KINDS[field.kind]
        matching = {
            "string": str,
            "integer": int,
            "number": int | float,
            "boolean": bool,
            "array": list,
            "object": dict,
        }
        assert not kinds or isinstance(fields[field.name], tuple(matching[kind] for kind in kinds)), field


@pytest.mark.parametrize(
    ("patterns", "chosen"),
    [
        (["task.*", "deploy.failed"], "deploy.failed"),
        (["task.fail*"], "task.failed"),
        (["~^security\\.b"], "security.breach"),
        (["nothing-known.*"], "nothing-known.example"),
        (["~^nothing-known"], "custom.example"),
        ([], "custom.example"),
    ],
)
def test_without_an_event_one_is_chosen_that_the_hook_runs_for(patterns: list[str], chosen: str) -> None:
    assert type_for(patterns) == chosen
