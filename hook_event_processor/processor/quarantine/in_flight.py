"""What runs at this moment, written where it outlives the process: a death leaves the names of its suspects."""

from __future__ import annotations

import logging
import mmap
import os
import struct
import uuid
import weakref
from collections import deque
from collections.abc import Container, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from fcntl import LOCK_EX, LOCK_NB, lockf
from pathlib import Path
from typing import Any

from hook_event_processor.processor.pace import MAX_CHUNK
from hook_event_processor.store.database import Database

logger = logging.getLogger("Quarantine")

_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")
_MAGIC = b"hep in flight 1\n"
# The file: this header, then slots for chunks, and slots for single events. `node` names the processor.
_FILE = struct.Struct("<16s36s4xII256s")
# A slot: this header, then ids of 16 bytes. The count stands last, and is 0 while nothing runs.
_SLOT = struct.Struct("<qiiI4x")
_ID_BYTES = 16
_MIN_SPARE = 8


@dataclass(frozen=True, slots=True)
class Flight:
    """A hook's call that had not come back, for events (ids of 16 bytes); `apart`: in a process of its own."""

    hook_id: int
    version: int
    apart: bool
    event_ids: tuple[bytes, ...]


@dataclass(frozen=True, slots=True)
class LeftBehind:
    """What a processor was running that did not end well."""

    node: str
    flights: tuple[Flight, ...]


