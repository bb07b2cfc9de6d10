"""CPU and memory of a daemon with many watchers of all types, by its cgroup where there is one; a table, then JSON."""

from __future__ import annotations

import argparse
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import psycopg
from rich.console import Console
from rich.table import Table

from hook_event_processor.store import embedded, watchers
from hook_event_processor.store.migrate import migrate
from hook_event_processor.store.watchers import NewWatcher

from cgroup import Group, Usage

_TICKS = os.sysconf("SC_CLK_TCK")
_HOST = "bench"
# Of a thousand watchers, so many of each type, at their own intervals.
_MIX = {
    "file": 400, "directory": 60, "log": 100, "process": 120, "port": 120, "service": 40, "cpu": 40, "memory": 40,
    "swap": 10, "disk": 20, "load": 20, "network": 10, "connection": 10, "user": 5, "package": 5,
}  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--watchers", type=int, default=1000)
    parser.add_argument("--seconds", type=float, default=60.0, help="how long to measure, after the start")
    parser.add_argument("--settle", type=float, default=20.0, help="seconds between the start and the measuring")
    parser.add_argument("--changes", type=float, default=1.0, help="files changed a second meanwhile")
    arguments = parser.parse_args()
    with ExitStack() as stack:
        home = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="hep-bench-", dir="/var/tmp")))
        home.chmod(0o755)
        server = stack.enter_context(embedded.start(home / "home"))
        connection = stack.enter_context(psycopg.connect(server.conninfo, autocommit=True))
        migrate(connection)
        files = _add_watchers(connection, home, arguments.watchers)
        group = Group(stack)
        if group.usage() is None:
            print(
                "no cgroup can be made here: what stands below is the process's own, not the kernel's", file=sys.stderr
            )
        daemon = stack.enter_context(_daemon(home, server.conninfo, group))
        _wait_for_looks(connection, files)
        time.sleep(arguments.settle)
        _report(_measure(daemon.pid, group, connection, files, arguments), arguments.watchers)


def _add_watchers(connection: psycopg.Connection, home: Path, count: int) -> list[Path]:
    """Store the mix; returns the files that are watched."""
    folder = home / "watched"
    folder.mkdir()
    files = []
    with connection.transaction():
        for type_name, part in _MIX.items():
            for number in range(max(1, part * count // 1000)):
                path = folder / f"{type_name}-{number // 20}" / str(number)
                if type_name in ("file", "log", "directory"):
                    path.parent.mkdir(exist_ok=True)
                    path.mkdir() if type_name == "directory" else path.write_text("once\n")
                if type_name == "file":
                    files.append(path)
                watchers.add(connection, NewWatcher(_HOST, type_name, options=_options(type_name, number, path)))
    return files


def _options(type_name: str, number: int, path: Path) -> dict[str, str]:
    if type_name in ("file", "directory"):
        return {"path": str(path)}
    options = {
        "log": {"path": str(path), "pattern": "ERROR"},
        "process": {"name": f"worker-{number}"},
        "port": {"port": str(20_000 + number)},
        "service": {"name": f"worker-{number}"},
        "load": {"threshold": "1000"},
        "cpu": {"threshold": "100"},
        "memory": {"threshold": "100"},
        "disk": {"path": "/", "threshold": "100"},
        "network": {"interface": "lo"},
        "connection": {"remote_port": str(20_000 + number)},
        "package": {"name": f"package-{number}"},
    }
    return options.get(type_name, {})


@contextmanager
def _daemon(home: Path, conninfo: str, group: Group) -> Iterator[subprocess.Popen[bytes]]:
    environ = {**os.environ, "DATABASE_URL": conninfo, "HEP_HOME": str(home / "daemon"), "HOST_NAME": _HOST}
    command = [sys.executable, "-I", "-m", "hook_event_processor", "--log-level", "warning", "watcher", "run"]
    process = subprocess.Popen(command, env=environ, preexec_fn=lambda: group.take(os.getpid()))
    try:
        yield process
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(30)


def _wait_for_looks(connection: psycopg.Connection, files: list[Path]) -> None:
    deadline = time.monotonic() + 60
    query = "SELECT count(*) FROM watchers WHERE type = 'file' AND last_check IS NOT NULL"
    while connection.execute(query).fetchone() != (len(files),):
        assert time.monotonic() < deadline, "the watchers do not look"
        time.sleep(0.5)


def _measure(
    pid: int, group: Group, connection: psycopg.Connection, files: list[Path], arguments: argparse.Namespace
) -> dict[str, float | int]:
    before, group_before, began = _of_process(pid), group.usage(), time.monotonic()
    peak, changes, ends = 0, 0, began + arguments.seconds
    while (left := ends - time.monotonic()) > 0:
        if arguments.changes:
            files[changes % len(files)].write_text(f"{changes}\n")
            changes += 1
        usage = group.usage()
        peak = max(peak, usage.memory if usage else _of_process(pid).memory)
        time.sleep(min(left, 1 / arguments.changes if arguments.changes else 1.0))
    after, group_after, seconds = _of_process(pid), group.usage(), time.monotonic() - began
    time.sleep(3.0)
    row = connection.execute("SELECT count(*) FROM hook_events WHERE source = 'file'").fetchone()
    found = {
        "watchers": arguments.watchers,
        "seconds": round(seconds, 1),
        "process_cpu_percent": round(100 * (after.cpu_seconds - before.cpu_seconds) / seconds, 2),
        "process_rss_mb": round(after.memory / 1e6, 1),
        "peak_mb": round(peak / 1e6, 1),
        "threads": len(os.listdir(f"/proc/{pid}/task")),
        "changes": changes,
        "file_events": row[0] if row else 0,
    }
    if group_before and group_after:
        cpu = 100 * (group_after.cpu_seconds - group_before.cpu_seconds) / seconds
        found |= {"cgroup_cpu_percent": round(cpu, 2), "cgroup_memory_mb": round(group_after.memory / 1e6, 1)}
    return found


def _of_process(pid: int) -> Usage:
    fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return Usage((int(fields[11]) + int(fields[12])) / _TICKS, pages * os.sysconf("SC_PAGE_SIZE"))


def _report(found: dict[str, float | int], count: int) -> None:
    table = Table(title=f"{count} watchers on {socket.gethostname()}, {os.cpu_count()} cores")
    table.add_column("Measure")
    table.add_column("Value", justify="right")
    for name, value in found.items():
        table.add_row(name, f"{value:,}")
    Console(stderr=True).print(table)
    print(json.dumps(found))


if __name__ == "__main__":
    main()
