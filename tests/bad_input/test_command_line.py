"""Any command line is obeyed or refused in words: never with a traceback, never with a status that is not told."""

from __future__ import annotations

import argparse
import contextlib
import io
from collections.abc import Iterator
from pathlib import Path
from uuid import UUID

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from hook_event_processor.cli import main, parser
from hook_event_processor.cli.health import UNKNOWN
from hook_event_processor.store.database import Database

# These do not return, or do what a test must not: serve, install, edit, wait.
_LEFT_OUT = {
    *("run", "up", "install", "uninstall", "watcher run", "agent watcher run", "events tail", "hook repl", "config"),
    *("doctor", "reload", "db psql", "hook stubs", "hook new"),
}
_WORDS = (
    *(
        "",
        "-",
        "--",
        "--json",
        "--limit",
        "-1",
        "0",
        "1e9",
        "x",
        "a.b",
        "*.*",
        "~[",
        "{}",
        "[1",
        '{"a": 1}',
        "now",
        "1h",
        "0s",
    ),
    *("/dev/null/x", "/dev/null", "--since", "\N{SNOWMAN}", "x" * 300, "a\nb", "%s", "'; --", str(UUID(int=7 << 76))),
)
_TEXTS = st.sampled_from(_WORDS) | st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=20)


def _commands(of: argparse.ArgumentParser, name: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], list[str]]]:
    """Every command with its options."""
    groups = [action for action in of._actions if isinstance(action, argparse._SubParsersAction)]
    for group in groups:
        for word, below in group.choices.items():
            yield from _commands(below, (*name, word))
    if not groups and " ".join(name) not in _LEFT_OUT:
        yield name, [option for action in of._actions for option in action.option_strings]


COMMANDS = list(_commands(parser()))


@pytest.fixture
def nowhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A directory of its own, and a database that nobody is at."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HEP_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("DATABASE_URL", f"host={tmp_path} dbname=none connect_timeout=1")


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_any_command_line_is_obeyed_or_refused_in_words(nowhere: None, data: st.DataObject) -> None:
    _obey_or_refuse(data)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_any_command_line_is_obeyed_or_refused_in_words_where_there_is_a_database(
    nowhere: None, database: Database, monkeypatch: pytest.MonkeyPatch, data: st.DataObject
) -> None:
    monkeypatch.setenv("DATABASE_URL", database.conninfo)
    _obey_or_refuse(data)


def _obey_or_refuse(data: st.DataObject) -> None:
    name, options = data.draw(st.sampled_from(COMMANDS))
    arguments = data.draw(st.lists(st.sampled_from(options) | _TEXTS if options else _TEXTS, max_size=5))
    printed, complained = io.StringIO(), io.StringIO()
    with (
        contextlib.redirect_stdout(printed),
        contextlib.redirect_stderr(complained),
        pytest.MonkeyPatch.context() as patch,
    ):
        patch.setattr("hook_event_processor.cli.output.drop", lambda: None)  # it is about the process's own output
        patch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(b"")))
        status = main([*name, *arguments])
    statuses = (0, 1, 2, UNKNOWN) if name == ("health",) else (0, 1, 2)
    assert status in statuses, (status, complained.getvalue())
    assert "Traceback" not in complained.getvalue()
    assert status == 0 or complained.getvalue() or printed.getvalue()
