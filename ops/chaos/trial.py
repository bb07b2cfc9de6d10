"""One run of a scenario: everything is set up, struck while the load runs, and audited."""

from __future__ import annotations

import os
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import psycopg
from psycopg import Connection

from ops.chaos import rates, site
from ops.chaos.audit import Account, Audit
from ops.chaos.context import Context
from ops.chaos.effects import Effects
from ops.chaos.events import Numbering
from ops.chaos.flight import Blow, Flight
from ops.chaos.hooks import add_hooks
from ops.chaos.ledger import Ledger
from ops.chaos.load import Load
from ops.chaos.postgres import connect
from ops.chaos.processors import Processor
from ops.chaos.rates import Histogram, Rates
from ops.chaos.scenario import Scenario

WARM_UP_SECONDS = 5.0  # of load before the first blow
COOL_DOWN_SECONDS = 7.0  # of load after the last
_MOST_COOL_DOWN_SECONDS = 60.0  # where processors end by themselves again and again
_START_SECONDS = 60.0
_FLAT = 0.9  # of the rate before
# The load's events, and those of hooks that misbehave; dead letters wait for good.
_UNPROCESSED = """
SELECT count(*) FROM hook_events WHERE NOT processed AND failed_at IS NULL AND source IN ('chaos', 'bad')
"""


@dataclass(slots=True)
class Result:
    """What a run has shown; no findings means that all held."""

    scenario: str
    seed: int
    seconds: float
    account: Account
    rates: Rates
    blows: list[Blow]
    drained_seconds: float
    findings: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


