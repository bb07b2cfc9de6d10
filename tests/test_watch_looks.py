"""The thread that looks, with a store of its own: what becomes of watchers that end, or rest."""

from __future__ import annotations

import gc
import logging
import os
import sqlite3
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import orjson
import pytest
from waiting import wait_for

from hook_event_processor.telemetry.watchdog import Watchdog
from hook_event_processor.watchers import kinds
from hook_event_processor.watchers.check import Moment, Noticed
from hook_event_processor.watchers.daemon import looks as looks_module
from hook_event_processor.watchers.daemon.aside import CREW
from hook_event_processor.watchers.daemon.envelope import Envelopes
from hook_event_processor.watchers.daemon.local_store import LocalStore
from hook_event_processor.watchers.daemon.looks import Looks
from hook_event_processor.watchers.daemon.spool import Limits
from hook_event_processor.watchers.host import programs
from hook_event_processor.watchers.kinds import custom


@pytest.fixture
def store(tmp_path: Path) -> Iterator[LocalStore]:
    opened = LocalStore(tmp_path / "watchers/web-1.db", kinds.NAMES, Limits())
    yield opened
    opened.close()


@pytest.fixture
def looks(store: LocalStore) -> Iterator[Looks]:
    """At work, without a watcher."""
    at_work = Looks(store, Envelopes("web-1", "1.0"), lambda: None, lambda: None)
    thread = threading.Thread(target=at_work.run, args=(Watchdog().part("looks", 60.0),), daemon=True)
    thread.start()
    yield at_work
    at_work.stop()
    thread.join(10)
    assert not thread.is_alive()


@pytest.fixture
def uncollected() -> Iterator[None]:
    """Nobody collects circles, as in a daemon that has settled."""
    gc.disable()
    yield
    gc.enable()


def row(watcher_id: str, kind: str, interval: float = 0.1, **options: object) -> dict[str, Any]:
    """A watcher as store.watchers has it."""
    return {
        "id": watcher_id,
        "type": kind,
        "conditions": [],
        "options": {name: str(value) for name, value in options.items()},
        "interval": interval,
        "name": "",
        "stack": "",
    }


def held(path: Path) -> list[str]:
    """Descriptors of this process that are of a file, or of a process."""
    opened = []
    for number in os.listdir("/proc/self/fd"):
        with suppress(FileNotFoundError):  # closed meanwhile
            opened.append(os.readlink(f"/proc/self/fd/{number}"))
    return [each for each in opened if each == str(path) or "pidfd" in each]


def end(looks: Looks) -> None:
    looks.define([])


def end_and_stop(looks: Looks) -> None:
    looks.define([])
    looks.stop()


def told(store: LocalStore) -> list[Any]:
    """What lines of custom watchers' programs became events, in their order."""
    bodies = [orjson.loads(body) for _, _, body in store.first(100)]
    return [body["payload"]["value"] for body in bodies if body["source"] == "custom"]


@pytest.mark.usefixtures("uncollected")
@pytest.mark.parametrize("leave", [end, Looks.rest])
@pytest.mark.parametrize("interval", [0.1, 3600.0])
def test_what_a_watcher_has_open_is_closed_when_it_ends_or_rests(
    looks: Looks, store: LocalStore, tmp_path: Path, leave: Callable[[Looks], None], interval: float
) -> None:
    log = tmp_path / "app.log"
    log.touch()
    before = len(held(log))
    looks.define(
        [
            row("watcher-1", "log", interval, path=log, pattern="x"),
            row("watcher-2", "process", interval, pid=os.getpid()),
        ]
    )
    wait_for(lambda: len(store.states()) == 2, 10)
    assert len(held(log)) > before
    leave(looks)
    wait_for(lambda: len(held(log)) == before, 10, f"still open: {held(log)}")


def test_a_path_that_is_written_without_a_pause_is_looked_at_when_it_is_due(
    looks: Looks, store: LocalStore, tmp_path: Path
) -> None:
    file = tmp_path / "file"
    file.touch()
    looks.define([row("watcher-1", "file", 0.1, path=file)])
    wait_for(lambda: len(store.states()) == 1, 10)

    def write(events: int) -> bool:
        with file.open("a") as opened:
            opened.write("more")
        return len(store.first(events)) == events and watch in looks._settling

    (watch,) = looks._watches.values()
    wait_for(lambda: write(0), 10)
    already = len(store.first(100))
    # Three of the longest bursts; there could be 60.
    wait_for(lambda: write(already + 10), 6)


