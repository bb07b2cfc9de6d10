"""What network watchers follow: interfaces, which have a speed, and hosts, which have a latency."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple, Protocol

from hook_event_processor.watchers.check import Definition
from hook_event_processor.watchers.host import links, probe
from hook_event_processor.watchers.kinds import reach

PORT = 443


class Seen(NamedTuple):
    """An interface or a host now: up or not, what else is to be said of it, and how fast it is or answers."""

    is_up: bool
    about: Mapping[str, Any]
    value: float | None


class Way(Protocol):
    """How interfaces or hosts are looked at, and what their values are called when they cross the threshold."""

    high: str
    normal: str

    def look(self) -> Mapping[str, Seen]: ...

    def value_data(self, value: float) -> Mapping[str, Any]: ...


class Interfaces:
    """What stands in /sys/class/net; too slow is what is below the threshold, in Mbit/s."""

    high, normal = "network.slow", "network.normal"

    def __init__(self, definition: Definition) -> None:
        self._pattern: str | None = definition.options.get("interface")
        self._expected = definition.options.get("speed")

    def look(self) -> Mapping[str, Seen]:
        found = {
            interface: Seen(
                link.is_up, {"interface": interface, "state": link.state}, link.speed if link.is_up else None
            )
            for interface, link in links.read(self._pattern).items()
        }
        if self._pattern is not None and not links.is_pattern(self._pattern) and self._pattern not in found:
            found[self._pattern] = gone(self._pattern)
        return found

    def value_data(self, value: float) -> Mapping[str, Any]:
        return {"bandwidth": round(value), "expected_bandwidth": self._expected}


class Host:
    """A host that answers a TCP connect, be it by refusing; too slow is above the threshold, in milliseconds."""

    high, normal = "network.latency_high", "network.latency_normal"

    def __init__(self, definition: Definition) -> None:
        options = definition.options
        self._place = (options["host"], options.get("port", PORT), options.get("timeout", reach.TIMEOUT))
        self._limit = options.get("latency")

    def look(self) -> Mapping[str, Seen]:
        host, port, _ = self._place
        answer = probe.tcp(*self._place)
        about = {"remote_host": host, "port": port, "reason": answer.reason or None}
        return {host: Seen(bool(answer.open or answer.refused), about, answer.latency_ms)}

    def value_data(self, value: float) -> Mapping[str, Any]:
        return {"latency": round(value, 3), "threshold": self._limit}


def gone(interface: str) -> Seen:
    """An interface that is not there."""
    return Seen(False, {"interface": interface, "state": "notpresent"}, None)
