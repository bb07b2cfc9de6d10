"""What the writer was told, kept in a file: which events were sent, and which commits it heard of."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path
from typing import TextIO

# What is known of a batch: sent and never heard of again, or acknowledged by the server.
DOUBTFUL, ACKNOWLEDGED = "doubtful", "acknowledged"


class Ledger:
    """Append-only lines `acknowledged FIRST COUNT` and `doubtful FIRST COUNT`, one for each transaction.

    A batch whose commit was not acknowledged is doubtful: all of it may be
    there, or none. Safe for several threads.
    """

    def __init__(self, path: Path) -> None:
        self._file: TextIO = path.open("a", encoding="ascii")
        self._lock = threading.Lock()
        self._next = self.first = 0  # the first number that is still to be accounted for
        self._batches: list[tuple[str, range]] = []
        self.acknowledged_count = self.doubtful_count = 0

    def reserve(self, count: int) -> range:
        """Numbers for a batch that is about to be sent."""
        with self._lock:
            first, self._next = self._next, self._next + count
        return range(first, first + count)

    def acknowledged(self, batch: range) -> None:
        """The server has said that the batch is committed."""
        self._write(ACKNOWLEDGED, batch)
        self.acknowledged_count += len(batch)

    def doubtful(self, batch: range) -> None:
        """The server has said nothing, or an error."""
        self._write(DOUBTFUL, batch)
        self.doubtful_count += len(batch)

    def _write(self, word: str, batch: range) -> None:
        with self._lock:
            self._file.write(f"{word} {batch.start} {len(batch)}\n")
            self._file.flush()
            self._batches.append((word, batch))

    def forget(self) -> None:
        """All so far is accounted for: the next audit begins with the next number. Nothing is being sent meanwhile."""
        with self._lock:
            self.first = self._next
            self._batches = []
            self.acknowledged_count = self.doubtful_count = 0

    @property
    def size(self) -> int:
        """So many numbers have been given out since the ledger began, accounted for or not."""
        return self._next

    def batches(self) -> Iterator[tuple[str, range]]:
        """Every batch, with what is known of it."""
        with self._lock:
            return iter(list(self._batches))

    def close(self) -> None:
        self._file.close()
