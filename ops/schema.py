"""Write what the migrations make on the oldest and the newest PostgreSQL that are at hand: ops/schema.py FILE."""

from __future__ import annotations

import json
import sys
import tempfile
from collections.abc import Iterable, Mapping
from pathlib import Path

from hook_event_processor.store import embedded
from hook_event_processor.store.checkup.objects import Object, objects
from hook_event_processor.store.database import Database
from hook_event_processor.store.migrate import migrate

# Whatever older servers have is as the first of these has it.
_MAJORS = {"14": 16, "18": 18}


def described(found: Mapping[str, Iterable[Object]]) -> str:
    """The file's text: every object with its text by the first version of PostgreSQL that has it."""
    merged: dict[tuple[str, str], dict[str, object]] = {}
    meanings: dict[tuple[str, str], set[str]] = {}
    for since, all_of_it in found.items():
        for one in all_of_it:
            key = (one.kind, one.name)
            known = merged.setdefault(key, {"kind": one.kind, "name": one.name, "table": one.table, "texts": {}})
            if one.meaning not in meanings.setdefault(key, set()):
                meanings[key].add(one.meaning)
                known["texts"] |= {since: one.text}  # type: ignore[operator]
    lines = [json.dumps(merged[key], ensure_ascii=False) for key in sorted(merged)]
    return "[\n" + ",\n".join(lines) + "\n]\n"


def made(major: int) -> list[Object]:
    """The objects of a database that has just been migrated."""
    # A directory that the server's own user can enter, too.
    with tempfile.TemporaryDirectory(prefix="hep-schema-", dir="/tmp") as home:
        Path(home).chmod(0o755)
        with (
            embedded.start(Path(home, "home"), major) as server,
            Database(server.conninfo).session("schema") as session,
        ):
            migrate(session)
            return objects(session)


if __name__ == "__main__":
    Path(sys.argv[1]).write_text(described({since: made(major) for since, major in _MAJORS.items()}), encoding="utf-8")
