"""Clocks that jump: a library shifts the time of day for a program, and leaves its monotonic clock alone."""

from __future__ import annotations

import shutil
import struct
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ops.chaos.cluster import Cluster
from ops.chaos.context import Context
from ops.chaos.postgres import Server
from ops.chaos.scenario import Scenario

_SOURCE = Path(__file__).parents[1] / "clock.c"
_SECONDS = struct.Struct("l")
_JUMPS = (3600, 0, -3600, 0)
_QUIET_SECONDS = 8.0
_AHEAD = "SELECT count(*) FROM hook_events WHERE NOT processed AND available_at > now() + interval '10 minutes'"


class Clock:
    """The time of day of the programs that have `environment`."""

    def __init__(self, place: Path) -> None:
        """Its files go to `place`, where everybody can read them."""
        library = place / "clock.so"
        subprocess.run(["cc", "-O2", "-shared", "-fPIC", "-o", library, _SOURCE], check=True)
        self._file = place / "clock"
        self._file.write_bytes(_SECONDS.pack(0))
        for file in (library, self._file):
            file.chmod(0o755)
        self.environment = {"LD_PRELOAD": str(library), "CHAOS_CLOCK": str(self._file)}

    def shift(self, seconds: int) -> None:
        """From now on it is so many seconds ahead of the true time."""
        with self._file.open("r+b") as file:
            file.write(_SECONDS.pack(seconds))


class _Jumps(Scenario):
    seconds = 36.0

    def missing(self) -> str | None:
        return None if shutil.which("cc") else "there is no C compiler (apt-get install gcc libc6-dev)"

    def during(self, context: Context) -> None:
        for seconds in _JUMPS:
            self._jump(context, f"the clock {seconds:+d} s", seconds)

    def _jump(self, context: Context, name: str, seconds: int) -> None:
        with context.blow(name):
            self._shift(context, seconds)
        context.sleep(_QUIET_SECONDS)

    def _shift(self, _: Context, seconds: int) -> None:
        self.clock.shift(seconds)

    clock: Clock


class ClockProcessor(_Jumps):
    name = "clock-processor"
    about = "the clock of the processors jumps an hour ahead and back, and back and ahead"

    def prepare(self, context: Context) -> None:
        self.clock = Clock(context.place)
        for processor in context.processors:
            processor.extra_environment.update(self.clock.environment)


class ClockDatabase(_Jumps):
    name = "clock-database"
    about = "the clock of PostgreSQL jumps an hour ahead and back, and back and ahead; then an hour has passed"
    seconds = 44.0

    @contextmanager
    def server(self, place: Path) -> Iterator[Server]:
        self.clock = Clock(place)
        cluster = Cluster(place / "server", environment=self.clock.environment)
        cluster.initialise()
        cluster.start()
        cluster.create_database()
        try:
            yield cluster
        finally:
            cluster.stop("immediate")

    def during(self, context: Context) -> None:
        super().during(context)
        # A lease, a retry and a place in the queue for a slot are a time of day.
        with context.database() as connection:
            row = connection.execute(_AHEAD).fetchone()
        context.note(f"{row[0] if row else 0} events wait for an hour that had begun already")
        self._jump(context, "an hour has passed", _JUMPS[0] + 60)

    def _shift(self, context: Context, seconds: int) -> None:
        super()._shift(context, seconds)
        context.shifted(seconds)  # when an event was processed is by this clock
