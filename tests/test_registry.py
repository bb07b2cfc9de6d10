"""Routing: what a pattern matches, in which order hooks run, and whom an event without any goes to."""

from __future__ import annotations

import time
from collections.abc import Callable

import pytest

from hook_event_processor.errors import PatternRefused
from hook_event_processor.event_handlers import EventHandlerRegistry, HandlerResult
from hook_event_processor.registry import UNKNOWN_HANDLER, Hook, Registry, Route, parse_pattern


@pytest.mark.parametrize(
    ("pattern", "source", "action", "matches"),
    [
        ("task.failed", "task", "failed", True),
        ("task.failed", "Task", "failed", False),
        ("task.failed", "task", "Failed", False),
        ("task.failed", "task", "failed.twice", False),
        ("task.failed", "task.failed", "", True),
        ("task", "task", "", True),
        ("task", "task", "failed", False),
        # A dotted source: literals match the joined type.
        ("db.query.slow", "db.query", "slow", True),
        ("db.query.slow", "db", "query.slow", True),
        ("PreToolUse/tool_invocation", "PreToolUse", "tool_invocation", True),
        ("PreToolUse/tool_invocation", "PreToolUse", "other", False),
        ("repository/path/to/file", "repository", "path/to/file", True),
        ("*", "task", "failed", True),
        ("*", "task", "", True),
        ("*/*", "task", "failed", True),
        ("*.*", "task", "", True),
        ("task.*", "task", "failed", True),
        ("task.*", "task", "", True),
        ("task.*", "tasks", "failed", False),
        ("*.failed", "task", "failed", True),
        ("*.failed", "db.query", "failed", True),
        ("*.failed", "task", "failed.twice", False),
        ("ta*.fa??ed", "task", "failed", True),
        ("ta*.fa??ed", "task", "fired", False),
        ("PreToolUse/*", "PreToolUse", "tool_invocation", True),
        ("task.[fs]*", "task", "started", True),
        ("task.[!fs]*", "task", "started", False),
        ("task.[^fs]*", "task", "completed", True),
        ("task.[a-c]*", "task", "completed", True),
        ("task.[]]", "task", "]", True),
        # What stands in brackets parts nothing.
        ("web[.-]1.up", "web.1", "up", True),
        ("web[.-]1.up", "web-1", "up", True),
        ("web[.-]1.up", "web", "1.up", False),
        ("task[./]failed", "task", "failed", True),
        ("a[/]b.*", "a/b", "c.d", True),
        ("task*", "task", "failed", True),
        ("~^task\\.(failed|lost)$", "task", "lost", True),
        ("~^task\\.(failed|lost)$", "task", "lost.again", False),
        ("~fail", "task", "failed", True),
        ("~(?i)TASK", "task", "failed", True),
        ("~^$", "task", "", False),
        ("gr\N{LATIN SMALL LETTER O WITH DIAERESIS}*.x", "gr\N{LATIN SMALL LETTER O WITH DIAERESIS}sse", "x", True),
        ("a+b.c", "a+b", "c", True),
        ("a+*.c", "a+b", "c", True),
        ("a+*.c", "aab", "c", False),
        ("task.*", "task", "line\nbreak", True),
    ],
)
def test_what_a_pattern_matches(pattern: str, source: str, action: str, matches: bool) -> None:
    assert parse_pattern(pattern).matches(source, action) is matches


@pytest.mark.parametrize(
    ("pattern", "reason"),
    [
        ("", "is not an event type"),
        (" task", "is not an event type"),
        ("task.failed\n", "is not an event type"),
        ("a\0b", "is not an event type"),
        ("x" * 600, "is not an event type"),
        ("task.[fs", "opens a [ that it does not close"),
        ("[z-a].b", "the glob '[z-a]' has brackets that mean nothing: invalid character class range: z-a"),
        (
            ".*",
            "the pattern '.*' has nothing before its first '.', and every event has a source: write *.*, or * for all",
        ),
        ("/tool_*", "has nothing before its first '/', and every event has a source: write */tool_*, or * for all"),
        ("b.[^]", "the glob '[^]' has brackets that mean nothing"),
        ("~", "has no regular expression behind it"),
        ("~(", "is not a regular expression (RE2): missing )"),
        ("~(?=x)", "is not a regular expression (RE2)"),
        (r"~(a)\1", "is not a regular expression (RE2)"),
    ],
)
def test_what_is_no_pattern_is_refused(pattern: str, reason: str) -> None:
    with pytest.raises(PatternRefused) as refusal:
        parse_pattern(pattern)
    assert reason in str(refusal.value)


@pytest.mark.parametrize("pattern", ["~^(a+)+$", "~(a|a)*b", "*a*a*a*a*a*a*a*a*a*a*b", "a*a*a*a*.a*a*a*b"])
def test_no_pattern_takes_more_than_linear_time(pattern: str) -> None:
    """Where a backtracking matcher would need years."""
    started = time.perf_counter()
    assert not parse_pattern(pattern).matches("a" * 255, "a" * 254 + "!")
    assert time.perf_counter() - started < 1


def _hook(number: int, pattern: str, priority: int = 0, stack: str | None = None, effectful: bool = False) -> Hook:
    patterns = (parse_pattern(pattern),)
    return Hook(number, f"hook_{number}", "", patterns, priority=priority, stack=stack, effectful=effectful)


