"""The sockets of this machine, listed once for all checks of a moment."""

from __future__ import annotations

import socket
from collections.abc import Mapping, Sequence
from functools import cache

from hook_event_processor.watchers.host import socket_diag, socket_tables
from hook_event_processor.watchers.host.proc import Reading
from hook_event_processor.watchers.host.socket_row import STATES, Row, address

_LISTEN = 1 << STATES["LISTEN"]
_UNCONNECTED = 1 << STATES["CLOSE"]
_PROTOCOLS = {"tcp": socket.IPPROTO_TCP, "udp": socket.IPPROTO_UDP}

# What sockets are bound to that take what comes to any address; one of IPv6 takes IPv4, too, unless it was told not to.
ANY_IPV4, ANY_IPV6 = "0.0.0.0", "::"  # noqa: S104 - we listen on none

Places = Mapping[int, frozenset[str]]  # the local addresses by port


def read_listening() -> Places:
    """Where TCP sockets listen. Raises CheckFailed."""
    return _places(_dump("tcp", _LISTEN))


def read_udp() -> Places:
    """Where UDP sockets wait for anybody's packets: connected ones are clients. Raises CheckFailed."""
    return _places(_dump("udp", _UNCONNECTED))


def _dump(protocol: str, states: int) -> Sequence[Row]:
    try:
        return socket_diag.dump(_PROTOCOLS[protocol], states)
    except OSError:
        # A unit that shuts out AF_NETLINK, or a kernel without inet_diag.
        return socket_tables.dump(protocol, states)


def _places(rows: Sequence[Row]) -> Places:
    places: dict[int, set[str]] = {}
    for row in rows:
        own = address(row.local)
        takes = {own, ANY_IPV4} if own == ANY_IPV6 and not row.v6only else {own}
        places.setdefault(row.local_port, set()).update(takes)
    return {port: frozenset(addresses) for port, addresses in places.items()}


LISTENING = Reading(read_listening)
UDP = Reading(read_udp)


@cache
def connections(state: str | None) -> Reading[Sequence[Row]]:
    """TCP sockets in a state; all but those that listen for None."""
    listening = STATES["LISTEN"]
    wanted = (STATES[state],) if state else (each for each in STATES.values() if each != listening)
    states = sum(1 << each for each in wanted)
    return Reading(lambda: _dump("tcp", states))
