"""Archiving to files: what a file holds is removed when the file is whole, on the disk, and was read again."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path

from psycopg import Connection

from hook_event_processor.archive_file import ArchiveWriter
from hook_event_processor.errors import ArchiveRefused
from hook_event_processor.store.cleanup.removal import Place, values
from hook_event_processor.store.cleanup.to_table import ARCHIVES, columns_of

MOST_EVENTS = 100_000  # in a file
REMOVED = 2_000  # events in a step, when the file is whole
MOST_BYTES = 256 * 1024 * 1024  # in a file, before they are compressed

# row_to_json() writes numbers, times and jsonb as they are; nothing on the way reads them.
ROWS = """
SELECT e.ctid::text, e.id, e.xmin::text, row_to_json(e)::text, runs.list::text, runs.number
FROM hook_events e, LATERAL (
    SELECT coalesce(json_agg(row_to_json(x) ORDER BY x.id), '[]') AS list, count(*) AS number
    FROM event_hook_executions x WHERE x.event_id = e.id) AS runs
WHERE e.ctid = ANY(%(places)s::tid[]) AND e.id = ANY(%(ids)s::uuid[]) AND (e.processed OR e.failed_at IS NOT NULL)
"""


class FileArchive:
    """Files in one directory, one after the other. As a context it leaves no file that is not whole."""

    def __init__(self, connection: Connection, folder: Path) -> None:
        self._connection = connection
        self._folder = folder
        self._head = {
            "host": socket.gethostname(),
            "columns": {table: columns_of(connection, table) for table in ARCHIVES},
        }
        self._open = ExitStack()
        self._writer: ArchiveWriter | None = None
        self._places: list[Place] = []

    def __enter__(self) -> FileArchive:
        return self

    def __exit__(self, *_: object) -> None:
        self._open.close()

    @property
    def full(self) -> bool:
        """Whether it is time for finish()."""
        writer = self._writer
        return writer is not None and (writer.events >= MOST_EVENTS or writer.size >= MOST_BYTES)

    def add(self, places: Sequence[Place]) -> None:
        """Write these events, where they still lie. Raises ArchiveRefused when the file cannot be written."""
        by_ctid = {place.ctid: place for place in places}
        try:
            if self._writer is None:
                self._writer = self._open.enter_context(ArchiveWriter(self._folder, self._head))
            with self._connection.cursor() as cursor:
                for ctid, event_id, xmin, event, executions, number in cursor.stream(ROWS, values(places)):
                    self._writer.add(event, executions, number)
                    self._places.append(Place(ctid, event_id, by_ctid[ctid].rule, xmin))
        except OSError as fault:
            raise self._refused(fault) from fault

    def finish(self) -> tuple[Path | None, Iterator[Sequence[Place]]]:
        """Make the file last; returns it with what is to be removed now, slice by slice. None: nothing was added."""
        writer, places = self._writer, self._places
        self._writer, self._places = None, []
        if writer is None or not places:
            self._open.close()
            return None, iter(())
        try:
            path = writer.publish()
        except OSError as fault:
            raise self._refused(fault) from fault
        finally:
            self._open.close()
        return path, (places[at : at + REMOVED] for at in range(0, len(places), REMOVED))

    def _refused(self, fault: OSError) -> ArchiveRefused:
        said = os.strerror(fault.errno) if fault.errno else str(fault)
        return ArchiveRefused(f"{self._folder}: nothing more is archived or removed: {said}")
