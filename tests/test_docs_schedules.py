"""docs/schedules.md: its commands and statements do what they say."""

from __future__ import annotations

from pathlib import Path

from commands import Hep
from pages import ROOT, blocks
from psycopg import Connection
from shell import Shell

from hook_event_processor.store.database import Database


def test_the_pages_commands_and_statements_work(
    hep: Hep, database: Database, connection: Connection, tmp_path: Path
) -> None:
    shell = Shell(hep, database, tmp_path)
    for block in blocks(ROOT / "docs/schedules.md"):
        if block.file is not None:
            (tmp_path / block.file).write_text(block.text)
        elif block.language == "bash":
            shell.run(block.text)
        else:
            connection.execute(block.text)
    listed = {each["name"]: each["cron"] for each in hep.document("schedule", "list", "--format", "json")}
    assert listed == {"nightly": "30 4 * * *", "pulse": None, "minutely": None}
    [published] = hep.document("events", "list", "--type", "backup.due", "--format", "json")
    assert published["resource_id"] == "nightly"
