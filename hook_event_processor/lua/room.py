"""The memory for what functions of the library bring, until it is in a runtime's own."""

from __future__ import annotations

import threading

ROOM_BYTES = 64 * 1024 * 1024  # for all hooks of a process together


class Room:
    """ROOM_BYTES that can be taken and given back; never waits."""

    def __init__(self) -> None:
        self._left = ROOM_BYTES
        self._lock = threading.Lock()

    def take(self, size: int) -> bool:
        """Whether there was room for so many bytes; if so, they are taken."""
        with self._lock:
            if size > self._left:
                return False
            self._left -= size
            return True

    def give(self, size: int) -> None:
        """Give bytes back."""
        with self._lock:
            self._left += size
