"""Archived events in a file: compressed JSON lines that zcat and jq read, and that tell when and where they were hurt.

The first line is {"archive": NAME, "format": 1, …}. Each event is a line
{"event": {column: value, …}, "executions": [{…}, …], "crc32": "…"}, whose
checksum goes on from that of the line before. The last line is
{"end": {"events": N, "executions": M, "sha256": "…"}}, of all lines before it.
"""

from __future__ import annotations

import gzip
import hashlib
import json
import os
import re
import tempfile
import time
import zlib
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Any

from hook_event_processor.errors import ArchiveRefused

NAME = "hook-event-processor"
FORMAT = 1
SUFFIX = ".jsonl.gz"
_CHECK = re.compile(rb',"crc32":"([0-9a-f]{8})"\}\n')
_LONGEST_LINE = 1 << 30  # bytes: PostgreSQL holds no longer value


@dataclass(frozen=True, slots=True)
class Totals:
    """How much a file holds: events, their executions, and the SHA-256 of all lines before the last."""

    events: int
    executions: int
    sha256: str


class ArchiveWriter:
    """Writes one file, which has its name only once it is whole and was read again.

    Leaving the context without publish() removes what was written.
    """

    def __init__(self, folder: Path, head: dict[str, Any]) -> None:
        """`head` is put into the first line. Raises OSError."""
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        _sweep(folder)
        self._folder = folder
        # Nobody else writes to it, by whatever path, and nobody else reads it: mode 0600.
        descriptor, name = tempfile.mkstemp(".unfinished", ".", folder)
        self._unfinished = Path(name)
        self._file = open(descriptor, "wb")  # noqa: SIM115 - closed by publish() or __exit__
        self._gzip = gzip.GzipFile(fileobj=self._file, mode="wb", compresslevel=6, filename="", mtime=0)
        self._hash = hashlib.sha256()
        self.events = 0
        self.executions = 0
        self.size = 0
        first = json.dumps({"archive": NAME, "format": FORMAT, **head}, ensure_ascii=False).encode() + b"\n"
        self._crc = zlib.crc32(first)
        self._write(first)

    def add(self, event: str, executions: str, count: int) -> None:
        """One event as a JSON object, and a JSON array of its executions, `count` of them. Raises OSError."""
        body = f'{{"event":{_one_line(event)},"executions":{_one_line(executions)}'.encode()
        self._crc = zlib.crc32(body, self._crc)
        self._write(b'%b,"crc32":"%08x"}\n' % (body, self._crc))
        self.events += 1
        self.executions += count

    def _write(self, line: bytes) -> None:
        self._hash.update(line)
        self._gzip.write(line)
        self.size += len(line)

    def publish(self) -> Path:
        """Make it last, read it again, and give it its name; returns that.

        Raises OSError, or ArchiveRefused when what was read is not what was written.
        """
        totals = Totals(self.events, self.executions, self._hash.hexdigest())
        end = {"events": totals.events, "executions": totals.executions, "sha256": totals.sha256}
        self._gzip.write(json.dumps({"end": end}).encode() + b"\n")
        self._gzip.close()
        self._file.flush()
        os.fsync(self._file.fileno())
        self._file.close()
        if verify(self._unfinished) != totals:
            raise ArchiveRefused(f"{self._unfinished} holds something else than was written: the disk is not to trust")
        path = self._take_name()
        descriptor = os.open(self._folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        return path

    def _take_name(self) -> Path:
        # Names sort by time. A link, unlike a rename, takes no other file's place.
        while True:
            path = self._folder / f"events-{datetime.now(UTC):%Y%m%dT%H%M%S.%fZ}{SUFFIX}"
            try:
                os.link(self._unfinished, path)
            except FileExistsError:
                continue
            self._unfinished.unlink()
            return path

    def __enter__(self) -> ArchiveWriter:
        return self

    def __exit__(self, kind: type[BaseException] | None, fault: BaseException | None, at: TracebackType | None) -> None:
        self._file.close()
        self._unfinished.unlink(missing_ok=True)


def _sweep(folder: Path) -> None:
    """Remove what was cut off more than a day ago."""
    for file in folder.glob(".*.unfinished"):
        with suppress(OSError):
            if file.stat().st_mtime < time.time() - 86_400:
                file.unlink()


def _one_line(text: str) -> str:
    # PostgreSQL's JSON has line breaks between values only where somebody's json column had them.
    return text.replace("\n", " ") if "\n" in text else text


def lines(path: Path) -> Iterator[tuple[dict[str, Any], bytes]]:
    """The head, with each event's line as JSON: {"event": …, "executions": …}.

    Raises ArchiveRefused, with the line, at the first that was altered or is
    missing; what came before was whole. Raises OSError.
    """
    reader = _Reader(path)
    for line in reader.events():
        yield reader.head, line


def verify(path: Path) -> Totals:
    """Read all of a file. Raises ArchiveRefused and OSError as lines() does."""
    reader = _Reader(path)
    for _ in reader.events():
        pass
    return Totals(reader.count, reader.executions, reader.sha256)


class _Reader:
    def __init__(self, path: Path) -> None:
        self.path = path
        self.head: dict[str, Any] = {}
        self.count = 0
        self.executions = 0
        self.sha256 = ""
        self._number = 0
        self._hash = hashlib.sha256()

    def events(self) -> Iterator[bytes]:
        crc, last = 0, None
        for line in self._whole_lines():
            if self._number == 1:
                self.head, crc = self._read_head(line), zlib.crc32(line)
            elif last is not None:
                raise self._broken("something follows the last line")
            elif line.startswith(b'{"end":'):
                last = self._read_end(line)
            else:
                body = line[: line.rfind(b',"crc32":')]
                found = _CHECK.fullmatch(line, len(body))
                crc = zlib.crc32(body, crc)
                if found is None or int(found[1], 16) != crc:
                    raise self._broken("it was altered, or what stood before it was")
                self.count += 1
                yield body + b"}"
            if last is None:
                self._hash.update(line)
        if last is None:
            self._number += 1
            raise self._broken("the file ends before its last line: it was cut")
        self._compare(last)

    def _whole_lines(self) -> Iterator[bytes]:
        with gzip.open(self.path, "rb") as file:
            while True:
                try:
                    line = file.readline(_LONGEST_LINE)
                except (EOFError, zlib.error, gzip.BadGzipFile) as fault:
                    self._number += 1
                    said = "it was cut" if isinstance(fault, EOFError) else "it is no gzip file, or was altered"
                    raise self._broken(said) from None
                if not line:
                    return
                self._number += 1
                if not line.endswith(b"\n"):
                    raise self._broken("the line has no end")
                yield line

    def _read_head(self, line: bytes) -> dict[str, Any]:
        head = _parsed(line)
        if head.get("archive") != NAME:
            raise self._broken(f"it is no archive of {NAME}")
        if head.get("format") != FORMAT:
            raise self._broken(f"its format is {head.get('format')!r}, and this program reads {FORMAT}")
        return head

    def _read_end(self, line: bytes) -> Totals:
        end: Any = _parsed(line).get("end")
        try:
            return Totals(int(end["events"]), int(end["executions"]), str(end["sha256"]))
        except (TypeError, KeyError, ValueError):
            raise self._broken("the last line was altered") from None

    def _compare(self, end: Totals) -> None:
        self.executions, self.sha256 = end.executions, self._hash.hexdigest()
        if end.events != self.count or end.sha256 != self.sha256:
            raise self._broken(f"the file holds {self.count} events, and not the {end.events} that were written")

    def _broken(self, what: str) -> ArchiveRefused:
        return ArchiveRefused(f"{self.path}: line {self._number}: {what}")


def _parsed(line: bytes) -> dict[str, Any]:
    try:
        value = json.loads(line)
    except (ValueError, RecursionError):
        return {}
    return value if isinstance(value, dict) else {}


def files(paths: Sequence[Path]) -> list[Path]:
    """The archive files among `paths`, those of directories in the order of their names. Raises ArchiveRefused."""
    found: list[Path] = []
    for path in paths:
        if path.is_dir():
            inside = sorted(path.glob(f"*{SUFFIX}"))
            if not inside:
                raise ArchiveRefused(f"{path} holds no file whose name ends in {SUFFIX}")
            found += inside
        elif path.exists():
            found.append(path)
        else:
            raise ArchiveRefused(f"{path} is not there")
    return found
