"""A watcher on its own: looked at when the test says so, started again with the state that it left."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import UTC, datetime
from functools import cache
from typing import Any

import orjson

from hook_event_processor import catalog
from hook_event_processor.payload_schema import PayloadSchema
from hook_event_processor.watchers import kinds
from hook_event_processor.watchers.check import Moment, Noticed


@cache
def _schema(event_type: str) -> PayloadSchema:
    known = catalog.known(None).get(event_type)
    return PayloadSchema(known.payload_schema() if known else {"type": "object"})


def _fault(noticed: Noticed) -> object:
    """What of an event's data is not as the catalog has it."""
    return _schema(noticed.type).fault(orjson.loads(orjson.dumps(noticed.data)))


class Watched:
    """A check of this type; `when` is one condition or several with spaces between."""

    def __init__(self, type_name: str, when: str = "", **options: object) -> None:
        texts = {name: "true" if value is True else str(value) for name, value in options.items()}
        self.definition = kinds.read("watcher-1", type_name, when.split(), texts, None)
        self._kind = kinds.kind(type_name)
        self._check = self._kind.start(self.definition, None)
        self._late = False

    def look(self) -> list[Noticed]:
        """What one look tells. The state must be JSON after each."""
        moment = Moment(datetime.now(UTC), time.monotonic(), self._late)
        self._late = False
        noticed = self._check.look(moment)
        for each in noticed:
            assert self._kind.wants(self.definition, each.type)
            assert each.data["watcher_id"] == "watcher-1"
        assert [_fault(each) for each in noticed[:10]] == [None] * len(noticed[:10])
        self.state()
        return noticed

    def told(self) -> list[tuple[str, str]]:
        """Types and resources of what one look tells."""
        return [(each.type, each.resource) for each in self.look()]

    def one(self) -> dict[str, Any]:
        """The data of the one event that a look tells."""
        (noticed,) = self.look()
        return noticed.data

    def state(self) -> object:
        return orjson.loads(orjson.dumps(self._check.state()))

    def restart(self) -> None:
        """As when the daemon is started again: the next look is late."""
        state = self.state()
        self._check = self._kind.start(self.definition, state)
        self._late = state is not None

    def until(self, condition: Callable[[list[Noticed]], object], seconds: float = 10) -> list[Noticed]:
        """Look until what was told so far fulfils the condition; all that was told."""
        deadline = time.monotonic() + seconds
        told: list[Noticed] = []
        while not condition(told):
            assert time.monotonic() < deadline, told
            time.sleep(0.02)
            told += self.look()
        return told
