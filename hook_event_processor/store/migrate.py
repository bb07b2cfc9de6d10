"""Migrations: numbered SQL files, forward only, recorded with their hash."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from psycopg import Connection, DatabaseError, OperationalError, errors, sql
from tenacity import RetryError, Retrying, retry_if_exception_type, stop_after_attempt, wait_random_exponential

from hook_event_processor.errors import SchemaError

_NAME = re.compile(r"(\d{4})_(\w+)\.sql")
# A file with this line runs outside a transaction (CREATE INDEX CONCURRENTLY);
# it must then be one statement that can be run again after it failed half-way.
_NO_TRANSACTION = "-- hep: no transaction"
_LOCK_ATTEMPTS = 8


T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Migration:
    """One file of sql/."""

    version: int
    name: str
    text: str

    @property
    def sha256(self) -> str:
        return hashlib.sha256(self.text.encode()).hexdigest()

    @property
    def transactional(self) -> bool:
        return _NO_TRANSACTION not in self.text.splitlines()


@dataclass(frozen=True, slots=True)
class Applied:
    """A migration, and whether and how the database has it: applied, pending or changed."""

    migration: Migration
    state: str


def migrations() -> list[Migration]:
    """All migrations that this program knows, in order."""
    found = []
    for file in _folder().iterdir():
        if match := _NAME.fullmatch(file.name):
            found.append(Migration(int(match[1]), match[2], file.read_text(encoding="utf-8")))
    return sorted(found, key=lambda migration: migration.version)


def text_of(name: str) -> str:
    """The text of one file of sql/."""
    return (_folder() / name).read_text(encoding="utf-8")


def _folder() -> Path:
    """sql/ as installed inside the package, or beside it in a checkout."""
    package = Path(__file__).parent.parent
    installed = package / "sql"
    return installed if installed.is_dir() else package.parent / "sql"


def status(connection: Connection) -> list[Applied]:
    """Every known migration with its state in this database. Raises SchemaError when the schema is newer."""
    _refuse_bytes(connection)
    recorded = _recorded(connection)
    known = migrations()
    _refuse_newer(recorded, known)
    return [
        Applied(
            migration,
            "pending"
            if migration.version not in recorded
            else "applied"
            if recorded[migration.version] == migration.sha256
            else "changed",
        )
        for migration in known
    ]


def check(connection: Connection) -> None:
    """Raise SchemaError unless the database has exactly the migrations of this program."""
    wrong = [applied for applied in status(connection) if applied.state != "applied"]
    pending = [f"{a.migration.version:04d}" for a in wrong if a.state == "pending"]
    changed = [f"{a.migration.version:04d}" for a in wrong if a.state == "changed"]
    if pending:
        raise SchemaError(f"the database lacks the migrations {', '.join(pending)}: run 'hep db migrate'")
    if changed:
        raise SchemaError(f"the migrations {', '.join(changed)} were applied with another text than this program's")


def migrate(connection: Connection, schema: str = "", report: Callable[[Migration], None] = lambda _: None) -> int:
    """Apply what is missing; returns how many files that was.

    `connection` is in autocommit. Each file runs in one transaction under an
    advisory lock, waits for table locks only briefly, and is tried again with
    backoff when it does not get them. `report` is called after each file.
    """
    _refuse_bytes(connection)
    if schema:
        _create_schema(connection, schema)
    connection.execute(sql.SQL("SET search_path TO {}").format(sql.Identifier(_home(connection))))
    connection.execute("SET client_min_messages TO warning")  # "already exists, skipping" is no news
    count = 0
    for applied in status(connection):
        if applied.state == "pending" and _apply_with_patience(connection, applied.migration):
            count += 1
            report(applied.migration)
    return count


def script(connection: Connection, schema: str = "") -> str:
    """What `migrate` would run, as text for psql, the ledger included: it ends at the first error."""
    pending = [known.migration for known in status(connection) if known.state == "pending"]
    if not pending:
        return ""
    home = sql.Identifier(schema or _home(connection)).as_string(connection)
    parts = ["\\set ON_ERROR_STOP on\n"]
    if schema and not _has_schema(connection, schema):
        parts.append(f"CREATE SCHEMA IF NOT EXISTS {home};\n")
    parts.append(f"SET search_path TO {home};\n")
    for migration in pending:
        record = f"({migration.version}, '{migration.name}', '{migration.sha256}')"
        parts.append(
            (f"\nBEGIN;\n{BEGUN}" if migration.transactional else "\n")
            + f"{_LEDGER}{migration.text}"
            + f"INSERT INTO hook_migrations (version, name, sha256) VALUES {record};\n"
            + ("COMMIT;\n" if migration.transactional else "")
        )
    return "".join(parts)


def _has_schema(connection: Connection, schema: str) -> bool:
    return connection.execute("SELECT FROM pg_namespace WHERE nspname = %s", (schema,)).rowcount > 0


def _create_schema(connection: Connection, schema: str) -> None:
    # CREATE SCHEMA IF NOT EXISTS asks for the privilege even when it exists.
    if not _has_schema(connection, schema):
        connection.execute(sql.SQL("CREATE SCHEMA IF NOT EXISTS {}").format(sql.Identifier(schema)))


def _home(connection: Connection) -> str:
    """The schema that has hook_events, or else the one where new tables go."""
    # Under the default search_path ("$user", public) a table to be adopted may
    # lie in public while CREATE TABLE would make another one in front of it.
    row = connection.execute(
        "SELECT coalesce((SELECT n.nspname FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace"
        " WHERE c.oid = to_regclass('hook_events')), current_schema())"
    ).fetchone()
    if row is None or row[0] is None:
        raise SchemaError("no schema of the search_path exists: set DB_SCHEMA to the name of one, which is then made")
    home: str = row[0]
    return home


def patiently(name: str, take: Callable[[], T]) -> T:
    """What `take` returns, which is tried again with backoff when it does not get its locks in BEGUN's time.

    Raises SchemaError in the end; `name` says in it what did not get them.
    """
    tries = Retrying(
        retry=retry_if_exception_type((errors.LockNotAvailable, errors.DeadlockDetected)),
        stop=stop_after_attempt(_LOCK_ATTEMPTS),
        wait=wait_random_exponential(multiplier=0.5, max=10),
    )
    try:
        return tries(take)
    except RetryError:
        raise SchemaError(
            f"{name} did not get its table locks in {_LOCK_ATTEMPTS} attempts:"
            " see 'Database Lock Issues' in docs/operations.md for who holds them"
        ) from None


def _apply_with_patience(connection: Connection, migration: Migration) -> bool:
    name = f"migration {migration.version:04d}"
    try:
        return patiently(name, lambda: _apply(connection, migration))
    except OperationalError:
        raise
    except DatabaseError as refusal:
        raise SchemaError(f"{name}: {_reason(refusal)}") from None


def _reason(refusal: DatabaseError) -> str:
    said = refusal.diag.message_primary or str(refusal)
    if isinstance(refusal, errors.InsufficientPrivilege):
        return f"{said}: the database user needs CREATE on the schema and must own the tables there"
    hint = refusal.diag.message_hint
    return f"{said} ({hint})" if hint else said


def _apply(connection: Connection, migration: Migration) -> bool:
    """Apply one file; False when another process has done so meanwhile."""
    if not migration.transactional:
        connection.execute(migration.text)
        connection.execute(_RECORD, (migration.version, migration.name, migration.sha256))
        return True
    with connection.transaction():
        connection.execute(BEGUN.encode())
        # CREATE TABLE also lets this session learn of a ledger that another one
        # made meanwhile; to_regclass alone may answer from what was cached.
        connection.execute(_LEDGER)
        if migration.version in _recorded(connection):
            return False
        connection.execute(migration.text)
        connection.execute(_RECORD, (migration.version, migration.name, migration.sha256))
    return True


# Nobody queues for long behind what changes tables and waits for a reader; a role's
# limits must not end the adoption of a big table; one changes the schema at a time.
BEGUN = """\
SET LOCAL lock_timeout = '3s';
SET LOCAL statement_timeout = 0;
DO $$ BEGIN
    IF current_setting('server_version_num')::int >= 170000 THEN
        SET LOCAL transaction_timeout = 0;
    END IF;
    PERFORM pg_advisory_xact_lock(hashtext(current_schema() || '.hook_events'), 3);
