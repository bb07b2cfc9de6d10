"""What hooks reach in a test: a real site under the names that they write, programs that keep a record, a processor."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from certificates import resolve, server_context, trust
from commands import Hep
from psycopg import Connection
from running import all_processed, running
from waiting import wait_for
from web import Site, serving

from hook_event_processor.policy import Grants, Policy
from hook_event_processor.store.database import Database

# Writes down how it was called; fails when a file of its first argument's name lies beside it.
_PROGRAM = (
    '#!/bin/sh\nhere=$(dirname "$0")\necho "$(basename "$0") $*" >> "$here/commands"\ntest ! -e "$here/$1.fails"\n'
)


@dataclass
class World:
    hep: Hep
    connection: Connection
    database: Database
    site: Site
    folder: Path
    grants: Grants

    def emit(self, event_type: str, data: Any, *options: str) -> None:
        """Publish an event and wait until it, and what came of it, is done."""
        self.hep("events", "emit", event_type, json.dumps(data), *options)
        wait_for(lambda: all_processed(self.connection), 10)

    @contextmanager
    def running(self) -> Iterator[None]:
        key = self.folder / "secret.key"
        with running(self.database, self.folder, policy=Policy(self.grants), hook_secret_key_file=key):
            yield

    def fail(self, argument: str) -> None:
        """From now on the programs fail when this is their first argument."""
        (self.folder / "bin" / f"{argument}.fails").touch()

    @property
    def commands(self) -> list[str]:
        record = self.folder / "bin/commands"
        return record.read_text().splitlines() if record.exists() else []

    @property
    def requests(self) -> list[tuple[str, str]]:
        """Method and URL of each, by the name that was asked for."""
        return [(each.method, f"https://{each.headers['host']}{each.path}") for each in self.site.received]

    def executions(self) -> list[tuple[Any, ...]]:
        """Hook, success, and output or error of each run of a hook, in the order of their recording.

        By executed_at a cause can come behind its effect: it is when the transaction of the claim began,
        and one that began before that of the cause can take what the cause has dispatched.
        """
        return self.connection.execute(
            "SELECT hook_name, success, coalesce(error, output) FROM event_hook_executions"
            " WHERE NOT starts_with(hook_name, 'handle_') ORDER BY id"
        ).fetchall()

    def children(self) -> list[tuple[str, Any]]:
        """Type and data of the events that hooks dispatched, without those that the processor tells of itself."""
        return self.connection.execute(
            "SELECT type, data FROM events WHERE metadata ? 'causation_id' AND source NOT IN ('event', 'secret')"
            " ORDER BY seq"
        ).fetchall()


@contextmanager
def world(
    hep: Hep,
    connection: Connection,
    database: Database,
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    *,
    sites: tuple[str, ...] = (),
    programs: Mapping[str, str] | tuple[str, ...] = (),
    **grants: Any,
) -> Iterator[World]:
    """`sites` are names of one server, reached by TLS; `programs` are names, with their scripts where given."""
    monkeypatch.setenv("HEP_HOME", str(folder))
    (folder / "bin").mkdir()
    scripts = programs if isinstance(programs, Mapping) else dict.fromkeys(programs, _PROGRAM)
    for name, script in scripts.items():
        (folder / "bin" / name).write_text(script)
        (folder / "bin" / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}/bin:/usr/bin:/bin")
    granted = Grants(**{"exec": tuple(scripts), "http_allow": sites, **grants})
    with serving(tls=server_context(folder, *(sites or ("localhost",)))) as site:
        trust(monkeypatch, folder / "ca.pem")
        resolve(monkeypatch, **{name.replace(".", "_"): (site.host, site.port) for name in sites})
        yield World(hep, connection, database, site, folder, granted)
