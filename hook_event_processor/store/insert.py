"""Publishing events: one at a time, in bulk, or inside the caller's own transaction."""

from __future__ import annotations

import socket
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from itertools import chain, islice
from typing import TYPE_CHECKING, Any
from uuid import UUID

import orjson
from psycopg import Connection

from hook_event_processor import __version__
from hook_event_processor.errors import EventRefused
from hook_event_processor.event import MAX_DELAY, NewEvent, split_type
from hook_event_processor.store.database import Database
from hook_event_processor.store.stored_json import stored_text
from hook_event_processor.store.uuid7 import NewIds

if TYPE_CHECKING:
    from hook_event_processor.strict import StrictCheck

MAX_PAYLOAD_SIZE = 100_000  # bytes of JSON; settings.max_payload_size where there are settings
_COLUMNS = "id, source, action, resource, resource_id, payload, metadata, priority, available_at, occurred_at"
# So many rows go to the server in one message of COPY.
_BLOCK = 500
# What COPY's text format gives a meaning (PostgreSQL manual, COPY, "Text Format").
_COPY_ESCAPES = str.maketrans({"\\": r"\\", "\t": r"\t", "\n": r"\n", "\r": r"\r"})

_NAMES = ("source", "action", "resource", "resource_id")
_NO_TIMES = "\\N\t\\N"

# id, source, action, resource, resource_id, payload, metadata, priority, available_at, occurred_at
_Row = tuple[str, str, str, str, str, str, str, int, datetime | timedelta | None, datetime | None]


@dataclass(frozen=True, slots=True)
class Published:
    """What became of one event. Not `is_new`: its id was there already, and nothing was changed."""

    id: UUID
    is_new: bool


