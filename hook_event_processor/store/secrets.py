"""Secrets in the database: their names, and their values encrypted."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime

from psycopg import Connection
from psycopg.rows import class_row

from hook_event_processor.errors import NotFound, SecretRefused
from hook_event_processor.store import key_ring, own_events
from hook_event_processor.store.key_ring import CREDENTIAL, KeyRing
from hook_event_processor.store.own_events import OwnEvent

# Credentials that are the product's own.
RESERVED = frozenset({"database_url", "db_password", CREDENTIAL})
MIN_VALUE_BYTES = 4  # a shorter one stands in everything: it could not be hidden
MAX_VALUE_BYTES = 64 * 1024
MAX_SECRETS = 1_000
_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}")


@dataclass(frozen=True, slots=True)
class KnownSecret:
    """A secret as operators see it."""

    name: str
    key_id: str
    created_at: datetime
    updated_at: datetime


def check_name(name: str) -> str:
    """The name. Raises SecretRefused when it cannot be a secret's."""
    if not _NAME.fullmatch(name):
        raise SecretRefused(
            f"{name[:140]!r} is no name for a secret: it takes letters, digits and _ . - , at most 128,"
            " the first of them no . or -"
        )
    if name in RESERVED:
        raise SecretRefused(f"the name {name!r} is the product's own: choose another")
    return name


def check_value(value: bytes) -> bytes:
    """The value. Raises SecretRefused when it is too short to be hidden, or too long."""
    if len(value) < MIN_VALUE_BYTES:
        raise SecretRefused(
            f"the value is shorter than {MIN_VALUE_BYTES} bytes: it could not be hidden in what hooks print"
        )
    if len(value) > MAX_VALUE_BYTES:
        raise SecretRefused(f"the value has {len(value)} bytes: at most {MAX_VALUE_BYTES}")
    return value


def put(connection: Connection, open_ring: Callable[[], KeyRing], name: str, value: bytes) -> tuple[bool, KeyRing]:
    """Store the secret under the ring's first key; whether it is new, and the ring. Raises SecretRefused."""
    check_name(name)
    check_value(value)
    with connection.transaction():
        # Before the keys are read: a rotation then either waits for this row, or has brought its key already.
        connection.execute("LOCK TABLE hook_secrets IN ROW EXCLUSIVE MODE")
        ring = open_ring()
        sealed = ring.seal(_context(_schema(connection), name), value)
        values = {"name": name, "key_id": ring.first.id, "sealed": sealed, "most": MAX_SECRETS}
        row = connection.execute(_PUT, values).fetchone()
        if row is None:
            raise SecretRefused(f"there are {MAX_SECRETS:,} secrets, as many as there may be: remove some")
        _tell(connection, "created" if row[0] else "updated", name)
    return bool(row[0]), ring


def _tell(connection: Connection, word: str, name: str) -> None:
    payload = {"secret_name": name, f"{word}_by": own_events.actor()}
    own_events.tell(connection, OwnEvent(f"secret.{word}", payload, ("secret", name)))


_PUT = """
INSERT INTO hook_secrets (name, key_id, ciphertext)
SELECT %(name)s, %(key_id)s, %(sealed)s
WHERE EXISTS (SELECT FROM hook_secrets WHERE name = %(name)s)
   OR (SELECT count(*) FROM hook_secrets) < %(most)s
ON CONFLICT (name) DO UPDATE
SET key_id = EXCLUDED.key_id, ciphertext = EXCLUDED.ciphertext, updated_at = now()
RETURNING xmax = 0
"""


@dataclass(frozen=True, slots=True)
class Sealed:
    """A secret's row."""

    name: str
    key_id: str
    ciphertext: bytes
    schema: str

    def open(self, ring: KeyRing) -> bytes:
        """The value. Raises SecretRefused."""
        return ring.unseal(self.key_id, _context(self.schema, self.name), self.ciphertext)


