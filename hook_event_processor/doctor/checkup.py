"""The examination: every area in order, each check by itself, so that none stands in the way of another."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

import psycopg

from hook_event_processor.doctor import (
    events,
    files,
    growth,
    hooks,
    pooler,
    processors,
    roles,
    schedules,
    schema,
    server,
    sessions,
    units,
    watchers,
)
from hook_event_processor.doctor.finding import (
    Area,
    DatabaseCheck,
    Finding,
    Kind,
    Level,
    LocalCheck,
    Subject,
    let_read,
)
from hook_event_processor.errors import HookEventProcessorError, StoreUnavailable
from hook_event_processor.settings import Settings
from hook_event_processor.store.database import Database, one_line

CHECK_SECONDS = 5.0

AWAY = Kind(
    "database-away",
    Level.PROBLEM,
    "The database cannot be reached from here, with these settings. Processors wait for it, and nothing is lost;"
    " watchers keep what they notice on disk.",
)
NOT_ALLOWED = Kind("not-allowed", Level.NOTE, "The role may not see all that this check looks at.")
CHECK_FAILED = Kind(
    "check-failed", Level.WARNING, "A check itself failed or took too long: what it looks at is not known."
)

DATABASE = Area("database", "whether the database can be reached", (DatabaseCheck(lambda _: (), (AWAY,)),))
AREAS = (
    *(files.AREA, units.AREA, DATABASE, server.AREA, schema.AREA, roles.AREA),
    *(pooler.AREA, sessions.AREA, growth.AREA, processors.AREA, events.AREA, hooks.AREA),
    *(schedules.AREA, watchers.AREA),
)
# What any check can end with.
ALWAYS = (NOT_ALLOWED, CHECK_FAILED)


@dataclass(frozen=True, slots=True)
class Result:
    """What was found in an area; `looked` False where the database was needed, and away."""

    area: Area
    findings: Sequence[Finding]
    looked: bool = True


@dataclass(frozen=True, slots=True)
class Mended:
    """What became of a fix: what was done, or why not."""

    finding: Finding
    done: bool
    said: str


@dataclass(slots=True)
class Doctor:
    """Looks at areas; `subject` is None while the database is away, `away` says why."""

    settings: Settings
    subject: Subject | None = None
    away: str = ""
    mended: list[Mended] = field(default_factory=list)

    def look(self, areas: Sequence[Area]) -> Iterator[Result]:
        """Examine the areas, one after the other; a database that goes away meanwhile is told of once."""
        told = False
        for area in areas:
            needs_database = any(isinstance(check, DatabaseCheck) for check in area.checks)
            if needs_database and self.subject is None:
                yield Result(area, () if told else (self._away(),), looked=False)
                told = True
            else:
                yield Result(area, [finding for check in area.checks for finding in self._findings(area, check)])

    def fix(self, results: Sequence[Result]) -> None:
        """Do what is safe about what was found, and keep in `mended` what became of it."""
        for result in results:
            for finding in result.findings:
                if finding.fix is not None:
                    self.mended.append(self._fixed(finding, finding.fix))

    def _fixed(self, finding: Finding, fix: Callable[[], str]) -> Mended:
        try:
            return Mended(finding, True, fix())
        except psycopg.Error as fault:
            return Mended(finding, False, _said(fault))
        except (HookEventProcessorError, OSError) as fault:
            return Mended(finding, False, str(fault))

    def _away(self) -> Finding:
        mend = (
            "hep config  # is it the right database?",
            "systemctl status 'postgresql*'  # on its host, on Debian pg_lsclusters; the embedded one: hep up",
        )
        return Finding(AWAY, self.away, mend)

    def _findings(self, area: Area, check: LocalCheck | DatabaseCheck) -> list[Finding]:
        try:
            return self._run(check)
        except psycopg.errors.InsufficientPrivilege as fault:
            mend = let_read(self.subject.connection) if self.subject else ()
            return [Finding(NOT_ALLOWED, f"{area.name}: {_said(fault)}", mend)]
        except (psycopg.Error, HookEventProcessorError, OSError) as fault:
            said = _said(fault) if isinstance(fault, psycopg.Error) else str(fault)
            if self.subject is not None and self.subject.connection.closed:
                self.subject, self.away = None, f"the database was lost: {said}"
                return [self._away()]
            return [Finding(CHECK_FAILED, f"{area.name}: {said}", (f"hep doctor {area.name}  # again",))]

    def _run(self, check: LocalCheck | DatabaseCheck) -> list[Finding]:
        if isinstance(check, LocalCheck):
            return list(check.run(self.settings))
        if self.subject is None:
            return []
        if not check.in_transaction:
            return list(check.run(self.subject))
        # Of the transaction, not of the session: a pooler would lend it on.
        with self.subject.connection.transaction():
            self.subject.connection.execute(f"SET LOCAL statement_timeout = '{CHECK_SECONDS:g}s'")
            return list(check.run(self.subject))


@contextmanager
def doctor(settings: Settings, database: Database | None, away: str = "") -> Iterator[Doctor]:
    """A doctor for this host and this database; None, and why, where there is none to be asked."""
    if database is None:
        yield Doctor(settings, away=away)
        return
    try:
        connection = database.connect("doctor", autocommit=True)
    except StoreUnavailable as fault:
        yield Doctor(settings, away=str(fault))
        return
    with connection:
        yield Doctor(settings, Subject(settings, database, connection))


def _said(fault: psycopg.Error) -> str:
    return fault.diag.message_primary or one_line(fault)
