"""`hep hook apply` and `hep hook add --watch`: a directory of hooks and the database."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from queue import Queue
from typing import Any

import pytest
from commands import Hep
from psycopg import Connection

from hook_event_processor.cli.hook_directory import read_directory
from hook_event_processor.store import hooks, libraries
from hook_event_processor.store.database import Database

HOOK = 'return { event_type = "a.b", params = { n = 1 }, execute = function() end }\n'
WITH_LIBRARY = f'require("lib.x")\n{HOOK}'


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two hooks, a library, and a spec."""
    folder = tmp_path / "hooks"
    (folder / "lib").mkdir(parents=True)
    (folder / "one.lua").write_text(HOOK)
    (folder / "two.lua").write_text(WITH_LIBRARY)
    (folder / "two_spec.lua").write_text("this is no hook")
    (folder / "lib/x.lua").write_text("return 1\n")
    return folder


def _plan(hep: Hep, *options: str) -> list[tuple[str, str]]:
    plan = hep.document("hook", "apply", "hooks", *options, "--format", "json")["plan"]
    return [(step["action"], step["name"]) for step in plan]


def _names(connection: Connection) -> list[str]:
    return [hook.name for hook in hooks.known_hooks(connection)]


def test_a_directory_is_brought_into_the_database(hep: Hep, folder: Path, connection: Connection) -> None:
    assert [line.split()[:3] for line in hep("hook", "apply", "hooks").splitlines()] == [
        ["Action", "Kind", "Name"],
        ["add", "library", "x"],
        ["add", "hook", "one"],
        ["add", "hook", "two"],
        ["3", "added"],
    ]
    assert hooks.get(connection, "two").libraries == {"x": 1}
    assert "Applied From:" in hep("hook", "show", "one")
    revision = hooks.revision(connection)
    assert hep("hook", "apply", "hooks").endswith("nothing to do\n")
    assert hooks.revision(connection) == revision


def test_a_change_is_said_and_made(hep: Hep, folder: Path) -> None:
    hep("hook", "apply", "hooks")
    (folder / "one.lua").write_text(HOOK.replace("a.b", "a.c"))
    (folder / "lib/x.lua").write_text("return 2\n")
    lines = [" ".join(line.split()) for line in hep("hook", "apply", "hooks").splitlines()]
    assert lines[1:] == [
        "change library x version 2",
        "change hook one version 1 -> 2; event types",
        "change hook two version 1 -> 2; libraries",
        "3 changed",
    ]
    (folder / "one.lua").unlink()
    (folder / "new.lua").write_text(HOOK)
    assert hep("hook", "apply", "hooks", "--prune", "--dry-run").splitlines()[-1] == (
        "1 to add, 1 to remove; nothing was changed (--dry-run)"
    )
    assert hep("hook", "apply", "hooks", "--prune").splitlines()[-1] == "1 added, 1 removed"


def test_libraries_may_require_each_other_in_any_order(hep: Hep, folder: Path) -> None:
    (folder / "lib/a.lua").write_text('return require("lib.x")')
    (folder / "one.lua").write_text(f'require("lib.a")\n{HOOK}')
    hep("hook", "apply", "hooks")
    assert hep.document("hook", "get", "one")["libraries"] == {"a": 1, "x": 1}
    (folder / "lib/x.lua").write_text("return 2\n")
    hep("hook", "apply", "hooks")
    assert hep.document("hook", "get", "one")["libraries"] == {"a": 1, "x": 2}


def test_a_dry_run_changes_nothing(hep: Hep, folder: Path, connection: Connection) -> None:
    shown = hep("hook", "apply", "hooks", "--dry-run")
    assert shown.endswith("3 to add; nothing was changed (--dry-run)\n")
    assert (_names(connection), libraries.known(connection)) == ([], {})
    assert hep.document("hook", "apply", "hooks", "--dry-run", "--format", "json")["applied"] is False