def get(connection: Connection, name: str) -> Sealed | None:
    """The row of that name, or None."""
    with connection.cursor(row_factory=class_row(Sealed)) as cursor:
        return cursor.execute(
            "SELECT name, key_id, ciphertext, (SELECT relnamespace::regnamespace::text FROM pg_class"
            " WHERE oid = 'hook_secrets'::regclass) AS schema FROM hook_secrets WHERE name = %s",
            (name,),
            binary=True,
        ).fetchone()


def known(connection: Connection) -> list[KnownSecret]:
    """All secrets by name."""
    with connection.cursor(row_factory=class_row(KnownSecret)) as cursor:
        return cursor.execute("SELECT name, key_id, created_at, updated_at FROM hook_secrets ORDER BY name").fetchall()


def remove(connection: Connection, name: str) -> None:
    """Remove the secret. Raises NotFound."""
    with connection.transaction():
        if connection.execute("DELETE FROM hook_secrets WHERE name = %s", (name,)).rowcount == 0:
            raise NotFound(f"there is no secret {name!r} in the database: 'hep secret list' lists them")
        _tell(connection, "deleted", name)


def rotate(connection: Connection, open_ring: Callable[[], KeyRing], *, keep_old: bool = False) -> tuple[int, KeyRing]:
    """Encrypt every secret with a new key, in one transaction; returns how many, and the ring as it is then.

    The key file gets the new key before and loses the old ones after it (not
    with `keep_old`): wherever this is interrupted, every secret's key is
    there. With keys from a credential, which only the operator can change,
    its first one is the new one. Raises SecretRefused, with nothing changed,
    when a secret cannot be decrypted.
    """
    path = open_ring().path
    if path is None:
        with _locked(connection):
            ring = open_ring()
            return _encrypt_anew(connection, ring), ring
    with key_ring.alone(path):
        with _locked(connection):
            before = open_ring().keys
            ring = key_ring.write(path, (key_ring.Key.new(), *before))
            try:
                count = _encrypt_anew(connection, ring)
            except SecretRefused:
                key_ring.write(path, before)
                raise
        return count, ring if keep_old else key_ring.write(path, ring.keys[:1])


@contextmanager
def _locked(connection: Connection) -> Iterator[None]:
    """A transaction in which nobody else sets secrets."""
    with connection.transaction():
        connection.execute("LOCK TABLE hook_secrets IN SHARE ROW EXCLUSIVE MODE")
        yield


def _encrypt_anew(connection: Connection, ring: KeyRing) -> int:
    schema = _schema(connection)
    rows = connection.execute("SELECT name, key_id, ciphertext FROM hook_secrets ORDER BY name").fetchall()
    old = [Sealed(name, key_id, ciphertext, schema) for name, key_id, ciphertext in rows if key_id != ring.first.id]
    for row in old:
        try:
            value = row.open(ring)
        except SecretRefused as fault:
            raise SecretRefused(
                f"nothing was changed: the secret {row.name!r} cannot be decrypted: {fault}; remove it or set it anew"
            ) from None
        connection.execute(
            "UPDATE hook_secrets SET key_id = %s, ciphertext = %s WHERE name = %s",
            (ring.first.id, ring.seal(_context(schema, row.name), value), row.name),
        )
    return len(old)


def _schema(connection: Connection) -> str:
    """The schema that the table is in: rows of another one's cannot stand in for it."""
    row = connection.execute(
        "SELECT relnamespace::regnamespace::text FROM pg_class WHERE oid = 'hook_secrets'::regclass"
    ).fetchone()
    assert row is not None  # noqa: S101 - the cast has found it
    return str(row[0])


def _context(schema: str, name: str) -> bytes:
    return b"\0".join((b"hook_secrets", schema.encode(), name.encode()))


def without_line_break(value: bytes) -> bytes:
    """The value without the line break that editors and echo put at the end."""
    return value.removesuffix(b"\r\n") if value.endswith(b"\r\n") else value.removesuffix(b"\n")
