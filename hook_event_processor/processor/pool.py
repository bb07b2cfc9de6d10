"""A pool of daemon threads, made as they are needed and given up when they do not come back."""

from __future__ import annotations

import logging
import os
import threading
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from time import clock_gettime, monotonic, pthread_getcpuclockid, thread_time
from typing import Any, Generic, TypeVar

logger = logging.getLogger("Pool")

Task = TypeVar("Task")
_IDLE_SECONDS = 30.0
_LOWEST_PRIORITY = 19  # nice(2)


@dataclass(eq=False, slots=True)
class _Worker(Generic[Task]):
    """A thread of the pool, and what it is at."""

    wake: threading.Condition
    thread: threading.Thread | None = None
    called: bool = True  # woken, or made, and not there yet
    task: Task | None = None
    since: float = 0.0
    leaving: bool = False  # when its task ends
    cpu_before: float = 0.0  # of the thread, as the task began


class Pool(Generic[Task]):
    """Runs tasks on at most `size` threads; `start_worker` is called once a thread and gives what runs a task.

    Our own threads, not concurrent.futures: one that is stuck in a C function
    can be abandoned and replaced, and none of them holds up the exit.

    One thread is woken at a time, and wakes the next when it has taken a task
    and more of them wait: of tasks that are over before another thread would
    have come, one thread runs several.
    """

    def __init__(self, name: str, size: int, start_worker: Callable[[], Callable[[Task], None]]) -> None:
        self._name = name
        self._size = size
        self._start_worker = start_worker
        self._lock = threading.RLock()
        self._tasks: deque[Task] = deque()
        self._workers: set[_Worker[Task]] = set()
        self._retiring: set[_Worker[Task]] = set()  # at their last task, in no hurry
        self._abandoned: set[_Worker[Task]] = set()
        # The one that was busy last is woken first, so that those which a burst has left over may end.
        self._idle: list[_Worker[Task]] = []
        self._calling = False  # one is called that is not there yet
        self._giving_way: set[int] = set()  # the idents of threads of the lowest priority
        self._may_give_way = True  # as far as is known

    def submit(self, task: Task) -> None:
        """Run the task as soon as a thread is free."""
        with self._lock:
            self._tasks.append(task)
            self._see_to_tasks()

    def abandon(self, task: Task) -> None:
        """Give up the thread that runs this task: another takes its place, and it ends when it comes back.

        It goes on at the lowest priority, so that what it burns is nobody else's.
        """
        with self._lock:
            self._withdraw(task)
            for worker in (*self._workers, *self._retiring):
                if worker.task is task:
                    self._give_up(worker)
                    break

    def _withdraw(self, task: Task) -> None:
        for index, waiting in enumerate(self._tasks):
            if waiting is task:
                del self._tasks[index]
                return

    def _give_up(self, worker: _Worker[Task]) -> None:
        worker.leaving = True
        self._workers.discard(worker)
        self._retiring.discard(worker)
        self._abandoned.add(worker)
        self._give_way(worker)
        self._see_to_tasks()

    def _see_to_tasks(self) -> None:
        """Wake a thread for what waits, or make one if there may be another."""
        if not self._tasks or self._calling:
            return
        if self._idle:
            worker = self._idle.pop()
            worker.called = self._calling = True
            worker.wake.notify()
        elif len(self._workers) < self._size and threading.get_ident() not in self._giving_way:
            # A thread has the priority of the one that starts it.
            self._calling = self._add_worker()

    def _give_way(self, worker: _Worker[Task]) -> None:
        thread = worker.thread
        if thread is None or thread.ident is None or thread.native_id is None:
            return
        try:
            # On Linux this is the thread's priority, not the process's.
            os.setpriority(os.PRIO_PROCESS, thread.native_id, _LOWEST_PRIORITY)
            self._giving_way.add(thread.ident)
        except ProcessLookupError:
            pass  # it has ended meanwhile
        except OSError as fault:
            if self._may_give_way:
                self._may_give_way = False
                logger.warning(
                    "what computes for long cannot give way to the rest on this host: setpriority: %s", fault
                )

    def _arrive(self, worker: _Worker[Task]) -> None:
        if worker.called:
            worker.called = self._calling = False

    def demote(self, cpu_seconds: float) -> None:
        """Let every thread whose task has computed for so long give way to all others.

        There is no way back for a thread of an ordinary user: it ends with the task.
        Called now and then, it also sees to tasks for which the system gave no thread, or none that came.
        """
        with self._lock:
            self._calling = False  # whoever was called has had the time to come
            self._see_to_tasks()
            long = [w for w in self._workers if w.task is not None and _cpu_seconds(w) > cpu_seconds]
            for worker in long:
                worker.leaving = True
                self._workers.discard(worker)
                self._retiring.add(worker)
                self._give_way(worker)
            if long and not self._idle and len(self._workers) < self._size:
                self._add_worker()  # for those which start no other: see _see_to_tasks

    def cpu_seconds(self, task: Task) -> float:
        """Seconds of processor time that the task has taken; 0 when no thread is at it."""
        with self._lock:
            workers = (*self._workers, *self._retiring)
            return next((_cpu_seconds(worker) for worker in workers if worker.task is task), 0.0)

    @property
    def busy(self) -> int:
        """Threads that run a task."""
        return len(self._workers) + len(self._retiring) - len(self._idle)

    def stuck(self, seconds: float) -> int:
        """Abandoned threads that have been at their task for at least this long."""
        now = monotonic()
        with self._lock:
            return sum(1 for worker in self._abandoned if now - worker.since >= seconds)

    def _add_worker(self) -> bool:
        worker: _Worker[Task] = _Worker(threading.Condition(self._lock))
        name = f"{self._name}-{len(self._workers) + 1}"
        worker.thread = threading.Thread(target=self._work, args=(worker,), name=name, daemon=True)
        try:
            worker.thread.start()
        except (RuntimeError, MemoryError) as fault:  # the system gives no more threads
            logger.warning("%s: %s; %d threads go on", name, fault, len(self._workers))
            return False
        self._workers.add(worker)
        return True

    def _work(self, worker: _Worker[Task]) -> None:
        try:
            self._work_off(worker, self._start_worker())
        except Exception:
            logger.exception("a thread could not begin")
        finally:
            with self._lock:
                self._arrive(worker)
                self._workers.discard(worker)
                self._giving_way.discard(threading.get_ident())

    def _work_off(self, worker: _Worker[Task], run: Callable[[Task], None]) -> None:
        while self._next(worker):
            assert worker.task is not None  # noqa: S101 - _next has set it
            try:
                run(worker.task)
            except Exception:
                # Tasks report their own failures; this is a fault of ours.
                logger.exception("a worker's task failed")
            worker.task = None

    def _next(self, worker: _Worker[Task]) -> bool:
        """Wait for a task; False when the thread is to end."""
        with self._lock:
            if worker.leaving or not self._await_task(worker):
                # Under the same lock: a submit must not count on a thread that is leaving.
                self._workers.discard(worker)
                self._retiring.discard(worker)
                self._abandoned.discard(worker)
                self._see_to_tasks()
                return False
            worker.task = self._tasks.popleft()
            worker.since = monotonic()
            worker.cpu_before = thread_time()
            self._see_to_tasks()
            return True

    def _await_task(self, worker: _Worker[Task]) -> bool:
        """Whether there is a task now; False after a while in which nobody woke this worker."""
        self._arrive(worker)
        while not self._tasks:
            self._idle.append(worker)
            if not worker.wake.wait(_IDLE_SECONDS) and worker in self._idle:
                self._idle.remove(worker)
                return False
            # Woken, perhaps for a task that another has taken meanwhile.
            self._arrive(worker)
        return True


def _cpu_seconds(worker: _Worker[Any]) -> float:
    """Seconds of processor time that the worker's task has taken."""
    if worker.thread is None or worker.thread.ident is None:
        return 0.0
    return clock_gettime(pthread_getcpuclockid(worker.thread.ident)) - worker.cpu_before
