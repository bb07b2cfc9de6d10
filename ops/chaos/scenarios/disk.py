"""A disk that is full: under PostgreSQL, and under what watchers keep."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ops.chaos import postgres
from ops.chaos.cluster import Cluster
from ops.chaos.context import Context
from ops.chaos.postgres import Server
from ops.chaos.scenario import Scenario
from ops.chaos.small_disk import no_private_mounts, small_disk

_DATABASE_MEGABYTES, _SPOOL_MEGABYTES = 1500, 32
_FULL_SECONDS = (2.0, 6.0)
_QUIET_SECONDS = 9.0
_LOOK_SECONDS = 30.0
_PATTERN = r"^line (\d+)$"


class DiskFullDatabase(Scenario):
    name = "disk-full-database"
    about = "no space under PostgreSQL's tables, until there is again"
    seconds = 40.0
    least_seconds = 20.0
    words = "could not extend file"

    def missing(self) -> str | None:
        return no_private_mounts()

    @contextmanager
    def server(self, place: Path) -> Iterator[Server]:
        with small_disk(place / "disk", _DATABASE_MEGABYTES) as self.disk:
            self.cluster = Cluster(self._folder(place), programs=place / "program")
            # Small segments, few of them kept: the next one is soon needed.
            small = {"min_wal_size": "2MB", "max_wal_size": "64MB"}
            self.cluster.initialise("--wal-segsize=1", wal=self._wal(place), **small)
            self.cluster.start()
            self.cluster.create_database()
            try:
                yield self.cluster
            finally:
                self.cluster.stop("immediate")

    def _folder(self, _: Path) -> Path:
        return self.disk.path / "server"

    def _wal(self, place: Path) -> Path:
        return place / "wal"

    def during(self, context: Context) -> None:
        while context.left > _FULL_SECONDS[1] + _QUIET_SECONDS:
            with context.blow("disk full"):
                self.disk.fill()
            context.sleep(context.random.uniform(*_FULL_SECONDS))
            self.disk.clear()
            if self._ends_soon():
                context.note("PostgreSQL had ended, and was started anew")
                self.cluster.start()
            self.cluster.await_ready()
            context.mended()
            context.sleep(_QUIET_SECONDS)
        count = self.cluster.log_text().count(self.words)
        context.note(f"PostgreSQL said {self.words!r} {count} times")
        if not count:
            context.find("the disk was never full for PostgreSQL")

    def _ends_soon(self) -> bool:
        """Whether PostgreSQL has given up; one that recovers from a crash is not ready at once, and stays."""
        ends = time.monotonic() + 5.0
        while self.cluster.running and not self.cluster.takes_connections() and time.monotonic() < ends:
            time.sleep(0.05)
        return not self.cluster.running


class DiskFullWal(DiskFullDatabase):
    name = "disk-full-wal"
    about = "no space under PostgreSQL's WAL: it gives up, and recovers or is started anew when there is again"
    words = "PANIC"

    def _folder(self, place: Path) -> Path:
        return place / "server"

    def _wal(self, _: Path) -> Path:
        return self.disk.path / "wal"


class DiskFullSpool(Scenario):
    name = "disk-full-spool"
    about = "no space under the watchers' spool while PostgreSQL is away: what a log says becomes events, once each"
    seconds = 30.0
    least_seconds = 26.0

    def missing(self) -> str | None:
        return no_private_mounts()

    @contextmanager
    def server(self, place: Path) -> Iterator[Server]:
        with small_disk(place / "disk", _SPOOL_MEGABYTES) as self.disk, postgres.running(place / "home") as server:
            yield server

    def prepare(self, context: Context) -> None:
        self._environment = {
            "PATH": os.environ["PATH"],
            "DATABASE_URL": context.server.for_processors,
            "HEP_HOME": str(self.disk.path),
            "LOG_LEVEL": "WARNING",
        }
        self._log = context.place / "watched"
        self._log.touch()
        self._written = 0
        what = ["--type", "log", "--path", str(self._log), "--pattern", _PATTERN, "--interval", "200ms"]
        command = self._hep("create", *what, "--max-events", "10000")
        subprocess.run(command, env=self._environment, cwd=context.place, check=True, stdout=subprocess.DEVNULL)
        self._said = context.place / "watchers.log"
        with self._said.open("ab") as log:
            self._daemon = subprocess.Popen(
                self._hep("run"), env=self._environment, cwd=context.place, stdout=log, stderr=log
            )

        with context.database() as connection:
            ends = time.monotonic() + _LOOK_SECONDS
            # A log's first look is where it begins.
            while connection.execute("SELECT FROM watchers WHERE last_check IS NULL").rowcount:
                assert time.monotonic() < ends, self._said.read_text()
                time.sleep(0.1)

    def _hep(self, *arguments: str) -> list[str]:
        return [sys.executable, "-m", "hook_event_processor", "watcher", *arguments]

    def during(self, context: Context) -> None:
        self._stopping = threading.Event()
        writer = threading.Thread(target=self._write, daemon=True)
        writer.start()
        context.sleep(3.0)
        while context.left > 20:
            with context.blow("PostgreSQL away"):
                context.server.stop("fast")
            context.sleep(2.0)
            self.disk.fill()
            context.sleep(context.random.uniform(4.0, 8.0))
            self.disk.clear()
            context.server.start()
            context.mended()
            context.sleep(_QUIET_SECONDS)
            # Full while PostgreSQL is there.
            self.disk.fill()
            context.sleep(context.random.uniform(*_FULL_SECONDS))
            self.disk.clear()
            context.sleep(2.0)
        self._stopping.set()
        writer.join()

    def _write(self) -> None:
        """A hundred lines a second, each of which must become an event."""
        with self._log.open("a") as log:
            while not self._stopping.wait(0.1):
                log.writelines(f"line {number}\n" for number in range(self._written, self._written + 10))
                log.flush()
                self._written += 10

    def verify(self, context: Context) -> None:
        ends = time.monotonic() + 30
        while (lines := self._lines(context)) and len(lines) < self._written and time.monotonic() < ends:
            time.sleep(0.2)
        self._daemon.terminate()
        self._daemon.wait(30)
        said = self._said.read_text()
        refusals = [line for line in said.splitlines() if "full" in line]
        context.note(f"{self._written} lines were written; the daemon said of a full disk: {len(refusals)} lines")
        if not refusals:
            context.find(f"the disk was never full for the daemon, which said: {said[-500:]}")
        missing = sorted(set(range(self._written)) - {int(line.split()[1]) for line in lines})
        if missing or len(lines) != self._written:
            first = f", the first and last of which are {missing[0]} and {missing[-1]}" if missing else ""
            context.find(f"{len(lines)} events of {self._written} lines, without {len(missing)}{first}")
        if "Traceback" in said:
            context.find(f"the daemon broke: {said[said.index('Traceback') :][:2000]}")

    def _lines(self, context: Context) -> list[str]:
        with context.database() as connection:
            query = "SELECT payload ->> 'line' FROM hook_events WHERE source = 'log' AND action = 'pattern_matched'"
            return [line for (line,) in connection.execute(query).fetchall()]