@pytest.mark.parametrize("leave", [end, Looks.rest, end_and_stop])
def test_a_program_whose_watcher_ends_or_rests_during_a_look_ends_too_and_what_it_has_printed_is_told(
    looks: Looks, store: LocalStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, leave: Callable[[Looks], None]
) -> None:
    look, taken, goes_on = custom._Kept.look, threading.Event(), threading.Event()

    def look_slowly(check: custom._Kept, moment: Moment) -> list[Noticed]:
        noticed = look(check, moment)
        if noticed:
            taken.set()
            goes_on.wait(10)
        return noticed

    monkeypatch.setattr(custom._Kept, "look", look_slowly)
    monkeypatch.setattr(looks_module, "_LAST_SECONDS", 10.0)
    programs.grant(True)
    program = tmp_path / "program"
    program.write_text("trap 'echo 2; exit' TERM; echo $$; while :; do sleep 0.05; done")
    looks.define([row("watcher-1", "custom", command=f"sh {program}")])
    assert taken.wait(10)
    leave(looks)
    wait_for(lambda: looks.count == 0, 10)
    assert told(store) == []
    goes_on.set()
    wait_for(lambda: len(told(store)) == 2, 10)
    pid, last = told(store)
    assert last == 2
    assert not Path(f"/proc/{pid}").exists()


@pytest.mark.parametrize("leave", [end, Looks.rest, Looks.stop, end_and_stop])
def test_a_program_that_is_run_once_a_look_tells_what_it_prints_although_its_watcher_ends_meanwhile(
    looks: Looks, store: LocalStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, leave: Callable[[Looks], None]
) -> None:
    monkeypatch.setattr(looks_module, "_LAST_SECONDS", 10.0)
    programs.grant(True)
    begun, go, runs = tmp_path / "begun", tmp_path / "go", tmp_path / "runs"
    program = tmp_path / "program"
    program.write_text(f"echo >>{runs}; echo 1; touch {begun}; until [ -e {go} ]; do sleep 0.01; done; echo 2")
    looks.define([row("watcher-1", "custom", 3600.0, command=f"sh {program}", once="true")])
    wait_for(begun.exists, 10)
    leave(looks)
    wait_for(lambda: looks.count == 0 or looks._stopping, 10)
    go.touch()
    wait_for(lambda: told(store) == [1, 2], 10)
    assert runs.read_text() == "\n", "it is run no more"


@pytest.mark.parametrize("leave", [end, Looks.rest])
def test_a_watcher_that_could_not_look_is_not_said_to_look_again_as_it_ends(
    looks: Looks, caplog: pytest.LogCaptureFixture, leave: Callable[[Looks], None]
) -> None:
    programs.grant(False)
    caplog.set_level(logging.INFO)
    looks.define([row("watcher-1", "custom", command="sleep 9")])
    wait_for(lambda: "watcher watcher-1 cannot look: sleep is not granted" in caplog.text, 10)
    leave(looks)
    wait_for(lambda: looks.count == 0, 10)
    assert "looks again" not in caplog.text


def test_nothing_is_said_any_more_of_a_watcher_that_has_ended(looks: Looks) -> None:
    programs.grant(False)
    looks.define([row("watcher-1", "custom", command="sleep 9")])
    wait_for(lambda: looks.failing == 1, 10)
    looks.define([])
    wait_for(lambda: looks.count == 0, 10)
    assert looks.take_looked() == []


@pytest.mark.parametrize("leave", [end, Looks.rest, Looks.stop])
def test_a_watcher_that_ends_before_its_first_look_starts_no_program(
    looks: Looks, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, leave: Callable[[Looks], None]
) -> None:
    started: list[object] = []
    monkeypatch.setattr(custom, "Stream", lambda *words: started.append(words))
    programs.grant(True)
    go = tmp_path / "go"
    waits = f"sh -c 'until [ -e {go} ]; do sleep 0.05; done'"
    others = [row(f"watcher-{number}", "custom", 3600.0, command=waits, once="true") for number in range(CREW)]
    looks.define(others)
    wait_for(lambda: len(looks._aside.busy) == CREW, 10)
    looks.define([*others, row("last", "custom", 3600.0, command="true")])
    wait_for(lambda: len(looks._aside.busy) == CREW + 1, 10)
    leave(looks)
    wait_for(lambda: looks.count == 0 or looks._stopping, 10)
    go.touch()
    crew = looks._aside._crew
    wait_for(lambda: not crew._tasks and crew._idle == crew._threads, 10)
    assert started == []


