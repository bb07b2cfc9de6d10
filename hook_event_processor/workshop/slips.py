"""Likely slips in a Lua text that compiles: what is unused, undefined or unknown.

Each is reported only where it is certain: a false alarm costs more than a miss.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Collection, Iterable, Iterator

from hook_event_processor import catalog
from hook_event_processor.errors import EventRefused
from hook_event_processor.lua.loader import MODULES
from hook_event_processor.registry import is_literal
from hook_event_processor.workshop.findings import Finding, Severity
from hook_event_processor.workshop.grammar import scopes_of
from hook_event_processor.workshop.library_names import (
    ABSENT,
    ABSENT_MEMBERS,
    GLOBALS,
    LUA_MEMBERS,
    SPEC_GLOBALS,
    event_fields,
    members,
)
from hook_event_processor.workshop.scopes import Call, Scopes, Variable
from hook_event_processor.workshop.tokens import Token

_REQUIRES = re.compile(r"\brequires\b")


def slips_in(text: str, event_types: Collection[str] = (), *, is_spec: bool = False) -> Iterator[Finding]:
    """Warnings about a text that compiles; `event_types` are those of its hook. Raises RecursionError."""
    scopes = scopes_of(text)
    yield from _unused(scopes.variables)
    yield from _undefined(scopes, GLOBALS | SPEC_GLOBALS if is_spec else GLOBALS)
    yield from _unknown_members(scopes)
    yield from _unknown_fields(scopes)
    if not _REQUIRES.search(text):
        yield from _computed_requires(scopes)
    yield from _unknown_types(scopes, event_types)


def _warning(token: Token, message: str) -> Finding:
    return Finding(token.line, token.column, Severity.WARNING, message)


def _unused(variables: Iterable[Variable]) -> Iterator[Finding]:
    for variable in variables:
        # Of several names for several values, some only hold a place.
        if not variable.is_declared or any(other.reads for other in variable.together):
            continue
        if variable.name.startswith("_"):
            continue
        what = f"the module {variable.module}" if variable.module else f"the local {variable.name}"
        how = "assigned but never read" if variable.writes else "never used"
        yield _warning(variable.token, f"{what} is {how}")


def _undefined(scopes: Scopes, known: frozenset[str]) -> Iterator[Finding]:
    names = {token.text for token in scopes.read}
    if names & {"_ENV", "_G"}:
        return  # globals can come from anywhere, then
    for token in scopes.read:
        name = token.text
        if name in known or name in scopes.written:
            continue
        if name in ABSENT:
            yield _warning(token, f"there is no {name} in hooks: {ABSENT[name]}")
        elif name in MODULES:
            yield _warning(token, f'the module {name} was not required: local {name} = require("{name}")')
        else:
            near = {variable.name for variable in scopes.variables} | known | scopes.written
            yield _warning(token, f"the global {name} is nowhere defined{_hint(name, near)}")


def _unknown_members(scopes: Scopes) -> Iterator[Finding]:
    for member in scopes.members:
        owner = member.owner
        if isinstance(owner, str):
            if owner not in scopes.written:
                yield from _absent(owner, member.name)
            continue
        if owner.writes or owner.module is None:
            continue
        names = members().get(owner.module)
        if names is not None and member.name.text not in names:
            hint = _hint(member.name.text, names)
            yield _warning(member.name, f"the module {owner.module} has no {member.name.text}{hint}")


def _absent(library: str, name: Token) -> Iterator[Finding]:
    """What one of Lua's own libraries does not have in hooks."""
    names = LUA_MEMBERS.get(library)
    if names is not None and name.text not in names:
        whole = f"{library}.{name.text}"
        right = f": {ABSENT_MEMBERS[whole]}" if whole in ABSENT_MEMBERS else _hint(name.text, names)
        yield _warning(name, f"there is no {whole} in hooks{right}")


def _unknown_fields(scopes: Scopes) -> Iterator[Finding]:
    """Of the parameter event. It can be any table: only what is spelled almost like a field is told."""
    for member in scopes.members:
        owner, name = member.owner, member.name.text
        if isinstance(owner, str) or owner.name != "event" or owner.is_declared or name in event_fields():
            continue
        near = _hint(name, event_fields())
        if near:
            yield _warning(member.name, f"events have no {name}{near}")


def _computed_requires(scopes: Scopes) -> Iterator[Finding]:
    """Such a name is refused at run time, unless it is among the hook's `requires`."""
    for call in scopes.calls:
        if call.owner is None and call.name.text == "require" and call.argument is None:
            yield _warning(call.name, 'the name of the module is computed: list what it can be in requires = {"..."}')


def _unknown_types(scopes: Scopes, event_types: Collection[str]) -> Iterator[Finding]:
    named = [token for token in scopes.strings if token.value in event_types]
    for token in (*named, *_dispatched(scopes.calls)):
        name = token.value or ""
        if not name or not is_literal(name) or name.startswith(catalog.FREE) or _is_known(name):
            continue
        near = catalog.nearest(name)
        if fault := catalog.without_action(name):
            yield _warning(token, fault)
        elif near:
            yield _warning(token, f"the event type {name} is not in the catalog: did you mean {near[0]}?")
        else:
            reason = f"the event type {name} is not in the catalog: it is taken as one of your own"
            yield Finding(token.line, token.column, Severity.NOTE, reason)


def _dispatched(calls: Iterable[Call]) -> Iterator[Token]:
    """Types in event.dispatch("..."), of the module and of the event that a hook was given."""
    for call in calls:
        owner = call.owner
        if call.name.text != "dispatch" or call.argument is None or not isinstance(owner, Variable):
            continue
        if owner.module == "event" or (owner.name == "event" and not owner.is_declared):
            yield call.argument


def _hint(name: str, names: Iterable[str]) -> str:
    near = difflib.get_close_matches(name, names, n=1)
    return f": did you mean {near[0]}?" if near else ""


def _is_known(name: str) -> bool:
    try:
        return catalog.canonical(name) in catalog.known(None)
    except EventRefused:
        return False
