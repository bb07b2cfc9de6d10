"""Why each hook ran for an event or did not, by the routing that processors use."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from hook_event_processor.cli.hook_permissions import missing_line, uses
from hook_event_processor.cli.output import iso_time, local_time, milliseconds
from hook_event_processor.errors import PatternRefused
from hook_event_processor.event import OWN_TYPES
from hook_event_processor.event_handlers import DEFAULT_HANDLERS
from hook_event_processor.registry import UNKNOWN_HANDLER, parse_pattern

if TYPE_CHECKING:
    from hook_event_processor.cli.explained_route import ExplainedRoute
    from hook_event_processor.policy import Policy
    from hook_event_processor.store.events import StoredEvent
    from hook_event_processor.store.executions import Execution
    from hook_event_processor.store.hooks import KnownHook

_OF_EVERY_PROCESSOR = {handler.__name__ for handler in DEFAULT_HANDLERS.values()}
_UNFINISHED = ("pending", "scheduled", "retrying", "processing", "paused")


@dataclass(frozen=True, slots=True)
class Verdict:
    """What became of one hook: a word, and why.

    `patterns` tells which of its patterns match; a removed hook has none.
    `needs` says which permissions this host's policy does not give it.
    """

    hook: str
    kind: str
    priority: int | None
    stack: str | None
    patterns: Mapping[str, bool]
    word: str
    reason: str
    runs: Sequence[Execution]
    needs: Sequence[str] = ()


def verdicts(
    event: StoredEvent,
    hooks: Sequence[KnownHook],
    found: ExplainedRoute,
    runs: Sequence[Execution],
    when: str,
    paused: Collection[str],
    policy: Policy,
) -> list[Verdict]:
    """One for each hook: first those that run, in their order, then the others, and last those that were removed.

    `when` says when the event's next attempt begins, if it is to have one;
    `paused` are the names of hooks, `policy` is this host's.
    """
    places = found.places
    own_runs: dict[int, list[Execution]] = {}
    for run in runs:
        own_runs.setdefault(run.hook_id, []).append(run)
    judged = [
        replace(
            _Judge(event, hook, found, own_runs.pop(hook.id, []), _when(hook.name, when, paused)).verdict(),
            needs=[
                missing_line(use) for use in uses(hook.modules, policy.grants(hook.name, hook.stack)) if use.missing
            ],
        )
        for hook in sorted(hooks, key=lambda hook: (places.get(hook.id, len(places)), hook.name))
    ]
    # A stable sort: near misses come before what has nothing to do with the event.
    judged.sort(key=lambda verdict: verdict.word == _NO_MATCH and not verdict.runs)
    return [*judged, *map(_removed, own_runs.values())]


def _when(hook: str, when: str, paused: Collection[str]) -> str:
    """When the hook runs next."""
    return f"once the hook is resumed: 'hep resume --hook {hook}'" if hook in paused else when


_NO_MATCH = "no match"


def _removed(runs: Sequence[Execution]) -> Verdict:
    last = runs[-1]
    return Verdict(last.hook_name, "removed", None, None, {}, *_of_run(last, "; the hook was removed since"), runs)


class _Judge:
    """Says of one hook what became of it."""

    def __init__(
        self, event: StoredEvent, hook: KnownHook, found: ExplainedRoute, runs: Sequence[Execution], when: str
    ) -> None:
        self._event = event
        self._hook = hook
        self._found = found
        self._runs = runs
        self._when = when
        self._patterns = dict(self._matching())

    def verdict(self) -> Verdict:
        in_route = self._hook.id in self._found.places
        word, reason = self._if_it_runs() if in_route else self._if_not()
        return Verdict(
            self._hook.name,
            self._hook.kind,
            self._hook.priority,
            self._hook.stack,
            self._patterns,
            word,
            reason,
            self._runs,
        )

    def _matching(self) -> Iterator[tuple[str, bool]]:
        for text in self._hook.event_types:
            try:
                yield text, parse_pattern(text).matches(self._event.source, self._event.action)
            except PatternRefused:  # written past the command line
                yield text, False

    def _if_it_runs(self) -> tuple[str, str]:
        if not self._runs:
            word, reason = self._without_run()
        else:
            word, reason = _of_run(self._runs[-1], self._afterwards())
        return word, f"{self._match()}{reason}"

    def _match(self) -> str:
        return f"{', '.join(text for text, matches in self._patterns.items() if matches)} matches; "

    def _without_run(self) -> tuple[str, str]:
        event = self._event
        # Its row stays when the package that brings it does not; what a processor has, only that one knows.
        of_package = self._hook.kind == "python" and self._hook.name not in _OF_EVERY_PROCESSOR
        if event.state in _UNFINISHED:
            word, reason = "will run", self._when
            if event.state == "processing":
                word, reason = "running", "it runs now, or once those with a lower priority have ended"
            return word, reason + ", where that processor has its package installed" * of_package
        ended_at = event.processed_at or event.failed_at
        if ended_at is not None and self._hook.updated_at > ended_at:
            return (
                "did not run",
                f"it was added or changed at {local_time(self._hook.updated_at)}, after the event ended",
            )
        perhaps = "the processor did not have its package installed" if of_package else "it was added"
        return "did not run", f"there is no record of a run: perhaps {perhaps}, or the event was ended, by hand"

    def _afterwards(self) -> str:
        last = self._runs[-1]
        if self._event.state in _UNFINISHED:
            if last.success:
                return "; it does not run again for this event"
            is_current = self._event.state == "processing" and last.attempt > self._event.retry_count
            return "" if is_current else f"; it runs again: {self._when}"
        if self._event.state == "failed" and not last.success:
            return f"; 'hep events retry {self._event.id}' tries again"
        return ""

    def _if_not(self) -> tuple[str, str]:
        word, reason = self._why_not()
        if not self._runs:
            return word, reason
        # It ran as it was then.
        return _of_run(self._runs[-1], f"; now it would not run: {reason}")

    def _why_not(self) -> tuple[str, str]:
        hook = self._hook
        if not any(self._patterns.values()):
            return _NO_MATCH, f"{self._event.type} matches none of its patterns: {', '.join(hook.event_types)}"
        if not hook.enabled:
            which = "" if self._event.state in _UNFINISHED else " for later events"
            return "disabled", f"{self._match()}'hep hook enable {hook.name}' lets it run{which}"
        if hook.stack is not None and hook.stack != self._found.stack:
            its = f"of the stack {self._found.stack}" if self._found.stack is not None else "of no stack"
            return "other stack", f"{self._match()}it runs for the stack {hook.stack}, and the event is {its}"
        if hook.kind == "python":
            return "not needed", f"{self._match()}{self._why_another()}"
        return "did not run", "its text has been removed from the database"

    def _why_another(self) -> str:
        if self._hook.name == UNKNOWN_HANDLER and self._event.type in OWN_TYPES:
            return f"{self._event.type} is a record of the product's own, which needs no handler"
        if self._hook.name == UNKNOWN_HANDLER:
            return "it serves only what nothing else matches"
        serving = self._found.handler
        return f"{serving} serves it: of all handlers the most specific does" if serving else "no handler serves it"


def _of_run(run: Execution, more: str) -> tuple[str, str]:
    """A word and a sentence for a run that was recorded."""
    where = f"attempt {run.attempt} at {local_time(run.executed_at)}"
    if run.result == "filtered":
        return "filtered", f"its filter returned false in {where}{more}"
    if run.success:
        return "ran", f"it ended well in {where}, after {milliseconds(run.duration_ms)}{more}"
    return run.result, f"{where} failed: {_first_line(run.error)}{more}"


def _first_line(error: str | None) -> str:
    lines = (error or "").strip().splitlines() or ["no reason given"]
    # Of a Python traceback the last line says what happened, of a Lua one the first.
    kept = lines[-1] if lines[0].startswith("Traceback (") else lines[0]
    return kept if len(kept) <= 200 else f"{kept[:199]}…"


def verdict_document(verdict: Verdict) -> dict[str, object]:
    """A verdict for JSON."""
    return {
        "hook": verdict.hook,
        "kind": verdict.kind,
        "priority": verdict.priority,
        "stack": verdict.stack,
        "verdict": verdict.word,
        "reason": verdict.reason,
        "patterns": [{"pattern": text, "matches": matches} for text, matches in verdict.patterns.items()],
        "missing_permissions": list(verdict.needs),
        "runs": [
            {
                "attempt": run.attempt,
                "result": run.result,
                "success": run.success,
                "error": run.error,
                "duration_ms": run.duration_ms,
                "executed_at": iso_time(run.executed_at),
                "version": run.version,
                "node": run.node,
            }
            for run in verdict.runs
        ],
    }