def test_one_bad_file_refuses_all_and_every_fault_is_told(hep: Hep, folder: Path, connection: Connection) -> None:
    (folder / "bad.lua").write_text("return {\n  execute = 1,\n}")
    (folder / "worse.lua").write_bytes(b"\xff")
    (folder / "lib/y.lua").write_text("return {")
    finished = hep.run("hook", "apply", "hooks", "--prune")
    assert (finished.status, finished.output) == (1, "")
    assert sorted(finished.errors.splitlines()) == [
        f"hep: {folder}/bad.lua:2: execute is not a function",
        f"hep: {folder}/lib/y.lua:1: unexpected symbol near <eof>",
        f"hep: {folder}/worse.lua is not a Lua source file: byte 1 is not UTF-8",
    ]
    assert (_names(connection), libraries.known(connection)) == ([], {})


def test_only_what_came_from_the_directory_is_pruned(hep: Hep, folder: Path, connection: Connection) -> None:
    hep("hook", "apply", "hooks")
    (folder.parent / "mine.lua").write_text(HOOK)
    hep("hook", "add", "mine.lua")
    (folder.parent / "others").mkdir()
    (folder.parent / "others/third.lua").write_text(HOOK)
    hep("hook", "apply", "others")
    (folder / "two.lua").unlink()
    (folder / "lib/x.lua").unlink()
    assert _plan(hep) == [("unchanged", "one"), ("keep", "two"), ("keep", "x")]
    assert "--prune removes it" in hep("hook", "apply", "hooks")
    assert _names(connection) == ["mine", "one", "third", "two"]
    assert _plan(hep, "--prune") == [("unchanged", "one"), ("remove", "two"), ("remove", "x")]
    assert (_names(connection), libraries.known(connection)) == (["mine", "one", "third"], {})


def test_a_library_that_another_hook_names_is_not_pruned(hep: Hep, folder: Path, connection: Connection) -> None:
    hep("hook", "apply", "hooks")
    (folder.parent / "mine.lua").write_text(WITH_LIBRARY)
    hep("hook", "add", "mine.lua")
    (folder / "two.lua").unlink()
    (folder / "lib/x.lua").unlink()
    assert hep.fault("hook", "apply", "hooks", "--prune") == (
        "hep: the library 'x' is named by the hook mine: put lib/x.lua back, or change what names it"
    )
    assert _names(connection) == ["mine", "one", "two"]


def test_a_library_that_changes_goes_to_hooks_from_elsewhere_too(hep: Hep, folder: Path) -> None:
    hep("hook", "apply", "hooks")
    (folder.parent / "mine.lua").write_text(WITH_LIBRARY)
    hep("hook", "add", "mine.lua")
    (folder / "lib/x.lua").write_text("return 2\n")
    assert ("change", "mine") in _plan(hep)
    assert hep.document("hook", "get", "mine")["libraries"] == {"x": 2}


def test_what_was_added_by_hand_is_taken_over_and_stays_disabled(hep: Hep, folder: Path) -> None:
    hep("hook", "add", "hooks/one.lua", "--disabled")
    assert "was added by hand" in hep("hook", "apply", "hooks")
    hook = hep.document("hook", "get", "one")
    assert (hook["source"], hook["enabled"]) == (str(folder), False)
    assert f"was from {folder}" in hep("hook", "apply", "hooks", "--source", "git")
    hep("hook", "add", "hooks/one.lua")
    assert hep.document("hook", "get", "one")["source"] is None


def test_a_stack_for_all(hep: Hep, folder: Path) -> None:
    hep("hook", "apply", "hooks", "--stack", "production")
    assert {hook["stack"] for hook in hep.document("hook", "list", "--format", "json")} == {"production"}


def test_a_table_file_makes_several_hooks_from_one_text(hep: Hep, folder: Path) -> None:
    (folder / "hooks.toml").write_text(
        '[first]\nfile = "one.lua"\nparams = { n = 5 }\npriority = 3\n'
        '[second]\nfile = "one.lua"\nevent_type = ["c.d", "e.*"]\nstack = "s"\ndescription = "mine"\nenabled = false\n'
    )
    assert _plan(hep) == [("add", "x"), ("add", "first"), ("add", "second"), ("add", "two")]
    first, second = (hep.document("hook", "get", name) for name in ("first", "second"))
    assert (first["params"], first["priority"], first["enabled"]) == ({"n": 5}, 3, True)
    expected = (["c.d", "e.*"], "s", "mine", False)
    assert (second["event_types"], second["stack"], second["description"], second["enabled"]) == expected


