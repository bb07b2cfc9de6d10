"""What the disk did beside a benchmark: how long it took to make a few bytes durable, again and again."""

from __future__ import annotations

import os
import threading
import time
from bisect import bisect_left
from collections.abc import Iterator
from contextlib import contextmanager
from operator import itemgetter
from pathlib import Path

BYTES = 8192
PAUSE_SECONDS = 0.05  # a fifth of it took 8% of a processor's rate, this 1%
STALL_SECONDS = 0.01  # where these take 0.1 to 0.5 ms otherwise


class Disk:
    """A file on the server's disk that is written over and over while the benchmark runs."""

    def __init__(self) -> None:
        self.syncs = 0
        self.stalls: list[tuple[float, float]] = []  # begin and end, seconds since 1970, in their order
        self._ending = threading.Event()

    def watch(self, path: Path) -> None:
        """Write, wait until it is durable, pause; until end() is called."""
        file = os.open(path, os.O_CREAT | os.O_WRONLY, 0o600)
        try:
            while not self._ending.wait(PAUSE_SECONDS):
                began = time.time()
                os.pwrite(file, os.urandom(BYTES), 0)
                os.fdatasync(file)
                ended = time.time()
                self.syncs += 1
                if ended - began > STALL_SECONDS:
                    self.stalls.append((began, ended))
        finally:
            os.close(file)

    def end(self) -> None:
        """Have watch() return."""
        self._ending.set()

    def stood_still(self, began: float, ended: float) -> bool:
        """Whether a stall has to do with this time, in seconds since 1970."""
        next_one = bisect_left(self.stalls, began, key=itemgetter(1))  # the first that ends after it began
        return next_one < len(self.stalls) and self.stalls[next_one][0] < ended

    def __str__(self) -> str:
        lengths = [ended - began for began, ended in self.stalls]
        longest = max(lengths, default=0) * 1000
        return (
            f"Disk: of {self.syncs:,} fdatasync of {BYTES // 1024} KB beside it {len(lengths):,} took more than"
            f" {STALL_SECONDS * 1000:g} ms, {sum(lengths):.1f} s in all, the longest {longest:,.0f} ms"
        )


@contextmanager
def watched(folder: Path) -> Iterator[Disk]:
    """The disk of this directory, looked at from another thread until the block ends."""
    disk = Disk()
    thread = threading.Thread(target=disk.watch, args=(folder / "durable",), name="disk")
    thread.start()
    try:
        yield disk
    finally:
        disk.end()
        thread.join()
