"""What changes hooks: adding a version, enabling, disabling, removing."""

from __future__ import annotations

import enum
import hashlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from psycopg import Connection, errors
from psycopg.types.json import Jsonb

from hook_event_processor.errors import HookRefused
from hook_event_processor.same_json import is_same
from hook_event_processor.store import own_events
from hook_event_processor.store.hooks import KNOWN, KnownHook, find, get, is_current, known_row
from hook_event_processor.store.own_events import OwnEvent


def lock(connection: Connection) -> None:
    """Let nobody else change hooks or libraries until the transaction ends."""
    connection.execute("SELECT pg_advisory_xact_lock(hashtext(current_schema() || '.hooks'), 0)")


@dataclass(frozen=True, slots=True)
class NewHook:
    """A Lua hook to be stored. Times in seconds; `disabled` None keeps what is (enabled, for a new one).

    `libraries` are the names and versions of the libraries that it runs
    with, `params` what was set over `param_defaults`, `overrides` what was
    said over its text, `source` where `hep hook apply` took it from, and
    `reason` why there is a new version, if it makes one.
    """

    name: str
    description: str
    event_types: Sequence[str]
    stack: str | None
    priority: int
    timeout_seconds: float
    retry: Mapping[str, Any]
    source_text: str
    file_path: str
    disabled: bool | None = None
    modules: Sequence[str] = ()
    libraries: Mapping[str, int] = field(default_factory=dict)
    params: Mapping[str, Any] = field(default_factory=dict)
    param_defaults: Mapping[str, Any] = field(default_factory=dict)
    overrides: Mapping[str, Any] = field(default_factory=dict)
    source: str | None = None
    reason: str = ""


class Change(enum.StrEnum):
    """What adding a hook did."""

    ADDED = "added"
    REPLACED = "replaced"
    CHANGED = "changed"
    UNCHANGED = "unchanged"


def add(connection: Connection, hook: NewHook) -> tuple[Change, KnownHook]:
    """Store a hook, or a new version of the one that has its name.

    The current version's own text, params and libraries add no version.
    Raises HookRefused when a Python handler has the name, or when the role may
    not change hooks of that stack, or not the one that has the name.
    """
    with _refused_in_words(connection), own_stacks(hook), connection.transaction():
        lock(connection)
        before = replaceable(connection, hook.name)
        if before is None:
            change, known = Change.ADDED, _insert(connection, hook)
        else:
            change, known = _replace(connection, before, hook)
        if change in (Change.ADDED, Change.REPLACED):
            _insert_version(connection, known, hook)
        _tell_change(connection, change, before, known)
    return change, known


def replaceable(connection: Connection, name: str) -> KnownHook | None:
    """The hook that one of this name takes the place of, if any. Raises HookRefused for a Python handler."""
    known = find(connection, name)
    if known is not None and known.kind != "lua":
        raise HookRefused(f"a Python handler has the name {name!r}: choose another name")
    return known


@contextmanager
def _refused_in_words(connection: Connection) -> Iterator[None]:
    """Tell a role that may propose hooks, and change none, where it tries to. Raises HookRefused."""
    try:
        yield
    except errors.InsufficientPrivilege:
        may_propose = connection.execute(
            "SELECT has_any_column_privilege(to_regclass('hook_proposals'), 'INSERT')"
            " AND NOT has_any_column_privilege('hooks', 'INSERT')"
        ).fetchone()
        if may_propose != (True,):
            raise
        raise HookRefused("this role may not change hooks: it may propose them, with 'hep hook propose'") from None


@contextmanager
def own_stacks(hook: NewHook, do: str = "change") -> Iterator[None]:
    """What an author of single stacks is refused, in words; it does not see the hooks of others."""
    try:
        yield
    except errors.InsufficientPrivilege as refusal:
        if "row-level security" not in (refusal.diag.message_primary or ""):
            raise
        whose = f"the stack {hook.stack!r}" if hook.stack else "no stack"
        raise HookRefused(
            f"the hook {hook.name!r} is of {whose}: this role may {do} the hooks of its own stacks only,"
            " and 'hep db grants' lists them"
        ) from None
    except errors.UniqueViolation:
        raise HookRefused(f"the name {hook.name!r} is taken by a hook of another stack: choose another name") from None


def _tell_change(connection: Connection, change: Change, before: KnownHook | None, known: KnownHook) -> None:
    if change is Change.UNCHANGED:
        return
    _tell(connection, "added" if change is Change.ADDED else "updated", known)
    if before is not None and before.enabled != known.enabled:
        _tell(connection, "enabled" if known.enabled else "disabled", known)


def _tell(connection: Connection, word: str, hook: KnownHook) -> None:
    payload = {
        "hook_name": hook.name,
        "event_types": list(hook.event_types),
        "version": hook.version,
        f"{word}_by": own_events.actor(),
    }
    own_events.tell(connection, OwnEvent(f"hook.{word}", payload, ("hook", hook.name), hook.stack))


def _insert_version(connection: Connection, known: KnownHook, hook: NewHook) -> None:
    connection.execute(
        """
        INSERT INTO hook_versions
            (hook_id, version, source_text, sha256, file_path, modules, params, libraries, reason)
        VALUES (%(id)s, %(version)s, %(source_text)s, %(sha256)s, %(file_path)s, %(modules)s, %(params)s,
                %(libraries)s, %(reason)s)
        """,
        {
            **_values(hook),
            "id": known.id,
            "version": known.version,
            "source_text": hook.source_text,
            "sha256": hashlib.sha256(hook.source_text.encode()).hexdigest(),
            "reason": hook.reason,
        },
    )


