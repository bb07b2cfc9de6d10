"""Ports of this host that nobody else takes before the test does."""

from __future__ import annotations

import secrets
import socket

_PORTS = range(20_000, 32_000)  # below those that the kernel gives to whoever asks for any


def free_ports(count: int) -> list[int]:
    """So many ports of 127.0.0.1 that are free for TCP and for UDP."""
    found = []
    for port in secrets.SystemRandom().sample(_PORTS, len(_PORTS)):
        if len(found) == count:
            return found
        if all(_is_free(port, kind) for kind in (socket.SOCK_STREAM, socket.SOCK_DGRAM)):
            found.append(port)
    raise AssertionError(f"there are no {count} free ports")


def _is_free(port: int, kind: socket.SocketKind) -> bool:
    with socket.socket(type=kind) as probe:
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
        return True
