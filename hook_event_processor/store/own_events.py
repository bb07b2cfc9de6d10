"""Own events: what the product does itself, told in the catalog's words, in the transaction that does it."""

from __future__ import annotations

import os
import pwd
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID
from weakref import WeakKeyDictionary

import orjson
from psycopg import Connection

from hook_event_processor.errors import EventRefused
from hook_event_processor.event import MAX_DEPTH, join_type
from hook_event_processor.settings import Settings
from hook_event_processor.store.insert import Publisher

_MAX_CORRELATION = 255  # characters; a variable of an environment cannot be of any length
CAUSE = "HEP_CAUSE"  # in the environment of what hooks run: the event that they run for, as JSON


@dataclass(frozen=True, slots=True)
class OwnEvent:
    """Something that the product did; `resource` is what it did it to: a kind and a name."""

    type: str
    payload: Mapping[str, Any]
    resource: tuple[str, str] = ("", "")
    stack: str | None = None


@dataclass(frozen=True, slots=True)
class Cause:
    """The event whose handling something is part of, and the hook that handles it."""

    event_id: str
    type: str
    depth: int
    correlation_id: str
    hook: str = ""

    def allows(self, event_type: str) -> bool:
        """Whether an own event of the type may come of it.

        No own event brings about one of its own type, and whatever one brings
        about ends at the depth where hooks' events end: hooks must not go in circles.
        """
        return self.type != event_type and self.depth < MAX_DEPTH

    @property
    def metadata(self) -> dict[str, Any]:
        """What an event that comes of it inherits."""
        return {"correlation_id": self.correlation_id, "causation_id": self.event_id, "depth": self.depth + 1}


def attach(connection: Connection, settings: Settings, component: str) -> None:
    """Have what is done through the connection told, as `component`, unless OWN_EVENTS is off.

    Whatever changes hooks, secrets and so on calls tell(); without this, nothing comes of it.
    """
    if settings.own_events:
        _TELLERS[connection] = _Teller(component, settings.max_payload_size, cause_of_environment())


def tell(connection: Connection, event: OwnEvent) -> bool:
    """Publish the event in the connection's transaction; whether that was done.

    It is not for a connection that was not attached, nor where it would go in circles.
    """
    teller = _TELLERS.get(connection)
    return teller is not None and teller.tell(connection, event)


@dataclass(frozen=True, slots=True)
class _Teller:
    component: str
    max_payload_size: int
    cause: Cause | None = field(default=None)

    def tell(self, connection: Connection, event: OwnEvent) -> bool:
        if self.cause is not None and not self.cause.allows(event.type):
            return False
        publisher = Publisher(connection, component=self.component, max_payload_size=self.max_payload_size)
        kind, name = event.resource
        try:
            published = publisher.publish(
                event.type,
                event.payload,
                stack=event.stack,
                resource=kind,
                resource_id=name[:255],
                metadata=self.cause.metadata if self.cause is not None else {},
            )
        except EventRefused:  # an odd name, or too large: what was done stays done
            return False
        return published.is_new


_TELLERS: WeakKeyDictionary[Connection, _Teller] = WeakKeyDictionary()


def actor() -> str:
    """Who runs this program: a hook, or a user of this machine."""
    cause = cause_of_environment()
    if cause is not None and cause.hook:
        return f"hook {cause.hook}"
    if os.geteuid() == 0 and os.environ.get("SUDO_USER"):
        return os.environ["SUDO_USER"]
    try:
        return pwd.getpwuid(os.getuid()).pw_name
    except KeyError:
        return f"user {os.getuid()}"


def cause_of_environment() -> Cause | None:
    """The event in whose handling a hook has started this program."""
    text = os.environ.get(CAUSE)
    if not text:
        return None
    try:
        found = orjson.loads(text)
        return Cause(
            str(UUID(found["event_id"])),
            str(found["type"]),
            int(found["depth"]),
            str(found["correlation_id"]),
            str(found.get("hook", "")),
        )
    except (ValueError, KeyError, TypeError, AttributeError):
        return None  # somebody else's words


def cause_of_row(row: Sequence[Any], hook: str) -> Cause:
    """The event of a claimed row: ids as bytes, texts as UTF-8, in the order of store.claim.Row."""
    event_id = str(UUID(bytes=row[0]))
    try:
        metadata = orjson.loads(row[7] or b"{}")
    except orjson.JSONDecodeError:  # deeper, or larger numbers, than orjson reads
        metadata = {}
    metadata = metadata if isinstance(metadata, dict) else {}
    depth, correlation = metadata.get("depth"), metadata.get("correlation_id")
    return Cause(
        event_id,
        join_type(row[1].decode(), row[2].decode()),
        depth if isinstance(depth, int) and depth > 0 else 0,
        correlation if isinstance(correlation, str) and 0 < len(correlation) <= _MAX_CORRELATION else event_id,
        hook,
    )


def cause_text(cause: Cause) -> str:
    """The cause as the environment holds it."""
    return orjson.dumps(cause).decode()