@pytest.mark.parametrize(
    ("table", "reason"),
    [
        ("[one", "hooks.toml: Expected ']' at the end of a table declaration"),
        ("one = 1", "one stands outside of a table"),
        ("[one]\nevents = 'a.b'", "[one]: unknown key 'events'; known are file, event_type"),
        ("[one]\npriority = true", "[one]: priority is True: it takes a number of 32 bits"),
        ("[three]", "[three]: there is no three.lua in "),
        ("[one]\nevent_type = 'a['", "[one]: the pattern 'a[' opens a ["),
        ("[one]\nevent_type = ['a.b', 5]", "[one]: event_type is ['a.b', 5]: it takes a pattern or a list of patterns"),
        ("[one]\nevent_type = []", "hooks.toml: [one]: event_type is an empty list: it takes a pattern at the least"),
        (
            '[one]\nstack = "a\\u0000b"',
            "hooks.toml: [one]: stack is 'a\\x00b': it takes a string, without NUL, of at most 1000",
        ),
        (f"[one]\nstack = '{'x' * 1001}'", "it takes a string, without NUL, of at most 1000"),
        (
            '[one]\ndescription = "a\\u0000b"',
            "[one]: description is 'a\\x00b': it takes a string, without NUL, of at most 10000",
        ),
        ("[one]\npriority = 99999999999", "it takes a number of 32 bits"),
        ("[two]\nfile = 'one.lua'\n[one]\nfile = 'two.lua'\n[three]\nfile='one.lua'\nparams = []", "params is []"),
    ],
)
def test_a_bad_table_file_is_refused(folder: Path, table: str, reason: str) -> None:
    (folder / "hooks.toml").write_text(table)
    assert reason in "\n".join(read_directory(folder).faults)


def test_bad_parameters_of_a_table_file_are_refused(hep: Hep, folder: Path, connection: Connection) -> None:
    (folder / "hooks.toml").write_text('[one]\nparams = { m = 1 }\n[five]\nfile = "one.lua"\nparams = { n = "x" }')
    finished = hep.run("hook", "apply", "hooks")
    assert (finished.status, finished.errors.splitlines()) == (
        1,
        [
            f"hep: {folder}/one.lua: there is no parameter 'm': there are n",
            f"hep: {folder}/one.lua: the parameter 'n' is \"x\": it takes a number (its default is 1)",
        ],
    )
    assert _names(connection) == []


def test_two_hooks_of_one_name_are_refused(hep: Hep, folder: Path) -> None:
    (folder / "other.lua").write_text(HOOK.replace("return {", 'return { name = "one",'))
    assert f"{folder}/other.lua: {folder}/one.lua has a hook of the same name, 'one'" in hep.fault(
        "hook", "apply", "hooks"
    )


