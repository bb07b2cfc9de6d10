"""Asking a port, here or elsewhere, whether anybody is there."""

from __future__ import annotations

import errno
import os
import socket
import time
from collections.abc import Iterator
from typing import Any, NamedTuple

from hook_event_processor.watchers.check import CheckFailed

# What says of the other end, or of the way there, that it cannot be reached. All else is this host's own trouble.
_UNREACHABLE = frozenset(
    {
        *(errno.ECONNREFUSED, errno.ECONNRESET, errno.ECONNABORTED, errno.ETIMEDOUT, errno.EHOSTUNREACH),
        *(errno.ENETUNREACH, errno.EHOSTDOWN, errno.ENETDOWN, errno.EPROTO, errno.ENOPROTOOPT, errno.EOPNOTSUPP),
    }
)
_MAX_REPLY = 512
_MIN_TIMEOUT = 0.001


class Answer(NamedTuple):
    """What a port said: whether it is open, None where that cannot be told; why it is not; how long a connect took."""

    open: bool | None
    reason: str = ""
    latency_ms: float | None = None
    refused: bool = False  # somebody said no: the host is there


def tcp(host: str, port: int, timeout: float) -> Answer:
    """Connect to the first of the host's addresses that lets one, within `timeout` seconds. Raises CheckFailed."""
    ends_at = time.monotonic() + timeout
    best = Answer(False, f"no answer within {timeout:g} s")
    places = list(_places(host, port, socket.SOCK_STREAM))
    for number, (family, place) in enumerate(places):
        # An address that never answers leaves the others their share.
        share = (ends_at - time.monotonic()) / (len(places) - number)
        answer = _try(host, port, family, place, share)
        if answer.open:
            return answer
        # A refusal says more than a way that is not there, as to an IPv6 address without IPv6.
        if answer.refused or (answer.reason and not best.refused):
            best = answer
    return best


def _try(host: str, port: int, family: int, place: Any, timeout: float) -> Answer:
    try:
        return Answer(True, latency_ms=_connect(family, place, max(timeout, _MIN_TIMEOUT)))
    except TimeoutError:
        return Answer(False)
    except OSError as fault:
        if fault.errno not in _UNREACHABLE:
            raise CheckFailed(f"cannot connect to {shown(host, port)}: {fault.strerror}") from fault
        return Answer(False, os.strerror(fault.errno or 0).lower(), refused=fault.errno == errno.ECONNREFUSED)


def _connect(family: int, place: Any, timeout: float) -> float:
    """Milliseconds that a connect takes. Raises OSError."""
    with socket.socket(family, socket.SOCK_STREAM) as connection:
        connection.settimeout(timeout)
        started = time.perf_counter()
        connection.connect(place)
        latency_ms = (time.perf_counter() - started) * 1000
        # A closed port among those that the kernel gives to clients may be given to this very socket:
        # it is connected to itself then (RFC 9293, simultaneous open).
        if connection.getsockname() == connection.getpeername():
            raise ConnectionRefusedError(errno.ECONNREFUSED, os.strerror(errno.ECONNREFUSED))
        return latency_ms


def udp(host: str, port: int, timeout: float, packet: bytes) -> Answer:
    """Send a packet: an answer tells that the port is open, a refusal (ICMP) that it is not, silence nothing.

    Raises CheckFailed.
    """
    family, place = next(_places(host, port, socket.SOCK_DGRAM))
    try:
        with socket.socket(family, socket.SOCK_DGRAM) as connection:
            connection.settimeout(timeout)
            connection.connect(place)
            connection.send(packet)
            connection.recv(_MAX_REPLY)
    except TimeoutError:
        return Answer(None, f"no answer within {timeout:g} s")
    except OSError as fault:
        if fault.errno not in _UNREACHABLE:
            raise CheckFailed(f"cannot send to {shown(host, port)}: {fault.strerror}") from fault
        return Answer(False, os.strerror(fault.errno or 0).lower(), refused=fault.errno == errno.ECONNREFUSED)
    return Answer(True)


def _places(host: str, port: int, kind: socket.SocketKind) -> Iterator[tuple[int, Any]]:
    try:
        # As bytes: a text would load Python's tables of international names.
        found = socket.getaddrinfo(host.encode("ascii"), port, type=kind)
    except OSError as fault:
        raise CheckFailed(f"cannot find the address of {host}: {(fault.strerror or str(fault)).lower()}") from fault
    return ((family, place) for family, _, _, _, place in found)


def shown(host: str, port: int) -> str:
    """A host and its port as people write them."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
