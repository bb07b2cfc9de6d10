"""Removing events that ended long ago, with their executions, by rules."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from psycopg import Connection

from hook_event_processor.retention_policy import NO_ARCHIVE, TABLE, Keep
from hook_event_processor.store.cleanup import counted, removal
from hook_event_processor.store.cleanup.pace import Pace
from hook_event_processor.store.cleanup.pages import ranges
from hook_event_processor.store.cleanup.removal import Gone, Place
from hook_event_processor.store.cleanup.to_files import FileArchive
from hook_event_processor.store.cleanup.to_table import TableArchive
from hook_event_processor.store.times import transaction_time

RuleOf = Callable[[str, str, str | None], Keep]


@dataclass(slots=True)
class Removed:
    """What went, or would go: events by the names of their rules, executions, and the files that hold them."""

    events: Counter[str] = field(default_factory=Counter)
    executions: int = 0
    files: list[Path] = field(default_factory=list)


# Never what is unfinished; dead letters by an age of their own.
CANDIDATES = """
SELECT ctid::text, id, source, action, {stack}, seq, processed,
       CASE WHEN processed THEN coalesce(processed_at, created_at) ELSE failed_at END
FROM hook_events
WHERE ctid >= %(first)s::tid AND ctid < %(last)s::tid
  AND (processed AND (coalesce(processed_at, created_at) < %(before)s OR seq <= %(upto)s)
       OR NOT processed AND failed_at < %(failed_before)s)
"""
_RUNS = "SELECT count(*) FROM event_hook_executions WHERE event_id = ANY(%s)"


class EventCleanup:
    """One pass through the events. `rule_of` gives the rule for an event's source, action and stack."""

    def __init__(self, connection: Connection, rules: Sequence[Keep], rule_of: RuleOf, pace: Pace) -> None:
        self._connection = connection
        self._rules = rules
        self._rule_of = rule_of
        self._pace = pace
        self._now = transaction_time(connection)
        stacks = any(keep.stacks for keep in rules)
        self._statement = CANDIDATES.format(stack=counted.STACK if stacks else "NULL::text")
        with_count = any(keep.count for keep in rules)
        self._cut_offs = counted.cut_offs(connection, rule_of, pace, stacks=stacks) if with_count else {}
        self._open = ExitStack()
        self._files: dict[str, FileArchive] = {}
        self._table = TableArchive(connection) if any(keep.archive == TABLE for keep in rules) else None
        self.removed = Removed()

    def run(self, *, dry_run: bool, report: Callable[[float], None]) -> Removed:
        """Remove what the rules let go, or only count it. Raises ArchiveRefused; what is not archived then stays."""
        with self._open:
            for pages in ranges(self._connection, "hook_events", self._pace):
                with self._pace.step():
                    for archive, places in self._due(pages.first, pages.last).items():
                        self._count(places) if dry_run else self._take(archive, places)
                self._finish(all_of_them=False)
                report(pages.done)
            self._finish(all_of_them=True)
        return self.removed

    def _due(self, first: str, last: str) -> dict[str, list[Place]]:
        """What is to go of these pages, by archive."""
        found: dict[str, list[Place]] = {}
        values = {"first": first, "last": last, **self._limits()}
        for ctid, event_id, source, action, stack, seq, processed, ended in self._connection.execute(
            self._statement, values
        ):
            keep = self._rule_of(source, action, stack)
            if self._goes(keep, seq, ended, processed=processed):
                found.setdefault(keep.archive, []).append(Place(ctid, event_id, keep.name))
        return found

    def _limits(self) -> dict[str, Any]:
        """What the most impatient rule of each kind would let go; none of a kind is NULL, which nothing is before."""
        ages = [keep.age for keep in self._rules if keep.age is not None]
        failed_ages = [keep.failed_age for keep in self._rules if keep.failed_age is not None]
        return {
            "before": self._now - min(ages) if ages else None,
            "upto": max(self._cut_offs.values(), default=None),
            "failed_before": self._now - min(failed_ages) if failed_ages else None,
        }

    def _goes(self, keep: Keep, seq: int, ended: datetime, *, processed: bool) -> bool:
        age: timedelta | None = keep.age if processed else keep.failed_age
        if age is not None and ended < self._now - age:
            return True
        cut_off = self._cut_offs.get(keep)
        return processed and cut_off is not None and seq <= cut_off

    def _count(self, places: Sequence[Place]) -> None:
        self.removed.events.update(place.rule for place in places)
        row = self._connection.execute(_RUNS, ([place.id for place in places],)).fetchone()
        self.removed.executions += row[0] if row else 0

    def _take(self, archive: str, places: Sequence[Place]) -> None:
        # One statement a step: each that removes events has a row in the audit.
        if archive == NO_ARCHIVE:
            self._note(places, removal.remove(self._connection, places))
        elif archive == TABLE and self._table is not None:
            self._note(places, self._table.move(self._connection, places))
        else:
            self._archive(archive).add(places)

    def _archive(self, folder: str) -> FileArchive:
        if folder not in self._files:
            self._files[folder] = self._open.enter_context(FileArchive(self._connection, Path(folder)))
        return self._files[folder]

    def _finish(self, *, all_of_them: bool) -> None:
        """Close files that are full, and remove what they hold."""
        for archive in self._files.values():
            if not (archive.full or all_of_them):
                continue
            path, slices = archive.finish()
            if path is not None:
                self.removed.files.append(path)
            for some in slices:
                with self._pace.step():
                    self._note(some, removal.remove(self._connection, some, removal.REMOVE_WRITTEN))

    def _note(self, places: Sequence[Place], gone: Gone) -> None:
        self.removed.events.update(place.rule for place in places if place.id in gone.events)
        self.removed.executions += gone.executions
