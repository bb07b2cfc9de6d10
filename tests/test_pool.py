"""The pool of threads: how many there are, and which of them work."""

from __future__ import annotations

import errno
import os
import threading
import time
from collections.abc import Callable

import pytest
from waiting import wait_for

from hook_event_processor.processor import pool
from hook_event_processor.processor.pool import Pool


@pytest.fixture
def ran_on() -> list[int]:
    """The thread of each task that has ended, in their order."""
    return []


@pytest.fixture
def threads(ran_on: list[int], monkeypatch: pytest.MonkeyPatch) -> Pool[Callable[[], object]]:
    monkeypatch.setattr(pool, "_IDLE_SECONDS", 0.3)

    def run(task: Callable[[], object]) -> None:
        task()
        ran_on.append(threading.get_ident())

    return Pool("tests", 20, lambda: run)


def test_what_a_thread_that_is_to_end_has_submitted_runs_on_another() -> None:
    """There is but one, which has computed for too long, and its task goes on in another."""
    demoted, ended = threading.Event(), threading.Event()
    threads: Pool[Callable[[], object]] = Pool("tests", 1, lambda: lambda task: task())

    def compute() -> None:
        while not demoted.is_set():
            pass
        threads.submit(ended.set)

    threads.submit(compute)

    def is_demoted() -> bool:
        threads.demote(0.05)
        return threads._retiring != set()

    wait_for(is_demoted, 10)
    demoted.set()
    wait_for(ended.is_set, 10)


def test_a_task_for_which_the_system_had_no_thread_runs_as_soon_as_it_has_one(
    threads: Pool[Callable[[], object]], ran_on: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as without_threads:
        without_threads.setattr(threading.Thread, "start", refuse)
        threads.submit(lambda: None)
    assert ran_on == []
    threads.demote(1.0)
    wait_for(lambda: len(ran_on) == 1, 10)


def test_threads_that_a_burst_has_left_over_end_though_work_goes_on(
    threads: Pool[Callable[[], object]], ran_on: list[int]
) -> None:
    together = threading.Barrier(10)
    for _ in range(10):
        threads.submit(together.wait)
    wait_for(lambda: len(ran_on) == 10, 5)
    assert len(set(ran_on)) == 10

    def is_one_left() -> bool:
        """After one task more: in turn, the ten would have one each before any has been idle for long enough."""
        has_run = threading.Event()
        threads.submit(has_run.set)
        assert has_run.wait(5)
        return len(threads._workers) == 1

    wait_for(is_one_left, 10)


def test_every_task_of_a_flood_runs_once(threads: Pool[Callable[[], object]], ran_on: list[int]) -> None:
    seen: list[int] = []

    def flood(first: int) -> None:
        for number in range(first, first + 500):
            threads.submit(lambda number=number: seen.append(number))  # type: ignore[misc]
            time.sleep(0.0001)

    writers = [threading.Thread(target=flood, args=(first,)) for first in range(0, 2000, 500)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    wait_for(lambda: len(ran_on) == 2000, 20)
    assert sorted(seen) == list(range(2000))
    assert len(set(ran_on)) <= 20
    wait_for(lambda: not threads._workers, 5)


def test_a_host_that_lets_no_thread_give_way_is_told_of_once(
    threads: Pool[Callable[[], object]],
    ran_on: list[int],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    def refuse(*_: object) -> None:
        raise PermissionError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr(os, "setpriority", refuse)
    began, over = threading.Barrier(3), threading.Event()
    tasks = [lambda: (began.wait(), over.wait()), lambda: (began.wait(), over.wait())]
    for task in tasks:
        threads.submit(task)
    began.wait(5)
    for task in tasks:
        threads.abandon(task)
    over.set()
    wait_for(lambda: len(ran_on) == 2, 5)
    (record,) = caplog.records
    assert record.message.startswith("what computes for long cannot give way to the rest on this host: setpriority: ")


def test_a_thread_that_gives_way_starts_none_that_would_do_so_too(
    threads: Pool[Callable[[], object]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A long task's next stage, and the burst after it, run at the usual priority."""
    # What gives way may not come by for long on a busy machine: the other waits for it.
    monkeypatch.setattr(pool, "_IDLE_SECONDS", 60.0)
    demoted = threading.Event()
    priorities: list[int] = []

    def note() -> None:
        priorities.append(os.getpriority(os.PRIO_PROCESS, threading.get_native_id()))
        time.sleep(0.1)

    def compute() -> None:
        while not demoted.is_set():
            pass
        note()
        threads.submit(note)

    threads.submit(compute)

    def is_demoted() -> bool:
        threads.demote(0.05)
        return threads._retiring != set()

    wait_for(is_demoted, 10)
    demoted.set()
    wait_for(lambda: len(priorities) == 2, 10)
    for _ in range(10):
        threads.submit(note)
    wait_for(lambda: len(priorities) == 12, 10)
    usual = os.getpriority(os.PRIO_PROCESS, 0)
    assert priorities == [19] + [usual] * 11


def test_a_thread_that_cannot_begin_keeps_no_other_from_it(ran_on: list[int]) -> None:
    starts = 0

    def start() -> Callable[[Callable[[], object]], None]:
        nonlocal starts
        starts += 1
        if starts == 1:
            raise MemoryError
        return lambda _: ran_on.append(threading.get_ident())

    threads: Pool[Callable[[], object]] = Pool("tests", 20, start)
    threads.submit(lambda: None)
    wait_for(lambda: starts == 1 and not threads._workers, 10)
    threads.submit(lambda: None)
    wait_for(lambda: len(ran_on) == 2, 10)