class Slot:
    """One thread's place: two copies into memory a chunk, and no system call."""

    __slots__ = ("__weakref__", "_apart", "_at", "_capacity", "_memory")

    def __init__(self, memory: bytearray | mmap.mmap, at: int, capacity: int, apart: bool) -> None:
        self._memory = memory
        self._at = at
        self._capacity = capacity
        self._apart = apart

    def began(self, hook_id: int, version: int, rows: Sequence[Any]) -> None:
        """The thread runs the hook for these rows from now on; a row begins with its event's id."""
        ids = b"".join([row[0] for row in rows[: self._capacity]])
        start = self._at + _SLOT.size
        self._memory[start : start + len(ids)] = ids
        _SLOT.pack_into(self._memory, self._at, hook_id, version, self._apart, len(ids) // _ID_BYTES)

    def ended(self) -> None:
        """It runs nothing."""
        _SLOT.pack_into(self._memory, self._at, 0, 0, 0, 0)


class Slots:
    """Places for the threads of a pool. A place is free again when its Slot is dropped."""

    def __init__(self, owner: InFlight, at: int, count: int, events: int, *, apart: bool = False) -> None:
        self._owner = owner
        self._events = events
        self._apart = apart
        self.end = at + count * _size(events)
        self._free = deque(range(at, self.end, _size(events)))

    def take(self) -> Slot:
        """A place for one thread; one that is not kept when threads that were given up hold all that there are."""
        try:
            at = self._free.popleft()
        except IndexError:
            return Slot(bytearray(_size(self._events)), 0, self._events, self._apart)
        slot = Slot(self._owner.memory, at, self._events, self._apart)
        weakref.finalize(slot, self._free.append, at).atexit = False
        return slot


class InFlight:
    """This processor's file, locked for as long as the process lives. It is never a reason not to run."""

    def __init__(self, database: Database, node: str, *, chunks: int, workers: int, apart: int) -> None:
        """Places for so many threads of each pool: in a file once that is open, before the first of them begins."""
        self._database = database
        # Threads that were given up keep their places until they come back.
        self.chunks = Slots(self, _FILE.size, 4 * chunks, MAX_CHUNK)
        spare = max(workers // 4, _MIN_SPARE)
        self.workers = Slots(self, self.chunks.end, workers + spare, 1)
        self.apart = Slots(self, self.workers.end, 2 * apart, 1, apart=True)
        singles = workers + spare + 2 * apart
        self._header = _FILE.pack(_MAGIC, _boot(), 4 * chunks, singles, node.encode()[:255])
        self.memory: bytearray | mmap.mmap = bytearray(self.apart.end)
        self._path: Path | None = None
        self._file = -1

    def open(self, directory: Path) -> None:
        """Keep it there from now on; where that cannot be, a warning says so."""
        self._path = directory / f"{self._database.key}-{uuid.uuid4().hex}"
        _own.add((os.getpid(), str(self._path)))
        try:
            self.memory = self._map(self._path)
        except OSError as fault:
            self.close()
            logger.warning("%s: %s: if this processor dies, nobody will know what it ran", self._path, fault.strerror)
        else:
            self.memory[: len(self._header)] = self._header

    def _map(self, path: Path) -> mmap.mmap:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        lockf(self._file, LOCK_EX | LOCK_NB)
        # Writing to a page that has no place on the disk would end the process.
        os.posix_fallocate(self._file, 0, self.apart.end)
        return mmap.mmap(self._file, self.apart.end)

    def close(self) -> None:
        """The processor ends well: nothing is to be suspected."""
        if self._file >= 0 and self._path is not None:
            with suppress(OSError):
                self._path.unlink()
            os.close(self._file)
            self._file = -1


# A process may lock again what it has locked: it must not take itself for dead.
_own: set[tuple[int, str]] = set()


@dataclass(eq=False, slots=True)
class Legacy:
    """A dead processor's file: read, and locked until it is forgotten."""

    left_behind: LeftBehind
    path: Path
    file: int

    def forget(self) -> None:
        """What it held is known elsewhere now."""
        with suppress(OSError):
            self.path.unlink()
        os.close(self.file)


def legacies(directory: Path, database: Database, besides: Container[Path] = ()) -> Iterator[Legacy]:
    """The files of processors of this database that are no more; those of a life before the last boot are removed.

    `besides` are those that the caller has already: opened again and closed, they would be locked no longer.
    """
    for path in sorted(directory.glob(f"{database.key}-*")):
        if path in besides or (os.getpid(), str(path)) in _own:
            continue
        try:
            file = os.open(path, os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC)
        except OSError:
            continue  # another has just forgotten it
        try:
            lockf(file, LOCK_EX | LOCK_NB)
            left_behind = _read(os.pread(file, os.fstat(file).st_size, 0))
        except OSError:  # its processor lives
            os.close(file)
            continue
        legacy = Legacy(left_behind or LeftBehind("", ()), path, file)
        if left_behind is None or not left_behind.flights:
            legacy.forget()
        else:
            yield legacy


def _read(data: bytes) -> LeftBehind | None:
    """None when it is no such file, or of another boot."""
    if len(data) < _FILE.size:
        return None
    magic, boot, chunks, singles, node = _FILE.unpack_from(data)
    whole = _FILE.size + chunks * _size(MAX_CHUNK) + singles * _size(1)
    if magic != _MAGIC or boot != _boot() or len(data) != whole:
        return None
    places = [(_FILE.size + number * _size(MAX_CHUNK), MAX_CHUNK) for number in range(chunks)]
    start = _FILE.size + chunks * _size(MAX_CHUNK)
    places += [(start + number * _size(1), 1) for number in range(singles)]
    flights = [_flight(data, at, capacity) for at, capacity in places]
    name = node.rstrip(b"\0").decode(errors="replace")
    return LeftBehind(name, tuple(flight for flight in flights if flight.event_ids))


def _flight(data: bytes, at: int, capacity: int) -> Flight:
    hook_id, version, apart, count = _SLOT.unpack_from(data, at)
    start = at + _SLOT.size
    ids = data[start : start + min(count, capacity) * _ID_BYTES]
    return Flight(hook_id, version, bool(apart), tuple(ids[n : n + _ID_BYTES] for n in range(0, len(ids), _ID_BYTES)))


def _size(events: int) -> int:
    return _SLOT.size + events * _ID_BYTES


def _boot() -> bytes:
    try:
        return _BOOT_ID.read_bytes().strip()[:36]
    except OSError:
        return b"unknown".ljust(36, b"\0")
