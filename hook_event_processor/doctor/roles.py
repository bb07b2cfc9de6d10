"""The roles of sql/roles.sql, where they were set up: what they may do in this database, and what they are to."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cache
from importlib.resources import files
from typing import Any

from hook_event_processor.doctor import schema
from hook_event_processor.doctor.finding import (
    Area,
    DatabaseCheck,
    Finding,
    Kind,
    Level,
    Subject,
    administer,
    make_roles,
    psql,
)
from hook_event_processor.errors import SchemaError
from hook_event_processor.store import migrate, roles
from hook_event_processor.store.checkup import rights
from hook_event_processor.store.checkup.objects import schema_name
from hook_event_processor.store.checkup.rights import EVERYBODY, Guard, Right

DESCRIPTION = "roles.json"  # made by ops/schema
OWNER = "hook_owner"

MISSING = Kind(
    "grant-missing",
    Level.PROBLEM,
    "A role of 'hep db roles' lacks what it needs, because that was not run again after a migration, perhaps. What"
    " its members do there is refused.",
)
EXTRA = Kind(
    "grant-extra",
    Level.WARNING,
    "A role of 'hep db roles', or everybody, may do more than it is meant to. So may whoever gets hold of one of its"
    " members.",
)
UNGUARDED = Kind(
    "row-security",
    Level.PROBLEM,
    "Row security is not as 'hep db roles' makes it. Authors and watchers may reach what is others', or somebody does"
    " not see what is there.",
)

NARROWED = Kind(
    "processor-narrowed",
    Level.PROBLEM,
    "A login of processors has a role for authors of hooks, too. Its processors see the hooks of the stacks that it was"
    " granted alone, and the events of all others are done with unhandled.",
)

# What docs/retention.md has granted for rules and archives that take more; nobody need have it.
_BY_CHOICE = frozenset(
    Right("hook_retention", on, privilege)
    for on, privileges in {
        "hook_events": ("SELECT",),
        "event_hook_executions": ("SELECT",),
        "hooks": ("SELECT",),
        "hook_versions": ("SELECT", "DELETE"),
        "hook_archived_events": ("INSERT", "SELECT"),
        "hook_archived_executions": ("INSERT", "SELECT"),
    }.items()
    for privilege in privileges
)
# Schemas are usable by everybody unless somebody says otherwise; tables and columns are not.
_EVERYBODYS = Right(EVERYBODY, "", "USAGE")


@cache
def _described() -> Mapping[str, Any]:
    return json.loads(files("hook_event_processor.doctor").joinpath(DESCRIPTION).read_text(encoding="utf-8"))  # type: ignore[no-any-return]


@cache
def expected() -> frozenset[Right]:
    """What sql/roles.sql grants."""
    return frozenset(
        Right(each["role"], each["on"], privilege, column)
        for each in _described()["rights"]
        for privilege, columns in each["privileges"].items()
        for column in columns or [""]
    )


@cache
def guarded() -> Mapping[tuple[str, str], frozenset[str]]:
    """Row security and the policies that sql/roles.sql makes, by table and name: what they mean, in all versions."""
    return {
        (each["table"], each["policy"]): frozenset(
            Guard(each["table"], each["policy"], text).meaning for text in each["texts"]
        )
        for each in _described()["guards"]
    }


def _roles(subject: Subject) -> Iterator[Finding]:
    """Nothing while migrations are pending, or where the roles were never set up."""
    try:
        migrate.check(subject.connection)
    except SchemaError:
        return
    owners = rights.owners(subject.connection)
    ours = {name: owner for name, owner in owners.items() if name in _ours("table", "view", "function")}
    things = {right.on for right in expected()} | ours.keys()
    granted = {right for right in rights.rights(subject.connection, roles.NAMES) if right.on in things}
    if OWNER not in ours.values() and not any(right.on and right.role != EVERYBODY for right in granted):
        return
    there = {"", *owners}
    yield from _missing(subject, [right for right in expected() - granted if right.on in there], ours)
    yield from _extra(subject, granted - expected() - _BY_CHOICE - {_EVERYBODYS})
    yield from _guards(subject, ours.keys() & _ours("table"))
    for login, role in rights.narrowed_processors(subject.connection):
        mend = administer(f'REVOKE {role} FROM "{login}"', subject.connection)
        yield Finding(NARROWED, f"the login {login} is a member of hook_processor and of {role}", (mend,))


def _ours(*kinds: str) -> set[str]:
    return {name for kind, name in schema.expected() if kind in kinds}


def _again(subject: Subject) -> Sequence[str]:
    return "hep db roles", make_roles(subject.connection)


def _missing(subject: Subject, lacking: Sequence[Right], owners: Mapping[str, str]) -> Iterator[Finding]:
    for role in sorted({right.role for right in lacking}):
        what = _in_words(right for right in lacking if right.role == role)
        yield Finding(MISSING, f"the role {role} lacks {what}", _again(subject))
    others = sorted(name for name, owner in owners.items() if owner != OWNER)
    if others:
        yield Finding(MISSING, f"{OWNER} does not own {', '.join(others)}", _again(subject))


def _extra(subject: Subject, extra: Iterable[Right]) -> Iterator[Finding]:
    extra = sorted(extra)
    for role in sorted({right.role for right in extra} - {EVERYBODY}):
        what = _in_words(right for right in extra if right.role == role)
        yield Finding(EXTRA, f"the role {role} has {what}, and is not meant to", _again(subject))
    for right in extra:
        if right.role == EVERYBODY:
            privilege = _privilege(right.privilege, [right.column])
            statement = f"REVOKE {privilege} ON {_thing(subject, right.on)} FROM PUBLIC"
            yield Finding(EXTRA, f"everybody has {_in_words([right])}", (psql(statement),))
    for role, member in rights.memberships(subject.connection, roles.NAMES):
        mend = administer(f"REVOKE {role} FROM {member}", subject.connection)
        yield Finding(EXTRA, f"the role {member} may do all that {role} may, being a member of it", (mend,))


def _guards(subject: Subject, tables: set[str]) -> Iterator[Finding]:
    found = {(guard.table, guard.policy): guard for guard in rights.guards(subject.connection) if guard.table in tables}
    for (table, policy), meanings in guarded().items():
        there = found.get((table, policy))
        if table not in tables or (there is not None and there.meaning in meanings):
            continue
        what = f"the policy {policy} of {table}" if policy else f"row security of {table}"
        how = "is not as it was made" if there else "is missing" if policy else "is off"
        yield Finding(UNGUARDED, f"{what} {how}", _again(subject))
    for (table, policy), guard in found.items():
        if (table, policy) not in guarded():
            if policy:
                what = f"the policy {policy} of {table} is nobody's of ours: {guard.text}"
                mend = psql(f'DROP POLICY "{policy}" ON {table}')
            else:
                what = f"row security of {table} is on, which hides rows from whoever no policy names"
                mend = psql(f"ALTER TABLE {table} DISABLE ROW LEVEL SECURITY")
            yield Finding(UNGUARDED, what, (mend,))


def _thing(subject: Subject, on: str) -> str:
    return f"{'SEQUENCE ' if on.endswith('_seq') else ''}{on}" if on else f"SCHEMA {schema_name(subject.connection)}"


def _in_words(granted: Iterable[Right]) -> str:
    """As `SELECT, UPDATE (a, b) on hook_events; USAGE on the schema`."""
    by_thing: dict[str, dict[str, list[str]]] = {}
    for right in sorted(granted):
        by_thing.setdefault(right.on, {}).setdefault(right.privilege, []).append(right.column)
    parts = [
        f"{', '.join(_privilege(*each) for each in privileges.items())} on {on or 'the schema'}"
        for on, privileges in by_thing.items()
    ]
    return "; ".join(parts)


def _privilege(privilege: str, columns: Sequence[str]) -> str:
    named = [column for column in columns if column]
    word, _, option = privilege.partition(" ")
    return " ".join(filter(None, (word, f"({', '.join(named)})" if named else "", option)))


AREA = Area(
    "roles",
    "what the roles of 'hep db roles' may do, where they were set up",
    (DatabaseCheck(_roles, (MISSING, EXTRA, UNGUARDED, NARROWED)),),
)
