"""What the kernel says of the whole machine, read once for all checks of a moment."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Generic, NamedTuple, TypeVar

from hook_event_processor.watchers.check import CheckFailed

ROOT = "/proc"

_T = TypeVar("_T")
_FRESH = 0.05  # seconds that what was read serves checks of other moments


class Reading(Generic[_T]):
    """One thing to be read of the kernel, kept for as long as checks of one round look, or a little longer."""

    def __init__(self, read: Callable[[], _T], fresh: float = _FRESH) -> None:
        self._read = read
        self._fresh = fresh  # seconds
        self._kept: tuple[float, _T] | None = None

    def at(self, monotonic: float) -> _T:
        """What was read at this time, or a moment before. Raises CheckFailed."""
        kept = self._kept  # another thread may set it meanwhile
        if kept is not None and 0 <= monotonic - kept[0] <= self._fresh:
            return kept[1]
        value = self._read()
        self._kept = (monotonic, value)
        return value


def read(path: str, limit: int = 1 << 18) -> bytes:
    """A small file of the kernel's, which one read brings whole. Raises OSError."""
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        return os.read(descriptor, limit)
    finally:
        os.close(descriptor)


def _required(name: str) -> bytes:
    try:
        return read(f"{ROOT}/{name}")
    except OSError as fault:
        raise CheckFailed(f"cannot read {ROOT}/{name}: {fault.strerror}") from fault


class CoreTimes(NamedTuple):
    """Time of a core, or of all, since the machine started, in ticks."""

    busy: int
    total: int


def read_cpu_times() -> dict[str, CoreTimes]:
    """The times of all cores together under "cpu", and of each one under its number."""
    times = {}
    # The lines of the cores come first; what follows them is long, and not for us.
    for line in _required("stat").splitlines():
        if not line.startswith(b"cpu"):
            break
        core, *fields = line.split()
        # Time of guests is counted in user's and nice's already.
        ticks = [int(field) for field in fields[:8]]
        total = sum(ticks)
        idle = ticks[3] + (ticks[4] if len(ticks) > 4 else 0)  # idle, and waiting for disks
        times[core[3:].decode() or "cpu"] = CoreTimes(total - idle, total)
    if "cpu" not in times:
        raise CheckFailed(f"{ROOT}/stat says nothing of the processors")
    return times


class Load(NamedTuple):
    """Processes that run or wait to, in the mean of so many minutes."""

    one: float
    five: float
    fifteen: float


def read_load() -> Load:
    """The load averages."""
    one, five, fifteen = _required("loadavg").split()[:3]
    return Load(float(one), float(five), float(fifteen))


class Memory(NamedTuple):
    """Memory and swap space, in bytes."""

    total: int
    available: int
    swap_total: int
    swap_free: int

    @property
    def used_percent(self) -> float:
        return 100.0 * (self.total - self.available) / self.total

    @property
    def swap_used_percent(self) -> float:
        return 100.0 * (self.swap_total - self.swap_free) / self.swap_total if self.swap_total else 0.0


def read_memory() -> Memory:
    """How much memory and swap space there is, and is left."""
    kilobytes = {}
    for line in _required("meminfo").splitlines():
        name, _, value = line.partition(b":")
        kilobytes[name] = int(value.split()[0])
    total = kilobytes.get(b"MemTotal", 0)
    if not total:
        raise CheckFailed(f"{ROOT}/meminfo does not say how much memory there is")
    free = sum(kilobytes.get(name, 0) for name in (b"MemFree", b"Buffers", b"Cached"))
    available = kilobytes.get(b"MemAvailable", free)
    swap_total, swap_free = kilobytes.get(b"SwapTotal", 0), kilobytes.get(b"SwapFree", 0)
    return Memory(total * 1024, available * 1024, swap_total * 1024, swap_free * 1024)


CPU_TIMES = Reading(read_cpu_times)
LOAD = Reading(read_load)
MEMORY = Reading(read_memory)