def _insert(connection: Connection, hook: NewHook) -> KnownHook:
    return _one(
        connection,
        f"""
        INSERT INTO hooks (name, description, event_types, stack, priority, timeout_seconds, retry, enabled, file_path,
                           modules, params, param_defaults, libraries, overrides, source)
        VALUES (%(name)s, %(description)s, %(event_types)s, %(stack)s, %(priority)s, %(timeout_seconds)s, %(retry)s,
                %(enabled)s, %(file_path)s, %(modules)s, %(params)s, %(param_defaults)s, %(libraries)s,
                %(overrides)s, %(source)s)
        RETURNING {KNOWN}
        """,
        {**_values(hook), "enabled": not hook.disabled},
    )


def _replace(connection: Connection, known: KnownHook, hook: NewHook) -> tuple[Change, KnownHook]:
    replaced = not is_current(connection, known, hook.source_text, hook.params, hook.libraries)
    if not replaced and not differing(known, hook):
        return Change.UNCHANGED, known
    values = {**_values_over(known, hook), "version": known.version}
    if replaced:
        values["version"] = _next_version(connection, known.id)
    changed = _one(
        connection,
        f"""
        UPDATE hooks SET description = %(description)s, event_types = %(event_types)s, stack = %(stack)s,
            priority = %(priority)s, timeout_seconds = %(timeout_seconds)s, retry = %(retry)s, enabled = %(enabled)s,
            version = %(version)s, file_path = %(file_path)s, modules = %(modules)s, params = %(params)s,
            param_defaults = %(param_defaults)s, libraries = %(libraries)s, overrides = %(overrides)s,
            source = %(source)s, updated_at = now()
        WHERE name = %(name)s RETURNING {KNOWN}
        """,
        values,
    )
    return (Change.REPLACED if replaced else Change.CHANGED), changed


def differing(known: KnownHook, hook: NewHook) -> dict[str, tuple[Any, Any]]:
    """What is stored of a hook beside its text and would become something else: what it is, and what it would be."""
    values = _values_over(known, hook)
    pairs = {name: (getattr(known, name), _python_value(values[name])) for name in _COMPARED}
    return {name: (old, new) for name, (old, new) in pairs.items() if not _is_same(name, old, new)}


def _is_same(name: str, old: object, new: object) -> bool:
    return is_same(old, new) if name in ("params", "param_defaults") else old == new


def _values_over(known: KnownHook, hook: NewHook) -> dict[str, Any]:
    return {**_values(hook), "enabled": known.enabled if hook.disabled is None else not hook.disabled}


def _next_version(connection: Connection, hook_id: int) -> int:
    row = connection.execute(
        "SELECT coalesce(max(version), 0) + 1 FROM hook_versions WHERE hook_id = %s", (hook_id,)
    ).fetchone()
    assert row is not None  # noqa: S101 - an aggregate has one row
    return int(row[0])


def set_enabled(connection: Connection, name: str, enabled: bool) -> bool:
    """Enable or disable a hook; False when it is so already. Raises NotFound."""
    with _refused_in_words(connection), connection.transaction():
        lock(connection)
        hook = get(connection, name)
        if hook.enabled == enabled:
            return False  # an UPDATE, even of no row, would make every processor reload
        connection.execute("UPDATE hooks SET enabled = %s, updated_at = now() WHERE id = %s", (enabled, hook.id))
        _tell(connection, "enabled" if enabled else "disabled", hook)
    return True


def remove(connection: Connection, name: str) -> KnownHook:
    """Remove a hook with its versions; its executions stay. Raises NotFound."""
    with _refused_in_words(connection), connection.transaction():
        lock(connection)  # who stores it anew has read it, and would bring it back
        hook = get(connection, name)
        connection.execute("DELETE FROM hooks WHERE id = %s", (hook.id,))
        _tell(connection, "removed", hook)
    return hook


_COMPARED = (
    *("description", "event_types", "stack", "priority", "timeout_seconds", "retry", "enabled", "file_path"),
    *("modules", "params", "param_defaults", "libraries", "overrides", "source"),
)


def _values(hook: NewHook) -> dict[str, Any]:
    return {
        "name": hook.name,
        "description": hook.description,
        "event_types": list(hook.event_types),
        "stack": hook.stack,
        "priority": hook.priority,
        "timeout_seconds": hook.timeout_seconds,
        "retry": Jsonb(hook.retry),
        "file_path": hook.file_path,
        "modules": list(hook.modules),
        "params": Jsonb(hook.params),
        "param_defaults": Jsonb(hook.param_defaults),
        "libraries": Jsonb(hook.libraries),
        "overrides": Jsonb(hook.overrides),
        "source": hook.source,
    }


def _python_value(value: object) -> object:
    return value.obj if isinstance(value, Jsonb) else value


def _one(connection: Connection, statement: str, values: Mapping[str, Any]) -> KnownHook:
    with connection.cursor(row_factory=known_row) as cursor:
        row = cursor.execute(statement, values).fetchone()
    assert row is not None  # noqa: S101 - RETURNING of one row
    return row
