"""How processes ended that are not our children: what the kernel or systemd can tell of it, and never a guess."""

from __future__ import annotations

import fcntl
import os
import re
import resource
import signal
import struct
from functools import cache
from typing import NamedTuple

from hook_event_processor.watchers.host import proc, unit_ends
from hook_event_processor.watchers.host.processes import Process, read_process

# ioctl PIDFD_GET_INFO with PIDFD_INFO_EXIT, and struct pidfd_info of <linux/pidfd.h> (since Linux 6.15).
_INFO = struct.Struct("=QQ11Ii")
_INFO_EXIT = 1 << 3
_GET_INFO = (3 << 30) | (_INFO.size << 16) | (0xFF << 8) | 11
_TELLS_SINCE = (6, 15)  # Linux 6.13 and 6.14 answer as well, but tell nothing of one that has ended

_CODES = {"1": "exited", "2": "killed", "3": "dumped"}  # CLD_EXITED and so on, as systemd writes ExecMainCode
# Ends that somebody asked for: the signals that systemd calls clean, and how shells and virtual machines say them.
_ASKED_FOR = {signal.SIGHUP, signal.SIGINT, signal.SIGTERM, signal.SIGPIPE}
_CLEAN_CODES = {0, *(128 + number for number in _ASKED_FOR)}


class End(NamedTuple):
    """How a process ended: with an exit code, or by a signal, or well as far as is known; `source` says who told."""

    exit_code: int | None
    signal_number: int | None
    core_dumped: bool
    source: str

    @property
    def crashed(self) -> bool:
        if self.signal_number is not None:
            return self.signal_number not in _ASKED_FOR
        return self.exit_code is not None and self.exit_code not in _CLEAN_CODES

    @property
    def signal_name(self) -> str | None:
        if self.signal_number is None:
            return None
        try:
            return signal.Signals(self.signal_number).name
        except ValueError:  # one of the real-time signals
            return f"SIG{self.signal_number}"

    @classmethod
    def of_status(cls, status: int, source: str) -> End:
        """Of a status as wait(2) brings it."""
        if os.WIFSIGNALED(status):
            return cls(None, os.WTERMSIG(status), os.WCOREDUMP(status), source)
        return cls(os.WEXITSTATUS(status), None, False, source)


class Handle:
    """A hold on a process, by which its end can be asked for when it is over. To be closed."""

    open_count = 0

    def __init__(self, process: Process, run: str | None, show: unit_ends.Show) -> None:
        """`run` is that of the unit whose main process it is, as far as that is known already."""
        self._pid = process.pid
        self._descriptor: int | None = None
        self.unit = _unit(process.pid)
        self.run = run
        self._descriptor = _opened(process)
        if self._descriptor is None and run is None and self.unit is not None and process.parent == 1:
            self.run = unit_ends.invocation(self.unit, process.pid, show)

    def end(self, show: unit_ends.Show) -> End | None:
        """How it ended, now that it has; None when nobody tells."""
        return self._by_kernel() or self._by_parent_left() or told_by_systemd(self.unit, self._pid, self.run, show)

    def close(self) -> None:
        """Let go."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None
            Handle.open_count -= 1

    def __del__(self) -> None:
        # A watcher that is no more is just dropped.
        self.close()

    def _by_kernel(self) -> End | None:
        if self._descriptor is None:
            return None
        buffer = bytearray(_INFO.size)
        struct.pack_into("=Q", buffer, 0, _INFO_EXIT)
        try:
            fcntl.ioctl(self._descriptor, _GET_INFO, buffer)
        except OSError:
            return None
        mask, *_, status = _INFO.unpack_from(buffer)
        return End.of_status(status, "kernel") if mask & _INFO_EXIT else None

    def _by_parent_left(self) -> End | None:
        """What stands in /proc while its parent has not asked. Who may not know is shown 0, which says nothing."""
        try:
            text = proc.read(f"{proc.ROOT}/{self._pid}/stat")
        except OSError:
            return None
        fields = text[text.rindex(b")") + 2 :].split()
        ended, status = fields[0] == b"Z", int(fields[-1])
        return End.of_status(status, "kernel") if ended and status else None


def _opened(process: Process) -> int | None:
    """A descriptor of the process, where one can tell its end, and not too many are open."""
    if not _kernel_tells() or Handle.open_count >= _most_handles():
        return None
    try:
        descriptor = os.pidfd_open(process.pid)
    except OSError:
        return None
    # It is that of this process only if that is still there.
    now = read_process(process.pid)
    if now is None or now.start != process.start:
        os.close(descriptor)
        return None
    Handle.open_count += 1
    return descriptor


@cache
def _kernel_tells() -> bool:
    release = re.match(r"(\d+)\.(\d+)", os.uname().release)
    if release is None or (int(release[1]), int(release[2])) < _TELLS_SINCE:
        return False
    try:
        descriptor = os.pidfd_open(os.getpid())
    except OSError:
        return False
    try:
        fcntl.ioctl(descriptor, _GET_INFO, bytearray(_INFO.size))
    except OSError:
        return False
    finally:
        os.close(descriptor)
    return True


@cache
def _most_handles() -> int:
    """A quarter of the descriptors that this process may have."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return max(16, soft // 4)


def _unit(pid: int) -> str | None:
    """The system's unit that a process belongs to; None for none, or for one of a user's."""
    try:
        text = proc.read(f"{proc.ROOT}/{pid}/cgroup").decode(errors="replace")
    except OSError:
        return None
    # A group's name may have any character but the line feed, which alone ends a line.
    for line in filter(None, text.split("\n")):
        _, controllers, path = line.split(":", 2)
        if controllers in ("", "name=systemd") and "/user@" not in path:
            for part in path.split("/"):
                if part.endswith(".service"):
                    return part
    return None


def told_by_systemd(unit: str | None, pid: int, run: str | None, show: unit_ends.Show) -> End | None:
    """What systemd has of the main process of a unit: of the last one, and of that of `run`, if it was known."""
    if unit is None:
        return None
    properties = show(unit, ("ExecMainPID", "ExecMainCode", "ExecMainStatus"))
    code, status = _CODES.get(properties.get("ExecMainCode", "")), properties.get("ExecMainStatus", "")
    if properties.get("ExecMainPID") == str(pid) and code is not None and status.isdigit():
        return _of_unit(code, int(status))
    journalled = unit_ends.journalled(run) if run is not None else None
    return _of_unit(*journalled) if journalled else None


def _of_unit(code: str, status: int) -> End:
    if code == "succeeded":
        return End(None, None, False, "systemd")
    if code == "exited":
        return End(status, None, False, "systemd")
    return End(None, status, code == "dumped", "systemd")
