"""What every type of watcher has: its options and conditions, and checks that tell what happened."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Protocol, runtime_checkable

from hook_event_processor.errors import HookEventProcessorError


class WatcherRefused(HookEventProcessorError):
    """A watcher's definition makes no sense: the message says what would."""


@dataclass(frozen=True, slots=True)
class Definition:
    """A watcher as its row has it: what it looks at, for which conditions, every so many seconds.

    `options` hold what the type's Option parsers made of them, by option name.
    """

    id: str
    type: str
    conditions: tuple[str, ...]
    options: Mapping[str, Any]
    interval: float
    name: str = ""
    stack: str | None = None


@dataclass(frozen=True, slots=True)
class Noticed:
    """Something happened: the type and the data of an event; `resource` is what it happened to."""

    type: str
    data: dict[str, Any]
    resource: str = ""


@dataclass(frozen=True, slots=True)
class Moment:
    """When a check looks: by the wall clock, and in monotonic seconds.

    `late`: the check looks for the first time since the daemon started, at a
    state that it kept from before: what changed meanwhile is seen late. What
    is more than one look tells later ones tell, which cannot know.
    """

    time: datetime
    monotonic: float
    late: bool = False


class Check(Protocol):
    """One watcher at work, on one thread at a time.

    The first look without a kept state is the baseline and tells nothing.
    """

    def look(self, moment: Moment) -> list[Noticed]:
        """What happened since the last look. Raises CheckFailed when it cannot be known."""

    def state(self) -> object:
        """What the next start needs to go on from here, as JSON can hold it; asked after each look, so cheap.

        What it returns is written at once, not kept: it may change afterwards.
        """


@runtime_checkable
class Measures(Protocol):
    """A check of numbers, which its state does not have."""

    def measured(self) -> Mapping[str, float]:
        """What the last look read, by what it is of."""


class CheckFailed(HookEventProcessorError):
    """A check could not look: the reason, which is logged once until it changes."""


@dataclass(frozen=True, slots=True)
class Option:
    """One option of a type: `--check-hash` is named check_hash. A parser raises ValueError for what is wrong."""

    parse: Callable[[str], Any]
    takes: str  # how a parser's refusal goes on: "an absolute path", "a number from 1 to 65535"
    help: str
    required: bool = False
    flag: bool = False  # takes no value on the command line


@dataclass(frozen=True, slots=True)
class Kind:
    """A type of watchers.

    `conditions` names the event types that each condition stands for; the
    first is the default. `start` makes a check of a definition and of the
    state that an earlier one left, None for none. A check of a kind that
    `blocks` may wait (for a connection, a program) and runs on a thread of
    its own, as does one whose definition is `slow`, or whose `paths` lie on
    a file system that may not answer. `paths` names what the file system should tell changes of at once:
    directories (with all below, where the definition's option `recursive` is
    set), and other paths, which need not exist. Checks that are `together`
    look at the same moment where their intervals are the same, so that one
    reading of the system (/proc, say) serves all; the others are spread.
    """

    name: str
    summary: str
    interval: float
    conditions: Mapping[str, Sequence[str]]
    options: Mapping[str, Option]
    start: Callable[[Definition, object], Check]
    blocks: bool = False
    slow: Callable[[Definition], bool] = field(default=lambda _: False)
    together: bool = False
    paths: Callable[[Definition], Sequence[str]] = field(default=lambda _: ())
    target: Callable[[Definition], str] = field(default=lambda _: "")  # what lists show of what it looks at
    example: str = ""  # options as a command line has them
    # What is to be known of a definition on this host, as it is now, for whoever makes it; empty for nothing.
    hint: Callable[[Definition], str] = field(default=lambda _: "")
    validate: Callable[[Definition], None] = field(default=lambda _: None)  # raises WatcherRefused
    # By event type, the options of which it takes one to be told; those of "not " an option are told without it.
    tells_with: Mapping[str, Sequence[str]] = field(default_factory=dict)

    def event_types(self, definition: Definition) -> list[str]:
        """What its conditions stand for, as far as its options bring it about."""
        named = dict.fromkeys(name for condition in definition.conditions for name in self.conditions[condition])
        return [name for name in named if self._can_tell(definition, name)]

    def _can_tell(self, definition: Definition, event_type: str) -> bool:
        needed = self.tells_with.get(event_type)
        return needed is None or any(
            (option.removeprefix("not ") in definition.options) != option.startswith("not ") for option in needed
        )

    def wants(self, definition: Definition, event_type: str) -> bool:
        """Whether one of the definition's conditions stands for this type of event."""
        return any(event_type in self.conditions[condition] for condition in definition.conditions)


_DURATION = re.compile(r"(\d+(?:\.\d+)?)(ms|s|m|h|d)?")
_SECONDS = {"ms": 0.001, None: 1.0, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86_400.0}


def seconds(text: str) -> float:
    """Seconds of a duration: 200ms, 10s, 5m, 1h30m or a plain number. Raises ValueError."""
    parts = list(_DURATION.finditer(text))
    if not parts or "".join(part.group() for part in parts) != text:
        raise ValueError(text)
    return sum(float(part[1]) * _SECONDS[part[2]] for part in parts)


def number(low: float, high: float, *, percent: bool = False) -> Callable[[str], float]:
    """A parser of numbers in a range; those that are a `percent` of something may say so by its sign."""

    def parse(text: str) -> float:
        value = float(text.removesuffix("%") if percent else text)
        if not low <= value <= high:  # also refuses nan
            raise ValueError(text)
        return value

    return parse


def integer(low: int, high: int) -> Callable[[str], int]:
    """A parser of whole numbers in a range."""

    def parse(text: str) -> int:
        value = int(text)
        if not low <= value <= high:
            raise ValueError(text)
        return value

    return parse
