"""Routing: patterns and precedence, (source, action) -> what runs, cached."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import groupby

import re2

from hook_event_processor.errors import PatternRefused
from hook_event_processor.event import MAX_NAME, OWN_TYPES, join_type

_GLOB_SIGNS = re.compile(r"[*?\[]")
# The two that part source and action are parts of their own, but within brackets.
_GLOB_PART = re.compile(r"\*+|\?|\[[!^]?\]?[^\]]*\]|[./]|[^*?\[./]+")
# Serves only what nothing else matched.
UNKNOWN_HANDLER = "handle_unknown_event"
# Clients choose types: the cache of routes must not grow with them.
_MAX_ROUTES = 10_000


@dataclass(frozen=True, slots=True)
class Pattern:
    """One pattern of event types; `matches` takes an event's source and action."""

    text: str
    matches: Callable[[str, str], bool]


def parse_pattern(text: str) -> Pattern:
    """Read a pattern: `task.failed`, `task.*`, `*.failed`, `*`, `PreToolUse/*` or `~regex`.

    A literal equals the whole type, so that a source may hold dots. A glob
    (`*`, `?`, `[abc]`) is split at its first slash, or dot, outside brackets,
    and each part matches its own; without either it matches the whole type. A
    regex (RE2 syntax, linear time) is searched for in the type. Raises PatternRefused.
    """
    if not text or text != text.strip() or "\0" in text or len(text) > 2 * MAX_NAME + 1:
        raise PatternRefused(
            f"the pattern {text[:80]!r} is not an event type: write task.failed, task.*, *.failed, * or ~regex"
        )
    if text.startswith("~"):
        return Pattern(text, _regex(text))
    if not _GLOB_SIGNS.search(text):
        return Pattern(text, _literal(text))
    if re.search(r"\[[^\]]*$", text):
        raise PatternRefused(f"the pattern {text!r} opens a [ that it does not close")
    return Pattern(text, _glob(text))


def is_literal(text: str) -> bool:
    """Whether the pattern is a type itself: no glob and no regex."""
    return not text.startswith("~") and not _GLOB_SIGNS.search(text)


def _regex(text: str) -> Callable[[str, str], bool]:
    try:
        search = _search(text[1:])
    except ValueError as fault:
        raise PatternRefused(f"the pattern {text!r} is not a regular expression (RE2): {fault}") from None
    if text == "~":
        raise PatternRefused("the pattern '~' has no regular expression behind it: write ~^task\\.")
    return lambda source, action: search(join_type(source, action)) is not None


def _search(regex: str) -> Callable[[str], object]:
    """What searches for the regex (RE2). Raises ValueError with what is wrong with it."""
    options = re2.Options()
    options.log_errors = False
    try:
        search: Callable[[str], object] = re2.compile(regex, options).search
    except re2.error as fault:
        raise ValueError(fault.args[0].decode() if isinstance(fault.args[0], bytes) else str(fault)) from None
    return search


def _literal(text: str) -> Callable[[str, str], bool]:
    if "/" in text:
        pair = tuple(text.split("/", 1))
        return lambda source, action: (source, action) == pair or join_type(source, action) == text
    return lambda source, action: join_type(source, action) == text


def _glob(text: str) -> Callable[[str, str], bool]:
    parts = _GLOB_PART.findall(text)
    separator = "/" if "/" in parts else "."
    if separator not in parts:
        whole = _compiled(parts)
        return lambda source, action: whole(join_type(source, action))
    at = parts.index(separator)
    if at == 0:
        raise PatternRefused(
            f"the pattern {text!r} has nothing before its first {separator!r}, and every event has a source:"
            f" write *{text}, or * for all"
        )
    source_glob, action_glob = _compiled(parts[:at]), _compiled(parts[at + 1 :])
    return lambda source, action: source_glob(source) and action_glob(action)


def _compiled(parts: Sequence[str]) -> Callable[[str], bool]:
    # RE2, not fnmatch: many stars must not mean exponential time.
    try:
        match = _search(r"(?s)\A" + "".join(map(_translated, parts)) + r"\z")
    except ValueError as fault:
        raise PatternRefused(f"the glob {''.join(parts)!r} has brackets that mean nothing: {fault}") from None
    return lambda name: match(name) is not None


def _translated(part: str) -> str:
    """A part of a glob as a regular expression."""
    if part.startswith("*"):
        return ".*"
    if part == "?":
        return "."
    if not part.startswith("["):
        return re.escape(part)
    negated = part[1] in "!^"
    members = part[1 + negated : -1].replace("\\", "\\\\").replace("[", "\\[").replace("^", "\\^")
    return f"[{'^' if negated else ''}{members}]"


