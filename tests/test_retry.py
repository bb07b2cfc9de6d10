"""Retry: which delays a hook gets from its own values and those of the settings."""

from __future__ import annotations

import pytest

from hook_event_processor.registry import Hook
from hook_event_processor.retry import RetryPolicy

_JITTER = 1.25  # at most


@pytest.mark.parametrize(
    ("delay", "max_delay", "least"),
    [
        (None, None, [5, 10, 20, 40, 40]),
        (1.0, None, [1, 2, 4, 8, 16]),
        (60.0, None, [60, 60]),  # longer than the settings' longest: it is waited all the same
        (60.0, 120.0, [60, 120, 120]),
        (60.0, 10.0, [10, 10]),
        (None, 10.0, [5, 10, 10]),
    ],
)
def test_a_hook_s_own_delays_go_before_those_of_the_settings(
    delay: float | None, max_delay: float | None, least: list[float]
) -> None:
    hook = Hook(1, "a", None, retry_delay=delay, retry_max_delay=max_delay)
    policy = RetryPolicy(attempts=3, delay=5, max_delay=40).of(hook)
    for attempt, seconds in enumerate(least, 1):
        assert seconds <= policy.delay_after(attempt) <= seconds * _JITTER
