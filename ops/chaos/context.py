"""What a scenario works with: processors, the server, the load, the time that is left, and blows."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from psycopg import Connection

from ops.chaos.effects import Effects
from ops.chaos.flight import Blow, Flight
from ops.chaos.load import Load
from ops.chaos.postgres import Server, connect
from ops.chaos.processors import Processor
from ops.chaos.supervisor import Supervisor


@dataclass(slots=True)
class Fault:
    """From the blow until it was mended (Unix time); recovery is counted from then."""

    name: str
    began_at: float
    mended_at: float | None = None


@dataclass(frozen=True, slots=True)
class Shift:
    """From this moment on (Unix time) the database's clock is ahead of the true time by so many seconds."""

    at: float
    seconds: float


class Context:
    """Handed to Scenario.prepare() and Scenario.during()."""

    def __init__(
        self,
        *,
        place: Path,
        seed: int,
        seconds: float,
        server: Server,
        processors: list[Processor],
        load: Load,
        effects: Effects,
        flight: Flight,
        account: Callable[[], float],
    ) -> None:
        """`account` is Trial.account()."""
        self.account = account
        self.place = place  # a directory of this run, removed at its end
        self.random = random.Random(seed)
        self.seconds = seconds
        self.server = server
        self.processors = processors
        self.load = load
        self.supervisor = Supervisor(place, self._ended)  # watches no processor unless told to
        self.blows: list[Blow] = []
        self.faults: list[Fault] = []
        self.shifts: list[Shift] = []
        self.findings: list[str] = []
        self.notes: list[str] = []
        self._effects = effects
        self._flight = flight
        self._ends_at = float("inf")

    def begin(self) -> None:
        """The time of during() begins."""
        self._ends_at = time.monotonic() + self.seconds

    @property
    def left(self) -> float:
        """Seconds until during() should return; negative past that."""
        return self._ends_at - time.monotonic()

    def sleep(self, seconds: float) -> None:
        """Wait, but not past the end of during()."""
        time.sleep(max(0.0, min(seconds, self.left)))

    @contextmanager
    def blow(self, name: str, *hit: Processor) -> Iterator[Blow]:
        """Deal a blow inside: what was in flight at the processors that it hit (without any: all) is noted.

        A fault begins, which mended() ends; without that it is over with the blow.
        """
        labels = self._labels()
        struck = {processor.label for processor in hit or self.processors}
        before = self._flight.view()
        blow = Blow(name, time.time(), struck)
        self.faults.append(Fault(name, blow.at))
        yield blow
        self._flight.note(blow, before, labels)
        self.blows.append(blow)

    def disturb(self, name: str) -> None:
        """Something begins that hits no processor from outside: a fault that is over at once, and no blow.

        The rate should come back whatever becomes of it.
        """
        self.faults.append(Fault(name, time.time()))

    def shifted(self, seconds: float) -> None:
        """The database's clock has just been set so far ahead of the true time: what it notes of when is corrected."""
        self.shifts.append(Shift(time.time(), seconds))

    def _ended(self, processor: Processor, label: str, status: int) -> None:
        """A processor has ended by itself: a blow that nobody dealt from outside."""
        blow = Blow(f"{processor.name} ended with status {status}", time.time(), {label})
        self.faults.append(Fault(blow.name, blow.at))
        self._flight.note(blow, None, self._labels())
        self.blows.append(blow)

    def mended(self) -> None:
        """The last fault is over: from now on the rate should come back."""
        self.faults[-1].mended_at = time.time()

    def find(self, finding: str) -> None:
        """Report something that is wrong, beside what the auditor finds."""
        self.findings.append(finding)

    def note(self, note: str) -> None:
        """Say something in the report that is not wrong."""
        self.notes.append(note)

    @contextmanager
    def database(self, *, as_administrator: bool = False) -> Iterator[Connection]:
        """A session in autocommit, as the product's role or as the superuser."""
        server = self.server
        with connect(server.for_administrator if as_administrator else server.for_auditor) as connection:
            yield connection

    def any_processor(self) -> Processor:
        """One of them, by seed."""
        return self.random.choice(self.processors)

    def _labels(self) -> Mapping[int, str]:
        return {pid: label for processor in self.processors for pid, label in processor.labels.items()}