@dataclass(frozen=True, slots=True)
class Hook:
    """What runs for an event: a Lua hook, or a Python handler with its row.

    `code` is the Lua program (lua.program.Program), or the callable. A pure hook's effects all lie in
    the transaction that acknowledges its event. Times are in seconds.
    """

    id: int
    name: str
    code: object
    patterns: tuple[Pattern, ...] = ()
    version: int = 1
    stack: str | None = None
    priority: int = 0
    timeout: float = 30.0
    attempts: int | None = None
    retry_delay: float | None = None
    retry_max_delay: float | None = None
    effectful: bool = False

    def matches(self, source: str, action: str) -> bool:
        return any(pattern.matches(source, action) for pattern in self.patterns)


@dataclass(frozen=True, slots=True)
class Pauses:
    """What is paused: the ids of pauses, by source and by the name of the hook.

    `told` names each with its reason; `ends_in` says in how many seconds the
    next one ends by itself; `left` whether one has ended whose events have
    not all been let go.
    """

    everything: bool = False
    sources: Mapping[str, int] = field(default_factory=dict)
    hooks: Mapping[str, int] = field(default_factory=dict)
    told: tuple[str, ...] = ()
    ends_in: float | None = None
    left: bool = False


@dataclass(frozen=True, slots=True, eq=False)
class Route:
    """What runs for one kind of event: stages by priority; the hooks of one stage run side by side.

    `pauses` has the ids of hooks that are to run as well, once the pause of
    the other id has ended; 0 stands for all of them, when the source is paused.
    """

    stages: tuple[tuple[Hook, ...], ...]
    pauses: tuple[tuple[int, int], ...] = ()

    @property
    def hooks(self) -> list[Hook]:
        return [hook for stage in self.stages for hook in stage]

    @property
    def effectful(self) -> bool:
        """Whether any hook has effects outside the database: the event then runs under a lease."""
        return any(hook.effectful for hook in self.hooks)

    @property
    def width(self) -> int:
        """How many worker slots its widest stage takes."""
        return max((len(stage) for stage in self.stages), default=0)


@dataclass(frozen=True, slots=True, eq=False)
class Routes:
    """The routes of one (source, action): one for each stack that a matching hook names, and one for the rest."""

    by_stack: Mapping[str | None, Route]

    @property
    def common(self) -> Route | None:
        """The one route, where no stack makes a difference."""
        return self.by_stack[None] if len(self.by_stack) == 1 else None

    def of(self, stack: str | None) -> Route:
        """The route of events of this stack."""
        return self.by_stack.get(stack) or self.by_stack[None]


class Registry:
    """The hooks that are enabled, as of one revision. Immutable but for its cache; used by many threads."""

    def __init__(
        self,
        hooks: Iterable[Hook] = (),
        handler: Callable[[str, str], Hook | None] | None = None,
        pauses: Pauses = Pauses(),
    ) -> None:
        """`handler` gives the one Python handler that serves a (source, action), the unknown handler included."""
        self.hooks = tuple(hooks)
        self.pauses = pauses
        self._handler = handler or (lambda *_: None)
        self._cache: dict[tuple[bytes, bytes], Routes] = {}

    def routes(self, source: bytes, action: bytes) -> Routes:
        """What runs for events of this source and action, both as UTF-8: as a claim reads them."""
        routes = self._cache.get((source, action))
        if routes is None:
            routes = self._find(source.decode(), action.decode())
            if len(self._cache) >= _MAX_ROUTES:
                self._cache.clear()
            self._cache[source, action] = routes
        return routes

    def _find(self, source: str, action: str) -> Routes:
        if source in self.pauses.sources:
            return Routes({None: Route((), ((0, self.pauses.sources[source]),))})
        matching = [hook for hook in self.hooks if hook.matches(source, action)]
        stacks = {hook.stack for hook in matching} | {None}
        return Routes({stack: self._route(source, action, stack, matching) for stack in stacks})

    def _route(self, source: str, action: str, stack: str | None, matching: Sequence[Hook]) -> Route:
        running = [hook for hook in matching if hook.stack in (None, stack)]
        handler = self._handler(source, action)
        if handler is not None and not (handler.name == UNKNOWN_HANDLER and (running or _is_record(source, action))):
            running.append(handler)
        paused = self.pauses.hooks
        return route_of(
            [hook for hook in running if hook.name not in paused],
            [(hook.id, paused[hook.name]) for hook in running if hook.name in paused],
        )


def _is_record(source: str, action: str) -> bool:
    return join_type(source, action) in OWN_TYPES


def route_of(hooks: Iterable[Hook], pauses: Iterable[tuple[int, int]] = ()) -> Route:
    """The route that runs these hooks; `pauses` are those of others."""
    in_order = sorted(hooks, key=lambda hook: (hook.priority, hook.name))
    stages = groupby(in_order, key=lambda hook: hook.priority)
    return Route(tuple(tuple(stage) for _, stage in stages), tuple(pauses))
