"""The statements that bring an object back to what the migrations made."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from hook_event_processor.store.checkup.objects import Object

_DEFAULT = re.compile(r" DEFAULT (?P<value>.*)$", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Remedy:
    """Statements, each to be run by itself; `safe` when no row and no lock of length is at stake."""

    statements: Sequence[str]
    safe: bool
    done: str = "made"


def remedy(wanted: Object, there: Object | None) -> Remedy | None:
    """What makes `there` (None: it is missing) what is wanted; None where no statement alone does."""
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
    return None


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
    return Remedy((f"CREATE OR REPLACE {wanted.text}",), safe=True)


def _constraint(wanted: Object, own: str, there: Object | None) -> Remedy:
    table = wanted.table
    drop = [f"ALTER TABLE {table} DROP CONSTRAINT {own}"] if there is not None else []
    return Remedy((*drop, f"ALTER TABLE {table} ADD CONSTRAINT {own} {wanted.text}"), safe=False)


def _column(wanted: Object, own: str, there: Object | None) -> Remedy | None:
    if there is None:
        return Remedy((f"ALTER TABLE {wanted.table} ADD COLUMN {own} {wanted.text}",), safe=False)
    default = _DEFAULT.search(wanted.text)
    if _DEFAULT.sub("", there.text) == _DEFAULT.sub("", wanted.text):
        change = f"SET DEFAULT {default['value']}" if default else "DROP DEFAULT"
        return Remedy((f"ALTER TABLE {wanted.table} ALTER COLUMN {own} {change}",), safe=True)
    if there.text == wanted.text.replace(" NOT NULL", ""):
        return Remedy((f"ALTER TABLE {wanted.table} ALTER COLUMN {own} SET NOT NULL",), safe=False)
    return None
