"""The order in which a claim's events run."""

from __future__ import annotations

import os

from hook_event_processor.processor.batch import Sorter
from hook_event_processor.processor.pace import Paces
from hook_event_processor.registry import Hook, Registry, parse_pattern
from hook_event_processor.store.claim import Claim, Row


def _row(source: str, priority: int = 5) -> Row:
    return Row(os.urandom(16), source.encode(), b"now", b"", b"", b"", b"{}", b"{}", 1, priority, 1, b"", b"")


def _hook(number: int, name: str, *patterns: str, priority: int = 0) -> Hook:
    return Hook(number, name, "", tuple(map(parse_pattern, patterns)), priority=priority)


def test_urgent_events_run_before_all_others_whatever_their_hooks() -> None:
    """Within each part by the hooks' own priorities; what is due again comes with the others."""
    hooks = [_hook(1, "all", "fast.*", "slow.*"), _hook(2, "first", "slow.*", priority=-1), _hook(3, "last", "fast.*")]
    urgent = [_row("fast", 1), _row("fast", 4)]
    usual, due = [_row("slow", 5), _row("slow", 9)], [_row("fast", 1)]
    claim = Claim([*urgent, *usual], due, [], again=False, more_for_slots=False)
    batch = Sorter(Registry(hooks), Paces(), 10).sort(claim, set(), 10)
    assert [(hook.name, rows) for hook, rows in batch.pure] == [
        ("all", urgent),
        ("last", urgent),
        ("first", usual),
        ("all", [*usual, *due]),
        ("last", due),
    ]
    assert batch.pure_rows == [*urgent, *usual, *due]


def test_handlers_of_one_name_run_for_their_own_events() -> None:
    """They share a row of hooks, and so its id."""
    hooks = [Hook(1, "handle", code, (parse_pattern(f"{code}.*"),)) for code in ("one", "two")]
    rows = {source: _row(source) for source in ("one", "two")}
    batch = Sorter(Registry(hooks), Paces(), 10).sort(Claim([*rows.values()], [], [], False, False), set(), 10)
    assert [(hook.code, ran) for hook, ran in batch.pure] == [("one", [rows["one"]]), ("two", [rows["two"]])]
