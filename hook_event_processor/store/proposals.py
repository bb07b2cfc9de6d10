"""Proposals of hooks: what somebody would have run, for somebody else to approve. A trigger says whose each is."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from psycopg import Connection, errors
from psycopg.rows import class_row
from psycopg.types.json import Jsonb

from hook_event_processor.errors import HookRefused, NotFound
from hook_event_processor.store.audit import KEPT
from hook_event_processor.store.hook_changes import NewHook, differing, own_stacks
from hook_event_processor.store.hooks import KnownHook, is_current, stored_object
from hook_event_processor.store.small_steps import remove_in_steps

_FORGET = """
DELETE FROM hook_proposals WHERE id = ANY(ARRAY(
    SELECT id FROM hook_proposals WHERE state <> 'open' AND decided_at < now() - %(age)s ORDER BY id LIMIT %(step)s))
"""
# What says where a text came from, and nothing of what runs.
_UNINTERESTING = {"file_path", "source", "overrides"}


@dataclass(frozen=True, slots=True)
class Proposal:
    """What is proposed, by whom, and what became of it.

    `base_version` is the version that it changes, None for a new hook, and
    `base_kept` that this hook's settings are what they were; `own` says that
    this session's role made it; `version` is what it became.
    """

    id: int
    hook_name: str
    stack: str | None
    event_types: list[str]
    base_hook: int | None
    base_version: int | None
    base_kept: bool
    sha256: str
    file_path: str
    reason: str
    proposed_at: datetime
    proposed_by: str
    client: str
    own: bool
    state: str
    decided_at: datetime | None
    decided_by: str | None
    answer: str
    version: int | None


@dataclass(frozen=True, slots=True)
class WholeProposal(Proposal):
    """With its text, and what options said over it as JSON text, which anybody may have written."""

    source_text: str
    said: str

    def said_over(self) -> dict[str, Any]:
        """What options said over the text. Raises HookRefused when that makes no sense."""
        try:
            return stored_object("said", self.said)
        except ValueError as fault:
            raise HookRefused(f"proposal {self.id} makes no sense: {fault}") from None


_COLUMNS = """
id, hook_name, stack, event_types, base_hook, base_version,
base_settings IS NOT DISTINCT FROM hook_settings(base_hook) AS base_kept, sha256, file_path, reason, proposed_at,
proposed_by, client, proposed_by = session_user AS own, state, decided_at, decided_by, answer, version
"""


def changes_nothing(connection: Connection, known: KnownHook, hook: NewHook) -> bool:
    """Whether what runs would be the same."""
    same = is_current(connection, known, hook.source_text, hook.params, hook.libraries)
    return same and differing(known, hook).keys() <= _UNINTERESTING


def add(connection: Connection, hook: NewHook, base: KnownHook | None, reason: str) -> tuple[bool, int]:
    """Keep a proposal to put the hook in the place of `base`; whether it is a new one, and its number.

    The role's own open one of the same thing serves again. Raises HookRefused.
    """
    values = {
        "hook_name": hook.name,
        "stack": hook.stack,
        "event_types": list(hook.event_types),
        "base_hook": base.id if base else None,
        "base_version": base.version if base else None,
        "source_text": hook.source_text,
        "file_path": hook.file_path,
        "said": Jsonb({"overrides": hook.overrides, "params": hook.params, "disabled": hook.disabled}),
        "reason": reason,
    }
    with own_stacks(hook, "propose"):
        there = connection.execute(_SAME, values).fetchone() or (None,)
        return (False, there[0]) if there[0] is not None else (True, _insert(connection, values))


_SAME = """
SELECT min(id) FROM hook_proposals
WHERE state = 'open' AND proposed_by = session_user AND hook_name = %(hook_name)s AND source_text = %(source_text)s
  AND said = %(said)s
  AND (base_hook, base_version) IS NOT DISTINCT FROM (%(base_hook)s::bigint, %(base_version)s::integer)
  AND base_settings IS NOT DISTINCT FROM hook_settings(base_hook)
