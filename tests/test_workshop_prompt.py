"""`hep hook repl`: what is typed is evaluated, readably and within limits."""

from __future__ import annotations

import os
import pty
import select
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from commands import Hep
from psycopg import Connection


@pytest.mark.parametrize(
    ("typed", "printed"),
    [
        ("1 + 1", "2\n"),
        ("1.5, 'a\\nb', nil, true", '1.5, "a\\nb", nil, true\n'),
        ("local x = 3", ""),
        ("x = 3\nx * 2", "6\n"),
        ("print('seen', 1)", "seen\t1\n".expandtabs(4).replace("seen   1", "seen    1")),
        ("function f(n)\n  return n * 2\nend\nf(21)", "42\n"),
        ("for i = 1, 2 do\nprint(i)\nend", "1\n2\n"),
        ('crypto.sha1("")', '"da39a3ee5e6b4b0d3255bfef95601890afd80709"\n'),
        ('json.decode("[1, null, {}]")', "{ 1, null, {} }\n"),
        ('{ b = 1, a = { 1, 2 }, ["x y"] = false }', '{ a = { 1, 2 }, b = 1, ["x y"] = false }\n'),
        ("print", "<function>\n"),
        ("require('json') == json", "true\n"),
        ('log.info("note", { a = 1 })', "INFO note a=1\n"),
        ("", ""),
    ],
)
def test_values_are_printed_readably(offline_hep: Hep, typed: str, printed: str) -> None:
    assert offline_hep("hook", "repl", stdin=f"{typed}\n") == printed


def test_a_long_table_takes_several_lines(offline_hep: Hep) -> None:
    typed = '{ name = ("x"):rep(60), list = { ("y"):rep(60), 2 }, n = 1 }\n'
    assert offline_hep("hook", "repl", stdin=typed) == (
        f'{{\n  list = {{ "{"y" * 60}", 2 }},\n  n = 1,\n  name = "{"x" * 60}",\n}}\n'
    )


@pytest.mark.parametrize(
    ("typed", "said"),
    [
        ("error('boom')", "input:1: boom\n"),
        ("local x = 1 error('boom')", "input:1: boom\n"),
        ("nil + 1", "input:1: attempt to perform arithmetic on a nil value\n"),
        ("x = = 1", "input:1: unexpected symbol near '='\n"),
        ("while true do end", "the run took longer than it may\n"),
        ("local t = {} for i = 1, 1e9 do t[i] = ('x'):rep(1e6) .. i end", "not enough memory\n"),
        ("coroutine.yield()", "attempt to yield from outside a coroutine\n"),
        ("function f(", "the last input is not complete\n"),
        ("exec.run('id')", "the hook 'prompt' may not use exec.run: the permission 'exec' is not granted"),
        ("io.open('x')", "input:1: attempt to index a nil value (global 'io')\n"),
        ("json.encode = 1", "input:1: json.encode cannot be set: libraries are frozen\n"),
    ],
)
def test_a_failure_is_told_and_the_next_input_goes_on(
    offline_hep: Hep, monkeypatch: pytest.MonkeyPatch, typed: str, said: str
) -> None:
    if "longer" in said:  # a busy machine needs its time for the others
        monkeypatch.setenv("HOOK_TIMEOUT", "0.2")
    finished = offline_hep.run("hook", "repl", stdin=f"'before'\n{typed}\n")
    assert (finished.status, finished.output) == (1, '"before"\n')
    assert finished.errors.startswith(said)
    assert "upvalue" not in finished.errors
    if "complete" not in said:
        assert offline_hep.run("hook", "repl", stdin=f"{typed}\n'after'\n").output == '"after"\n'


def test_what_is_no_text_is_refused(offline_hep: Hep) -> None:
    command = [sys.executable, "-m", "hook_event_processor", "hook", "repl"]
    finished = subprocess.run(command, input=b"'caf\xe9'\n", capture_output=True, timeout=20, check=False)
    said = b"hep: standard input is not a Lua source file: byte 5 is not UTF-8\n"
    assert (finished.returncode, finished.stderr) == (1, said)


def test_what_reaches_outside_is_shown(offline_hep: Hep) -> None:
    printed = offline_hep(
        "hook", "repl", stdin='state.set("k", { a = 1 })\nstate.get("k")\nevent.dispatch("a.b", { x = 1 })\n'
    )
    assert printed.startswith("-- would: state.set: 'k', {\"a\":1}\ntrue\n{ a = 1 }\n")
    assert printed.endswith('-- would dispatch: a.b {"x":1}\ntrue\n')


