"""What all commands share: help, suggestions, one line for each fault, pipes, terminals, Ctrl-C."""

from __future__ import annotations

import argparse
import os
import pty
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from commands import Hep
from factories import insert_event, insert_execution
from psycopg import Connection
from running import add_hook

from hook_event_processor.cli.parser import commands_of, parser, whole_parser

PROGRAM = (sys.executable, "-m", "hook_event_processor")


def _commands(group: argparse.ArgumentParser) -> Iterator[argparse.ArgumentParser]:
    for action in group._actions:
        if isinstance(action, argparse._SubParsersAction):
            for command in action.choices.values():
                yield command
                yield from _commands(command)


def test_every_command_has_help_and_an_example() -> None:
    for command in _commands(parser()):
        assert command.description, command.prog
        has_commands = any(isinstance(action, argparse._SubParsersAction) for action in command._actions)
        assert has_commands or (command.epilog or "").startswith("example: "), command.prog
        assert all(action.help for action in command._actions if not isinstance(action, argparse._SubParsersAction))


def test_every_help_is_printed(hep: Hep) -> None:
    for command in _commands(parser()):
        printed = hep(*command.prog.split()[1:], "--help")
        assert printed.startswith("usage: hep ")


def test_without_a_command_there_is_help(hep: Hep) -> None:
    for group in ((), ("hook",), ("events",), ("db",)):
        finished = hep.run(*group)
        assert finished.status == 2
        assert finished.output.startswith("usage: hep")


def test_help_is_as_wide_as_the_terminal_and_examples_stand_in_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    described = set()
    for command in commands_of(whole_parser()):
        for line in command.format_help().splitlines():
            described.add(line)
            alone = len(line.split()) == 2 and "{" in line  # the choices of one option
            assert len(line) <= 80 or alone or line.startswith(("  ", "example: ")), f"{command.prog}: {line}"
    assert "Try a hook on one event without effects: a dry run." in described
    assert '      expect(result.calls["http.post"][1][1]).to_contain("https://")' in described


def test_help_needs_no_database_driver_and_no_tables() -> None:
    code = (
        "import sys; from hook_event_processor.cli import main; main(['--help']);"
        " assert not {'psycopg', 'rich', 'lupa', 'dotenv', 'orjson'} & sys.modules.keys(), sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, timeout=30)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("evnts",), "hep: there is no command 'evnts'; did you mean events? (see 'hep --help')"),
        (("events", "lst"), "hep events: there is no command 'lst'; did you mean list? (see 'hep events --help')"),
        (("hook", "delete"), "hep hook: there is no command 'delete'"),
        (("xyz",), "hep: there is no command 'xyz': there are up, run,"),
        (("events", "list", "--limit", "0"), "'0' is not a number from 1"),
        (
            ("events", "list", "--lim", "5"),
            "hep events list: unrecognized arguments: --lim 5; did you mean --limit? (see 'hep events list --help')",
        ),
        (("status", "--json"), "unrecognized arguments: --json; did you mean --format json? (see 'hep status --help')"),
        (
            ("hook", "add", "a.lua", "b.lua", "c.lua"),
            "unrecognized arguments: b.lua c.lua; it takes one file: 'hep hook apply DIR' adds a directory's (see",
        ),
        (("hosts", "--all"), "hep hosts list: unrecognized arguments: --all (see 'hep hosts list --help')"),
        (("hook", "list", "--stak=x"), "hep hook list: unrecognized arguments: --stak=x; did you mean --stack?"),
        (("hosts", "web"), "hep hosts list: unrecognized arguments: web (see 'hep hosts list --help')"),
        (("--stak", "x", "hook"), "hep: there is no command 'x'"),
        (("hook", "--stak"), "hep hook: unrecognized arguments: --stak (see 'hep hook --help')"),
        (("events", "list", "--status", "done"), "invalid choice: 'done'"),
        (("events", "list", "--since", "soon"), "'soon' is neither a duration (10m, 7d) nor a time"),
        (("events", "list", "--since", "0001-01-01T00:00:00+14:00"), "is neither"),
        (("events", "cleanup", "--older-than", "720"), "'720' is not a duration: write 30s, 10m, 2m30s, 720h or 7d"),
        (("events", "cleanup", "--older-than", "99999999w"), "at most a hundred years"),
        (("--log-level", "loud", "status"), "LOUD"),
        (("events", "list", "\x1b[31m"), r"\x1b[31m"),
    ],
)
def test_misuse_is_one_line_and_status_2(hep: Hep, arguments: tuple[str, ...], said: str) -> None:
    finished = hep.run(*arguments)
    assert finished.status == 2
    assert said in finished.fault
    assert "\x1b" not in finished.fault