"""


def _insert(connection: Connection, values: Mapping[str, Any]) -> int:
    try:
        row = connection.execute(
            """
            INSERT INTO hook_proposals
                (hook_name, stack, event_types, base_hook, base_version, source_text, file_path, said, reason)
            VALUES (%(hook_name)s, %(stack)s, %(event_types)s, %(base_hook)s, %(base_version)s, %(source_text)s,
                    %(file_path)s, %(said)s, %(reason)s)
            RETURNING id
            """,
            values,
        ).fetchone()
    except errors.ConfigurationLimitExceeded as refusal:
        raise HookRefused(f"{refusal.diag.message_primary}: others approve or reject what is open") from None
    except errors.CheckViolation as refusal:
        if refusal.diag.constraint_name == "hook_proposals_base":
            raise HookRefused(f"the hook {values['hook_name']!r} has just changed: propose it again") from None
        raise _too_large(refusal) from None
    assert row is not None  # noqa: S101 - RETURNING of one row
    return int(row[0])


def _too_large(refusal: errors.CheckViolation) -> HookRefused:
    column = (refusal.diag.constraint_name or "").removeprefix("hook_proposals_").removesuffix("_check")
    return HookRefused(f"the proposal cannot be kept: its {column.replace('_', ' ')} is too long")


def lock(connection: Connection, number: int) -> None:
    """Let nobody else decide it until the transaction ends. Raises HookRefused when somebody is about to."""
    try:
        connection.execute("SELECT FROM hook_proposals WHERE id = %s FOR UPDATE NOWAIT", (number,))
    except errors.LockNotAvailable:
        raise HookRefused(f"somebody is deciding proposal {number} now: look again") from None


def known(connection: Connection, *, decided: bool, limit: int) -> list[Proposal]:
    """The newest that are open, newest first; with those that are decided, too."""
    with connection.cursor(row_factory=class_row(Proposal)) as cursor:
        return cursor.execute(
            f"SELECT {_COLUMNS} FROM hook_proposals WHERE %s OR state = 'open' ORDER BY id DESC LIMIT %s",
            (decided, limit),
        ).fetchall()


def get(connection: Connection, number: int) -> WholeProposal:
    """One of them. Raises NotFound."""
    with connection.cursor(row_factory=class_row(WholeProposal)) as cursor:
        proposal = cursor.execute(
            f"SELECT {_COLUMNS}, source_text, said::text AS said FROM hook_proposals WHERE id = %s", (number,)
        ).fetchone()
    if proposal is None:
        raise NotFound(f"there is no proposal {number}: 'hep hook proposals --all' lists them")
    return proposal


def why_not(proposal: Proposal, known: KnownHook | None) -> str | None:
    """Why it cannot be approved where the hook of its name is `known`; None: it can."""
    if proposal.state != "open":
        return f"proposal {proposal.id} was {proposal.state} by {proposal.decided_by}"
    if proposal.own:
        return (
            f"proposal {proposal.id} is this role's own, {proposal.proposed_by}: somebody else approves it,"
            f" and 'hep hook reject {proposal.id}' withdraws it"
        )
    if (proposal.base_hook, proposal.base_version) != ((known.id, known.version) if known else (None, None)):
        base = f"version {proposal.base_version}" if proposal.base_version else "a new hook"
        now = f"version {known.version} runs" if known else "there is none"
        return (
            f"the hook {proposal.hook_name!r} has changed since: proposal {proposal.id} was made for {base}, and now"
            f" {now}; 'hep hook propose' makes one for that"
        )
    if not proposal.base_kept:
        return (
            f"the settings of the hook {proposal.hook_name!r} have changed since proposal {proposal.id} was made:"
            " 'hep hook propose' makes one for what it is now"
        )
    return None


def decide(connection: Connection, number: int, state: str, answer: str) -> None:
    """Mark an open proposal as approved or rejected. Raises HookRefused and NotFound."""
    try:
        decided = connection.execute(
            "UPDATE hook_proposals SET state = %s, answer = %s WHERE id = %s AND state = 'open'",
            (state, answer, number),
        ).rowcount
    except errors.CheckViolation as refusal:
        raise _too_large(refusal) from None
    if not decided:
        found = get(connection, number)
        raise HookRefused(
            f"proposal {number} was {found.state} by {found.decided_by}"
            if found.state != "open"
            else f"proposal {number} is {found.proposed_by}'s: this role may decide its own alone"
        )


@dataclass(frozen=True, slots=True)
class Waiting:
    """Open proposals: how many, and of the oldest its number, hook and time."""

    count: int
    id: int
    hook_name: str
    proposed_at: datetime


def waiting(connection: Connection, age: timedelta) -> Waiting | None:
    """Those that nobody has decided for so long; None without any, and for a role that may not see them."""
    if not _may(connection, "SELECT"):
        return None
    with connection.cursor(row_factory=class_row(Waiting)) as cursor:
        return cursor.execute(
            """
            SELECT count(*) OVER () AS count, id, hook_name, proposed_at FROM hook_proposals
            WHERE state = 'open' AND proposed_at < now() - %s ORDER BY proposed_at LIMIT 1
            """,
            (age,),
        ).fetchone()


def forget(connection: Connection, older_than: timedelta) -> int:
    """Remove what was decided so long ago, of the audit's KEPT at least, in steps; returns how many.

    Nothing for a role that may not, as one that 'hep db roles' made for an earlier version.
    """
    if not _may(connection, "DELETE"):
        return 0
    return remove_in_steps(connection, _FORGET, {"age": max(older_than, KEPT)})


def _may(connection: Connection, privilege: str) -> bool:
    """Whether the table is there, and the role may do that with it, or with columns of it."""
    has = "has_table_privilege" if privilege == "DELETE" else "has_any_column_privilege"
    return connection.execute(f"SELECT {has}(to_regclass('hook_proposals'), %s)", (privilege,)).fetchone() == (True,)
