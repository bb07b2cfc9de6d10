"""What a processor notices of others: hosts and processors that are silent, hosts of another version."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from datetime import UTC
from typing import Any

from psycopg import Connection, OperationalError

from hook_event_processor import __version__
from hook_event_processor.processor.degraded import service_of
from hook_event_processor.store import fleet_news, hosts, own_events, processors
from hook_event_processor.store.hosts import KnownHost, Silent
from hook_event_processor.store.insert import Publisher
from hook_event_processor.store.own_events import OwnEvent
from hook_event_processor.store.processors import Health

logger = logging.getLogger("HookEventProcessor")

# After an outage of the database every host is late; so long they have to come back.
GRACE_SECONDS = 30.0
HEARTBEAT_SECONDS = 5.0  # of processors


def tell(connection: Connection) -> None:
    """Publish what is new, once, whichever processor notices it first."""
    news = fleet_news.find(connection, __version__)
    if news.hosts:
        _tell_of_hosts(connection)
    if news.processors:
        _tell_of_processors(connection)


def _tell_of_hosts(connection: Connection) -> None:
    with connection.transaction():
        silent, mismatched = hosts.find_silent(connection), hosts.find_mismatched(connection, __version__)
        publisher = Publisher(connection, component="processor")
        for host in silent:
            event_type = "agent.disconnected" if host.gone else "agent.heartbeat_failed"
            _tell_of(host, connection, publisher, event_type, _silence(host))
        for known in mismatched:
            versions = {"agent_version": known.version, "server_version": __version__}
            _tell_of(known, connection, publisher, "agent.version_mismatch", versions)


def _tell_of(
    host: Silent | KnownHost, connection: Connection, publisher: Publisher, event_type: str, more: Mapping[str, Any]
) -> None:
    """Publish it of one host; where that cannot be done, the others are told of all the same."""
    try:
        with connection.transaction():
            publisher.publish(event_type, {"agent": {**_agent(host), **more}}, resource=host.name[:255])
    except OperationalError:  # of the database, not of the host: all are told of the next time
        raise
    except Exception as fault:
        logger.warning("%s of host %s could not be told: %s", event_type, host.name, fault)


def _tell_of_processors(connection: Connection) -> None:
    with connection.transaction():
        for silent in processors.find_silent(connection):
            failed = {
                "error": f"no heartbeat for {silent.seconds:.0f} s",
                "consecutive_failures": int(silent.seconds // HEARTBEAT_SECONDS),
            }
            own_events.tell(connection, _health("health.check_failed", silent, failed))
        for back in processors.find_back(connection):
            own_events.tell(
                connection, _health("health.recovered", back, {"downtime_duration": round(back.seconds, 1)})
            )


def _health(event_type: str, processor: Health, more: Mapping[str, Any]) -> OwnEvent:
    payload = {
        "service": service_of(processor.instance),
        "check_name": "heartbeat",
        **more,
        "processor": processor.node,
    }
    return OwnEvent(event_type, {**payload, "host": processor.host}, ("processor", processor.node))


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
