"""What a strict publisher asks of an event: a type that the catalog knows, and a payload as it says."""

from __future__ import annotations

from time import monotonic

import orjson
from psycopg import Connection

from hook_event_processor import catalog
from hook_event_processor.catalog import EventType
from hook_event_processor.errors import EventRefused, TypeRefused
from hook_event_processor.event import NewEvent, join_type
from hook_event_processor.payload_schema import PayloadSchema

_FRESH_SECONDS = 10.0


class StrictCheck:
    """Checks events by the catalog as it was at most ten seconds ago."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._known: dict[str, EventType] = {}
        self._schemas: dict[str, PayloadSchema] = {}
        self._read_at = float("-inf")

    def refresh(self, event: NewEvent | None = None) -> None:
        """Read the catalog again where it is needed: for this event, or for many that are to come."""
        is_known = event is not None and join_type(event.source, event.action) in self._known
        if is_known and monotonic() - self._read_at < _FRESH_SECONDS:
            return
        self._known = catalog.known(self._connection)
        self._schemas.clear()
        self._read_at = monotonic()

    def check(self, event: NewEvent, payload: str) -> None:
        """Raise EventRefused, saying where and why, unless the catalog has the type and its schema takes the payload.

        `payload` is the JSON text that is to be stored.
        """
        event_type = join_type(event.source, event.action)
        if event_type not in self._known:
            raise EventRefused(catalog.unknown(event_type, self._known))
        try:
            fault = self._schema(event_type).fault(orjson.loads(payload))
        except TypeRefused as refusal:
            raise EventRefused(f"{event_type}, as the catalog has it: {refusal}") from None
        except orjson.JSONDecodeError:
            raise EventRefused("the payload is nested too deeply to be checked") from None
        if fault is not None:
            raise EventRefused(f"{event_type}: {fault} ('hep catalog {event_type}' shows it)")

    def _schema(self, event_type: str) -> PayloadSchema:
        schema = self._schemas.get(event_type)
        if schema is None:
            schema = self._schemas[event_type] = PayloadSchema(self._known[event_type].payload_schema())
        return schema
