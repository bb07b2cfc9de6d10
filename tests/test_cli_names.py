"""Names and patterns as options take them: what is empty or none is misuse, and nothing is done."""

from __future__ import annotations

from pathlib import Path

import pytest
from commands import Hep
from psycopg import Connection

_HOOK = 'return {event_type = "a.b", stack = "production", execute = function() end}\n'


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "h.lua").write_text(_HOOK)
    return tmp_path


@pytest.mark.parametrize(
    ("command", "option"),
    [
        ("hook add h.lua --stack", "--stack"),
        ("hook add h.lua --name", "--name"),
        ("hook apply . --stack", "--stack"),
        ("hook apply . --source", "--source"),
        ("hook lib add h.lua --name", "--name"),
        ("watcher create --type cpu", "HOST"),
        ("watcher create --type cpu --name", "--name"),
        ("watcher create --type cpu --stack", "--stack"),
        ("watcher create --type process --name sshd --label", "--label"),
        ("watcher list", "HOST"),
        ("watcher get watcher-1", "HOST"),
        ("watcher test watcher-1", "HOST"),
        ("events emit a.b --stack", "--stack"),
        ("events emit a.b --resource", "--resource"),
        ("events emit a.b --resource-id", "--resource-id"),
        ("audit --object", "--object"),
        ("audit --who", "--who"),
        ("state list --hook", "--hook"),
        ("state list --shared", "--shared"),
        ("state set k 1 --hook", "--hook"),
    ],
)
@pytest.mark.parametrize("empty", ["", " "])
def test_an_empty_name_is_refused(
    hep: Hep, connection: Connection, folder: Path, command: str, option: str, empty: str
) -> None:
    """What a shell variable that is not set stands for must not widen what is meant."""
    finished = hep.run(*command.split(), empty)
    assert (finished.status, f"argument {option}" in finished.fault) == (2, True)
    for table in ("hook_events", "watchers", "hook_state", "hook_libraries"):
        assert connection.execute(f"SELECT FROM {table}").rowcount == 0
    assert connection.execute("SELECT FROM hooks WHERE kind = 'lua'").rowcount == 0


@pytest.mark.parametrize(
    ("command", "argument"),
    [
        ("hook apply", "DIR"),
        ("hook stubs", "DIR"),
        ("hook new mine --dir", "--dir"),
        ("hook add --watch", "FILE"),
        ("hook add", "FILE"),
        ("hook propose", "FILE"),
        ("hook lib add", "FILE"),
        ("hook check", "FILE"),
        ("hook spec", "FILE"),
    ],
)
def test_an_empty_path_is_not_the_directory_that_one_is_in(
    offline_hep: Hep, folder: Path, command: str, argument: str
) -> None:
    before = sorted(folder.rglob("*"))
    finished = offline_hep.run(*command.split(), "")
    assert (finished.status, f"argument {argument}: an empty name is none" in finished.fault) == (2, True)
    assert sorted(folder.rglob("*")) == before


def test_a_watcher_for_an_empty_condition_or_a_daemon_of_an_empty_type_is_refused(hep: Hep) -> None:
    for command in ("watcher create --type cpu --when", "watcher run --type"):
        for empty in ("", " , "):
            assert hep.run(*command.split(), empty).status == 2


def test_empty_metadata_is_no_metadata(hep: Hep) -> None:
    finished = hep.run("events", "emit", "a.b", "--metadata", "")
    assert (finished.status, "--metadata is not JSON" in finished.fault) == (2, True)


def test_a_hook_runs_for_all_stacks_where_that_is_said(hep: Hep, folder: Path) -> None:
    hep("hook", "add", "h.lua")
    assert hep.document("hook", "get", "h")["stack"] == "production"
    hep("hook", "add", "h.lua", "--all-stacks")
    assert hep.document("hook", "get", "h")["stack"] is None
    assert "No longer in force: --all-stacks," in hep("hook", "add", "h.lua")
    assert hep.document("hook", "get", "h")["stack"] == "production"
    assert "not allowed with" in hep.fault("hook", "add", "h.lua", "--all-stacks", "--stack", "staging")


@pytest.mark.parametrize(
    ("command", "reason"),
    [
        (("events", "emit", ""), "the event type '' has no source"),
        (("events", "emit", ".failed"), "the event type '.failed' has no source"),
        (("events", "emit", "x" * 300), "source has 300 characters"),
        (("events", "list", "--type", "~["), "is not a regular expression"),
        (("events", "list", "--type", ""), "is not an event type"),
        (("events", "tail", "--type", "["), "opens a [ that it does not close"),
        (("events", "retry", "--failed", "--type", "~["), "is not a regular expression"),
        (("hook", "add", "h.lua", "--event", ""), "is not an event type"),
        (("catalog", "add", "task.*"), "is a pattern"),
        (("catalog", "add", ""), "has no source"),
    ],
)
def test_what_is_no_type_and_no_pattern_is_misuse(
    hep: Hep, folder: Path, command: tuple[str, ...], reason: str
) -> None:
    finished = hep.run(*command)
    assert (finished.status, reason in finished.fault) == (2, True)
