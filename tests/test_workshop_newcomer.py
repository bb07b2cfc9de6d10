"""A newcomer's way, as 'hep hook new --help' tells it: from nothing to a hook that runs, and back to a version."""

from __future__ import annotations

import re
from pathlib import Path

from commands import Hep
from psycopg import Connection
from running import all_processed, running
from waiting import wait_for

from hook_event_processor.store.database import Database


def test_help_alone_leads_from_new_to_rollback(
    hep: Hep, database: Database, connection: Connection, tmp_path: Path
) -> None:
    told = re.findall(r"^  hep (\w+ \w+)", hep("hook", "new", "--help"), re.MULTILINE)
    assert told == [
        "hook spec",
        "hook check",
        "hook test",
        "hook add",
        "events emit",
        "hook logs",
        "hook versions",
    ]
    written = hep("hook", "new", "greet").splitlines()
    for command in re.findall(r"hep ([^;]+)", written[1]):
        hep(*command.split())
    Path("greet.lua").write_text(Path("greet.lua").read_text().replace("Hello, ", "Good day, "))
    assert hep.run("hook", "spec", "greet.lua").status == 1
    hep("hook", "add", "greet.lua")
    hep("events", "emit", "custom.greeting", '{"name": "world"}')
    with running(database, tmp_path, lanes=1):
        wait_for(lambda: all_processed(connection), 20)
    assert "Good day, world" in hep("hook", "logs", "greet", "--output")
    assert "2" in hep("hook", "versions", "greet")
    hep("hook", "rollback", "greet", "--to", "1")
    assert hep.document("hook", "test", "greet", "--data", '{"name": "you"}', "--format", "json")["output"].endswith(
        "Hello, you"
    )
