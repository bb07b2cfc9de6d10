"""A whole cleanup: events, then executions, then versions, each by its rules."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from fnmatch import fnmatchcase
from pathlib import Path

from psycopg import Connection

from hook_event_processor.retention_policy import Keep, RetentionPolicy
from hook_event_processor.store.cleanup import counted, executions, versions
from hook_event_processor.store.cleanup.events import EventCleanup
from hook_event_processor.store.cleanup.pace import Pace

Matches = Callable[[str, str], bool]
_MOST_TYPES = 10_000  # that are remembered: writers choose them


@dataclass(slots=True)
class Report:
    """What went, or would go: events by the names of their rules, and the files that hold them."""

    events: Counter[str] = field(default_factory=Counter)
    executions: int = 0
    versions: int = 0
    files: list[Path] = field(default_factory=list)
    waited_seconds: float = 0.0


class Rules:
    """The first rule of a policy that matches. `matcher` reads a pattern of event types, or refuses it."""

    def __init__(self, policy: RetentionPolicy, matcher: Callable[[str], Matches]) -> None:
        self.policy = policy
        patterns = {text for keep in (*policy.events, *policy.executions) for text in keep.types}
        self._matchers = {text: matcher(text) for text in patterns}
        self._known: dict[tuple[str, str, str | None], Keep] = {}

    def of_event(self, source: str, action: str, stack: str | None) -> Keep:
        """The rule for an event."""
        key = (source, action, stack)
        keep = self._known.get(key)
        if keep is None:
            if len(self._known) >= _MOST_TYPES:
                self._known.clear()
            keep = self._known[key] = next(
                keep for keep in self.policy.events if self._is_for(keep, source, action, stack)
            )
        return keep

    def of_run(self, source: str | None, action: str | None, stack: str | None, hook: str) -> Keep:
        """The rule for a run, by its event and the hook's name; where the event is gone, by the name alone."""
        of_hook = (keep for keep in self.policy.executions if _names(keep.hooks, hook))
        if source is None or action is None:
            return next(keep for keep in of_hook if not (keep.types or keep.stacks))
        return next(keep for keep in of_hook if self._is_for(keep, source, action, stack))

    def age_of_run(self, source: str | None, action: str | None, stack: str | None, hook: str) -> timedelta | None:
        """How old a run of a hook may become: one whose event is gone as old as events, where nothing else is said."""
        age = self.of_run(source, action, stack, hook).age
        return self.policy.events[-1].age if age is None and source is None else age

    def of_version(self, hook: str, stack: str | None) -> Keep:
        """The rule for the versions of a hook."""
        return next(
            keep
            for keep in self.policy.versions
            if _names(keep.hooks, hook) and (not keep.stacks or stack in keep.stacks)
        )

    def counts_runs(self, hook: str) -> bool:
        """Whether a rule has a count for runs of this hook."""
        return any(keep.count and _names(keep.hooks, hook) for keep in self.policy.executions)

    def _is_for(self, keep: Keep, source: str, action: str, stack: str | None) -> bool:
        if keep.stacks and stack not in keep.stacks:
            return False
        return not keep.types or any(self._matchers[text](source, action) for text in keep.types)


def _names(globs: Sequence[str], name: str) -> bool:
    return not globs or any(fnmatchcase(name, glob) for glob in globs)


def clean_up(
    connection: Connection,
    rules: Rules,
    *,
    dry_run: bool,
    report: Callable[[float], None] = lambda _: None,
) -> Report:
    """Remove what the rules let go, or with `dry_run` count it; `report` is given the fraction that is done.

    `connection` is in autocommit; each step is a short transaction. Raises
    ArchiveRefused when something could not be archived: it stays.
    """
    pace, policy, done = Pace(connection), rules.policy, Report()
    if any(keep.removes for keep in policy.events):
        cleanup = EventCleanup(connection, policy.events, rules.of_event, pace)
        removed = cleanup.run(dry_run=dry_run, report=lambda part: report(part / 2))
        done.events, done.executions, done.files = removed.events, removed.executions, removed.files
    done.executions += _executions(connection, rules, pace, dry_run=dry_run, report=report)
    if any(keep.removes for keep in policy.versions):
        done.versions = versions.remove(connection, rules.of_version, dry_run=dry_run)
    done.waited_seconds = pace.waited_seconds
    return done


def _executions(
    connection: Connection, rules: Rules, pace: Pace, *, dry_run: bool, report: Callable[[float], None]
) -> int:
    policy, count = rules.policy, 0
    ages = [keep.age for keep in (*policy.executions, policy.events[-1]) if keep.age is not None]
    stack = counted.STACK if any(keep.stacks for keep in policy.executions) else "NULL::text"
    if ages:
        count += executions.remove_old(
            connection,
            min(ages),
            rules.age_of_run,
            pace,
            stack,
            dry_run=dry_run,
            report=lambda part: report(0.5 + part / 2),
        )
    if any(keep.count for keep in policy.executions):
        count += executions.remove_beyond(connection, rules.counts_runs, rules.of_run, pace, stack, dry_run=dry_run)
    return count
