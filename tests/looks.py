"""A watcher as its definition has it, looked through by a test."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import UTC, datetime
from itertools import count
from typing import Any

import orjson
import pytest

from hook_event_processor.watchers import kinds
from hook_event_processor.watchers.check import Definition, Moment, WatcherRefused
from hook_event_processor.watchers.host import programs

_APART = 10.0  # seconds between two looks: nothing that was read for one serves the next
_moments = count(1)

Event = tuple[str, dict[str, Any]]


class Watched:
    """One watcher at work; options by name, True for a flag."""

    def __init__(self, type_: str, *conditions: str, **options: object) -> None:
        programs.grant(True)
        self.definition = define(type_, *conditions, **options)
        self.check = kinds.kind(type_).start(self.definition, None)

    def look(self, *, late: bool = False) -> list[Event]:
        """Type and data of each event that a look tells of."""
        moment = Moment(datetime.now(UTC), next(_moments) * _APART, late)
        noticed = self.check.look(moment)
        assert all(event.data["watcher_id"] == "watcher-1" for event in noticed)
        return [
            (event.type, {key: value for key, value in event.data.items() if key != "watcher_id"}) for event in noticed
        ]

    def types(self) -> list[str]:
        """The types alone."""
        return [event_type for event_type, _ in self.look()]

    def resumed(self) -> Watched:
        """The same watcher after a restart of the daemon."""
        options, conditions = self.definition.options, self.definition.conditions
        again = Watched.__new__(Watched)
        again.definition = Definition("watcher-1", self.definition.type, conditions, options, self.definition.interval)
        state = orjson.loads(orjson.dumps(self.check.state()))
        again.check = kinds.kind(self.definition.type).start(again.definition, state)
        return again


def define(type_: str, *conditions: str, **options: object) -> Definition:
    """A definition, read as a row's is."""
    texts = {name: "true" if value is True else str(value) for name, value in options.items()}
    return kinds.read("watcher-1", type_, conditions, texts, None)


def refusal(type_: str, *conditions: str, **options: object) -> str:
    """What is said of a definition that makes no sense."""
    with pytest.raises(WatcherRefused) as refused:
        define(type_, *conditions, **options)
    return str(refused.value)


def await_events(watched: Watched, enough: Callable[[list[Event]], object]) -> list[Event]:
    """Look again and again until what was told is enough."""
    told: list[Event] = []
    deadline = time.monotonic() + 10
    while not enough(told):
        assert time.monotonic() < deadline, f"not told within 10 s; so far: {told}"
        told += watched.look()
        time.sleep(0.01)
    return told
