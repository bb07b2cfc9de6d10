"""The daemon's own disk: the spool and its bounds, states, definitions; and what events look like there."""

from __future__ import annotations

import logging
import os
import sqlite3
import threading
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime
from itertools import pairwise
from operator import call
from pathlib import Path
from time import monotonic
from typing import Any

import orjson
import pytest
from waiting import wait_for

from hook_event_processor.settings import Settings
from hook_event_processor.watchers.check import Definition, Moment, Noticed
from hook_event_processor.watchers.daemon import ledger as ledger_module
from hook_event_processor.watchers.daemon.crew import Crew
from hook_event_processor.watchers.daemon.envelope import Envelopes, as_state
from hook_event_processor.watchers.daemon.ledger import Ledger
from hook_event_processor.watchers.daemon.local_store import LocalStore, State
from hook_event_processor.watchers.daemon.schedule import Schedule
from hook_event_processor.watchers.daemon.settling import Settling
from hook_event_processor.watchers.daemon.spool import Limits, SpooledEvent, Total
from hook_event_processor.watchers.daemon.watch import Outcome

Open = Callable[..., LocalStore]


@pytest.fixture
def opened(tmp_path: Path) -> Iterator[Open]:
    """Opens the store of the test, for types and limits."""
    stores = []

    def open_store(*types: str, **limits: Any) -> LocalStore:
        stores.append(LocalStore(tmp_path / "watchers/web-1.db", types or ("file",), Limits(**limits)))
        return stores[-1]

    yield open_store
    for store in stores:
        store.close()


def events(first: int, last: int, size: int = 10) -> list[SpooledEvent]:
    return [SpooledEvent(f"id-{n}", b"x" * size, "file") for n in range(first, last + 1)]


def ids(store: LocalStore) -> list[str]:
    return [row[1] for row in store.first(1000)]


def row(watcher_id: str, **fields: Any) -> dict[str, Any]:
    return {"id": watcher_id, "type": "file", "conditions": [], "options": {}, "interval": None, "name": "", **fields}


def test_events_leave_in_the_order_in_which_they_came(opened: Open) -> None:
    store = opened()
    store.keep((), events(1, 3))
    store.keep((), events(4, 5))
    assert store.total() == Total(5, 50, 0)
    first = store.first(2)
    assert [row[1] for row in first] == ["id-1", "id-2"]
    store.remove([row[:2] for row in first])
    assert ids(store) == ["id-3", "id-4", "id-5"]
    assert store.total() == Total(3, 30, 0)


def test_what_comes_while_a_batch_is_on_its_way_is_not_taken_for_it(opened: Open) -> None:
    store = opened(rows=100)
    store.keep((), events(1, 50))
    sent = [row[:2] for row in store.first(50)]
    # All that is on its way gives way: what comes is numbered from the beginning again.
    store.keep((), events(51, 150))
    assert [row[0] for row in store.first(50)] == [row[0] for row in sent]
    store.remove(sent)
    assert ids(store) == [event.id for event in events(51, 150)]
    assert store.total() == Total(100, 1000, 0), "those that had to give way have arrived"


def test_what_another_daemon_has_sent_was_not_given_up(opened: Open) -> None:
    first, second = opened("file"), opened("port")
    first.keep((), [SpooledEvent("id-1", b"x")])
    sent = [row[:2] for row in first.first(10)]
    first.remove(sent)
    second.remove(sent)
    assert first.total() == Total(0, 0, 0)


def test_state_and_events_of_a_look_are_written_together_or_not_at_all(opened: Open) -> None:
    store = opened()
    store.keep([("watcher-1", "file", b"1")], events(1, 1))
    with pytest.raises(sqlite3.Error):
        store.keep([("watcher-1", "file", b"2")], [SpooledEvent(None, b"x", "file")])  # type: ignore[arg-type]
    assert (store.states(), ids(store)) == ({"watcher-1": 1}, ["id-1"])


