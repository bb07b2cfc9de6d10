"""Running hooks on threads: chunks of events, each thread with a run function of its own."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from time import monotonic
from typing import Any

from hook_event_processor.event import Outcome
from hook_event_processor.processor.pool import Pool
from hook_event_processor.processor.quarantine.in_flight import Slots
from hook_event_processor.registry import Hook
from hook_event_processor.run import ChunkResult

# Runs the hook for the rows; ends early, as timed out, when the event is set.
RunFunction = Callable[[Hook, Sequence[Any], threading.Event], ChunkResult]
# What a run may take beyond its timeout before its thread is given up.
GRACE_SECONDS = 2.0
# A run that has computed for this long is in nobody's hurry.
LONG_SECONDS = 0.5


@dataclass(eq=False, slots=True)
class Chunk:
    """Events that one hook runs for in one call. `result` is set when `done` is called, on the thread that ran it.

    `may_begin` is asked on that thread; what may not is forgotten there, and is its owner's to submit again.
    """

    hook: Hook
    rows: Sequence[Any]
    done: Callable[[Chunk], None]
    may_begin: Callable[[Chunk], bool] | None = None
    result: ChunkResult | None = None
    began: float | None = None
    cancelled: threading.Event = field(default_factory=threading.Event)


class Executor:
    """Runs chunks on a pool of threads."""

    def __init__(
        self,
        name: str,
        size: int,
        start_run: Callable[[], RunFunction],
        places: Slots,
        grace_seconds: float = GRACE_SECONDS,
    ) -> None:
        """`start_run` is called once on each thread, and gives the function that runs hooks there.

        What runs is written to `places`, for those who come after a death. Past
        its timeout and the grace a run is overdue.
        """
        self._start_run = start_run
        self._grace = grace_seconds
        self._places = places
        self._pool: Pool[Chunk] = Pool(name, size, self._start_worker)

    def submit(self, chunk: Chunk) -> None:
        """Run the chunk as soon as a thread is free."""
        self._pool.submit(chunk)

    def abandon(self, chunk: Chunk) -> None:
        """Wait no longer for the chunk: it is told to end, and its thread is replaced."""
        chunk.cancelled.set()
        self._pool.abandon(chunk)

    def overdue(self, chunk: Chunk, now: float) -> bool:
        """Whether it should have ended by itself, and has not; `now` is monotonic."""
        return chunk.began is not None and now > chunk.began + chunk.hook.timeout * len(chunk.rows) + self._grace

    def cpu_seconds(self, chunk: Chunk) -> float:
        """Seconds of processor time that the chunk has taken; 0 when it does not run."""
        return self._pool.cpu_seconds(chunk)

    def demote(self) -> None:
        """Let the threads whose runs compute for long give way to all others."""
        self._pool.demote(LONG_SECONDS)

    @property
    def busy(self) -> int:
        """Threads that run a chunk."""
        return self._pool.busy

    @property
    def stuck(self) -> int:
        """Abandoned threads that have not come back although they were told to end."""
        return self._pool.stuck(GRACE_SECONDS)

    def _start_worker(self) -> Callable[[Chunk], None]:
        run = self._start_run()
        place = self._places.take()

        def work(chunk: Chunk) -> None:
            if chunk.may_begin is not None and not chunk.may_begin(chunk):
                return
            chunk.began = monotonic()
            place.began(chunk.hook.id, chunk.hook.version, chunk.rows)
            try:
                chunk.result = run(chunk.hook, chunk.rows, chunk.cancelled)
            except Exception as fault:
                chunk.result = ChunkResult.refused(Outcome.FAILED, f"the processor failed: {fault!r}", len(chunk.rows))
                raise
            finally:
                place.ended()
                if chunk.result is not None:
                    chunk.done(chunk)

        return work
