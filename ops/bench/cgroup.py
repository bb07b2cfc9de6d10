"""A cgroup of one process's own: what the kernel accounts to it, and the limits that a unit would set."""

from __future__ import annotations

import os
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path

_ROOT = Path("/sys/fs/cgroup")
_PERIOD_US = 100_000


@dataclass
class Usage:
    """What a process has used: seconds of a core, and bytes of memory now."""

    cpu_seconds: float
    memory: int


class Group:
    """A cgroup of either version, removed with the stack; None of it where we may not make one."""

    def __init__(self, stack: ExitStack) -> None:
        name = f"hep-bench-{os.getpid()}"
        with suppress(OSError):  # version 2: what is accounted for is said from the root on
            (_ROOT / "cgroup.subtree_control").write_text("+cpu +memory")
        is_one = (_ROOT / "cgroup.controllers").exists()
        self._folders = []
        for folder in [_ROOT / name] if is_one else [_ROOT / part / name for part in ("memory", "cpuacct", "cpu")]:
            with suppress(OSError):
                folder.mkdir()
                self._folders.append(folder)
                stack.callback(folder.rmdir)

    def take(self, pid: int) -> None:
        for folder in self._folders:
            (folder / "cgroup.procs").write_text(str(pid))

    def limit(self, cores: float, memory: int) -> bool:
        """As CPUQuota= and MemoryMax= do; whether both are in force."""
        quota = int(cores * _PERIOD_US)
        return (self._write("cpu.max", f"{quota} {_PERIOD_US}") or self._write("cpu.cfs_quota_us", str(quota))) and (
            self._write("memory.max", str(memory)) or self._write("memory.limit_in_bytes", str(memory))
        )

    def usage(self) -> Usage | None:
        cpu = self._read("cpuacct.usage")
        if cpu is None:
            stat = self._read("cpu.stat")
            cpu = None if stat is None or "usage_usec" not in stat else str(int(stat.split()[1]) * 1000)
        memory = self._read("memory.current") or self._read("memory.usage_in_bytes")
        return None if cpu is None or memory is None else Usage(int(cpu) / 1e9, int(memory))

    def _read(self, name: str) -> str | None:
        for folder in self._folders:
            with suppress(OSError):
                return (folder / name).read_text()
        return None

    def _write(self, name: str, text: str) -> bool:
        for folder in self._folders:
            with suppress(OSError):
                if (folder / name).exists():
                    (folder / name).write_text(text)
                    return True
        return False
