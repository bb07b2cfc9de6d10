"""Retry: how long after a failed attempt the next one begins."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from tenacity import RetryCallState, Retrying, wait_exponential_jitter
from tenacity.wait import wait_base

if TYPE_CHECKING:
    from hook_event_processor.registry import Hook

_JITTER = 0.25  # of the delay, so that what failed together does not return together


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """Attempts at an event, and the delays between them in seconds: `delay`, doubled each time, up to `max_delay`."""

    attempts: int
    delay: float
    max_delay: float

    def of(self, hook: Hook) -> RetryPolicy:
        """The policy with what the hook says of its own; its delay is never cut by a `max_delay` that is not."""
        delay = self.delay if hook.retry_delay is None else hook.retry_delay
        return RetryPolicy(
            self.attempts if hook.attempts is None else hook.attempts,
            delay,
            max(self.max_delay, delay) if hook.retry_max_delay is None else hook.retry_max_delay,
        )

    def delay_after(self, attempt: int) -> float:
        """Seconds from the failure of this attempt (from 1) to the next."""
        jitter = self.delay * _JITTER
        return wait_after(wait_exponential_jitter(multiplier=self.delay, max=self.max_delay, jitter=jitter), attempt)


def wait_after(wait: wait_base, attempt: int) -> float:
    """Seconds that a tenacity strategy waits after this failed attempt (from 1)."""
    state = RetryCallState(Retrying(), None, (), {})
    state.attempt_number = attempt
    return float(wait(state))
