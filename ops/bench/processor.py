"""The processor as its users run it: a process of its own, with the product's defaults unless the table says so."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager

import psutil

from hook_event_processor.store import waiting

from cgroup import Group
from server import Database

# Of the caller's environment only this: his settings and his database are not what is measured.
_PASSED = ("PATH", "HOME", "LANG", "TMPDIR")
_START_SECONDS = 60.0


def environment(database: Database, **settings: object) -> dict[str, str]:
    """What the product's programs are started with."""
    passed = {name: os.environ[name] for name in _PASSED if name in os.environ}
    given = {name: str(value) for name, value in settings.items()}
    own = {"DATABASE_URL": database.conninfo, "HEP_HOME": str(database.home / "processor"), "LOG_LEVEL": "WARNING"}
    return {**passed, **own, **given}


@contextmanager
def started(
    database: Database,
    settings: Mapping[str, object],
    group: Group | None = None,
    program: Sequence[str] = ("-m", "hook_event_processor"),
) -> Iterator[psutil.Popen]:
    """A processor, from its start on; it drains at the end."""
    process = psutil.Popen(
        [sys.executable, *program, "run"],
        env=environment(database, **settings),
        cwd=database.home,  # a directory without an .env file
        preexec_fn=(lambda: group.take(os.getpid())) if group else None,
    )
    try:
        yield process
    finally:
        if process.poll() is None:
            process.terminate()
        process.wait()


@contextmanager
def running(database: Database, **settings: object) -> Iterator[psutil.Popen]:
    """A processor that has said that it runs; it drains at the end."""
    before = _processors(database)
    with started(database, settings) as process:
        wait_for(lambda: _processors(database) > before or process.poll() is not None, _START_SECONDS)
        if process.poll() is not None:
            sys.exit("the processor ended at its start; what it said stands above")
        yield process


def _processors(database: Database) -> int:
    return int(database.one("SELECT count(*) FROM hook_processors")[0])


def drain(
    database: Database, processes: int = 1, seconds: float = 900.0, group: Group | None = None, **settings: object
) -> None:
    """Run so many processors, in the cgroup if one is given, until no event is pending."""
    with ExitStack() as stack:
        for _ in range(processes):
            stack.enter_context(started(database, settings, group))
        wait_for(lambda: all_processed(database), seconds, pause=0.25)


# By the indexes, as claims do: a scan of the table would cost more than what is measured.
_WAITS = f"""
SELECT EXISTS (SELECT FROM hook_events WHERE {waiting.FRESH} AND seq > {waiting.FLOOR} ORDER BY seq LIMIT 1)
    OR EXISTS (SELECT FROM hook_events WHERE {waiting.PRIORITIZED} ORDER BY priority, seq LIMIT 1)
    OR EXISTS (SELECT FROM hook_events WHERE {waiting.DUE} AND available_at <= now() + interval '1 hour'
               ORDER BY needs_slot, available_at LIMIT 1)
"""


def all_processed(database: Database) -> bool:
    """Whether nothing is left that may be claimed now."""
    return not database.one(_WAITS)[0]


def wait_for(condition: Callable[[], bool], seconds: float, pause: float = 0.05) -> None:
    """Return when the condition holds; end the benchmark when it does not in time."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            sys.exit(f"it did not come about within {seconds:g} seconds")
        time.sleep(pause)
