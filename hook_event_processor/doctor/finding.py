"""What an examination finds."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from enum import StrEnum

from psycopg import Connection

from hook_event_processor.settings import Settings
from hook_event_processor.store.database import Database


class Level(StrEnum):
    """How bad it is: events suffer; they will, or could; or it is good to know."""

    PROBLEM = "problem"
    WARNING = "warning"
    NOTE = "note"


@dataclass(frozen=True, slots=True)
class Kind:
    """One thing that can be found: its name, and what it means for whoever operates the product."""

    name: str
    level: Level
    meaning: str


@dataclass(frozen=True, slots=True)
class Finding:
    """Something that is so now.

    `mend` are commands for a shell, the first of them being the one to try
    first; `fix` does what is safe and returns what it has done.
    """

    kind: Kind
    what: str
    mend: Sequence[str] = ()
    fix: Callable[[], str] | None = field(default=None, compare=False)


@dataclass(frozen=True, slots=True)
class Subject:
    """A database that answers; `connection` is in autocommit, and each of its statements ends in time."""

    settings: Settings
    database: Database
    connection: Connection


@dataclass(frozen=True, slots=True)
class LocalCheck:
    """Looks at this host alone."""

    run: Callable[[Settings], Iterable[Finding]]
    kinds: Sequence[Kind]


@dataclass(frozen=True, slots=True)
class DatabaseCheck:
    """Looks at the database, or at what is in it; in one transaction, unless it looks at what a session is."""

    run: Callable[[Subject], Iterable[Finding]]
    kinds: Sequence[Kind]
    in_transaction: bool = True


@dataclass(frozen=True, slots=True)
class Area:
    """Checks that belong together, and what they look at, in a line."""

    name: str
    summary: str
    checks: Sequence[LocalCheck | DatabaseCheck]

    @property
    def kinds(self) -> Iterator[Kind]:
        """Everything that can be found here."""
        for check in self.checks:
            yield from check.kinds


def psql(statement: str) -> str:
    """The command that runs a statement as the product's own role."""
    return f"hep db psql -c {shlex.quote(statement)}"


def administer(statement: str, connection: Connection) -> str:
    """The command that runs a statement as somebody who may do more than the product's role.

    Their search_path is their own: the statement names tables with their schema.
    """
    return f"{_psql_elsewhere(connection)} -c {shlex.quote(statement)}  # as a superuser"


def make_roles(connection: Connection) -> str:
    """The command that has the roles of sql/roles.sql made, and what they may do set, by somebody who may."""
    return f"hep db roles --print | {_psql_elsewhere(connection)}  # as a superuser"


def _psql_elsewhere(connection: Connection) -> str:
    """Psql on the database of this session, for whoever has none of the product's settings."""
    info = connection.info
    return f"psql -h {shlex.quote(info.host)} -p {info.port} -d {shlex.quote(info.dbname)}"


def let_see_others(connection: Connection) -> str:
    """The command that has the role of this session see what other roles do."""
    return administer(f'GRANT pg_monitor TO "{connection.info.user}"', connection)


def let_read(connection: Connection) -> Sequence[str]:
    """The commands that have the role of this session read the product's tables."""
    grant = administer(f'GRANT hook_reader TO "{connection.info.user}"', connection)
    return grant, f"{make_roles(connection)}, where that was not done yet: it makes hook_reader"


def fixed_by(area: str) -> str:
    """The command that mends what has a fix."""
    return f"hep doctor --fix {area}"