def test_a_directory_without_hooks_is_refused(hep: Hep, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    said = hep.fault("hook", "apply", "empty", "--prune")
    assert "holds no hook" in said
    assert said.endswith("; 'hep hook remove' and 'hep hook lib remove' take away what came from here")
    assert hep.fault("hook", "apply", "missing").endswith("/missing is no directory")


class Watching:
    """`hep hook add --watch` as a process; `said` waits for its next line."""

    def __init__(self, folder: Path, database: Database) -> None:
        program = "import sys; from hook_event_processor.cli import program; program()"
        self.process = subprocess.Popen(
            [sys.executable, "-c", program, "hook", "add", "--watch", str(folder)],
            env={**os.environ, "DATABASE_URL": database.conninfo},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        self._lines: Queue[str] = Queue()
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self) -> None:
        for line in self.process.stdout or ():
            self._lines.put(line.rstrip("\n"))

    def said(self) -> str:
        return self._lines.get(timeout=20)


@pytest.fixture
def watching(folder: Path, database: Database) -> Iterator[Watching]:
    started = Watching(folder, database)
    yield started
    started.process.kill()
    started.process.wait()


def test_what_is_saved_is_added_again_until_it_is_interrupted(
    hep: Hep, folder: Path, connection: Connection, watching: Watching
) -> None:
    said: list[Any] = [watching.said() for _ in range(4)]
    assert said[:3] == ["added: library x, version 1", "added: hook one, version 1", "added: hook two, version 1"]
    assert said[3] == f"watching {folder}: Ctrl-C ends it"
    hep("hook", "add", "hooks/one.lua", "--name", "one5", "--set", "n=5", "--priority", "4")
    (folder / "one.lua").write_text(HOOK.replace("a.b", "a.c"))
    assert [watching.said(), watching.said()] == ["replaced: hook one5, version 2", "replaced: hook one, version 2"]
    one5 = hooks.get(connection, "one5")
    assert (one5.event_types, one5.params, one5.priority) == (["a.c"], {"n": 5}, 4)
    (folder / "one.lua").write_text("return {")
    assert watching.said() == f"hep: {folder}/one.lua:1: unexpected symbol near <eof>"
    (folder / "lib/x.lua").write_text("return 2\n")
    assert [watching.said(), watching.said()] == ["replaced: library x, version 2", "replaced: hook two, version 2"]
    (folder / "two.lua").unlink()
    assert watching.said().startswith(f"hep: {folder}/two.lua is gone; what came from it stays")
    watching.process.send_signal(signal.SIGINT)
    assert watching.process.wait(20) == 0


@pytest.mark.parametrize("added", ["linked/one.lua", "hooks/one.lua", "hooks/../linked/one.lua"])
@pytest.mark.parametrize("watched", ["linked", "hooks"])
def test_a_hook_is_known_again_by_whatever_link_one_comes_to_it(
    hep: Hep, folder: Path, connection: Connection, database: Database, added: str, watched: str
) -> None:
    (folder / "two.lua").unlink()
    (folder.parent / "linked").symlink_to(folder)
    hep("hook", "add", added, "--name", "one-prod", "--stack", "prod")
    watching = Watching(folder.parent / watched, database)
    try:
        said = [watching.said() for _ in range(3)]
        assert said[1].split(": ")[1] == "hook one-prod, version 1"
        (folder / "one.lua").write_text(HOOK.replace("a.b", "a.c"))
        assert watching.said() == "replaced: hook one-prod, version 2"
    finally:
        watching.process.kill()
        watching.process.wait()
    assert _names(connection) == ["one-prod"]
    assert hooks.get(connection, "one-prod").file_path == str(folder.parent / watched / "one.lua")


def test_what_is_saved_while_a_watch_begins_is_added(
    hep: Hep, folder: Path, connection: Connection, database: Database
) -> None:
    hep("hook", "apply", "hooks")
    (folder / "two.lua").write_text(WITH_LIBRARY.replace("a.b", "a.c"))
    connection.execute("BEGIN")
    connection.execute("SELECT FROM hooks WHERE name = 'two' FOR UPDATE")
    watching = Watching(folder, database)
    try:
        assert watching.said() == "changed: library x, version 1"
        assert watching.said() == "changed: hook one, version 1"
        (folder / "one.lua").write_text(HOOK.replace("a.b", "a.c"))
        connection.execute("COMMIT")
        assert watching.said() == "replaced: hook two, version 2"
        assert watching.said() == f"watching {folder}: Ctrl-C ends it"
        assert watching.said() == "replaced: hook one, version 2"
    finally:
        watching.process.kill()
        watching.process.wait()


def test_watch_takes_a_directory_and_no_option_of_one_hook(hep: Hep, folder: Path) -> None:
    for option in (("--name", "x"), ("--event", "a.b"), ("--set", "n=1"), ("--description", "x")):
        finished = hep.run("hook", "add", "--watch", "hooks", *option)
        assert (finished.status, f"{option[0]} is for one hook" in finished.fault) == (2, True)
    assert hep.run("hook", "add", "--watch", "hooks/one.lua").status == 2
