"""CPU and memory of a daemon with many watchers of all types, by its cgroup where one can be made."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import psutil

from hook_event_processor.store import watchers
from hook_event_processor.store.watchers import NewWatcher
from hook_event_processor.watchers import kinds

import processor
import report
from cgroup import Group, Usage
from mix import MIX, options_of
from options import Size, parse, parser
from report import number
from resident import resident_mb
from server import Database, databases

_HOST = "bench"
_START_SECONDS = 60.0
_DELIVERY_SECONDS = 3.0


def main() -> None:
    arguments = parse(
        parser(
            __doc__,
            watchers=Size(1000, 1000, "watchers"),
            seconds=Size(60, 600, "seconds to measure"),
            settle=Size(20, 60, "seconds between the start and the measuring"),
        )
    )
    with ExitStack() as stack:
        (database,) = stack.enter_context(databases("bench"))
        files = _add_watchers(database, arguments.watchers)
        group = Group(stack)
        daemon = stack.enter_context(_daemon(database, group))
        looked = "SELECT count(*) FROM watchers WHERE last_check IS NOT NULL AND type = 'file'"
        processor.wait_for(lambda: database.one(looked) == (len(files),), _START_SECONDS)
        time.sleep(arguments.settle)
        before, began = _usage(daemon, group), time.monotonic()
        changes, peak = 0, 0
        while (seconds := time.monotonic() - began) < arguments.seconds:
            files[changes % len(files)].write_text(f"{changes}\n")
            changes += 1
            peak = max(peak, _usage(daemon, group).memory)
            time.sleep(1)
        after = _usage(daemon, group)
        resident, threads = resident_mb(daemon), daemon.num_threads()
        time.sleep(_DELIVERY_SECONDS)
        (events,) = database.one("SELECT count(*) FROM hook_events WHERE source = 'file'")
        core = 100 * (after.cpu_seconds - before.cpu_seconds) / seconds
        report.show(
            f"watchers: {arguments.watchers:,} of them for {seconds:.0f} s, a file changed every second",
            ("what", "value"),
            [
                ("of one core, %", number(core)),
                ("memory at the end, MB", number(after.memory / 1e6)),
                ("memory, highest, MB", number(peak / 1e6)),
                ("resident memory of the process, MB", number(resident)),
                ("threads", str(threads)),
                ("files changed, events told", f"{changes:,}, {events:,}"),
            ],
            database=database,
            notes=["By its cgroup's accounting." if group.usage() else "No cgroup can be made here: by the process's."],
            core_percent=core,
            memory_mb=after.memory / 1e6,
            peak_mb=peak / 1e6,
            changes=changes,
            events=events,
        )
        if changes != events:
            sys.exit("not every change became one event")


def _add_watchers(database: Database, total: int) -> list[Path]:
    """Store the mix; returns the files that are watched."""
    folder = database.home / "watched"
    folder.mkdir()
    files = []
    with database.connection.transaction():
        for type_name, part in MIX.items():
            for index in range(max(1, part * total // 1000)):
                given = options_of(folder, type_name, index)
                kinds.read(type_name, type_name, (), given, None)  # ends the benchmark for one that would not look
                watchers.add(database.connection, NewWatcher(_HOST, type_name, options=dict(given)))
                if type_name == "file":
                    files.append(Path(given["path"]))
    return files


@contextmanager
def _daemon(database: Database, group: Group) -> Iterator[psutil.Popen]:
    process = psutil.Popen(
        [sys.executable, "-I", "-m", "hook_event_processor", "watcher", "run"],
        env=processor.environment(database, HOST_NAME=_HOST),
        cwd=database.home,
        preexec_fn=lambda: group.take(os.getpid()),
    )
    try:
        yield process
    finally:
        process.terminate()
        process.wait(30)


def _usage(process: psutil.Process, group: Group) -> Usage:
    """The kernel's account of the cgroup, else that of the process."""
    found = group.usage()
    if found is not None:
        return found
    times = process.cpu_times()
    return Usage(times.user + times.system, process.memory_info().rss)


if __name__ == "__main__":
    main()
