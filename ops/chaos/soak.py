"""The soak: a load for hours, and what each processor holds meanwhile, which must stay flat."""

from __future__ import annotations

import argparse
import sys
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median

import psycopg

from ops.chaos import result_table
from ops.chaos.context import Context
from ops.chaos.scenario import Scenario
from ops.chaos.trial import Trial, quiet

_SAMPLES = 300  # in a run, whatever its length
_SHORTEST_SECONDS = 1.0
# So often all is accounted for and the tables are emptied: six hours of events would fill a disk.
_LEG_SECONDS = 600.0
_FLAT = 0.9  # of the rate of the first ten minutes
# The first fifth warms up: threads, runtimes and caches are made as they are needed, and it begins with a backlog.
_PARTS = 5
# As an outage leaves one: full claims take more memory than those of a few events, and the process keeps it.
_BACKLOG = 50_000
_CONNECTIONS = "SELECT count(*) FROM pg_stat_activity WHERE application_name LIKE 'hook-event-processor %'"


@dataclass(frozen=True, slots=True)
class Measure:
    """One thing that must stay flat: it may end so much higher than it was after the warm-up."""

    name: str
    share: float
    absolute: float
    values: list[float] = field(default_factory=list)

    @property
    def parts(self) -> Sequence[float]:
        """The median of each fifth of the run."""
        size = max(1, len(self.values) // _PARTS)
        return [median(self.values[start : start + size]) for start in range(0, size * _PARTS, size)]

    def finding(self) -> str | None:
        """What is wrong: it grew from the second fifth to the last."""
        if len(self.values) < 2 * _PARTS:
            return f"{self.name}: only {len(self.values)} samples"
        parts = self.parts
        limit = parts[1] * (1 + self.share) + self.absolute
        if parts[-1] <= limit:
            return None
        return f"{self.name} grew: {', '.join(f'{part:,.0f}' for part in parts)} in the fifths of the run"


class Soak(Scenario):
    name = "soak"
    about = "no fault at all, for long (ops/chaos/soak): memory, descriptors, threads and connections stay flat"
    seconds = 60.0
    in_all = False
    stays_flat = True
    drain_seconds = 300.0

    def prepare(self, _: Context) -> None:
        self._measured: list[Measure] = []
        self._rates: list[float] = []

    def during(self, context: Context) -> None:
        stop = threading.Event()
        sampling = threading.Thread(target=self._sample, args=(context, stop), daemon=True)
        sampling.start()
        context.load.burst(_BACKLOG)
        context.account()  # of the backlog: its rate is not the load's
        while context.left > _LEG_SECONDS:
            context.sleep(_LEG_SECONDS)
            self._rates.append(context.account())
        context.sleep(context.left)
        stop.set()
        sampling.join(30)

    def _sample(self, context: Context, stop: threading.Event) -> None:
        measures = {
            processor.name: (
                Measure(f"{processor.name}: resident memory, KB", 0.1, 8 * 1024),
                Measure(f"{processor.name}: descriptors", 0.1, 10),
                Measure(f"{processor.name}: threads", 0.1, 10),
            )
            for processor in context.processors
        }
        connections = Measure("connections of processors", 0.0, 2)
        self._measured += [measure for each in measures.values() for measure in each] + [connections]
        interval = max(_SHORTEST_SECONDS, context.seconds / _SAMPLES)
        while not stop.wait(interval):
            for processor in context.processors:
                for measure, value in zip(measures[processor.name], _held(processor.pid), strict=True):
                    measure.values.append(value)
            try:
                with context.database() as connection:
                    row = connection.execute(_CONNECTIONS).fetchone()
                    connections.values.append(row[0] if row else 0)
            except psycopg.Error as fault:
                context.find(f"the connections could not be counted: {fault}")

    def verify(self, context: Context) -> None:
        if self._rates:
            said = ", ".join(f"{rate:,.0f}" for rate in self._rates)
            context.note(f"events/s in each {_LEG_SECONDS / 60:.0f} minutes: {said}")
            if self._rates[-1] < self._rates[0] * _FLAT:
                context.find(f"the rate fell: {said}")
        for measure in self._measured:
            finding = measure.finding()
            if finding:
                context.find(finding)
            context.note(f"{measure.name}: {', '.join(f'{part:,.0f}' for part in measure.parts)} (medians of fifths)")


def _held(pid: int) -> tuple[float, float, float]:
    """Kilobytes in memory, descriptors and threads of a process (proc(5))."""
    process = Path(f"/proc/{pid}")
    lines = dict(line.split(":", 1) for line in (process / "status").read_text().splitlines())
    resident, threads = int(lines["VmRSS"].split()[0]), int(lines["Threads"])
    return resident, sum(1 for _ in (process / "fd").iterdir()), threads


def main() -> None:
    parser = argparse.ArgumentParser(prog="ops/chaos/soak", description=__doc__)
    parser.add_argument("--minutes", type=float, default=360.0, help="how long (default 360)")
    parser.add_argument("--rate", type=float, default=Soak.rate, help="events a second of the load (default 2000)")
    parser.add_argument("--processors", type=int, default=Soak.processors, help="how many run (default 2)")
    parser.add_argument("--seed", type=int, default=1, help="of the load (default 1)")
    arguments = parser.parse_args()
    began = time.monotonic()
    with quiet():
        trial = Trial(
            Soak(),
            arguments.seed,
            seconds=arguments.minutes * 60,
            rate=arguments.rate,
            processors=arguments.processors,
        )
        result = trial.run()
    result_table.show([result])
    print(result_table.markdown([result]))
    print(result_table.as_json(result))
    print(f"{result_table.conditions()}; {(time.monotonic() - began) / 60:.0f} minutes in all")
    sys.exit(bool(result.findings))


if __name__ == "__main__":
    main()
