"""Arrays as PostgreSQL's binary and text formats have them, built at the speed of join().

The hot path hands thousands of values to one statement; adapting them one by
one would cost more than the statement. Formats: PostgreSQL source, array_recv.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from psycopg.adapt import Dumper
from psycopg.pq import Format
from psycopg.types.string import ByteaBinaryLoader

_UUID, _TID, _TEXT = 2950, 27, 25


class UuidArray(bytes):
    """A uuid[] in binary format."""


class TidArray(bytes):
    """A tid[] in binary format."""


class TextArray(bytes):
    """A text[] in binary format."""


class Integers(str):
    """An integer array of any width in text format: the statement casts it."""

    __slots__ = ()


def uuids(ids: Sequence[bytes]) -> UuidArray:
    """A uuid[] of ids of 16 bytes."""
    return UuidArray(b"\0\0\0\x10".join([_header(_UUID, len(ids)), *ids]) if ids else _empty(_UUID))


def tids(tids_: Sequence[bytes]) -> TidArray:
    """A tid[] of row addresses of 6 bytes."""
    return TidArray(b"\0\0\0\x06".join([_header(_TID, len(tids_)), *tids_]) if tids_ else _empty(_TID))


def texts(values: Sequence[bytes | None]) -> TextArray:
    """A text[] of UTF-8 texts; None is NULL."""
    if not values:
        return TextArray(_empty(_TEXT))
    parts = [_header(_TEXT, len(values))]
    for value in values:
        parts.append(b"\xff\xff\xff\xff" if value is None else len(value).to_bytes(4, "big") + value)
    return TextArray(b"".join(parts))


def integers(values: Iterable[int]) -> Integers:
    """An array of integers."""
    return Integers("{" + str(list(values))[1:-1] + "}")


def _header(oid: int, count: int) -> bytes:
    # One dimension, a bitmap of NULLs (allowed even when there are none), the type, its length, from 1.
    return b"\0\0\0\1\0\0\0\1" + oid.to_bytes(4, "big") + count.to_bytes(4, "big") + b"\0\0\0\1"


def _empty(oid: int) -> bytes:
    return b"\0\0\0\0\0\0\0\0" + oid.to_bytes(4, "big")


class _Binary(Dumper):
    format = Format.BINARY

    def dump(self, obj: Any) -> bytes:
        return bytes(obj)


class _UuidArrayDumper(_Binary):
    oid = 2951


class _TidArrayDumper(_Binary):
    oid = 1010


class _TextArrayDumper(_Binary):
    oid = 1009


class _IntegersDumper(Dumper):
    oid = 0

    def dump(self, obj: str) -> bytes:
        return obj.encode()


def register(context: Any) -> None:
    """Let a connection send these arrays, and give ids, texts, times and row addresses as raw bytes."""
    adapters = context.adapters
    adapters.register_dumper(UuidArray, _UuidArrayDumper)
    adapters.register_dumper(TidArray, _TidArrayDumper)
    adapters.register_dumper(TextArray, _TextArrayDumper)
    adapters.register_dumper(Integers, _IntegersDumper)
    for name in ("uuid", "text", "varchar", "timestamptz", "tid"):
        adapters.register_loader(name, ByteaBinaryLoader)