@pytest.mark.parametrize("limits", [{"rows": 100}, {"bytes": 1000}])
def test_a_full_spool_gives_up_the_oldest(opened: Open, limits: dict[str, int]) -> None:
    store = opened(**limits)
    assert store.keep((), events(1, 100)) == 0
    dropped = store.keep((), events(101, 110))
    assert dropped == 11  # some more than needed
    assert ids(store) == [event.id for event in events(12, 110)]
    assert store.total().dropped == 11
    # More than ever fits: the newest of them.
    store.keep((), events(111, 350))
    assert ids(store)[-1] == "id-350"
    assert store.total().rows + store.total().dropped == 350


def test_a_full_spool_gives_up_the_newest_where_that_is_set(opened: Open) -> None:
    store = opened(rows=100, drops_oldest=False)
    store.keep((), events(1, 95))
    assert store.keep((), events(96, 110)) == 10
    assert ids(store) == [event.id for event in events(1, 100)]
    # What tells of it always fits, and they are told once.
    store.tell_dropped(lambda dropped: SpooledEvent(f"{dropped} given up", b"{}"))
    store.tell_dropped(lambda dropped: SpooledEvent(f"{dropped} again", b"{}"))
    assert store.total() == Total(101, 1002, 0)
    assert ids(store)[-1] == "10 given up"


