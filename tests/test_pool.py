"""The pool of threads: how many there are, and which of them work."""

from __future__ import annotations

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


def test_threads_that_a_burst_has_left_over_end_though_work_goes_on(
    threads: Pool[Callable[[], object]], ran_on: list[int]
) -> None:
    together = threading.Barrier(10)
    for _ in range(10):
        threads.submit(together.wait)
    wait_for(lambda: len(ran_on) == 10, 5)
    assert len(set(ran_on)) == 10
    for number in range(20):
        threads.submit(lambda: None)
        wait_for(lambda ends=11 + number: len(ran_on) == ends, 5)  # type: ignore[misc]
        time.sleep(0.05)
    assert len(set(ran_on[-5:])) == 1
    assert len(threads._workers) == 1


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