def test_live_it_is_done(hep: Hep, connection: Connection[Any]) -> None:
    printed = hep("hook", "repl", "--live", stdin='state.set("k", 1)\nevent.dispatch("a.b", { x = 1 })\n')
    assert printed == 'true\n-- dispatched: a.b {"x":1}\ntrue\n'
    assert connection.execute("SELECT source, payload FROM hook_events").fetchall() == [("a", {"x": 1})]
    assert connection.execute("SELECT key FROM hook_state").fetchall() == [("k",)]


def test_live_the_prompt_goes_on_where_an_event_cannot_be_stored(hep: Hep, connection: Connection[Any]) -> None:
    connection.execute("ALTER TABLE hook_events ADD CHECK (source <> 'custom')")
    finished = hep.run("hook", "repl", "--live", stdin='event.dispatch("custom.x", {})\nevent.dispatch("a.b", {})\n')
    assert (finished.status, finished.output) == (1, "-- dispatched: custom.x {}\ntrue\n-- dispatched: a.b {}\ntrue\n")
    assert finished.errors.startswith("the database refused: ")
    assert connection.execute("SELECT source FROM hook_events").fetchall() == [("a",)]


def test_a_secret_is_in_nothing_that_is_printed_or_dispatched(
    hep: Hep, connection: Connection[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOOK_SECRETS", "*")
    hep("secret", "set", "token", stdin="hunter2-and-more")
    typed = 's = secret.get("token")\ns\nevent.dispatch("a.b", { s, "Bearer " .. s })\n'
    printed = hep("hook", "repl", "--live", stdin=typed)
    assert printed == '"***"\n-- dispatched: a.b ["***","Bearer ***"]\ntrue\n'
    stored = "SELECT payload FROM hook_events WHERE source = 'a'"
    assert connection.execute(stored).fetchall() == [(["***", "Bearer ***"],)]


def test_an_event_of_which_a_secret_cannot_be_taken_is_not_dispatched(
    hep: Hep, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOOK_SECRETS", "*")
    key = "0198c0de-0000-7000-8000-000000000001"
    hep("secret", "set", "token", stdin=key)
    finished = hep.run("hook", "repl", stdin='event.dispatch("a.b", {}, { id = secret.get("token") })\n')
    assert (finished.status, finished.output) == (1, "")
    assert finished.errors == "event.dispatch: the id is a secret, which must not be stored\n"


_BESIDE_A_STUCK_RUN = """
import threading
threading.Thread(target=threading.Event().wait, daemon=True).start()
from hook_event_processor.cli import program
program()
"""


def test_at_a_terminal_it_asks_and_remembers(tmp_path: Path) -> None:
    """A prompt, a second one for what goes on, Ctrl-C for the input alone, Ctrl-D to leave."""
    home = tmp_path / "home"
    home.mkdir()
    ours, theirs = pty.openpty()
    environment = {"HEP_HOME": str(home), "PATH": os.environ["PATH"], "TERM": "dumb"}
    process = subprocess.Popen(
        [sys.executable, "-c", _BESIDE_A_STUCK_RUN, "hook", "repl"],
        stdin=theirs, stdout=theirs, stderr=theirs, env=environment, cwd=tmp_path, start_new_session=True,
    )  # fmt: skip
    os.close(theirs)
    shown = ""

    def until(text: str) -> None:
        nonlocal shown
        deadline = time.monotonic() + 20
        while text not in shown:
            left = max(0.0, deadline - time.monotonic())
            assert select.select([ours], [], [], left)[0], shown
            shown += os.read(ours, 4096).decode()
        shown = shown.partition(text)[2]

    try:
        until("Ctrl-D leaves.")
        until("hep> ")
        os.write(ours, b"function f()\n")
        until("...> ")
        os.write(ours, b"return 6 * 7 end\n")
        until("hep> ")
        os.write(ours, b"while true do end\n")
        until("do end\r\n")
        process.send_signal(signal.SIGINT)  # as the terminal of a session would for Ctrl-C
        until("hep> ")
        os.write(ours, b"f()\n")
        until("42")
        until("hep> ")
        os.write(ours, b"\x04")
        assert process.wait(20) == 0
    finally:
        process.kill()
        process.wait()
        os.close(ours)
    assert "return 6 * 7 end" in (home / "repl_history").read_text()
    assert (home / "repl_history").stat().st_mode & 0o777 == 0o600
