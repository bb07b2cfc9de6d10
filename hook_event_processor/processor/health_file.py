"""A processor's health in a file of this host, which tells how it is while the database is away."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from time import monotonic

from hook_event_processor.processor import health
from hook_event_processor.processor.health import Facts
from hook_event_processor.store.database import Database
from hook_event_processor.telemetry import health_file
from hook_event_processor.telemetry.health_file import HealthFile, Said

WRITE_SECONDS = 5.0
_FORGOTTEN_SECONDS = 3600.0  # as in the database
_FOLDER = "health"
# What the shipped units have as RuntimeDirectory=, of the system's manager or of a user's.
_UNITS = "hook-event-processor*"


class ProcessorFile:
    """What this processor says of itself, below `directory`. That it cannot be written is no reason not to run."""

    def __init__(self, directory: Path, database: Database, node: str, instance: str) -> None:
        self._folder = directory / _FOLDER
        self._database = database
        began = time.clock_gettime(time.CLOCK_BOOTTIME)
        self._about = {"node": node, "host": socket.gethostname(), "instance": instance, "began": began}
        self._file: HealthFile | None = None
        self._due = 0.0

    def tell(self, facts: Facts, *, at_once: bool) -> None:
        """Write every few seconds, or at once."""
        if self._file is None:
            self._file = self._begin()
        if at_once or monotonic() >= self._due:
            self._file.write(health.document(facts))
            self._due = monotonic() + WRITE_SECONDS

    def end(self) -> None:
        """The processor ends in order."""
        if self._file is not None:
            self._file.remove()

    def _begin(self) -> HealthFile:
        """This process takes the place of those of its instance that died."""
        key = self._database.key
        with suppress(OSError):
            self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            for said in health_file.said(self._folder):
                if _is_of(said, key) and said.about.get("instance") == self._about["instance"] and _is_dead(said):
                    said.path.unlink(missing_ok=True)
        return HealthFile(self._folder / f"{key}-{os.getpid()}{health_file.SUFFIX}", self._about)


@dataclass(frozen=True, slots=True)
class Local:
    """A processor of this host, as its file has it; `began` and `said` are times of the host's clock since its boot."""

    node: str
    host: str
    instance: str
    facts: Facts
    age_seconds: float
    began: float
    said: float

    @property
    def is_silent(self) -> bool:
        return health.silence(self.age_seconds) is not None


def directories(home: Path) -> list[Path]:
    """Where processors of this host may keep their files: `home`, and what systemd gives to the units."""
    runtime = os.environ.get("XDG_RUNTIME_DIR")
    roots = [Path("/run"), *([Path(runtime)] if runtime else [])]
    return [home, *(path for root in roots for path in sorted(root.glob(_UNITS)))]


def processors(directories: Iterable[Path], key: str | None) -> list[Local]:
    """The processors on this host of the database with this key (None: of any), but for those that ended in order.

    Of those that fell silent only the ones that no other of their instance has followed. What
    the caller may not read is left out.
    """
    found: list[Local] = []
    for directory in directories:
        with suppress(OSError):
            for said in health_file.said(directory / _FOLDER):
                if _is_of(said, key) and (local := _local(said)) is not None:
                    found.append(local)
    return [one for one in found if not (one.is_silent and any(_follows(other, one) for other in found))]


def _follows(other: Local, one: Local) -> bool:
    return other.instance == one.instance and other.began > one.said and not other.is_silent


def _local(said: Said) -> Local | None:
    facts, about = health.read(said.facts), said.about
    try:
        names = str(about["node"]), str(about["host"]), str(about["instance"])
        times = said.age_seconds, float(about["began"]), float(about["at"])
    except (KeyError, TypeError, ValueError):
        return None
    return None if facts is None else Local(*names, facts, *times)


def _is_of(said: Said, key: str | None) -> bool:
    is_here = said.about.get("host") == socket.gethostname() and said.age_seconds < _FORGOTTEN_SECONDS
    return is_here and (key is None or said.path.name.startswith(f"{key}-"))


def _is_dead(said: Said) -> bool:
    try:
        os.kill(int(said.about["pid"]), 0)
    except ProcessLookupError:
        return True
    except (OSError, KeyError, TypeError, ValueError):
        pass
    return False
