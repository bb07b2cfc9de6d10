"""Write what the migrations and sql/roles.sql make on the oldest and the newest PostgreSQL that are at hand.

ops/schema.py FOLDER
"""

from __future__ import annotations

import json
import sys
import tempfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import psycopg
from psycopg.conninfo import make_conninfo

from hook_event_processor.store import embedded, roles
from hook_event_processor.store.checkup import rights
from hook_event_processor.store.checkup.objects import Object, objects
from hook_event_processor.store.checkup.rights import Guard, Right
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


def described_rights(found: Iterable[Right], guards: Iterable[Guard]) -> str:
    """The file's text: what each role may do with each thing, and row security with all texts that mean the same."""
    privileges: dict[tuple[str, str], dict[str, list[str]]] = {}
    for right in sorted(found):
        columns = privileges.setdefault((right.role, right.on), {}).setdefault(right.privilege, [])
        columns += [right.column] if right.column else []
    texts: dict[tuple[str, str], dict[str, str]] = {}
    for guard in sorted(guards):
        texts.setdefault((guard.table, guard.policy), {}).setdefault(guard.meaning, guard.text)
    lines = [{"role": role, "on": on, "privileges": of_it} for (role, on), of_it in privileges.items()]
    guarded = [{"table": table, "policy": name, "texts": [*of_it.values()]} for (table, name), of_it in texts.items()]
    in_lines = [",\n".join(json.dumps(each) for each in part) for part in (lines, guarded)]
    return f'{{"rights": [\n{in_lines[0]}\n], "guards": [\n{in_lines[1]}\n]}}\n'


@dataclass(frozen=True, slots=True)
class Made:
    """What is in a database that has just been migrated, with the roles set up afterwards."""

    objects: list[Object]
    rights: list[Right]
    guards: list[Guard]


def made(major: int) -> Made:
    """A database of this version of PostgreSQL."""
    # A directory that the server's own user can enter, too.
    with tempfile.TemporaryDirectory(prefix="hep-schema-", dir="/tmp") as home:
        Path(home).chmod(0o755)
        with (
            embedded.start(Path(home, "home"), major) as server,
            Database(server.conninfo).session("schema") as session,
        ):
            migrate(session)
            found = objects(session)
            with psycopg.connect(make_conninfo(server.administration, dbname=session.info.dbname)) as administration:
                roles.apply(administration)
            granted = [right for right in rights.rights(session, roles.NAMES) if right.role != rights.EVERYBODY]
            return Made(found, granted, rights.guards(session))


def main(folder: Path) -> None:
    """Write both descriptions."""
    found = {since: made(major) for since, major in _MAJORS.items()}
    texts = described({since: one.objects for since, one in found.items()})
    (folder / "schema.json").write_text(texts, encoding="utf-8")
    guards = [guard for one in found.values() for guard in one.guards]
    rights_of_all = {right for one in found.values() for right in one.rights}
    (folder / "roles.json").write_text(described_rights(rights_of_all, guards), encoding="utf-8")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