def test_the_copy_of_the_watchers_that_the_disk_refuses_is_written_later(
    looks: Looks, store: LocalStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    keep, is_full = store.keep_definitions, threading.Event()

    def keeping(*arguments: Any) -> None:
        if is_full.is_set():
            raise sqlite3.OperationalError("database or disk is full")
        keep(*arguments)

    monkeypatch.setattr(store, "keep_definitions", keeping)
    monkeypatch.setattr(looks_module, "RETRY_SECONDS", 0.05)
    first, other = (row("watcher-1", "file", path=tmp_path / name) for name in ("first", "other"))
    looks.define([first])
    wait_for(store.states, 10)
    assert store.definitions() == [first]
    before = store.states()
    is_full.set()
    (tmp_path / "other").touch()
    looks.define([other])
    wait_for(lambda: store.states() != before, 10)
    left = store.states()
    assert store.first(10) == [], "the state of the first is not that of the other"
    assert store.definitions() == [first]
    is_full.clear()
    wait_for(lambda: store.definitions() == [other], 10)
    assert store.states() == left, "what it has seen of the other is known"
    messages = [record.getMessage() for record in caplog.records if "copy of the watchers" in record.getMessage()]
    assert messages == ["the copy of the watchers cannot be written, trying again: database or disk is full"]


def test_watchers_that_could_not_be_defined_are_defined_later(
    looks: Looks, store: LocalStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    keep, is_broken, tried = store.keep_definitions, threading.Event(), threading.Semaphore(0)

    def keeping(*arguments: Any) -> None:
        if is_broken.is_set():
            tried.release()
            raise ValueError("of nobody's making")
        keep(*arguments)

    monkeypatch.setattr(store, "keep_definitions", keeping)
    monkeypatch.setattr(looks_module, "RETRY_SECONDS", 0.05)
    other, changed, new = (row(name, "file", path=tmp_path / name) for name in ("other", "changed", "new"))
    looks.define([other, changed])
    wait_for(lambda: len(store.states()) == 2, 10)
    is_broken.set()
    looks.define([other, {**changed, "interval": 0.2}, new])
    for _ in range(3):
        assert tried.acquire(timeout=10)
    (tmp_path / "other").touch()
    wait_for(lambda: store.first(10), 10, "the others look meanwhile")
    looks.define([other, changed, new])  # one is again as it was, and has ended
    is_broken.clear()
    wait_for(lambda: len(store.states()) == looks.count == 3, 10)
    turns = [turn for _, _, turn in looks._schedule._heap if not turn.removed]
    assert len(turns) <= 3
    assert len([record for record in caplog.records if "trying again" in record.getMessage()]) == 1


def refuse_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    """The system gives no more."""

    def refuse(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", refuse)


def test_looks_for_which_the_system_has_no_thread_come_when_it_has_some(
    looks: Looks, store: LocalStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    programs.grant(True)
    aside = [row(f"watcher-{number}", "command", 3600.0, command="echo") for number in range(3)]
    with monkeypatch.context() as without_threads:
        refuse_threads(without_threads)
        looks.define([*aside, row("near", "load", threshold=1)])
        wait_for(lambda: list(store.states()) == ["near"] and len(looks._aside.busy) == 3, 10)
    wait_for(lambda: len(store.states()) == 4, 10)


def test_changes_are_told_at_once_as_soon_as_the_system_has_a_thread_for_that(
    looks: Looks, store: LocalStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(looks_module, "RETRY_SECONDS", 0.05)
    with monkeypatch.context() as without_threads:
        refuse_threads(without_threads)
        looks.define([row("watcher-1", "file", 3600.0, path=tmp_path / "file")])
        wait_for(store.states, 10)

    def change() -> list[Any]:
        (tmp_path / "file").touch()
        return store.first(1)

    wait_for(change, 10)


def test_a_watcher_that_changes_before_it_could_look_tells_nothing_of_what_was_there(
    looks: Looks, store: LocalStore
) -> None:
    programs.grant(False)
    looks.define([row("watcher-1", "command", 3600.0, command="echo 1")])
    wait_for(lambda: looks.failing == 1, 10)
    programs.grant(True)
    looks.define([row("watcher-1", "command", 0.1, command="echo 1")])
    wait_for(store.states, 10)
    assert store.first(10) == []
