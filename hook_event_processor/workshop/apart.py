"""Lua in a thread of its own, so that Ctrl-C is heard while it runs and what sticks holds up nothing."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import TypeVar

_T = TypeVar("_T")
_PATIENCE_SECONDS = 10.0  # beyond its time: what one uninterruptible call may take on a busy machine


def run_apart(work: Callable[[threading.Event], _T], seconds: float) -> _T:
    """Run `work(cancelled)`, which ends by itself within `seconds`, and return what it returns.

    Raises TimeoutError when it does not end, and what it raises. Ctrl-C
    cancels it, and waits for that.
    """
    cancelled, ended = threading.Event(), threading.Event()
    results: list[_T] = []
    faults: list[BaseException] = []

    def run() -> None:
        try:
            results.append(work(cancelled))
        except BaseException as fault:
            faults.append(fault)
        finally:
            ended.set()

    try:
        threading.Thread(target=run, name="workshop", daemon=True).start()
        # Not join(): interrupted, it takes the thread for ended (bpo-45274).
        in_time = ended.wait(seconds + _PATIENCE_SECONDS)
    except KeyboardInterrupt:
        cancelled.set()
        ended.wait(_PATIENCE_SECONDS)
        raise
    if not in_time:
        cancelled.set()
        raise TimeoutError(f"it did not end within {seconds + _PATIENCE_SECONDS:g} seconds")
    if faults:
        raise faults[0]
    return results[0]