class Publisher:
    """Publishes events through a psycopg connection.

    In autocommit every call is a transaction of its own; otherwise, and inside
    `connection.transaction()`, the events belong to the caller's transaction
    and are there once it commits. Publishing an id again changes nothing.
    Not for several threads at once, as its connection is not for transactions.
    In psycopg's pipeline mode each publish() waits for its result.
    psycopg's own errors pass through.
    """

    def __init__(
        self,
        connection: Connection,
        *,
        component: str = "publisher",
        max_payload_size: int = MAX_PAYLOAD_SIZE,
        strict: bool = False,
    ) -> None:
        """`component` is who publishes, for metadata.origin.

        `max_payload_size`, in bytes of JSON, is what counts here, and not the
        variable HOOK_MAX_PAYLOAD_SIZE: give what the processors have in that,
        since they refuse what is larger.

        `strict` refuses types that are not in the catalog, and payloads that
        are not as it says; it reads the table event_types.
        """
        self._connection = connection
        self._strict = _strict_check(connection) if strict else None
        self._max_payload_size = max_payload_size
        self._origin = {
            "component": component,
            "host": socket.gethostname(),
            "version": __version__,
        }
        # Most events bring no metadata of their own: theirs is this text and their id.
        self._metadata = '{"origin":' + orjson.dumps(self._origin).decode() + ',"correlation_id":"'
        self._ids = NewIds()

    @classmethod
    @contextmanager
    def connect(
        cls,
        conninfo: str = "",
        schema: str = "",
        *,
        component: str = "publisher",
        max_payload_size: int = MAX_PAYLOAD_SIZE,
        strict: bool = False,
    ) -> Iterator[Publisher]:
        """A publisher with a session of its own, in autocommit. Without `conninfo`, libpq's PG* variables decide.

        The rest is as in Publisher(). Raises StoreUnavailable.
        """
        with Database(conninfo, schema).session("publisher") as connection:
            yield cls(connection, component=component, max_payload_size=max_payload_size, strict=strict)

    def publish(
        self,
        type: str,  # noqa: A002 - the field's word, and hook_publish's
        payload: Mapping[str, Any] | None = None,
        *,
        stack: str | None = None,
        delay: timedelta | None = None,
        **columns: Any,
    ) -> Published:
        """Publish one event by its type, as the SQL function hook_publish does.

        `delay` is counted on the server's clock; one that is over counts as
        none. `columns` are those of NewEvent: resource, resource_id,
        metadata, priority, id. Raises EventRefused.
        """
        source, action = split_type(type)
        event = NewEvent(source, action, {} if payload is None else payload, **columns)
        if stack is not None:
            event = replace(event, metadata={**event.metadata, "stack": stack})
        if delay is not None:
            _check_delay(delay, event)
            if delay > timedelta(0):
                return self._publish(event, _INSERT_LATER, delay)
        return self.publish_event(event)

    def publish_event(self, event: NewEvent) -> Published:
        """Publish one event. Raises EventRefused when it cannot be stored or is too large."""
        return self._publish(event, _INSERT, event.available_at)

    def _publish(self, event: NewEvent, statement: str, available: datetime | timedelta | None) -> Published:
        if self._strict is not None:
            self._strict.refresh(event)
        row = self._row(event, str(event.id) if event.id else next(self._ids), available)
        inserted = self._connection.execute(statement, row)
        if inserted.rowcount < 0:
            # In psycopg's pipeline mode the result is still on its way; the end of a pipeline in it waits for it.
            with self._connection.pipeline():
                pass
        return Published(UUID(row[0]), inserted.rowcount == 1)

    def publish_many(self, events: Iterable[NewEvent]) -> int:
        """Publish all events in their order, or none; returns how many were new.

        Events are taken from the iterable while they are sent, the first
        before a transaction begins: it may take its time. Raises
        EventRefused; whatever the iterable raises also leaves nothing behind.

        Where an event brings an id, the role needs TEMPORARY on the database,
        and the transaction cannot be prepared (PREPARE TRANSACTION): there is
        a temporary table in it. publish() needs neither. psycopg refuses the
        COPY in here in its pipeline mode.
        """
        remaining = iter(events)
        first = next(remaining, None)
        if first is None:
            return 0
        if not self._connection.autocommit:
            # Begins the caller's transaction, so that the block below is a savepoint in it.
            self._connection.execute("SELECT")
        with self._connection.transaction():
            if self._strict is not None:
                self._strict.refresh()  # while COPY goes on, nothing can be read
            keyed: list[NewEvent] = []
            count = self._copy("hook_events", _until_keyed(chain([first], remaining), keyed))
            if keyed:
                # An id may be there already, and COPY knows no ON CONFLICT.
                count += self._copy_through_stage(chain(keyed, remaining))
        return count

    def _copy_through_stage(self, events: Iterable[NewEvent]) -> int:
        self._connection.execute(_CREATE_STAGE)
        self._copy("hook_publish_stage", events)
        inserted = self._connection.execute(_INSERT_STAGED).rowcount
        self._connection.execute("DROP TABLE pg_temp.hook_publish_stage")
        return inserted

    def _copy(self, table: str, events: Iterable[NewEvent]) -> int:
        with self._connection.cursor() as cursor:
            # An event is taken once the one before it has been checked: a reader knows which one was refused.
            lines = map(self._line, events, self._ids.many())
            first = next(lines, "")
            if not first:
                return 0
            # As soon as there is one: a server ends a session that pauses in a transaction, and not in a COPY.
            with cursor.copy(f"COPY {table} ({_COLUMNS}) FROM STDIN") as copy:
                copy.write(first)
                while block := "".join(islice(lines, _BLOCK)):
                    copy.write(block)
            return cursor.rowcount

    def _row(self, event: NewEvent, event_id: str, available: datetime | timedelta | None) -> _Row:
        if not (event.source + event.action + event.resource + event.resource_id).isascii():
            _refuse_surrogates(event)
        return (
            event_id,
            event.source,
            event.action,
            event.resource,
            event.resource_id,
            self._payload_of(event),
            self._metadata_of(event, event_id),
            event.priority,
            available,
            event.occurred_at,
        )

    def _line(self, event: NewEvent, new_id: str) -> str:
        """The same row in COPY's text format; `new_id` is for an event without one."""
        event_id = new_id if event.id is None else str(event.id)
        names = "\t".join((event.source, event.action, event.resource, event.resource_id))
        if not names.isascii():
            _refuse_surrogates(event)
        # Rare, and translate() is slow; JSON escapes its own tabs and line breaks.
        if "\\" in names or "\n" in names or "\r" in names or names.count("\t") != 3:
            names = "\t".join(getattr(event, name).translate(_COPY_ESCAPES) for name in _NAMES)
        payload = self._payload_of(event)
        if "\\" in payload:
            payload = payload.replace("\\", "\\\\")
        metadata = self._metadata_of(event, event_id)
        if "\\" in metadata:
            metadata = metadata.replace("\\", "\\\\")
        times = _NO_TIMES
        if event.available_at is not None or event.occurred_at is not None:
            times = f"{_copy_time(event.available_at)}\t{_copy_time(event.occurred_at)}"
        return f"{event_id}\t{names}\t{payload}\t{metadata}\t{event.priority}\t{times}\n"

    def _payload_of(self, event: NewEvent) -> str:
        payload = stored_text("payload", event.payload, self._max_payload_size)
        if self._strict is not None:
            self._strict.check(event, payload)
        return payload

    def _metadata_of(self, event: NewEvent, event_id: str) -> str:
        # An event that comes of no other begins a correlation, named by its id.
        if not event.metadata:
            return f'{self._metadata}{event_id}"}}'
        metadata = {"origin": self._origin, "correlation_id": event_id, **event.metadata}
        return stored_text("metadata", metadata, self._max_payload_size)


