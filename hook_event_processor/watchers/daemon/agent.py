"""This host as the database knows it: who it is, and the events of its coming and going."""

from __future__ import annotations

import logging
import os
import socket
import sys
from collections.abc import Mapping
from contextlib import closing
from ipaddress import ip_address
from pathlib import Path
from typing import Any

from psycopg import Connection, errors

from hook_event_processor.settings import Settings
from hook_event_processor.store import hosts, watchers
from hook_event_processor.store.database import one_line
from hook_event_processor.store.hosts import Host
from hook_event_processor.store.insert import Publisher

logger = logging.getLogger("Watchers")

# What the event catalog's documents call them.
_ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64"}
_BACK_FROM = ("stopped", "disconnected")
_LOOPBACK = "127.0.0.1"
# Addresses for documentation, which nobody has.
_ELSEWHERE = ((socket.AF_INET, "192.0.2.1"), (socket.AF_INET6, "2001:db8::1"))


def describe(settings: Settings, version: str, address: str) -> Host:
    """This machine."""
    return Host(settings.host, address, settings.host_tags, version, system_info())


def system_info() -> dict[str, Any]:
    """os, arch, cpu_cores and memory_gb."""
    machine = os.uname().machine
    memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 2**30
    return {
        "os": sys.platform,
        "arch": _ARCHITECTURES.get(machine, machine),
        "cpu_cores": os.cpu_count() or 1,
        "memory_gb": round(memory, 1),
    }


def address_of(connection: Connection) -> str:
    """The address that the database is reached from; with one on this machine, the one that others are reached from."""
    with closing(socket.socket(fileno=os.dup(connection.fileno()))) as duplicate:
        name = duplicate.getsockname()
    if isinstance(name, tuple) and not ip_address(name[0]).is_loopback:
        return str(name[0])
    return _outward() or _LOOPBACK


def _outward() -> str | None:
    """This machine's address on the way to others; None where there is no way."""
    for family, elsewhere in _ELSEWHERE:
        try:
            with socket.socket(family, socket.SOCK_DGRAM) as way:
                way.connect((elsewhere, 9))  # sends nothing
                return str(way.getsockname()[0])
        except OSError:
            continue
    return None


def boot_id() -> str:
    """What tells one start of the machine from another; empty where the kernel does not say."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return ""


def register(connection: Connection, host: Host) -> None:
    """Write this host down, and publish what that is to others, together.

    Where the role may not publish events of hosts, it is written down without them.
    """
    agent = {
        "name": host.name,
        "address": host.address,
        "tags": list(host.tags),
        "version": host.version,
        "system_info": dict(host.system_info),
    }
    with connection.transaction():
        before = hosts.register(connection, host)
        publisher = Publisher(connection, component="watcher")

        def publish(event_type: str, more: Mapping[str, Any]) -> None:
            try:
                with connection.transaction():
                    publisher.publish(event_type, {"agent": {**agent, **more}, "host": host.name}, resource=host.name)
            except errors.InsufficientPrivilege as fault:
                if not watchers.is_limited(fault):
                    raise
                logger.error("the database refuses an event %s, which is given up: %s", event_type, one_line(fault))

        if before is None:
            publish("agent.registered", {})
        if before is None or before.status in _BACK_FROM:
            publish("agent.connected", {})
        if before is not None and before.version != host.version:
            publish("agent.updated", {"old_version": before.version, "new_version": host.version})
