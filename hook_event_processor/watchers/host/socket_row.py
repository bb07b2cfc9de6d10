"""A socket of this machine, as its kernel lists it."""

from __future__ import annotations

import socket
from collections.abc import Mapping
from functools import lru_cache
from ipaddress import IPv6Address
from typing import NamedTuple

# include/net/tcp_states.h; an unconnected UDP socket is in CLOSE.
STATES: Mapping[str, int] = {
    "ESTABLISHED": 1,
    "SYN_SENT": 2,
    "SYN_RECV": 3,
    "FIN_WAIT1": 4,
    "FIN_WAIT2": 5,
    "TIME_WAIT": 6,
    "CLOSE": 7,
    "CLOSE_WAIT": 8,
    "LAST_ACK": 9,
    "LISTEN": 10,
    "CLOSING": 11,
}


class Row(NamedTuple):
    """Both ends and the state; addresses in network order, as few of them are ever shown.

    `v6only`: what is bound to all addresses of IPv6 is known to take no IPv4 (IPV6_V6ONLY of ipv6(7)).
    """

    local: bytes
    local_port: int
    remote: bytes
    remote_port: int
    state: int
    v6only: bool = False


@lru_cache(maxsize=4096)
def address(packed: bytes) -> str:
    """An address as people write it; one of IPv4 that stands in one of IPv6 as itself."""
    if len(packed) == 4:
        return socket.inet_ntop(socket.AF_INET, packed)
    mapped = IPv6Address(packed).ipv4_mapped
    return str(mapped) if mapped else socket.inet_ntop(socket.AF_INET6, packed)
