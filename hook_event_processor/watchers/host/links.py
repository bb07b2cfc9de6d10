"""Network interfaces as the kernel shows them in /sys/class/net."""

from __future__ import annotations

import os
from fnmatch import fnmatchcase
from typing import NamedTuple

from hook_event_processor.watchers.check import CheckFailed
from hook_event_processor.watchers.host import proc

ROOT = "/sys/class/net"
_IFF_UP = 1  # linux/if.h


class Link(NamedTuple):
    """An interface: whether it carries packets, the kernel's word for its state, and Mbit/s where it has a speed."""

    is_up: bool
    state: str
    speed: int | None


def read(pattern: str | None) -> dict[str, Link]:
    """The interfaces that a pattern stands for, by name; without one, those that are devices. Raises CheckFailed."""
    try:
        names = os.listdir(ROOT)
    except OSError as fault:
        raise CheckFailed(f"cannot read {ROOT}: {fault.strerror}") from fault
    # Containers come and go with virtual interfaces of their own, by the hundred.
    wanted = [name for name in names if (_is_device(name) if pattern is None else fnmatchcase(name, pattern))]
    return {name: link for name in wanted if (link := _read(name))}


def is_pattern(text: str) -> bool:
    """Whether a name stands for others."""
    return any(character in text for character in "*?[")


def _is_device(name: str) -> bool:
    return os.path.exists(f"{ROOT}/{name}/device")


def _read(name: str) -> Link | None:
    state = _text(name, "operstate")
    if state is None:
        return None  # it went away meanwhile, or it is the file bonding_masters
    is_up = state == "up"
    if state == "unknown":
        # Of drivers that do not keep one, such as the loopback's, tun's and wireguard's.
        flags = int(_text(name, "flags") or "0", 16)
        is_up = bool(flags & _IFF_UP) and _text(name, "carrier") == "1"
    speed = _text(name, "speed")
    return Link(is_up, state, int(speed) if speed and int(speed) > 0 else None)


def _text(name: str, attribute: str) -> str | None:
    try:
        return proc.read(f"{ROOT}/{name}/{attribute}", 256).decode("ascii", "replace").strip()
    except OSError:
        return None  # as carrier and speed are unreadable while an interface is down
