"""Threads for looks that may wait: for a connection, for a program."""

from __future__ import annotations

import logging
import threading
from collections import deque
from collections.abc import Callable
from typing import Generic, TypeVar

logger = logging.getLogger("Watchers")

Task = TypeVar("Task")
_IDLE_SECONDS = 60.0


class Crew(Generic[Task]):
    """Runs tasks on at most `size` threads, which are started when they are needed and end when they are not.

    Daemon threads: none holds up the exit.
    """

    def __init__(self, size: int, run: Callable[[Task], None]) -> None:
        self._size = size
        self._run = run
        self._lock = threading.Condition()
        self._tasks: deque[Task] = deque()
        self._threads = 0
        self._idle = 0

    @property
    def size(self) -> int:
        """How many threads it may have."""
        return self._size

    def submit(self, task: Task) -> None:
        """Run it as soon as a thread is free."""
        with self._lock:
            self._tasks.append(task)
            if self._idle >= len(self._tasks):
                self._lock.notify()
            elif self._threads < self._size:
                self._add()

    def resize(self, difference: int) -> None:
        """Have more threads, for one that does not come back, or as many less again."""
        with self._lock:
            self._size += difference
            if self._tasks and not self._idle and self._threads < self._size:
                self._add()

    def _add(self) -> None:
        self._threads += 1
        threading.Thread(target=self._work, name=f"look-{self._threads}", daemon=True).start()

    def _work(self) -> None:
        while True:
            with self._lock:
                self._idle += 1
                there_is = self._lock.wait_for(lambda: bool(self._tasks), _IDLE_SECONDS)
                self._idle -= 1
                if not there_is or self._threads > self._size:
                    self._threads -= 1
                    if self._tasks:  # it was woken in place of one that stays
                        self._lock.notify()
                    return
                task = self._tasks.popleft()
            try:
                self._run(task)
            except Exception:  # tasks report their own failures; this is a fault of ours
                logger.exception("a look failed")
