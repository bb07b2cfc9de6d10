"""Which lane looks at what has come: one at work, or one that waits."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator

import pytest
from clock import Clock
from waiting import wait_for

from hook_event_processor.processor import idlers
from hook_event_processor.processor.idlers import Idlers
from hook_event_processor.telemetry.watchdog import Progress

_LANES = 2


class Lanes:
    """Threads that wait, and count how often they were woken; the test is the lookout, and the lanes at work."""

    def __init__(self, clock: Clock) -> None:
        self.clock = clock
        self.idlers = Idlers(_LANES, patience=60.0)
        self.woken = 0

    def wait(self, lanes: int = 1) -> None:
        """So many lanes have nothing to do."""
        for _ in range(lanes):
            threading.Thread(target=self._wait, daemon=True).start()
        wait_for(lambda: self.waiting == lanes, 5)

    def _wait(self) -> None:
        self.idlers.wait(Progress("lane", 60.0))
        self.woken += 1

    @property
    def waiting(self) -> int:
        return len(self.idlers._waiting)


@pytest.fixture
def lanes(clock: Clock, monkeypatch: pytest.MonkeyPatch) -> Iterator[Lanes]:
    monkeypatch.setattr(idlers, "monotonic", clock)
    lanes = Lanes(clock)
    yield lanes
    lanes.idlers.stopping = True
    lanes.idlers.wake_all()


def test_with_nobody_at_work_one_that_waits_is_woken(lanes: Lanes) -> None:
    lanes.wait(2)
    assert lanes.idlers.unneeded_seconds == 0
    lanes.idlers.wake()
    wait_for(lambda: lanes.woken == 1, 5)
    assert lanes.waiting == 1


def test_one_at_work_is_left_word_and_takes_it_with_its_next_claim(lanes: Lanes) -> None:
    lanes.wait()
    lanes.idlers.claims()
    lanes.idlers.wake()
    assert lanes.idlers.unneeded_seconds == pytest.approx(0.005)
    lanes.idlers.claims()
    _stay(lanes, lambda: lanes.idlers.tend())
    assert (lanes.woken, lanes.waiting) == (0, 1)


def test_word_keeps_one_from_waiting(lanes: Lanes) -> None:
    lanes.idlers.claims()
    lanes.idlers.wake()
    lanes.idlers.wait(Progress("lane", 60.0))
    lanes.wait()  # it was for one only
    assert lanes.woken == 0


def test_word_that_nobody_takes_in_time_wakes_one_that_waits(lanes: Lanes) -> None:
    lanes.wait()
    lanes.idlers.claims()
    assert lanes.idlers.tend_seconds == float("inf")
    lanes.idlers.wake()
    assert lanes.idlers.tend_seconds == pytest.approx(0.005)
    _stay(lanes, lambda: lanes.idlers.tend())
    wait_for(lambda: lanes.woken == 1, 5)


def test_one_that_was_woken_is_about_to_claim_and_no_other_is_woken(lanes: Lanes) -> None:
    lanes.wait(2)
    lanes.idlers.wake()
    lanes.idlers.wake()
    wait_for(lambda: lanes.woken == 1, 5)
    assert lanes.waiting == 1
    lanes.idlers.wake_another()
    wait_for(lambda: lanes.woken == 2, 5)


def test_without_one_that_waits_none_is_needed(lanes: Lanes) -> None:
    assert lanes.idlers.unneeded_seconds == float("inf")
    lanes.idlers.wake_another()
    lanes.wait()
    assert lanes.woken == 0


def _stay(lanes: Lanes, tend: Callable[[], None]) -> None:
    """The lane at work does not claim again for a while."""
    lanes.clock.now += 0.02
    assert lanes.idlers.unneeded_seconds == 0
    tend()
