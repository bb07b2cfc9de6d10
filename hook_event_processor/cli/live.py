"""What hooks do for real when they are tried with --live: the database for it, and the events that they dispatch."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any
from uuid import UUID

from hook_event_processor.errors import StoreUnavailable

if TYPE_CHECKING:
    from hook_event_processor.run import Dispatched
    from hook_event_processor.settings import Settings
    from hook_event_processor.store.database import Database

_INHERITED = ("stack", "agent_id", "session_id")


def usable_database(settings: Settings) -> Database | None:
    """The database, if there is one that answers."""
    from hook_event_processor.cli.connect import open_database

    try:
        database = open_database(settings)
        with database.session("command") as connection:
            connection.execute("SELECT 1")
    except StoreUnavailable:
        return None
    return database


def publish_dispatched(
    dispatched: Sequence[Dispatched], parent: UUID, metadata: bytes, component: str, database: Database | None
) -> None:
    """Insert what was dispatched, as children of the event `parent` with this metadata (JSON text).

    Raises StoreUnavailable without a database.
    """
    import orjson

    from hook_event_processor.event import DEFAULT_PRIORITY, split_type
    from hook_event_processor.store import arrays
    from hook_event_processor.store.record import Child, dispatch

    if database is None:
        raise StoreUnavailable("events were dispatched, and there is no database to take them: set DATABASE_URL")
    inherited = _inherited(parent, orjson.loads(metadata), component)
    children = []
    for item in dispatched:
        source, action = split_type(item.type)
        own = inherited if item.stack is None else {**inherited, "stack": item.stack}
        priority = item.priority or DEFAULT_PRIORITY
        children.append(Child(source, action, item.data, orjson.dumps(own), priority, item.delay, item.id))
    with database.session("command") as connection:
        arrays.register(connection)
        dispatch(connection, children)


def _inherited(parent: UUID, metadata: dict[str, Any], component: str) -> dict[str, Any]:
    depth = metadata.get("depth")
    return {
        **{name: metadata[name] for name in _INHERITED if isinstance(metadata.get(name), str)},
        "correlation_id": metadata.get("correlation_id") or str(parent),
        "causation_id": str(parent),
        "depth": (depth if isinstance(depth, int) else 0) + 1,
        "origin": {"component": component},
    }
