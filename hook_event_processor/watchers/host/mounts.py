"""The file systems that are mounted, and of them those that can fill up."""

from __future__ import annotations

import re
from typing import NamedTuple

from hook_event_processor.watchers.check import CheckFailed
from hook_event_processor.watchers.host import proc

# They have no device of their own in /proc/filesystems, but disks.
_ON_DISKS = {"zfs", "bcachefs"}
# Full by nature: what is on them was put there when they were made.
_FULL = {"squashfs", "erofs", "cramfs", "romfs", "iso9660", "udf"}
_ESCAPE = re.compile(r"\\([0-7]{3})")


class Mount(NamedTuple):
    """A mounted file system. `device` is where it lies, as /dev/sda1."""

    point: str
    type: str
    device: str


def all_mounts() -> list[Mount]:
    """The file systems as this process sees them, in the order in which they were mounted. Raises CheckFailed."""
    return [mount for _, mount, _ in _read()]


def real_mounts() -> list[Mount]:
    """Those on disks that can be written, each once: at the place that shows its root, or at the shortest path."""
    virtual = _virtual_types()
    chosen: dict[str, tuple[tuple[bool, int], Mount]] = {}
    for number, mount, (root, writable) in _read():
        if not writable or mount.type in _FULL or (mount.type in virtual and mount.point != "/"):
            continue
        rank = (root != "/", len(mount.point))
        if number not in chosen or rank < chosen[number][0]:
            chosen[number] = (rank, mount)
    return sorted(mount for _, mount in chosen.values())


def _read() -> list[tuple[str, Mount, tuple[str, bool]]]:
    """Of each mount: the number of its device, itself, and which root it shows and whether that can be written."""
    try:
        # The kernel escapes no carriage return, which a name may have.
        with open(f"{proc.ROOT}/self/mountinfo", encoding="utf-8", errors="surrogateescape", newline="\n") as file:
            lines = file.readlines()
    except OSError as fault:
        raise CheckFailed(f"cannot read the list of mounts: {fault.strerror}") from fault
    return [parsed for line in lines if (parsed := _parse(line)) is not None]


def _parse(line: str) -> tuple[str, Mount, tuple[str, bool]] | None:
    """What a line says; None for one that is of no mount."""
    before, _, after = line.rstrip("\n").partition(" - ")
    fields = before.split(" ")
    if len(fields) < 5:
        return None
    _, _, number, root, point, *_ = fields
    type_, device, options = (*after.split(" "), "", "")[:3]
    # The options of the file system, not of the mount: a unit's sandbox mounts everything read-only for itself.
    writable = "ro" not in options.split(",")
    return number, Mount(_unescaped(point), type_, _unescaped(device)), (root, writable)


def _unescaped(text: str) -> str:
    """A path without the escapes that the kernel writes for spaces and the like."""
    return _ESCAPE.sub(lambda found: chr(int(found[1], 8)), text) if "\\" in text else text


def _virtual_types() -> set[str]:
    try:
        lines = proc.read(f"{proc.ROOT}/filesystems").decode().splitlines()
    except OSError as fault:
        raise CheckFailed(f"cannot read the types of file systems: {fault.strerror}") from fault
    return {line.split("\t")[1] for line in lines if line.startswith("nodev")} - _ON_DISKS
