"""Notes on event types that the catalog does not know: likely slips of the pen, and no fault."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from psycopg import Connection

    from hook_event_processor.catalog import EventType
    from hook_event_processor.event import NewEvent

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


def note_unknown(connection: Connection, types: Iterable[str], *, only_slips: bool = False) -> None:
    """Say on standard error which of these types are unknown; `only_slips`: those that are nearly a known one.

    A catalog that cannot be read counts as empty: nothing fails for a note.
    """
    from hook_event_processor import catalog
    from hook_event_processor.cli.output import note

    built_in = catalog.known(None)
    strangers = [name for name in types if name not in built_in and not name.startswith(catalog.FREE)]
    if not strangers:
        return
    known = _readable(connection)
    unknown = [name for name in strangers if name not in known]
    if only_slips:
        unknown = [name for name in unknown if catalog.nearest(name, known)]
    for name in unknown[:_MOST_NOTES]:
        note(f"note: {catalog.unknown(name, known)}")
    if len(unknown) > _MOST_NOTES:
        note(f"note: and {len(unknown) - _MOST_NOTES:,} other types are not in it")


def note_slips_in_patterns(connection: Connection, patterns: Iterable[str]) -> None:
    """The same for the patterns that are literal types."""
    from hook_event_processor import catalog
    from hook_event_processor.errors import EventRefused
    from hook_event_processor.registry import is_literal

    types = []
    for pattern in patterns:
        try:
            if is_literal(pattern):
                types.append(catalog.canonical(pattern))
        except EventRefused:
            continue
    note_unknown(connection, types, only_slips=True)


def _readable(connection: Connection) -> Mapping[str, EventType]:
    from psycopg import Error

    from hook_event_processor import catalog

    try:
        return catalog.known(connection)
    except Error:  # a writer that may only insert, or a database of before the catalog
        return catalog.known(None)
