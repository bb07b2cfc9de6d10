"""What is said of events that the database refuses: each by its id, in few lines however many they are."""

from __future__ import annotations

import logging

import psycopg

from hook_event_processor.amount import counted
from hook_event_processor.store import watchers
from hook_event_processor.store.database import one_line

logger = logging.getLogger("Watchers")

_IDS = 100  # in a line


class Refusals:
    """The first of each kind is said at once, with what the database says of it; the others together.

    The kind is the SQLSTATE; of sources that the role may not publish, each is one.
    """

    def __init__(self) -> None:
        self._others: dict[str, list[str]] = {}

    def say(self, event_id: str, fault: psycopg.Error) -> None:
        """Say it, or keep it for `say_others`."""
        kind = (fault.diag.message_primary if watchers.is_limited(fault) else fault.sqlstate) or ""
        if kind in self._others:
            self._others[kind].append(event_id)
            return
        self._others[kind] = []
        logger.error("the database refuses the event %s, which is given up: %s", event_id, one_line(fault))

    def say_others(self) -> None:
        """Say those that are kept; the next one is a first one again."""
        others, self._others = self._others, {}
        for kind, ids in others.items():
            for start in range(0, len(ids), _IDS):
                named = ids[start : start + _IDS]
                what = f"{counted(len(named), 'more event')} with the same error ({kind}), given up"
                logger.error("the database refuses %s: %s", what, ", ".join(named))
