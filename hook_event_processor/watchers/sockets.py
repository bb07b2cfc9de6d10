"""The kernel's tables of TCP and UDP sockets, read once for all checks of a moment."""

from __future__ import annotations

import os
import socket
import sys
from collections.abc import Iterator, Mapping
from functools import lru_cache
from ipaddress import IPv6Address
from typing import NamedTuple

from hook_event_processor.watchers.check import CheckFailed
from hook_event_processor.watchers.proc import ROOT, Reading

# include/net/tcp_states.h; an unconnected UDP socket is in TCP_CLOSE.
STATES: Mapping[str, str] = {
    "ESTABLISHED": "01",
    "SYN_SENT": "02",
    "SYN_RECV": "03",
    "FIN_WAIT1": "04",
    "FIN_WAIT2": "05",
    "TIME_WAIT": "06",
    "CLOSE": "07",
    "CLOSE_WAIT": "08",
    "LAST_ACK": "09",
    "LISTEN": "0A",
    "CLOSING": "0B",
}
_LISTEN = STATES["LISTEN"]
_UNCONNECTED = STATES["CLOSE"]
_BLOCK = 1 << 16


class Row(NamedTuple):
    """A socket: addresses and state in the table's own hexadecimal digits, as few of them are ever looked at."""

    local: str
    local_port: int
    remote: str
    remote_port: int
    state: str


Places = Mapping[int, frozenset[str]]  # the local addresses by port


def read_listening() -> Places:
    """Where TCP sockets listen. Raises CheckFailed."""
    places: dict[int, set[str]] = {}
    for name in ("tcp", "tcp6"):
        # The kernel lists those that listen first (tcp_get_idx): connections, however many, are not read.
        for row in _rows(name):
            if row.state != _LISTEN:
                break
            places.setdefault(row.local_port, set()).add(address(row.local))
    return {port: frozenset(addresses) for port, addresses in places.items()}


def read_udp() -> Places:
    """Where UDP sockets wait for anybody's packets: connected ones are clients. Raises CheckFailed."""
    places: dict[int, set[str]] = {}
    for name in ("udp", "udp6"):
        for row in _rows(name):
            if row.state == _UNCONNECTED:
                places.setdefault(row.local_port, set()).add(address(row.local))
    return {port: frozenset(addresses) for port, addresses in places.items()}


def read_tcp() -> list[Row]:
    """All TCP sockets. Raises CheckFailed."""
    return [row for name in ("tcp", "tcp6") for row in _rows(name)]


def _rows(name: str) -> Iterator[Row]:
    """The rows of a table, read as they are asked for. Without IPv6 there is no table of it."""
    lines = _lines(f"{ROOT}/net/{name}")
    next(lines, None)
    for line in lines:
        # proc(5): "sl: local:port remote:port state ..."
        fields = line.split(None, 4)
        local, _, local_port = fields[1].partition(":")
        remote, _, remote_port = fields[2].partition(":")
        yield Row(local, int(local_port, 16), remote, int(remote_port, 16), fields[3])


def _lines(path: str) -> Iterator[str]:
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        if path.endswith("6"):
            return
        raise CheckFailed(f"there is no {path}") from None
    except OSError as fault:
        raise CheckFailed(f"cannot read {path}: {fault.strerror}") from fault
    try:
        rest = b""
        while block := os.read(descriptor, _BLOCK):
            *lines, rest = (rest + block).split(b"\n")
            for line in lines:
                yield line.decode("ascii")
    finally:
        os.close(descriptor)


@lru_cache(maxsize=4096)
def address(digits: str) -> str:
    """An address of a table as people write it: 32-bit words in the machine's order of bytes."""
    packed = b"".join(
        int(digits[start : start + 8], 16).to_bytes(4, sys.byteorder) for start in range(0, len(digits), 8)
    )
    if len(packed) == 4:
        return socket.inet_ntop(socket.AF_INET, packed)
    mapped = IPv6Address(packed).ipv4_mapped
    return str(mapped) if mapped else socket.inet_ntop(socket.AF_INET6, packed)


LISTENING = Reading(read_listening)
UDP = Reading(read_udp)
TCP = Reading(read_tcp)
