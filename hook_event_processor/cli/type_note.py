"""Notes on event types that the catalog does not know: likely slips of the pen, and no fault."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from psycopg import Connection

    from hook_event_processor.catalog import EventType
    from hook_event_processor.event import NewEvent

_T = TypeVar("_T")
_MOST_NOTES = 5
_MOST_TYPES = 1_000  # are remembered of a file


class SeenTypes:
    """The types of the events that pass through `watched`."""

    def __init__(self) -> None:
        self.types: dict[str, None] = {}

    def watched(self, events: Iterable[NewEvent]) -> Iterator[NewEvent]:
        """The same events, their types remembered."""
        from hook_event_processor.event import join_type

        for event in events:
            if len(self.types) < _MOST_TYPES:
                self.types[join_type(event.source, event.action)] = None
            yield event


def note_unknown(connection: Connection, types: Iterable[str]) -> None:
    """Say on standard error which of these types neither the catalog nor a hook names.

    What of these cannot be read counts as empty: nothing fails for a note.
    """
    from hook_event_processor.registry import is_literal
    from hook_event_processor.store import event_types

    strangers = _strangers(types)
    if not strangers:
        return
    known = _known(connection)
    patterns: set[str] = _readable(partial(event_types.patterns_of_hooks, connection), set())
    named = set(_canonical(filter(is_literal, patterns)))
    unknown = [name for name in strangers if name not in known and name not in named]
    _note_types(unknown, known)


def note_slips_in_patterns(connection: Connection, patterns: Iterable[str]) -> None:
    """Say which of the patterns that are literal types are nearly known ones, and which no event has."""
    from hook_event_processor import catalog
    from hook_event_processor.cli.output import note
    from hook_event_processor.registry import is_literal

    literals = [pattern for pattern in patterns if is_literal(pattern)]
    for fault in filter(None, map(catalog.without_action, literals)):
        note(f"note: {fault}")
    strangers = _strangers(_canonical(literals))
    if not strangers:
        return
    known = _known(connection)
    _note_types([name for name in strangers if name not in known and catalog.nearest(name, known)], known)


def _note_types(unknown: Sequence[str], known: Mapping[str, EventType]) -> None:
    from hook_event_processor import catalog
    from hook_event_processor.cli.output import note

    for name in unknown[:_MOST_NOTES]:
        note(f"note: {catalog.unknown(name, known)}")
    if len(unknown) > _MOST_NOTES:
        note(f"note: and {len(unknown) - _MOST_NOTES:,} other types are not in it")


def _strangers(types: Iterable[str]) -> list[str]:
    """The types that the program does not know, and that are not everybody's own."""
    from hook_event_processor import catalog

    built_in = catalog.known(None)
    return [name for name in types if name not in built_in and not name.startswith(catalog.FREE)]


def _canonical(types: Iterable[str]) -> Iterator[str]:
    """The types as the catalog writes them, without those that are none."""
    from hook_event_processor import catalog
    from hook_event_processor.errors import EventRefused

    for name in types:
        with suppress(EventRefused):
            yield catalog.canonical(name)


def _known(connection: Connection) -> Mapping[str, EventType]:
    from hook_event_processor import catalog

    return _readable(partial(catalog.known, connection), catalog.known(None))


def _readable(read: Callable[[], _T], otherwise: _T) -> _T:
    """What `read` gives; `otherwise` to a writer that may only insert, and in a database of before the catalog."""
    from psycopg import Error

    try:
        return read()
    except Error:
        return otherwise