# Not ON CONFLICT: it would ask for SELECT on the id, and a writer needs INSERT alone.
_INSERT = f"""
INSERT INTO hook_events ({_COLUMNS})
VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s, %s)
ON CONFLICT DO NOTHING
"""
# As hook_publish counts a delay: from now, and not from when the caller's transaction began.
_INSERT_LATER = f"""
INSERT INTO hook_events ({_COLUMNS})
VALUES (%s, %s, %s, %s, %s, %s, %s, %s, clock_timestamp() + %s, %s)
ON CONFLICT DO NOTHING
"""
_CREATE_STAGE = """
CREATE TEMP TABLE hook_publish_stage (
    id uuid, source text, action text, resource text, resource_id text, payload jsonb, metadata jsonb,
    priority smallint, available_at timestamptz, occurred_at timestamptz
) ON COMMIT DROP
"""
# A temporary table is read in the order in which it was filled.
_INSERT_STAGED = f"""
INSERT INTO hook_events ({_COLUMNS})
SELECT {_COLUMNS} FROM pg_temp.hook_publish_stage
ON CONFLICT DO NOTHING
"""


def _strict_check(connection: Connection) -> StrictCheck:
    # Only here: JSON Schema takes a tenth of a second to import.
    from hook_event_processor.strict import StrictCheck

    return StrictCheck(connection)


def _check_delay(delay: timedelta, event: NewEvent) -> None:
    if event.available_at is not None:
        raise EventRefused("delay stands beside available_at: one of both says it")
    if not isinstance(delay, timedelta):
        raise EventRefused(f"delay is {delay!r}: it takes a timedelta")
    if delay > MAX_DELAY:
        raise EventRefused(f"delay is {delay}: at most {MAX_DELAY.days:,} days are taken")


def _until_keyed(events: Iterator[NewEvent], keyed: list[NewEvent]) -> Iterator[NewEvent]:
    """The events before the first that brings an id; that one is left in `keyed`."""
    for event in events:
        if event.id is not None:
            keyed.append(event)
            return
        yield event


def _refuse_surrogates(event: NewEvent) -> None:
    """Half of a surrogate pair is no character; JSON and command lines can bring one all the same."""
    for name in _NAMES:
        try:
            getattr(event, name).encode()
        except UnicodeEncodeError:
            raise EventRefused(f"{name} is not valid Unicode: it holds half of a surrogate pair") from None


def _copy_time(time: datetime | None) -> str:
    return r"\N" if time is None else time.isoformat()
