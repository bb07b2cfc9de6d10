"""A watcher on its own: looked through when the test says so, started again with the state that it left."""

from __future__ import annotations

import time
from collections.abc import Callable
from copy import copy
from datetime import UTC, datetime
from functools import cache
from itertools import count
from typing import Any

import orjson
import pytest

from hook_event_processor import catalog
from hook_event_processor.payload_schema import PayloadSchema
from hook_event_processor.watchers import kinds
from hook_event_processor.watchers.check import Definition, Moment, Noticed, WatcherRefused
from hook_event_processor.watchers.host import programs

_APART = 10.0  # seconds between two looks: nothing that was read for one serves the next
_moments = count(1)

Event = tuple[str, dict[str, Any]]


@cache
def _schema(event_type: str) -> PayloadSchema:
    known = catalog.known(None).get(event_type)
    return PayloadSchema(known.payload_schema() if known else {"type": "object"})


def _fault(noticed: Noticed) -> object:
    """What of an event's data is not as the catalog has it."""
    return _schema(noticed.type).fault(orjson.loads(orjson.dumps(noticed.data)))


class Watched:
    """A check of this type; conditions one by one or with spaces between, options by name, True for a flag."""

    def __init__(self, type_name: str, *conditions: str, **options: object) -> None:
        programs.grant(True)
        self.definition = define(type_name, *conditions, **options)
        self._kind = kinds.kind(type_name)
        self.check = self._kind.start(self.definition, None)
        self._late = False

    def look(self, *, late: bool = False) -> list[Noticed]:
        """What one look tells, as the catalog has it. The state must be JSON after each."""
        moment = Moment(datetime.now(UTC), next(_moments) * _APART, late or self._late)
        self._late = False
        noticed = self.check.look(moment)
        for each in noticed:
            # A program may give its lines types of their own.
            assert self._kind.wants(self.definition, each.type) or self.definition.type == "custom"
            assert each.data["watcher_id"] == "watcher-1"
        assert [_fault(each) for each in noticed[:10]] == [None] * len(noticed[:10])
        self.state()
        return noticed

    def events(self, *, late: bool = False) -> list[Event]:
        """Types and data, without the watcher's id, of what one look tells."""
        return [
            (each.type, {key: value for key, value in each.data.items() if key != "watcher_id"})
            for each in self.look(late=late)
        ]

    def types(self) -> list[str]:
        """The types alone."""
        return [each.type for each in self.look()]

    def told(self) -> list[tuple[str, str]]:
        """Types and resources."""
        return [(each.type, each.resource) for each in self.look()]

    def one(self) -> dict[str, Any]:
        """The data of the one event that a look tells."""
        (noticed,) = self.look()
        return noticed.data

    def state(self) -> object:
        return orjson.loads(orjson.dumps(self.check.state()))

    def restart(self) -> None:
        """As when the daemon is started again: the next look is late."""
        state = self.state()
        self.check = self._kind.start(self.definition, state)
        self._late = state is not None

    def resumed(self) -> Watched:
        """The same watcher in a daemon that is started again; this one stays as it is."""
        again = copy(self)
        again.restart()
        return again

    def until(self, condition: Callable[[list[Noticed]], object], seconds: float = 10) -> list[Noticed]:
        """Look until what was told so far fulfils the condition; all that was told."""
        deadline = time.monotonic() + seconds
        told: list[Noticed] = []
        while not condition(told):
            assert time.monotonic() < deadline, f"not told within {seconds:g} s; so far: {told}"
            time.sleep(0.01)
            told += self.look()
        return told


def define(type_name: str, *conditions: str, **options: object) -> Definition:
    """A definition, read as a row's is."""
    texts = {name: "true" if value is True else str(value) for name, value in options.items()}
    return kinds.read("watcher-1", type_name, " ".join(conditions).split(), texts, None)


def refusal(type_name: str, *conditions: str, **options: object) -> str:
    """What is said of a definition that makes no sense."""
    with pytest.raises(WatcherRefused) as refused:
        define(type_name, *conditions, **options)
    return str(refused.value)


def await_events(watched: Watched, enough: Callable[[list[Event]], object]) -> list[Event]:
    """Look again and again until what was told is enough."""
    told: list[Event] = []
    deadline = time.monotonic() + 10
    while not enough(told):
        assert time.monotonic() < deadline, f"not told within 10 s; so far: {told}"
        told += watched.events()
        time.sleep(0.01)
    return told