def test_a_bad_pattern_is_told(hep: Hep) -> None:
    assert "is not a regular expression" in hep.fault("events", "list", "--type", "~(")


def test_version(hep: Hep) -> None:
    assert hep("--version").startswith("hep ")


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("postgresql://u:s3cret@127.0.0.1:1/d", "the database cannot be reached: "),
        ("postgresql://u:s3cret@nowhere.invalid/d", "the database cannot be reached: "),
        ("postgresql://u:s3cret@h:port/d", "DATABASE_URL has a wrong port: "),
        ("postgresql://u:s3cret@h/d?unknown=1", "DATABASE_URL is not a connection string"),
        ("mysql://u:s3cret@h/d", "DATABASE_URL is not a connection string"),
    ],
)
def test_an_unreachable_database_is_one_line_without_the_password(
    hep: Hep, monkeypatch: pytest.MonkeyPatch, url: str, said: str
) -> None:
    monkeypatch.setenv("DATABASE_URL", url)
    for command in (("status",), ("events", "list"), ("hook", "list"), ("db", "migrate"), ("events", "emit", "a.b")):
        finished = hep.run(*command)
        assert finished.status == 1
        assert finished.fault.startswith(f"hep: {said}")
        assert "s3cret" not in finished.errors


def test_without_a_database_both_ways_to_one_are_named(
    hep: Hep, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.delenv("DATABASE_URL")
    monkeypatch.setenv("HEP_HOME", str(tmp_path / "home"))
    said = hep.fault("events", "list")
    assert "./ops/up" in said
    assert "DATABASE_URL" in said
    assert not (tmp_path / "home").exists()


def test_wrong_settings_are_named_all_at_once(hep: Hep, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORKERS", "many")
    monkeypatch.setenv("BATCH_SIZE", "0")
    said = hep.fault("status")
    assert "WORKERS" in said
    assert "BATCH_SIZE" in said


def test_a_refusal_of_the_database_is_one_line(hep: Hep, connection: Connection) -> None:
    connection.execute("CREATE FUNCTION no() RETURNS trigger LANGUAGE plpgsql AS $$BEGIN RAISE 'not\ntoday'; END$$")
    connection.execute("CREATE TRIGGER no BEFORE INSERT ON hook_events FOR EACH ROW EXECUTE FUNCTION no()")
    assert hep.fault("events", "emit", "a.b") == r"hep: the database refused: not\ntoday"


def test_a_lock_that_is_not_had_in_time_is_named(
    hep: Hep, connection: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("hook_event_processor.store.database.LOCK_TIMEOUT_SECONDS", 0.1)
    with connection.transaction():
        connection.execute("LOCK TABLE hook_events")
        said = hep.fault("events", "emit", "a.b")
    assert said == "hep: the database refused: canceling statement due to lock timeout"


def test_a_connection_that_is_lost_is_named(hep: Hep, connection: Connection) -> None:
    connection.execute(
        "CREATE FUNCTION leave() RETURNS trigger LANGUAGE plpgsql AS"
        " $$BEGIN PERFORM pg_terminate_backend(pg_backend_pid()); RETURN NEW; END$$"
    )
    connection.execute("CREATE TRIGGER leave BEFORE INSERT ON hook_events FOR EACH ROW EXECUTE FUNCTION leave()")
    assert hep.fault("events", "emit", "a.b").startswith("hep: the database was lost: ")


def test_a_reader_that_leaves_is_no_fault(hep: Hep, connection: Connection) -> None:
    connection.execute("INSERT INTO hook_events (source, action) SELECT 'a', 'b' FROM generate_series(1, 5000)")
    command = f"{sys.executable} -m hook_event_processor events list --limit 5000 | head -1; echo ${{PIPESTATUS[0]}}"
    finished = subprocess.run(["bash", "-c", command], capture_output=True, text=True, timeout=60, check=True)
    assert finished.stdout.splitlines()[1:] == ["141"]
    assert finished.stderr == ""


def _through_bash(command: str) -> subprocess.CompletedProcess[str]:
    """What bash makes of a command line that ends in `hep ...`."""
    program = f'hep() {{ {sys.executable} -m hook_event_processor "$@"; }}; '
    return subprocess.run(["bash", "-c", program + command], capture_output=True, text=True, timeout=60, check=False)


def test_what_stands_after_two_dashes_is_no_option(hep: Hep, connection: Connection) -> None:
    """A hook may have any name."""
    for name in ("-x", "--reason"):
        add_hook(connection, name, "a.b", "return {execute = function() end}")
        assert f"disabled: hook {name};" in hep("hook", "disable", "--reason", "too loud", "--", name)
        assert name in hep("hook", "show", "--", name)
        assert hep("hook", "remove", "--", name) == f"removed: hook {name}; its executions are kept\n"
    assert "the payload is not a JSON object" in hep.fault("events", "emit", "task.failed", "--stack", "s", "--", "-5")
    assert hep("hook", "list", "--") == "No hooks.\n"
    assert "unrecognized arguments: -y" in hep.fault("hook", "remove", "--", "-x", "-y")


@pytest.mark.parametrize(
    ("command", "status", "said"),
    [
        ("hep events list > /dev/full", 1, "hep: standard output cannot be written: No space left on device"),
        ("hep --help > /dev/full", 1, "hep: standard output cannot be written: No space left on device"),
        ("hep --version > /dev/full", 1, "hep: standard output cannot be written: No space left on device"),
        ("hep completion bash > /dev/full", 1, "hep: standard output cannot be written: No space left on device"),
        ("hep db roles --print > /dev/full", 1, "hep: standard output cannot be written: No space left on device"),
        ("hep events list >&-", 1, "hep: standard output cannot be written: Bad file descriptor"),
        ("hep events emit a.b - <&-", 2, "the payload is not JSON"),
        ("hep events emit 2>&-", 2, ""),
        ("hep hook get $'\\xff'", 2, "is not UTF-8"),
        ("printf '\\xff' | hep events emit a.b -", 2, "the payload is not UTF-8: byte 1"),
        ("printf '\\xff' | hep hook add -", 1, "not UTF-8"),
        ("hep events list <&- | cat", 0, ""),
    ],
)
def test_odd_surroundings_are_one_line_at_most(hep: Hep, command: str, status: int, said: str) -> None:
    finished = _through_bash(command)
    assert finished.returncode == status, finished
    assert said in finished.stderr
    assert finished.stderr.count("\n") == bool(said)


@pytest.mark.parametrize(
    ("command", "why"),
    [
        ("hep events emit task.failed > /dev/full", "No space left on device"),
        ("PYTHONUNBUFFERED=1 hep events emit task.failed > /dev/full", "No space left on device"),
        ("hep events emit task.failed --format json >&-", "Bad file descriptor"),
    ],
)
def test_what_was_done_is_told_where_standard_output_cannot_be_written(
    hep: Hep, connection: Connection, command: str, why: str
) -> None:
    finished = _through_bash(command)
    event_ids = [row[0] for row in connection.execute("SELECT id FROM hook_events")]
    assert len(event_ids) == 1
    said = f"hep: standard output cannot be written: {why}; published: task.failed {event_ids[0]}\n"
    assert (finished.returncode, finished.stdout, finished.stderr) == (1, "", said)


@pytest.mark.parametrize(
    ("command", "said"),
    [
        ("hep hook add x.lua > /dev/full", "added: hook x, version 1, for a.b"),
        ("hep hook add x.lua --format json > /dev/full", "added: hook x, version 1, for a.b"),
        ("hep hook propose x.lua > /dev/full", "proposed: proposal 1, the new hook x, for a.b"),
        ("hep hook lib add x.lua > /dev/full", "added: library x, version 1"),
        ("hep hook apply . > /dev/full", "1 added"),
        ("hep watcher create --type cpu > /dev/full", "created: watcher-"),
        ("hep watcher create --type cpu --format json > /dev/full", "created: watcher-"),
        ("hep events retry --failed > /dev/full", "1 failed event will run again"),
    ],
)
def test_what_has_more_to_tell_says_what_was_done_where_standard_output_cannot_be_written(
    hep: Hep, connection: Connection, tmp_path: Path, command: str, said: str
) -> None:
    (tmp_path / "x.lua").write_text('return {event_type = "a.b", execute = function() end}')
    insert_event(connection, "failed")
    finished = _through_bash(command)
    begun = f"hep: standard output cannot be written: No space left on device; {said}"
    assert (finished.returncode, finished.stderr[: len(begun)], finished.stderr.count("\n")) == (1, begun, 1)


def _terminal(*arguments: str, columns: int = 140, **environment: str) -> str:
    """What a command writes to a terminal."""
    main, terminal = pty.openpty()
    variables = {**os.environ, "TERM": "xterm", "COLUMNS": str(columns), "PYTHONIOENCODING": "utf-8", **environment}
    with subprocess.Popen([*PROGRAM, *arguments], stdout=terminal, stderr=terminal, env=variables) as process:
        os.close(terminal)
        written = b""
        while True:
            try:
                part = os.read(main, 65_536)
            except OSError:  # the other side is closed
                break
            written += part
            if not part:
                break
    os.close(main)
    assert process.returncode == 0, written
    return written.decode()


def test_a_terminal_gets_rules_and_colours(hep: Hep, connection: Connection) -> None:
    event_id = insert_event(connection, state="failed", resource="[red]x[/red] :boom:")
    insert_execution(connection, event_id, success=False)
    shown = _terminal("events", "list")
    assert "╭" in shown
    assert "\x1b[31mfailed" in shown
    assert "[red]x[/red] :boom:" in shown  # no markup, no emoji
    assert "❌ Failed" in _terminal("events", "show", str(event_id))
    assert "\x1b[3" not in _terminal("events", "list", NO_COLOR="1")
    narrow = _terminal("events", "list", columns=60)
    assert "╭" not in narrow
    assert str(event_id)[:8] in narrow


@pytest.mark.parametrize("command", [("doctor", "schema"), ("hook", "spec", "hook_spec.lua")])
def test_signs_stand_without_colours_under_no_color_and_not_on_a_dumb_terminal(
    hep: Hep, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: tuple[str, ...]
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("hook.lua").write_text('return { event_type = "a.b", execute = function() return true end }')
    Path("hook_spec.lua").write_text('it("works", function() end)')
    assert "\x1b[32m✓\x1b[0m " in _terminal(*command)
    uncoloured = _terminal(*command, NO_COLOR="1")
    assert "✓ " in uncoloured
    assert "\x1b" not in uncoloured
    dumb = _terminal(*command, TERM="dumb")
    assert "ok " in dumb
    assert not {"✓", "\x1b"} & set(dumb)


def test_a_dumb_terminal_gets_aligned_text(hep: Hep, connection: Connection) -> None:
    insert_event(connection, state="failed", resource="x" * 60)
    shown = _terminal("events", "list", columns=200, TERM="dumb")
    assert shown.replace("\r\n", "\n") == hep("events", "list")


def test_a_bulk_on_a_terminal_shows_progress(hep: Hep, connection: Connection, tmp_path: Path) -> None:
    (tmp_path / "events.jsonl").write_text('{"type": "a.b"}\n' * 5_000)
    shown = _terminal("events", "emit", "--jsonl", str(tmp_path / "events.jsonl"))
    assert "Publishing" in shown
    assert "published: 5,000 events" in shown
    assert "removed: 0 events" in _terminal("events", "cleanup", "--older-than", "1d")


def test_an_ascii_terminal_gets_escapes(hep: Hep, connection: Connection) -> None:
    insert_event(connection, resource="é 🚀")
    environment = {**os.environ, "PYTHONIOENCODING": "ascii"}
    finished = subprocess.run(
        [*PROGRAM, "events", "list"], capture_output=True, env=environment, timeout=30, check=True
    )
    assert rb"\xe9 \U0001f680" in finished.stdout


def _await_session(connection: Connection, asks: str = "") -> None:
    """Return when a command has its session, and has asked for what stands in the query."""
    deadline = time.monotonic() + 30
    query = (
        "SELECT count(*) FROM pg_stat_activity"
        " WHERE starts_with(application_name, 'hook-event-processor command') AND datname = current_database()"
        " AND (%(asks)s = '' OR query LIKE '%%' || %(asks)s || '%%' AND state = 'idle')"
    )
    while connection.execute(query, {"asks": asks}).fetchone() == (0,):
        assert time.monotonic() < deadline
        time.sleep(0.001)


@pytest.mark.parametrize("later", [0.0, 0.002, 0.005, 0.05])
def test_ctrl_c_is_130_without_a_traceback(hep: Hep, connection: Connection, later: float) -> None:
    """While it connects, while it goes on to import what it needs, and while it waits for its input."""
    command = [*PROGRAM, "events", "emit", "--jsonl", "-"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        _await_session(connection)
        time.sleep(later)
        process.send_signal(signal.SIGINT)
        assert process.wait(30) == 130
        assert process.stderr is not None
        assert process.stderr.read() == b""


def test_tail_prints_each_event_as_it_arrives_and_ends_with_0(hep: Hep, connection: Connection) -> None:
    insert_event(connection, source="before", action="tail")
    command = [*PROGRAM, "events", "tail", "--type", "task.*", "--format", "json"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        _await_session(connection, "pg_locks")  # it knows the last seq before its start
        insert_event(connection, source="other")
        insert_event(connection, action="one")
        assert '"type":"task.one"' in process.stdout.readline()
        insert_event(connection, action="two", state="completed")
        assert '"type":"task.two"' in process.stdout.readline()
        process.send_signal(signal.SIGINT)
        assert process.wait(30) == 0
        assert (process.stdout.read(), process.stderr.read()) == ("", "")


def test_tail_ends_when_nobody_reads(hep: Hep, connection: Connection) -> None:
    for action in ("one", "two"):
        insert_event(connection, action=action)
    with subprocess.Popen([*PROGRAM, "events", "tail", "--limit", "2"], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert "task.one" in process.stdout.readline()
        process.stdout.close()
        assert process.wait(30) == 141


@pytest.mark.parametrize(
    "command",
    [
        ("hook", "check", "{}"),
        ("hook", "check", "{}.lua"),
        ("hook", "test", "{}"),
        ("hook", "test", "{}.lua"),
        ("hook", "spec", "{}"),
        ("hook", "add", "{}"),
        ("hook", "apply", "{}"),
        ("hook", "new", "alert", "--dir", "{}"),
        ("catalog", "add", "a.b", "--schema", "{}"),
        ("events", "emit", "--jsonl", "{}"),
        ("events", "restore", "{}"),
    ],
    ids=" ".join,
)
def test_a_name_that_no_file_can_have_is_told_in_words(offline_hep: Hep, command: tuple[str, ...]) -> None:
    name = "x" * 300
    fault = offline_hep.fault(*(word.format(name) for word in command))
    assert "Errno" not in fault
    assert name in fault
    assert "File name too long" in fault
