"""The kernel's sockets as /proc/net lists them: proc(5). For where it does not tell by netlink."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator

from hook_event_processor.watchers.check import CheckFailed
from hook_event_processor.watchers.host.proc import ROOT
from hook_event_processor.watchers.host.socket_row import STATES, Row

_BLOCK = 1 << 16
_LISTEN = 1 << STATES["LISTEN"]


def dump(protocol: str, states: int) -> list[Row]:
    """The sockets of tcp or udp whose state is among those bits. Raises CheckFailed."""
    return [row for name in (protocol, f"{protocol}6") for row in _chosen(name, states)]


def _chosen(name: str, states: int) -> Iterator[Row]:
    for row in _rows(name):
        if states >> row.state & 1:
            yield row
        elif states == _LISTEN:
            return  # those that listen come first (tcp_get_idx in the kernel): connections are not read


def _rows(name: str) -> Iterator[Row]:
    lines = _lines(f"{ROOT}/net/{name}")
    next(lines, None)
    for line in lines:
        # "sl: local:port remote:port state ..."
        fields = line.split(None, 4)
        local, _, local_port = fields[1].partition(":")
        remote, _, remote_port = fields[2].partition(":")
        yield Row(_packed(local), int(local_port, 16), _packed(remote), int(remote_port, 16), int(fields[3], 16))


def _packed(digits: str) -> bytes:
    """An address that is written as 32-bit words in the machine's order of bytes."""
    words = (digits[start : start + 8] for start in range(0, len(digits), 8))
    return b"".join(int(word, 16).to_bytes(4, sys.byteorder) for word in words)


def _lines(path: str) -> Iterator[str]:
    """The lines of a table, read as they are asked for."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        if path.endswith("6"):
            return  # there is no IPv6 here
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
