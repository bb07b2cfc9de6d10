"""How many events a claim takes."""

from __future__ import annotations

import pytest

from hook_event_processor.processor.pace import Stride


@pytest.fixture
def stride() -> Stride:
    """One that has grown to the full batch."""
    stride = Stride(1000)
    for _ in range(10):
        stride.ran(stride.limit, 0.001)
    assert stride.limit == 1000
    return stride


def test_it_grows_step_by_step_and_shrinks_at_once(stride: Stride) -> None:
    young = Stride(1000)
    assert young.limit == 50
    young.ran(50, 0.001)
    assert young.limit == 100
    stride.ran(1000, 3.5)
    assert stride.limit == 100


@pytest.mark.parametrize("events", [0, 1, 10])
def test_what_takes_no_time_never_makes_it_smaller(stride: Stride, events: int) -> None:
    stride.moved(events)
    assert stride.limit == 1000


def test_it_grows_by_what_was_taken_alone() -> None:
    """A trickle of events that are handed on says nothing of a claim that is full of others."""
    stride = Stride(1000)
    for _ in range(20):
        stride.moved(1)
    assert stride.limit == 50
    stride.moved(50)
    assert stride.limit == 100
