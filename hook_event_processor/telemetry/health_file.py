"""What a service last said of its health, in a file of its own: there whether the database is or not."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson

SUFFIX = ".health"


class HealthFile:
    """A file that is there from a service's start to its end in order; `about` says whose it is."""

    def __init__(self, path: Path, about: Mapping[str, Any]) -> None:
        self._path = path
        self._about = {**about, "pid": os.getpid()}

    def write(self, facts: Mapping[str, Any]) -> None:
        """Replace it. A disk that is full lets it grow old, which tells, too."""
        # The clock that goes on while the machine sleeps, and that nobody sets.
        told = {**self._about, "at": time.clock_gettime(time.CLOCK_BOOTTIME), "facts": facts}
        new = self._path.with_suffix(".new")
        with suppress(OSError):
            new.write_bytes(orjson.dumps(told))
            new.replace(self._path)

    def remove(self) -> None:
        with suppress(OSError):
            self._path.unlink()


@dataclass(frozen=True, slots=True)
class Said:
    """What a file holds that was written `age_seconds` ago."""

    path: Path
    about: Mapping[str, Any]
    facts: Mapping[str, Any]
    age_seconds: float


def said(folder: Path) -> Sequence[Said]:
    """What services that keep their files there last said, but for those that ended in order. Raises OSError."""
    found = []
    for path in sorted(folder.glob(f"*{SUFFIX}")) if folder.is_dir() else ():
        try:
            told = orjson.loads(path.read_bytes())
            age = time.clock_gettime(time.CLOCK_BOOTTIME) - told["at"]
            # It was written before the machine last started: by a service that is no more.
            age = age if age >= 0 else time.time() - path.stat().st_mtime
            found.append(Said(path, told, dict(told["facts"]), age))
        except (ValueError, KeyError, TypeError, FileNotFoundError):
            continue
    return found
