"""The statements that bring an object back to what the migrations made."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from hook_event_processor.store.checkup.objects import Object

_COLUMN = re.compile(
    r"(?P<type>.+?)(?P<required> NOT NULL)?(?P<identity> GENERATED (BY DEFAULT|ALWAYS) AS IDENTITY)?"
    r"( DEFAULT (?P<default>.*))?",
    re.DOTALL,
)
# Of a type, what a cast cuts off silently, where an assignment refuses it; and its collation.
_LENGTH = re.compile(r"\(.*?\)| COLLATE .*")


@dataclass(frozen=True, slots=True)
class Remedy:
    """Statements, each to be run by itself; `safe` when no row and no lock of length is at stake.

    `retypes` a column: PostgreSQL refuses that while views, or conditions of triggers, read it.
    """

    statements: Sequence[str]
    safe: bool
    done: str = "made"
    retypes: bool = False


def remedy(wanted: Object, there: Object | None) -> Remedy | None:
    """What makes `there` (None: it is missing) what is wanted; None for a table that is missing."""
    own = wanted.name.removeprefix(f"{wanted.table}.")
    if wanted.kind == "index":
        return _index(wanted, there)
    if wanted.kind == "trigger":
        return _trigger(wanted, own, there)
    if wanted.kind in ("function", "view"):
        return _replaced(wanted)
    if wanted.kind == "constraint":
        return _constraint(wanted, own, there)
    if wanted.kind == "column":
        return _column(wanted, own, there)
    # A table that is there can be nothing else than unlogged.
    return Remedy((f"ALTER TABLE {wanted.name} SET LOGGED",), safe=False) if there is not None else None


def _index(wanted: Object, there: Object | None) -> Remedy:
    create = re.sub(r"^CREATE (UNIQUE )?INDEX ", r"CREATE \1INDEX CONCURRENTLY ", wanted.text)
    if there is None:
        return Remedy((create,), safe=True)
    if there.text == wanted.text:  # not valid
        return Remedy((f"REINDEX INDEX CONCURRENTLY {wanted.name}",), safe=True, done="built anew")
    # Claims would do without it meanwhile: that is for somebody to choose the hour of.
    return Remedy((f"DROP INDEX CONCURRENTLY {wanted.name}", create), safe=False)


def _trigger(wanted: Object, own: str, there: Object | None) -> Remedy:
    if there is not None and there.text == wanted.text:
        return Remedy((f"ALTER TABLE {wanted.table} ENABLE TRIGGER {own}",), safe=True, done="enabled")
    return Remedy((re.sub(r"^CREATE ", "CREATE OR REPLACE ", wanted.text),), safe=True)


def _replaced(wanted: Object) -> Remedy:
    if wanted.kind == "view":
        return Remedy((f"CREATE OR REPLACE VIEW {wanted.name} AS\n{wanted.text}",), safe=True)
    # OR REPLACE leaves who may execute it: everybody, unless the text itself ends with a REVOKE.
    name = wanted.name.partition("(")[0]
    grant = "" if "\nREVOKE EXECUTE ON FUNCTION " in wanted.text else f";\nGRANT EXECUTE ON FUNCTION {name} TO PUBLIC"
    return Remedy((f"CREATE OR REPLACE {wanted.text}{grant}",), safe=True)


def _constraint(wanted: Object, own: str, there: Object | None) -> Remedy:
    table = wanted.table
    drop = [f"ALTER TABLE {table} DROP CONSTRAINT {own}"] if there is not None else []
    return Remedy((*drop, f"ALTER TABLE {table} ADD CONSTRAINT {own} {wanted.text}"), safe=False)


def _column(wanted: Object, own: str, there: Object | None) -> Remedy:
    if there is None:
        return Remedy((f"ALTER TABLE {wanted.table} ADD COLUMN {own} {wanted.text}",), safe=False)
    is_so, should_be = _parts(there.text), _parts(wanted.text)
    differs = {name for name, part in should_be.items() if is_so[name] != part}
    changes = ", ".join(f"ALTER COLUMN {own} {change}" for change in _changes(own, is_so, should_be))
    statements = [f"ALTER TABLE {wanted.table} {changes}"]
    if "identity" in differs and should_be["identity"]:  # a new one would count from 1
        last = f"(SELECT max({own}) FROM {wanted.table})"
        statements.append(f"SELECT setval(pg_get_serial_sequence('{wanted.table}', '{own}'), {last})")
    return Remedy(statements, safe=differs == {"default"}, retypes="type" in differs)


def _parts(text: str) -> Mapping[str, str]:
    found = _COLUMN.fullmatch(text)
    assert found is not None  # noqa: S101 - a column has a type
    return found.groupdict("")


def _changes(own: str, is_so: Mapping[str, str], should_be: Mapping[str, str]) -> Iterator[str]:
    """What makes a column as it should be, all in one statement: PostgreSQL does it in an order that works."""
    retypes = is_so["type"] != should_be["type"]
    if is_so["default"] and (retypes or not should_be["default"]):  # it may be none of the other type
        yield "DROP DEFAULT"
    if retypes:
        yield f"TYPE {should_be['type']} USING {own}::{_LENGTH.sub('', should_be['type'])}"
    if should_be["default"] and (retypes or is_so["default"] != should_be["default"]):
        yield f"SET DEFAULT {should_be['default']}"
    if is_so["required"] != should_be["required"]:
        yield f"{'SET' if should_be['required'] else 'DROP'} NOT NULL"
    if is_so["identity"] != should_be["identity"]:
        if is_so["identity"]:
            yield "DROP IDENTITY"
        if should_be["identity"]:
            yield f"ADD{should_be['identity']}"
