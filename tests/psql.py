"""psql, as operators run it."""

from __future__ import annotations

import csv
import subprocess

from hook_event_processor.store.database import Database
from hook_event_processor.store.embedded import psql_program


def psql(database: Database, *arguments: str) -> str:
    """What psql prints, as CSV. The first error ends it and fails the test, as does anything on stderr."""
    command = [str(psql_program()), "-X", "-q", "--csv", "-v", "ON_ERROR_STOP=1", "-d", database.conninfo, *arguments]
    finished = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert (finished.returncode, finished.stderr) == (0, ""), finished.stderr
    return finished.stdout


def rows(printed: str) -> list[dict[str, str]]:
    """Printed CSV of one query as one dictionary a row."""
    return list(csv.DictReader(printed.splitlines()))
