"""The memory that the runtimes of a pool share, and the turns by which they take more of it."""

from __future__ import annotations

import threading
from collections import deque
from dataclasses import dataclass, field
from time import monotonic

# A run that computes for longer lets others in.
TURN_SECONDS = 0.05
_LOOK_SECONDS = 0.1
_NEVER_CANCELLED = threading.Event()


@dataclass(eq=False, slots=True)
class Share:
    """One runtime's part: what is set aside for it, and whether it has a turn."""

    held: int = 0
    running: bool = False
    since: float = 0.0
    cancelled: threading.Event = _NEVER_CANCELLED
    granted: threading.Event = field(default_factory=threading.Event)


class MemoryBudget:
    """`total` bytes for runtimes that may grow to `each`.

    A runtime that executes Lua may grow up to `each` at any moment, so that
    much is set aside while it has its turn; one that waits (in time.sleep,
    say) or is idle holds only what it uses. So a thousand sleeping hooks fit
    where only a few could compute at once.
    """

    def __init__(self, total: int, each: int) -> None:
        self._total = total
        self._each = each
        self._lock = threading.Lock()
        self._held = 0
        self.queue: deque[Share] = deque()  # who waits for a turn
        self._running: set[Share] = set()

    def begin(self, share: Share, cancelled: threading.Event) -> None:
        """Wait for a turn; without one when the run is cancelled, since then it only ends."""
        share.cancelled = cancelled
        with self._lock:
            self.queue.append(share)
            self._grant()
        self._await(share)

    def end(self, share: Share, used: int) -> None:
        """Give the turn back, holding `used` bytes."""
        with self._lock:
            self._stop(share, used)
            self._grant()

    def pause(self, share: Share, used: int) -> bool:
        """Give the turn back to wait with `used` bytes; False, and the turn is kept, when there is no room for them."""
        with self._lock:
            if not self._has_room(used):
                return False
            self._stop(share, used)
            self._grant()
            return True

    def breathe(self, share: Share, used: int) -> None:
        """Let those who wait have a turn, once this one was long enough."""
        if not self.queue or monotonic() - share.since < TURN_SECONDS:
            return
        with self._lock:
            if not self._has_room(used):
                return
            self._stop(share, used)
            self.queue.append(share)
            self._grant()
        self._await(share)

    def _has_room(self, used: int) -> bool:
        """Whether one more may wait with `used` bytes. One turn must always be left, or nobody could go on."""
        waiting = self._held - len(self._running) * self._each
        return waiting + used + self._each <= self._total

    def _await(self, share: Share) -> None:
        while not share.granted.wait(_LOOK_SECONDS):
            with self._lock:
                if share.cancelled.is_set():
                    if share in self.queue:
                        self.queue.remove(share)
                    return
                if self.queue and self.queue[0] is share:
                    self._write_off()
                    self._grant()

    def _stop(self, share: Share, used: int) -> None:
        self._running.discard(share)
        share.running = False
        share.granted.clear()
        self._hold(share, used)

    def _hold(self, share: Share, size: int) -> None:
        self._held += size - share.held
        share.held = size

    def _grant(self) -> None:
        while self.queue and self._held - self.queue[0].held + self._each <= self._total:
            share = self.queue.popleft()
            self._hold(share, self._each)
            self._running.add(share)
            share.running = True
            share.since = monotonic()
            share.granted.set()

    def _write_off(self) -> None:
        """A run that was given up, and does not end, gives nothing back: it must not hold up the others."""
        for share in [share for share in self._running if share.cancelled.is_set()]:
            self._running.discard(share)
            self._hold(share, 0)
