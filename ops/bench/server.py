"""A PostgreSQL server of the benchmark's own: the embedded one, as it comes, in a directory that is removed."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg
from psycopg import Connection, sql
from psycopg.conninfo import make_conninfo

from hook_event_processor.store import embedded
from hook_event_processor.store.embedded.cluster import ROLE
from hook_event_processor.store.embedded.program import installed
from hook_event_processor.store.migrate import migrate

from disk import Disk, watched

PGBENCH = installed() / "bin" / "pgbench"
# What the embedded server is told about its place changes nothing of what is measured.
_OF_THE_PLACE = (
    "cluster_name config_file data_checksums data_directory hba_file ident_file listen_addresses port"
    " unix_socket_directories unix_socket_permissions default_text_search_config log_timezone TimeZone DateStyle"
)


@dataclass(frozen=True, slots=True)
class Database:
    """A migrated database: how the product connects, the administrator's session in autocommit, and its disk."""

    conninfo: str
    connection: Connection
    home: Path
    disk: Disk

    def one(self, statement: str, *parameters: Any) -> tuple[Any, ...]:
        """The single row of a query."""
        row = self.connection.execute(statement, parameters or None).fetchone()
        assert row is not None
        return tuple(row)


@contextmanager
def databases(*names: str) -> Iterator[list[Database]]:
    """A running server with these databases."""
    with ExitStack() as stack:
        place = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="hep-bench-", dir="/var/tmp")))
        place.chmod(0o755)
        home = place / "home"
        server = stack.enter_context(embedded.start(home))
        with psycopg.connect(server.administration, autocommit=True) as connection:
            for name in names:
                create = sql.SQL("CREATE DATABASE {} OWNER {}")
                connection.execute(create.format(sql.Identifier(name), sql.Identifier(ROLE)))
        disk = stack.enter_context(watched(place))
        made = []
        for name in names:
            conninfo = make_conninfo(server.conninfo, dbname=name)
            with psycopg.connect(conninfo, autocommit=True) as owner:
                migrate(owner)
            # CHECKPOINT is the administrator's.
            administration = make_conninfo(server.administration, dbname=name)
            connection = stack.enter_context(psycopg.connect(administration, autocommit=True))
            made.append(Database(conninfo, connection, home, disk))
        yield made


def settings(connection: Connection) -> str:
    """The server's version, and its settings that are not PostgreSQL's defaults."""
    rows = connection.execute(
        "SELECT name, current_setting(name) FROM pg_settings"
        " WHERE source IN ('configuration file', 'command line', 'database', 'user')"
        " AND setting IS DISTINCT FROM boot_val AND name NOT LIKE ALL ('{lc\\_%%,log%%}') AND name <> ALL (%s)"
        " ORDER BY name",
        (_OF_THE_PLACE.split(),),
    ).fetchall()
    names = ("fsync", "synchronous_commit", "full_page_writes")
    kept = [(name, connection.execute(f"SHOW {name}").fetchone()) for name in names]
    words = [f"{name}={value}" for name, value in rows] + [f"{name}={row[0]}" for name, row in kept if row]
    version = connection.info.parameter_status("server_version")
    return f"PostgreSQL {version}: " + ", ".join(words)
