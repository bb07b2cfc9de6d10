"""Threads for looks that may wait: for a connection, for a program."""

from __future__ import annotations

import logging
import threading
from collections import deque
from collections.abc import Callable
from typing import Generic, TypeVar

from hook_event_processor.watchers.faults import FaultLog

logger = logging.getLogger("Watchers")

Task = TypeVar("Task")
_IDLE_SECONDS = 60.0
_FAULTS = FaultLog("threads that the system does not give")


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
        self._refused = False  # by the system: a thread for a task that may still wait for one

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

    def see_to_threads(self) -> None:
        """Start threads for tasks that wait because the system gave none; to be called now and then."""
        with self._lock:
            if self._refused:
                self._refused = False
                for _ in range(min(len(self._tasks), self._size - self._threads)):
                    self._add()

    def _add(self) -> None:
        thread = threading.Thread(target=self._work, name=f"look-{self._threads + 1}", daemon=True)
        try:
            thread.start()
        except (RuntimeError, MemoryError) as fault:
            self._refused = True
            _FAULTS.say(logging.WARNING, "looks wait for a thread: %s; %d go on", fault, self._threads)
        else:
            self._threads += 1

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
