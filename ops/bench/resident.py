"""Resident memory of a process, and the highest that it came to."""

from __future__ import annotations

import threading
from types import TracebackType

import psutil

_SAMPLE_SECONDS = 0.05


class Watched:
    """Samples a process's resident memory while the context lasts."""

    def __init__(self, process: psutil.Process) -> None:
        self._process = process
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self.highest_mb = 0.0

    def _watch(self) -> None:
        while not self._over.wait(_SAMPLE_SECONDS):
            self.highest_mb = max(self.highest_mb, resident_mb(self._process))

    def __enter__(self) -> Watched:
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, fault: BaseException | None, at: TracebackType | None) -> None:
        self._over.set()
        self._thread.join()


def resident_mb(process: psutil.Process) -> float:
    """Resident memory in MB (10^6 bytes)."""
    return float(process.memory_info().rss) / 1e6