class Trial:
    """Runs a scenario once."""

    def __init__(
        self,
        scenario: Scenario,
        seed: int,
        *,
        seconds: float | None = None,
        rate: float | None = None,
        processors: int | None = None,
        judge_recovery: bool = True,
    ) -> None:
        """What is not given is as the scenario has it."""
        self._account = Account()
        self._judge_recovery = judge_recovery
        self._scenario = scenario
        self._seed = seed
        self._seconds = scenario.seconds if seconds is None else max(seconds, scenario.least_seconds)
        self._rate = scenario.rate if rate is None else rate
        self._count = scenario.processors if processors is None else processors

    def run(self) -> Result:
        """All of it. Everything that was started has ended, and every file is gone, when it returns."""
        with ExitStack() as stack:
            context = self._set_up(stack)
            self._scenario.migrate(context)
            with context.database() as connection:
                add_hooks(connection, self._site.url)
            self._scenario.prepare(context)
            self._start_processors(context)
            return self._strike(context)

    def _set_up(self, stack: ExitStack) -> Context:
        place = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="hep-chaos-", dir="/var/tmp")))
        place.chmod(0o755)
        self._numbering = Numbering(self._seed, self._scenario.shares)
        self._ledger = Ledger(place / "ledger")
        stack.callback(self._ledger.close)
        self._effects = Effects(place / "ledger-of-effects", place / "effects")
        stack.callback(self._effects.close)
        self._site = stack.enter_context(site.serving(self._effects, self._seed))
        server = stack.enter_context(self._scenario.server(place))
        load = Load(lambda: server.for_writer, self._ledger, self._numbering, self._rate)
        processors = [
            Processor(f"p{number}", self._effects, place, lambda: self._environment(server.for_processors))
            for number in range(1, self._count + 1)
        ]
        for processor in processors:
            stack.callback(processor.end)
        context = Context(
            place=place,
            seed=self._seed,
            seconds=self._seconds,
            server=server,
            processors=processors,
            load=load,
            effects=self._effects,
            flight=Flight(lambda: server.for_auditor, self._effects, self._numbering),
            account=lambda: self.account(context),
        )
        stack.callback(context.supervisor.stop)
        return context

    def _environment(self, conninfo: str) -> Mapping[str, str]:
        given = {name: str(value) for name, value in self._scenario.settings.items()}
        return {"DATABASE_URL": conninfo, "HOOK_HTTP_ALLOW": f"127.0.0.1:{self._site.port}", **given}

    def _start_processors(self, context: Context) -> None:
        for processor in context.processors:
            processor.start()
        deadline = time.monotonic() + _START_SECONDS
        with context.database() as connection:
            while (row := connection.execute("SELECT count(*) FROM hook_processors").fetchone()) and row[
                0
            ] < self._count:
                ended = [processor for processor in context.processors if processor.status is not None]
                if ended or time.monotonic() > deadline:
                    raise RuntimeError(
                        "a processor did not start:\n" + "\n".join(processor.log for processor in context.processors)
                    )
                time.sleep(0.05)

    def _strike(self, context: Context) -> Result:
        context.supervisor.start()
        self._began = time.time()
        context.load.start()
        time.sleep(WARM_UP_SECONDS)
        context.begin()
        try:
            self._scenario.during(context)
            _cool_down(context)
        finally:
            load_ended = time.time()
            context.load.stop()
        drained = self._drain(context)
        self._scenario.verify(context)
        context.supervisor.stop()
        for processor in context.processors:
            processor.end()
        return self._judge(context, load_ended, drained)

    def account(self, context: Context) -> float:
        """Pause the load, account for all so far, and empty the tables; returns the rate until then, events a second.

        For runs whose events would fill the disk.
        """
        with context.load.paused():
            ended = time.time()
            self._drain(context)
            with context.database() as connection:
                rate = Histogram(connection, self._began).rate(self._began + 1, ended)
                self._account.add(self._audit(context, connection))
                connection.execute("TRUNCATE hook_events, event_hook_executions")
            self._ledger.forget()
            self._effects.forget()
            self._began = time.time()
        return rate

    def _audit(self, context: Context, connection: Connection) -> Account:
        return Audit(connection, self._ledger, self._numbering, self._effects, context.blows).account()

    def _drain(self, context: Context) -> float:
        """Wait until all is processed; the auditor finds what is not."""
        began = time.monotonic()
        while time.monotonic() < began + self._scenario.drain_seconds:
            try:
                with context.database() as connection:
                    while (row := connection.execute(_UNPROCESSED).fetchone()) and row[0]:
                        if time.monotonic() > began + self._scenario.drain_seconds:
                            break
                        time.sleep(0.2)
                    else:
                        break
            except psycopg.OperationalError:
                time.sleep(0.5)
        return time.monotonic() - began

    def _judge(self, context: Context, ended: float, drained: float) -> Result:
        account = self._account
        with connect(context.server.for_auditor) as connection:
            account.add(self._audit(context, connection))
            offered = self._rate * self._numbering.events_a_number
            measured = rates.rates(connection, (self._began, ended), context.faults, offered, context.shifts)
        findings = account.findings(self._scenario.forgives) + context.findings
        for name in sorted(self._scenario.forgives):
            context.note(f"{name.replace('_', ' ')}, which is forgiven here: {getattr(account, name).total}")
        if self._judge_recovery:
            findings += measured.findings()
        if self._scenario.stays_flat and measured.after < measured.before * _FLAT:
            findings.append(f"the rate fell from {measured.before:.0f} to {measured.after:.0f} events/s")
        self._keep_logs(context, findings)
        return Result(
            self._scenario.name,
            self._seed,
            self._seconds,
            account,
            measured,
            context.blows,
            drained,
            findings,
            context.notes,
        )

    def _keep_logs(self, context: Context, findings: list[str]) -> None:
        """What processors have said is worth reading when something is wrong; CHAOS_KEEP names a directory for it."""
        kept = os.environ.get("CHAOS_KEEP")
        if kept and findings:
            folder = Path(kept) / f"{self._scenario.name}-{self._seed}"
            folder.mkdir(parents=True, exist_ok=True)
            for path in (*context.place.glob("*.log"), *context.place.glob("ledger*")):
                (folder / path.name).write_bytes(path.read_bytes())


@contextmanager
def quiet() -> Iterator[None]:
    """Ctrl-C ends a trial without a traceback."""
    try:
        yield
    except KeyboardInterrupt:
        sys.exit(130)


def _cool_down(context: Context) -> None:
    """Let the load go on until the rate can be seen to come back after all faults, later ones included."""
    began = time.time()
    until = began + COOL_DOWN_SECONDS
    while (now := time.time()) < until:
        time.sleep(min(until - now, 0.1))
        latest = max((fault.began_at for fault in context.faults), default=began)
        until = min(max(until, latest + COOL_DOWN_SECONDS), began + _MOST_COOL_DOWN_SECONDS)
