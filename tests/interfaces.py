"""Network interfaces of a test's own."""

from __future__ import annotations

import os
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from root_shell import as_root
from waiting import wait_for

HAS_IP = shutil.which("ip") is not None or "CI" in os.environ
needs_ip = pytest.mark.skipif(not HAS_IP, reason="making network interfaces needs ip, of iproute2")


@contextmanager
def unused_name() -> Iterator[str]:
    """A name for an interface, which is gone afterwards."""
    name = f"hep{secrets.token_hex(5)}"
    try:
        yield name
    finally:
        as_root(f"[ ! -e {_path(name)} ] || ip link delete {name}")


@contextmanager
def cable() -> Iterator[tuple[str, str]]:
    """Two interfaces, one at each end of a cable."""
    with unused_name() as left, unused_name() as right:
        ip(f"link add {left} type veth peer name {right}")
        ip(f"link set {left} up")
        ip(f"link set {right} up", **{left: "up", right: "up"})
        yield left, right


def ip(line: str, **states: str) -> None:
    """Change interfaces, and wait until the kernel, which takes up to a second, shows them in these states."""
    as_root(f"ip {line}")

    def are_shown() -> bool:
        return all(Path(_path(name), "operstate").read_text() == f"{state}\n" for name, state in states.items())

    wait_for(are_shown, 20, str(states))


def _path(name: str) -> str:
    return f"/sys/class/net/{name}"
