"""When the next row that waits for its time is due, as the last look at the table has found it."""

from __future__ import annotations

from collections.abc import Callable
from time import monotonic

from hook_event_processor.store.watch import Look

RELOOK_SECONDS = 0.05
_LONGEST_RELOOK_SECONDS = 1.0
_NEVER = float("inf")


class Due:
    """The moments at which two rows are due: one that needs no worker slot, and one that does."""

    def __init__(self, free_slots: Callable[[], bool]) -> None:
        self._free_slots = free_slots
        self.forget()

    def forget(self) -> None:
        """Nothing is known any more."""
        self._at: float | None = None
        self._slot_at: float | None = None
        self._oldest: float | None = None
        self._relook = RELOOK_SECONDS

    def seen(self, look: Look) -> None:
        """A look has found these."""
        now = monotonic()
        self._at = None if look.due is None else now + look.due
        self._slot_at = None if look.slot_due is None else now + look.slot_due

    def slots_freed(self) -> bool:
        """Worker slots have become free; whether a row waits that needs one."""
        self._oldest = None
        return self._slot_at is not None

    def is_now(self, now: float) -> bool:
        """Whether there is something to take, a free slot for it included."""
        slot_due = self._slot_at is not None and now >= self._slot_at and self._free_slots()
        return slot_due or (self._at is not None and now >= self._at)

    def give(self) -> float:
        """Somebody is woken for what is due now; returns seconds until the next look at what has become of it.

        The more, the longer it is the same that nobody can take: it may be
        locked by somebody else, or wait for more slots than are free.
        """
        oldest = min(at for at in (self._at, self._slot_at) if at is not None)
        before = self._oldest  # another thread's slots_freed() may come in between
        same = before is not None and abs(oldest - before) < RELOOK_SECONDS
        self._relook = min(self._relook * 2, _LONGEST_RELOOK_SECONDS) if same else RELOOK_SECONDS
        self._oldest = oldest
        self._at = self._slot_at = None
        return self._relook

    @property
    def next(self) -> float:
        """The moment at which there will be something to take; infinite if there is none."""
        next_at = _NEVER if self._at is None else self._at
        return min(next_at, self._slot_at) if self._slot_at is not None and self._free_slots() else next_at