def _names(route: Route) -> list[list[str]]:
    return [[hook.name for hook in stage] for stage in route.stages]


def _route(registry: Registry, source: str, action: str, stack: str | None = None) -> Route:
    return registry.routes(source.encode(), action.encode()).of(stack)


def test_all_matching_hooks_run_by_priority_and_those_of_one_side_by_side() -> None:
    hooks = [_hook(1, "task.*", 5), _hook(2, "*"), _hook(3, "task.failed"), _hook(4, "task.done"), _hook(5, "~t", -1)]
    route = _route(Registry(hooks), "task", "failed")
    assert _names(route) == [["hook_5"], ["hook_2", "hook_3"], ["hook_1"]]
    assert [hook.id for hook in route.hooks] == [5, 2, 3, 1]
    assert route.width == 2


def test_a_hook_with_two_patterns_runs_once() -> None:
    patterns = tuple(map(parse_pattern, ("task.*", "*.failed")))
    assert _names(_route(Registry([Hook(1, "twice", "", patterns)]), "task", "failed")) == [["twice"]]


def test_a_hook_with_a_stack_runs_for_that_stack_only() -> None:
    registry = Registry([_hook(1, "*"), _hook(2, "*", stack="production"), _hook(3, "*", stack="staging")])
    assert _names(_route(registry, "a", "b")) == [["hook_1"]]
    assert _names(_route(registry, "a", "b", "production")) == [["hook_1", "hook_2"]]
    assert _names(_route(registry, "a", "b", "staging")) == [["hook_1", "hook_3"]]
    assert _names(_route(registry, "a", "b", "other")) == [["hook_1"]]
    assert registry.routes(b"a", b"b").common is None


def test_without_stacks_there_is_one_route() -> None:
    routes = Registry([_hook(1, "*")]).routes(b"a", b"b")
    assert routes.common is not None
    assert _names(routes.common) == [["hook_1"]]


def test_one_effectful_hook_makes_the_route_effectful() -> None:
    assert not _route(Registry([_hook(1, "*")]), "a", "b").effectful
    assert _route(Registry([_hook(1, "*"), _hook(2, "a.b", effectful=True)]), "a", "b").effectful
    assert not _route(Registry([_hook(1, "*"), _hook(2, "c.d", effectful=True)]), "a", "b").effectful


def test_a_route_is_found_once() -> None:
    asked: list[tuple[str, str]] = []

    def matches(source: str, action: str) -> bool:
        asked.append((source, action))
        return True

    pattern = parse_pattern("*")
    object.__setattr__(pattern, "matches", matches)
    registry = Registry([Hook(1, "hook", "", (pattern,))])
    assert registry.routes(b"a", b"b") is registry.routes(b"a", b"b")
    assert asked == [("a", "b")]


def test_the_routes_that_are_kept_are_bounded() -> None:
    """Clients choose types: they must not choose our memory."""
    registry = Registry([_hook(1, "*")])
    for number in range(25_000):
        registry.routes(b"source", str(number).encode())
    assert len(registry._cache) <= 10_000
    assert _names(_route(registry, "source", "24999")) == [["hook_1"]]


def _handlers(*names: str) -> Callable[[str, str], Hook | None]:
    """Handlers of these names serve everything, the first of them."""
    return lambda *_: Hook(99, names[0], lambda _: HandlerResult(True)) if names else None


def test_a_handler_runs_beside_the_hooks() -> None:
    registry = Registry([_hook(1, "*"), _hook(2, "*", 1)], _handlers("handle_custom"))
    assert _names(_route(registry, "a", "b")) == [["handle_custom", "hook_1"], ["hook_2"]]


def test_the_unknown_handler_serves_only_what_nothing_else_matched() -> None:
    registry = Registry([_hook(1, "task.*"), _hook(2, "agent.*", stack="production")], _handlers(UNKNOWN_HANDLER))
    assert _names(_route(registry, "task", "failed")) == [["hook_1"]]
    assert _names(_route(registry, "a", "b")) == [[UNKNOWN_HANDLER]]
    assert _names(_route(registry, "agent", "lost")) == [[UNKNOWN_HANDLER]]
    assert _names(_route(registry, "agent", "lost", "production")) == [["hook_2"]]


def test_without_a_handler_there_is_nothing_to_run() -> None:
    assert _names(_route(Registry(), "a", "b")) == []
    assert _route(Registry(), "a", "b").width == 0


def test_the_most_specific_handler_serves_an_event() -> None:
    registered = EventHandlerRegistry()
    for name, pair in {"pair": ("S", "a"), "source": ("S", "*"), "action": ("*", "a"), "all": ("*", "*")}.items():

        def handler(event: dict[str, object]) -> HandlerResult:
            return HandlerResult(True)

        handler.__name__ = name
        registered.register(*pair, handler)

    def candidates(source: str, action: str) -> list[str]:
        return [candidate.name for candidate in registered.candidates(source, action)]

    assert candidates("S", "a") == ["pair", "source", "action", "all"]
    assert candidates("S", "x") == ["source", "all"]
    assert candidates("X", "a") == ["action", "all"]
    assert candidates("s", "A") == ["all"]
