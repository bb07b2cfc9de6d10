"""A watcher daemon as a process of its own, with a type of watchers that a test can steer."""

from __future__ import annotations

import sys
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from psycopg import Connection
from running import Running, ends_well, fork

from hook_event_processor.settings import Settings
from hook_event_processor.store import watchers
from hook_event_processor.store.database import Database
from hook_event_processor.store.watchers import NewWatcher, Watcher
from hook_event_processor.watchers import kinds
from hook_event_processor.watchers.check import CheckFailed, Definition, Kind, Moment, Noticed, Option, integer
from hook_event_processor.watchers.daemon.daemon import serve

HOST = "web-1"
_started: list[Running] = []


@dataclass
class Counter:
    """Reads a number from a file and tells of each up to it, once; "broken" raises, a file that is not there fails."""

    path: Path
    size: int
    seen: int | None

    def look(self, _: Moment) -> list[Noticed]:
        try:
            text = self.path.read_text()
        except FileNotFoundError as fault:
            raise CheckFailed(f"there is no {self.path.name}") from fault
        number = int(text)
        before, self.seen = self.seen, number
        if before is None:
            return []
        padding = {"padding": "x" * self.size} if self.size else {}
        return [Noticed("count.reached", {"n": n, **padding}, f"n{n}") for n in range(before + 1, number + 1)]

    def state(self) -> object:
        return self.seen


def _start(definition: Definition, state: object) -> Counter:
    seen = state if isinstance(state, int) else None
    return Counter(Path(definition.options["path"]), definition.options.get("size", 0), seen)


def counter(name: str, **more: Any) -> Kind:
    """A type of watchers that count."""
    options = {
        "path": Option(str, "a path", "the file", required=True),
        "size": Option(integer(0, 1_000_000), "a size", "characters in each event"),
    }
    return Kind(name, "counts", 0.1, {"reached": ("count.reached",)}, options, _start, **more)


KINDS = (
    counter("counter"),
    counter("waiting", blocks=True),
    counter("told", paths=lambda definition: (definition.options["path"],)),
)


def add_kinds(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have the types that count beside the others, in this process and those forked from it."""
    for kind in KINDS:
        module = ModuleType(f"hook_event_processor.watchers.kinds.{kind.name}")
        module.KIND = kind  # type: ignore[attr-defined]
        monkeypatch.setitem(sys.modules, module.__name__, module)
    monkeypatch.setattr(kinds, "NAMES", (*kinds.NAMES, *(kind.name for kind in KINDS)))


def add(connection: Connection, path: Path, kind: str = "counter", interval: float = 0.1, **columns: Any) -> Watcher:
    """Store a watcher of that type that reads from `path`."""
    options = {"path": str(path), **columns.pop("options", {})}
    return watchers.add(connection, NewWatcher(HOST, kind, options=options, interval=interval, **columns))


def write_number(path: Path, number: int) -> None:
    """Have watchers read this number: the old or the new one, and never half of it."""
    new = path.with_name(path.name + ".new")
    new.write_text(str(number))
    new.rename(path)


def start(
    database: Database,
    folder: Path,
    types: tuple[str, ...] | None = None,
    before: Callable[[], None] = lambda: None,
    **settings: Any,
) -> Running:
    """Fork a daemon whose home is `folder`; `before` is run in it first, `settings` are fields of Settings."""
    values = {"home": folder, "conninfo": database.conninfo, "host_name": HOST, "watch_flush": 0.05, **settings}

    def run() -> int:
        before()
        read = Settings(**values)
        return serve(read, database, types, lambda: replace(read, host_tags=("read", "again"), log_level="DEBUG"))

    _started.append(fork("daemon", folder, run))
    return _started[-1]


def kill_all() -> None:
    """What a test that failed has left."""
    while _started:
        _started.pop().kill()


def watching(database: Database, folder: Path, *arguments: Any, **settings: Any) -> AbstractContextManager[Running]:
    """A daemon that is at work, and ends well."""
    return ends_well(start(database, folder, *arguments, **settings), "at work", 15)


def end(process: Running) -> None:
    """Stop it as systemd does; it must end well."""
    process.signal(15)
    assert process.wait(15) == 0, "\n".join(process.log)


def reached(connection: Connection) -> list[int]:
    """The numbers that were told, in the order of the events."""
    rows = connection.execute(
        "SELECT (payload ->> 'n')::int FROM hook_events WHERE source = 'count' ORDER BY seq"
    ).fetchall()
    return [row[0] for row in rows]


def looked(connection: Connection, watcher: Watcher) -> Watcher:
    """The watcher as it is now."""
    return watchers.get(connection, watcher.id)
