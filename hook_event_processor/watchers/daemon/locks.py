"""One daemon for each type of a host: a lock on a file beside the host's store."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Sequence
from pathlib import Path


class TypeLocks:
    """Held until release() or the end of the process, whatever ends it."""

    def __init__(self, folder: Path, host: str) -> None:
        self._folder = folder
        self._host = host
        self._held: dict[str, int] = {}

    def take(self, types: Sequence[str]) -> str | None:
        """Lock all of these types, or none; returns the type that another process holds, None when there is none.

        Raises OSError when the folder cannot be written in.
        """
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        taken: list[str] = []
        for name in types:
            if not self._take(name):
                self.release(taken)
                return name
            taken.append(name)
        return None

    def release(self, types: Sequence[str]) -> None:
        for name in types:
            os.close(self._held.pop(name))

    def _take(self, name: str) -> bool:
        path = self._folder / f"{self._host}.{name}.lock"
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(descriptor)
            return False
        self._held[name] = descriptor
        return True