def test_two_daemons_tell_once_what_was_given_up(opened: Open) -> None:
    first, second = opened("file", rows=10, drops_oldest=False), opened("port")
    first.keep((), events(1, 15))
    begun, told = threading.Barrier(2), []

    def tell(store: LocalStore) -> None:
        total = store.total

        def total_of_both() -> Total:
            found = total()
            begun.wait(5)
            return found

        store.total = total_of_both  # type: ignore[method-assign]
        store.tell_dropped(lambda dropped: told.append(dropped) or SpooledEvent(f"{dropped} given up", b"{}"))

    threads = [threading.Thread(target=tell, args=(store,)) for store in (first, second)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(10)
    assert told == [5]
    second.__dict__.pop("total")
    assert second.total() == Total(11, 102, 0)


def test_the_spool_is_there_after_a_restart(opened: Open) -> None:
    store = opened()
    store.keep([("watcher-1", "file", b"[1]")], events(1, 2))
    store.keep_definitions([row("watcher-1")])
    store.close()
    again = opened()
    assert (ids(again), again.states(), again.definitions()) == (
        ["id-1", "id-2"],
        {"watcher-1": [1]},
        [row("watcher-1")],
    )


def test_daemons_of_different_types_share_a_store(opened: Open) -> None:
    files, ports = opened("file"), opened("port")
    files.keep([("watcher-1", "file", b"1")], events(1, 1))
    ports.keep([("watcher-2", "port", b"2")], [SpooledEvent("id-2", b"x", "port"), SpooledEvent("any", b"x")])
    assert (ids(files), ids(ports)) == (["id-1", "any"], ["id-2", "any"])
    assert (files.states(), ports.states()) == ({"watcher-1": 1}, {"watcher-2": 2})
    files.keep_definitions([row("watcher-1")])
    ports.keep_definitions([])
    assert files.definitions() == [row("watcher-1")]
    assert files.other_types() == ["port"]
    files.release("port")
    assert ids(files) == ["id-1", "id-2", "any"]


def test_a_state_goes_with_what_it_is_of(opened: Open) -> None:
    store = opened()
    store.keep_definitions([row("same"), row("other"), row("gone"), row("renamed")])
    store.keep([(name, "file", b"1") for name in ("same", "other", "gone", "renamed")], ())
    store.keep_definitions(
        [row("same", interval=5.0), row("other", options={"path": "/b"}), row("renamed", name="new")]
    )
    assert set(store.states()) == {"same", "renamed"}


def test_what_a_check_keeps_comes_back_as_it_was(opened: Open) -> None:
    store = opened()
    value = {"path": "/tmp/\udcff", "list": [1, None, 2.5]}
    store.keep([("watcher-1", "file", as_state(value))], ())
    assert store.states() == {"watcher-1": value}


def test_a_store_of_another_version_is_set_aside(opened: Open, tmp_path: Path) -> None:
    opened().close()
    path = tmp_path / "watchers/web-1.db"
    with sqlite3.connect(path) as connection:
        connection.execute("PRAGMA user_version = 99")
    assert opened().total() == Total(0, 0, 0)
    assert len(list(path.parent.glob("web-1.unreadable-*[0-9]"))) == 1


def test_what_can_be_read_of_a_store_that_is_set_aside_goes_on_wherever_it_lies(tmp_path: Path) -> None:
    path = tmp_path / "100%41 #1?mode=rw" / "web-1.db"
    event = Envelopes("web-1", "1.0").own("system.warning", {}, datetime.now(UTC))
    first = LocalStore(path, ("file",), Limits())
    first.keep_definitions([row("watcher-1")])
    first.keep([("watcher-1", "file", b"[1]")], [event])
    first.close()
    with sqlite3.connect(path) as connection:
        connection.execute("PRAGMA user_version = 99")
    again = LocalStore(path, ("file",), Limits())
    assert (again.definitions(), again.states(), ids(again)) == ([row("watcher-1")], {"watcher-1": [1]}, [event.id])
    again.close()


def test_a_store_that_has_become_empty_is_said(opened: Open, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    opened().close()
    assert caplog.messages == []
    path = tmp_path / "watchers/web-1.db"
    os.truncate(path, 0)
    opened().close()
    assert caplog.messages == []  # another daemon may have just made it
    os.truncate(path, 0)
    os.utime(path, (0, 0))
    assert opened().total() == Total(0, 0, 0)
    (message,) = caplog.messages
    assert message.startswith(f"{path} was empty: ")


def test_the_store_is_its_owners_alone(opened: Open, tmp_path: Path) -> None:
    opened().keep((), events(1, 1))
    assert {path.stat().st_mode & 0o077 for path in (tmp_path / "watchers").iterdir()} == {0}


class Disk:
    """A store that refuses, like a disk that is full, until it is emptied or there is `room` for some bytes."""

    def __init__(self, store: LocalStore) -> None:
        self.store = store
        self.full = True
        self.room = 0
        self.writes = 0

    def keep(self, states: Sequence[State], events: Sequence[SpooledEvent]) -> int:
        size = sum(len(event.body) for event in events) + sum(len(state) for _, _, state in states)
        if self.full and size > self.room:
            raise sqlite3.OperationalError("database or disk is full")
        self.room -= size
        self.writes += 1
        return self.store.keep(states, events)


def test_what_a_full_disk_refuses_is_written_later(opened: Open, caplog: pytest.LogCaptureFixture) -> None:
    store = opened()
    disk = Disk(store)
    ledger = Ledger(disk, Envelopes("web-1", "1.0"), lambda: None)  # type: ignore[arg-type]
    definition = Definition("watcher-1", "file", (), {}, 1.0)
    for number in range(1, 4):
        ledger.add(definition, Outcome(str(number).encode(), events(number, number)))
        ledger.write(float("inf"))
    assert ids(store) == []
    disk.full = False
    ledger.write(float("inf"))
    assert (ids(store), store.states()) == (["id-1", "id-2", "id-3"], {"watcher-1": 3})
    assert ledger.next_due() is None
    messages = [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]
    assert messages == ["the spool cannot be written, trying again: database or disk is full"]


@pytest.mark.parametrize("full", [False, True])
def test_more_events_of_a_round_than_are_held_are_lost_only_where_the_disk_refuses_them(
    opened: Open, monkeypatch: pytest.MonkeyPatch, full: bool
) -> None:
    monkeypatch.setattr(ledger_module, "_MAX_HELD", 3)
    store = opened()
    disk = Disk(store)
    disk.full = full
    held = Ledger(disk, Envelopes("web-1", "1.0"), lambda: None)  # type: ignore[arg-type]
    for number in (1, 3, 5):
        held.add(Definition("watcher-1", "file", (), {}, 1.0), Outcome(b"1", events(number, number + 1)))
    disk.full = False
    held.write(float("inf"))
    if full:
        assert ids(store)[:3] == ["id-4", "id-5", "id-6"]
        assert orjson.loads(store.first(1000)[-1][2])["payload"]["lost"] == 3
    else:
        assert ids(store) == [f"id-{number}" for number in range(1, 7)]


def test_while_the_disk_refuses_events_only_so_many_bytes_of_them_are_held(
    opened: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ledger_module, "_MAX_HELD_BYTES", 350)
    store = opened()
    disk = Disk(store)
    held = Ledger(disk, Envelopes("web-1", "1.0"), lambda: None)  # type: ignore[arg-type]
    definition = Definition("watcher-1", "file", (), {}, 1.0)
    held.add(definition, Outcome(b"1", events(1, 5, 100)))
    held.add(definition, Outcome(b"1", events(6, 6, 1000)))  # alone more than is held
    held.add(definition, Outcome(b"1", events(7, 11, 100)))
    disk.full = False
    held.write(float("inf"))
    *kept, warning = store.first(1000)
    assert [event_id for _, event_id, _ in kept] == ["id-9", "id-10", "id-11"]
    assert orjson.loads(warning[2])["payload"]["lost"] == 8
    held.add(definition, Outcome(b"1", events(12, 14, 100)))
    held.write(float("inf"))
    assert ids(store)[-3:] == ["id-12", "id-13", "id-14"], "what was written counts no more"


def test_a_disk_that_refuses_all_at_once_is_given_what_it_takes(
    opened: Open, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(ledger_module, "_PIECE_BYTES", 250)
    monkeypatch.setattr(ledger_module, "_MAX_HELD", 9)
    caplog.set_level(logging.INFO)
    store = opened()
    disk = Disk(store)
    spooled: list[int] = []
    held = Ledger(disk, Envelopes("web-1", "1.0"), lambda: spooled.append(len(ids(store))))  # type: ignore[arg-type]
    held.add(Definition("watcher-1", "file", (), {}, 1.0), Outcome(b"1", events(1, 10, 100)))
    held.write(float("inf"))
    disk.room = 450
    held.write(float("inf"))
    assert (ids(store), store.states(), spooled) == ([f"id-{n}" for n in range(2, 6)], {}, [4])
    assert held.fault == "database or disk is full"
    disk.full = False
    held.write(float("inf"))
    *kept, warning = store.first(1000)
    assert [event_id for _, event_id, _ in kept] == [f"id-{n}" for n in range(2, 11)]
    assert orjson.loads(warning[2])["payload"]["lost"] == 1
    assert (store.states(), held.fault, held.next_due()) == ({"watcher-1": 1}, "", None)
    assert "the spool can be written again; 1 event was lost" in caplog.text


def test_the_first_states_of_a_round_are_written_together_and_at_once(opened: Open) -> None:
    store = opened()
    disk = Disk(store)
    disk.full = False
    ledger = Ledger(disk, Envelopes("web-1", "1.0"), lambda: None)  # type: ignore[arg-type]
    for number in range(100):
        ledger.add(Definition(f"watcher-{number}", "file", (), {}, 1.0), Outcome(b"1", is_first=True))
    ledger.write(monotonic())
    assert (disk.writes, len(store.states())) == (1, 100)
    ledger.add(Definition("watcher-1", "file", (), {}, 1.0), Outcome(b"2"))
    ledger.write(monotonic())
    assert disk.writes == 1, "later ones wait for others"


def test_looks_are_spread_without_drift_and_missed_ones_are_not_made_up() -> None:
    schedule: Schedule[int] = Schedule()
    for number in range(1000):
        schedule.add(number, 10.0, f"watcher-{number}", 100.0, 1000)
    looks: list[tuple[float, int]] = []
    now = 100.0
    while now < 160.0:
        due = schedule.next_due()
        assert due is not None
        now = max(now, due)
        turns = schedule.take(now)
        looks += [(now, turn.item) for turn in turns]
        for turn in turns:
            schedule.again(turn, now)
    settled = [(at, number) for at, number in looks if 120 <= at < 160]
    assert len(settled) == pytest.approx(4000, rel=0.02)
    assert len({at for at, _ in settled}) < 200  # few wake-ups
    of_one = [at for at, number in settled if number == 7]
    assert [later - at for at, later in pairwise(of_one)] == pytest.approx([10.0] * 3, abs=1.0)
    # Asleep for a minute: each once.
    late = schedule.take(220.0)
    assert len(late) == 1000


def test_what_is_together_is_due_at_one_time() -> None:
    schedule: Schedule[int] = Schedule()
    for number in range(50):
        schedule.add(number, 10.0, "cpu 10.0", 100.0, 50)
    first = schedule.take(101.0)
    for turn in first:
        schedule.again(turn, 101.0)
    assert len({turn.due for turn in first}) == 1


def test_a_burst_is_over_when_it_is_quiet_or_has_gone_on_for_long() -> None:
    settling: Settling[str] = Settling()
    settling.begin("file", 0.0)
    settling.begin("file", 0.1)
    assert settling.take(0.45) == []
    assert settling.next_due() == pytest.approx(0.5)
    assert settling.take(0.51) == ["file"]
    for tenth in range(21):
        settling.begin("file", tenth / 10)
    assert "file" in settling
    assert settling.take(2.01) == ["file"]
    assert settling.next_due() is None


def test_a_crew_runs_as_many_tasks_at_a_time_as_it_has_threads() -> None:
    barrier, done = threading.Barrier(4), threading.Semaphore(0)

    def run(_: int) -> None:
        barrier.wait(5)
        done.release()

    crew: Crew[int] = Crew(4, run)
    for task in range(8):
        crew.submit(task)
    for _ in range(8):
        assert done.acquire(timeout=5)


def test_a_thread_of_a_crew_that_ends_leaves_no_task_to_nobody() -> None:
    """There was one more for a while: it may be the one that is woken."""
    barrier, done = threading.Barrier(2), threading.Semaphore(0)
    crew: Crew[Callable[[], object]] = Crew(1, call)
    crew.resize(1)
    for _ in range(2):
        crew.submit(lambda: barrier.wait(5))
    wait_for(lambda: crew._idle == 2, 5)
    crew.resize(-1)
    crew.submit(done.release)
    assert done.acquire(timeout=5)


def test_tasks_for_which_the_system_had_no_thread_run_as_soon_as_it_has_some(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    barrier = threading.Barrier(3)
    crew: Crew[Callable[[], object]] = Crew(2, call)
    with monkeypatch.context() as without_threads:
        without_threads.setattr(threading.Thread, "start", refuse)
        for _ in range(2):
            crew.submit(lambda: barrier.wait(5))
        crew.see_to_threads()
    crew.see_to_threads()
    barrier.wait(5)


def test_limits_come_from_the_settings(tmp_path: Path) -> None:
    settings = Settings(tmp_path, None, spool_max_events=5, spool_max_size=6, spool_policy="drop_newest")
    assert Limits.of(settings) == Limits(5, 6, False)


def test_a_large_event_is_cut_and_one_with_odd_bytes_is_sent() -> None:
    envelopes = Envelopes("web-1", "1.0", 5000)
    definition = Definition("watcher-1", "file", (), {}, 1.0)
    moment = Moment(datetime.now(UTC), 0.0)
    odd = Noticed("file.created", {"path": "/tmp/\udcff\0", "big": 2**70, "line": "y" * 100_000}, "/tmp/\udcff\0" * 200)
    [event] = envelopes.of(definition, odd, moment)
    body = orjson.loads(event.body)
    assert body["payload"]["path"] == "/tmp/\\udcff\\x00"
    assert (body["payload"]["truncated"], body["payload"]["big"]) == (True, str(2**70))
    assert len(body["resource"]) == 255
    assert len(event.body) < 6000


def test_a_level_that_is_high_is_the_agents_event_too() -> None:
    data = {"usage_percent": 91.0, "current": 91.0, "threshold": 80.0}
    definition = Definition("watcher-1", "cpu", (), {}, 1.0)
    moment = Moment(datetime.now(UTC), 0.0)
    events = Envelopes("web-1", "1.0").of(definition, Noticed("system.cpu_high", data, "cpu"), moment)
    bodies = [orjson.loads(event.body) for event in events]
    assert [f"{body['source']}.{body['action']}" for body in bodies] == ["system.cpu_high", "agent.resource_high"]
    assert bodies[1]["payload"]["agent"] == {"name": "web-1", "resource": "cpu", "current": 91.0, "threshold": 80.0}
