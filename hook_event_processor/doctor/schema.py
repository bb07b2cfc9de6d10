"""The schema: migrations that are missing or changed, and objects that differ from what they made."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cache, partial
from importlib.resources import files
from typing import Any

from hook_event_processor.doctor.finding import Area, DatabaseCheck, Finding, Kind, Level, Subject, fixed_by, psql
from hook_event_processor.doctor.remedy import Remedy, remedy
from hook_event_processor.errors import SchemaError
from hook_event_processor.store import migrate
from hook_event_processor.store.checkup import tables
from hook_event_processor.store.checkup.objects import NOT_VALID, Object, objects, schema_name

DESCRIPTION = "schema.json"  # made by ops/schema

NOT_MIGRATED = Kind(
    "migrations-pending", Level.PROBLEM, "The database lacks migrations of this program: processors do not start on it."
)
CHANGED = Kind(
    "migrations-changed",
    Level.PROBLEM,
    "Migrations were applied with another text than this program's: it is another build. Processors do not start.",
)
NEWER = Kind(
    "schema-newer",
    Level.PROBLEM,
    "A newer program has migrated the database; this one does not know what it would do there, and does not start.",
)
MISSING = Kind(
    "object-missing",
    Level.PROBLEM,
    "Something that the migrations made is gone. What reads it fails, or takes long: claims without their index, say.",
)
DIFFERENT = Kind(
    "object-different",
    Level.WARNING,
    "Something that the migrations made was altered. The program relies on it as it was.",
)
UNSOUND = Kind(
    "object-unsound",
    Level.PROBLEM,
    "An index that was left half-built is not used, and a trigger that is disabled does not fire.",
)
EXTRA = Kind(
    "object-extra",
    Level.NOTE,
    "Somebody has added this to a table of the product's. Indexes and triggers on hook_events cost every event"
    " something; a constraint may refuse events.",
)

# What every claim and record touches.
_ON_OUR_TABLES = ("column", "constraint", "index", "trigger")
# Made and dropped by the product itself, as grants come and go.
_AT_TIMES = ("hook_events.hook_events_limited",)


@cache
def expected() -> Mapping[tuple[str, str], Mapping[str, Any]]:
    """What the migrations make: by kind and name, the table and the texts by the first version that has them."""
    described = json.loads(files("hook_event_processor.doctor").joinpath(DESCRIPTION).read_text(encoding="utf-8"))
    return {(one["kind"], one["name"]): one for one in described}


def _migrations(subject: Subject) -> Iterator[Finding]:
    try:
        known = migrate.status(subject.connection)
    except SchemaError as fault:
        upgrade = "/opt/hook-event-processor/bin/pip install --upgrade hook_event_processor-*.whl  # the newer one"
        yield Finding(NEWER, str(fault), (upgrade,))
        return
    pending = [one.migration.version for one in known if one.state == "pending"]
    changed = [one.migration.version for one in known if one.state == "changed"]
    if pending:
        yield Finding(NOT_MIGRATED, f"the migrations {_numbers(pending)} are pending", ("hep db migrate",))
    if changed:
        what = f"the migrations {_numbers(changed)} were applied with another text"
        yield Finding(CHANGED, what, ("hep db status", "hep --version  # here, and where it was migrated from"))


def _numbers(versions: Iterable[int]) -> str:
    return ", ".join(f"{version:04d}" for version in versions)


def _objects(subject: Subject) -> Iterator[Finding]:
    """Nothing while migrations are pending: then the schema differs by right."""
    try:
        migrate.check(subject.connection)
    except SchemaError:
        return
    found = {(one.kind, one.name): one for one in objects(subject.connection)}
    gone = {name for kind, name in expected() if kind in ("table", "view") and (kind, name) not in found}
    for key, described in expected().items():
        if key[0] in ("table", "view") or described["table"] not in gone:
            yield from _compared(subject, described, found.get(key))
    yield from _extra(found.values())


def _compared(subject: Subject, described: Mapping[str, Any], there: Object | None) -> Iterator[Finding]:
    kind, name = described["kind"], described["name"]
    texts = described["texts"]
    wanted = Object(kind, name, described["table"], _text_for(texts, subject.connection.info.server_version), True)
    if there is None:
        yield _finding(subject, MISSING, f"the {kind} {name} is missing", wanted, None)
    elif there.meaning not in [Object(kind, name, "", text, True).meaning for text in texts.values()]:
        short = kind not in ("function", "view")
        how = f": it is {there.text!r}, and was made as {wanted.text!r}" if short else ""
        yield _finding(subject, DIFFERENT, f"the {kind} {name} is not as it was made{how}", wanted, there)
    elif not there.sound and not wanted.text.endswith(NOT_VALID):
        how = {"index": "not valid", "trigger": "disabled"}.get(kind, "not validated")
        yield _finding(subject, UNSOUND, f"the {kind} {name} is {how}", wanted, there)


def _text_for(texts: Mapping[str, str], server_version: int) -> str:
    """The newest text that this server's version has."""
    majors = sorted((int(major) for major in texts), reverse=True)
    return texts[str(next((major for major in majors if major <= server_version // 10_000), majors[-1]))]


def _finding(subject: Subject, kind: Kind, what: str, wanted: Object, there: Object | None) -> Finding:
    found = remedy(wanted, there)
    if found is None:
        return Finding(kind, what, _made_anew(wanted.table))
    schema = schema_name(subject.connection)
    statements = [statement.replace("{schema}", schema) for statement in found.statements]
    mend = [psql(statement) for statement in statements if "\n" not in statement]
    if found.retypes and (in_its_way := "; ".join(_drops(wanted))):
        mend[0] = f"{psql(f'{in_its_way}; {statements[0]}')} && {fixed_by(AREA.name)}"
    if not found.safe:
        return Finding(kind, what, mend)
    return Finding(kind, what, (fixed_by(AREA.name), *mend), partial(_apply, subject, wanted, found, statements))


def _apply(subject: Subject, wanted: Object, found: Remedy, statements: Sequence[str]) -> str:
    for statement in statements:
        if wanted.kind == "index":
            tables.build(subject.connection, wanted.name, statement)
        else:
            subject.connection.execute(statement)
    return f"{found.done} the {wanted.kind} {wanted.name}"


def _drops(column: Object) -> Iterator[str]:
    """What drops our views that read a column, and triggers whose condition does; --fix makes them again."""
    name = re.compile(rf"\b{column.name.removeprefix(f'{column.table}.')}\b")
    for (kind, other), described in expected().items():
        text = next(iter(described["texts"].values())).partition(" EXECUTE FUNCTION ")[0]
        if kind == "trigger" and described["table"] == column.table and name.search(text):
            yield f"DROP TRIGGER IF EXISTS {other.removeprefix(f'{column.table}.')} ON {column.table}"
        elif kind == "view" and f"FROM {column.table} " in text and name.search(text):
            yield f"DROP VIEW IF EXISTS {other}"


def _made_anew(table: str) -> Sequence[str]:
    """Running the migration that makes the table again, and all later ones: some of these change what it makes.

    References to it are gone, too. Migrations comment on them, and make none for a table that is there.
    """
    statement = re.compile(rf"CREATE TABLE IF NOT EXISTS {table} \(.*?\n\)[^;]*;", re.DOTALL)
    first, create = next((one.version, made[0]) for one in migrate.migrations() if (made := statement.search(one.text)))
    references = [*_references(table)]
    before = [" ".join(create.split()), *references] if references else []
    return (psql(" ".join([*before, f"DELETE FROM hook_migrations WHERE version >= {first}"])) + " && hep db migrate",)


def _references(table: str) -> Iterator[str]:
    """What makes the references to a table; rows that refer to what is gone stay."""
    for (kind, name), described in expected().items():
        text = next(iter(described["texts"].values()))
        if kind == "constraint" and f" REFERENCES {table}(" in text:
            own = name.removeprefix(f"{described['table']}.")
            yield f"ALTER TABLE IF EXISTS {described['table']} ADD CONSTRAINT {own} {text} NOT VALID;"


def _extra(found: Iterable[Object]) -> Iterator[Finding]:
    ours = {name for kind, name in expected() if kind == "table"}
    for one in found:
        if one.kind in _ON_OUR_TABLES and one.table in ours and (one.kind, one.name) not in expected():
            if one.name in _AT_TIMES:
                continue
            drop = f'DROP INDEX CONCURRENTLY "{one.name}"' if one.kind == "index" else _drop(one)
            yield Finding(EXTRA, f"the {one.kind} {one.name} is nobody's of ours: {one.text}", (psql(drop),))


def _drop(one: Object) -> str:
    own = one.name.removeprefix(f"{one.table}.")
    if one.kind == "trigger":
        return f'DROP TRIGGER "{own}" ON {one.table}'
    return f'ALTER TABLE {one.table} DROP {one.kind.upper()} "{own}"'


AREA = Area(
    "schema",
    "migrations, and the objects that they made",
    (
        DatabaseCheck(_migrations, (NOT_MIGRATED, CHANGED, NEWER)),
        DatabaseCheck(_objects, (MISSING, DIFFERENT, UNSOUND, EXTRA)),
    ),
)
