"""What checks say of what they noticed, with what every event of a watcher carries."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from hook_event_processor.watchers.check import Definition, Moment, Noticed

Conditions = Mapping[str, Sequence[str]]


class Notice:
    """A watcher's way of telling: only what its conditions stand for is told."""

    __slots__ = ("_definition", "_wanted")

    def __init__(self, definition: Definition, conditions: Conditions) -> None:
        self._definition = definition
        self._wanted = frozenset(type_ for condition in definition.conditions for type_ in conditions[condition])

    def wants(self, *event_types: str) -> bool:
        """Whether events of one of these types are told."""
        return not self._wanted.isdisjoint(event_types)

    def of(self, moment: Moment, event_type: str, resource: str, data: Mapping[str, Any]) -> list[Noticed]:
        """The event, or none when nobody wants its type. None among `data` is left out."""
        if event_type not in self._wanted:
            return []
        told = {key: value for key, value in data.items() if value is not None}
        told["watcher_id"] = self._definition.id
        if self._definition.name:
            told["watcher"] = self._definition.name
        if moment.late:
            told["seen_late"] = True
        return [Noticed(event_type, told, resource)]
