"""What a processor notices of the hosts with watchers: that one is silent, or of another version."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC
from importlib.metadata import version
from typing import Any

from psycopg import Connection

from hook_event_processor.store import hosts
from hook_event_processor.store.hosts import KnownHost, Silent
from hook_event_processor.store.insert import Publisher

# After an outage of the database every host is late; so long they have to come back.
GRACE_SECONDS = 30.0


def tell(connection: Connection) -> None:
    """Publish what is new, once, whichever processor notices it first."""
    own = version("hook-event-processor")
    with connection.transaction():
        silent, mismatched = hosts.find_silent(connection), hosts.find_mismatched(connection, own)
        publisher = Publisher(connection, component="processor")
        for host in silent:
            event_type = "agent.disconnected" if host.gone else "agent.heartbeat_failed"
            publisher.publish(event_type, {"agent": {**_agent(host), **_silence(host)}}, resource=host.name)
        for known in mismatched:
            versions = {"agent_version": known.version, "server_version": own}
            payload = {"agent": {**_agent(known), **versions}}
            publisher.publish("agent.version_mismatch", payload, resource=known.name)


def _agent(host: Silent | KnownHost) -> Mapping[str, Any]:
    tags: Sequence[str] = host.tags
    return {
        "name": host.name,
        "address": host.address,
        "tags": list(tags),
        "version": host.version,
        "system_info": dict(host.system_info),
    }


def _silence(host: Silent) -> Mapping[str, Any]:
    return {
        "last_seen": host.last_seen.astimezone(UTC).isoformat().replace("+00:00", "Z"),
        "consecutive_failures": int(host.silent_seconds // hosts.HEARTBEAT_SECONDS),
    }