END $$;
"""
_LEDGER = """
CREATE TABLE IF NOT EXISTS hook_migrations (
    version integer PRIMARY KEY,
    name text NOT NULL,
    sha256 text NOT NULL,
    applied_at timestamptz NOT NULL DEFAULT now()
);
COMMENT ON TABLE hook_migrations IS 'Which files of sql/ this schema has had.';
COMMENT ON COLUMN hook_migrations.version IS 'Number of the file.';
COMMENT ON COLUMN hook_migrations.name IS 'Name of the file.';
COMMENT ON COLUMN hook_migrations.sha256 IS 'SHA-256 of its text, in hexadecimal.';
COMMENT ON COLUMN hook_migrations.applied_at IS 'When it was applied.';
"""
_RECORD = "INSERT INTO hook_migrations (version, name, sha256) VALUES (%s, %s, %s) ON CONFLICT DO NOTHING"


def _recorded(connection: Connection) -> dict[int, str]:
    row = connection.execute("SELECT to_regclass('hook_migrations') IS NOT NULL").fetchone()
    if row is None or not row[0]:
        return {}
    try:
        return dict(connection.execute("SELECT version, sha256 FROM hook_migrations").fetchall())
    except errors.InsufficientPrivilege as refusal:
        raise SchemaError(f"the schema's state cannot be read: {refusal.diag.message_primary}") from None


def _refuse_bytes(connection: Connection) -> None:
    # There text is bytes of any encoding, and JSON no Unicode.
    if connection.info.parameter_status("server_encoding") == "SQL_ASCII":
        raise SchemaError(
            "the database has the encoding SQL_ASCII, and events are Unicode:"
            " create one with TEMPLATE template0 ENCODING 'UTF8'"
        )


def _refuse_newer(recorded: dict[int, str], known: list[Migration]) -> None:
    unknown = max(recorded.keys() - {migration.version for migration in known}, default=0)
    if not unknown:
        return
    newest = known[-1].version
    knows = f"this program knows only up to {newest:04d}" if unknown > newest else "this program does not know it"
    raise SchemaError(
        f"the database has migration {unknown:04d} and {knows}:"
        f" install the program that the database was migrated with, or a newer one"
    )
