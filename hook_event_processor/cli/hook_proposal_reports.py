"""`hep hook proposals | proposal`: what is proposed, and what it would change."""

from __future__ import annotations

import argparse
import dataclasses
from typing import TYPE_CHECKING, Any

from hook_event_processor.cli.parser import add_command, add_format
from hook_event_processor.cli.spans import count

if TYPE_CHECKING:
    from psycopg import Connection

    from hook_event_processor.settings import Settings
    from hook_event_processor.store.hook_changes import NewHook
    from hook_event_processor.store.hooks import HookVersion, KnownHook
    from hook_event_processor.store.proposals import Proposal, WholeProposal


def add_proposal_reports(group: argparse._SubParsersAction[Any]) -> None:
    command = add_command(
        group,
        "proposals",
        proposals,
        "list the proposals that wait for somebody to approve or reject them",
        "hep hook proposals --all --format json",
    )
    command.add_argument("--all", action="store_true", help="those that are decided, too")
    command.add_argument("--limit", type=count, default=100, metavar="N", help="the newest N (default 100)")
    add_format(command)
    command = add_command(
        group,
        "proposal",
        proposal,
        "show what a proposal would change",
        "hep hook proposal 3",
        "Its settings, the modules that it asks for, and what differs from the version that it changes.",
    )
    add_number(command)
    add_format(command)


def add_number(command: argparse.ArgumentParser) -> None:
    """The number of a proposal."""
    command.add_argument("number", metavar="N", type=count, help="the proposal's number")


def proposals(arguments: argparse.Namespace, settings: Settings) -> int:
    from hook_event_processor.amount import counted
    from hook_event_processor.cli.connect import session
    from hook_event_processor.cli.output import document, line, local_time, table
    from hook_event_processor.store import proposals as store

    with session(settings) as connection:
        known = store.known(connection, decided=arguments.all, limit=arguments.limit)
    if arguments.format == "json":
        document([_document(each) for each in known])
        return 0
    if not known:
        line("No proposals." if arguments.all else "No open proposals.")
        return 0
    rows = [
        (
            str(each.id),
            each.hook_name,
            ", ".join(each.event_types),
            each.stack or "-",
            f"version {each.base_version}" if each.base_version else "new hook",
            each.proposed_by,
            local_time(each.proposed_at),
            each.reason or "-",
            _state(each),
        )
        for each in known
    ]
    headers = ("N", "Hook", "Event Type", "Stack", "Changes", "By", "Proposed", "Reason", "State")
    table(headers, rows, right=("N",), wrapped=("Hook", "Event Type", "Stack", "By", "Reason", "State"))
    more = len(known) == arguments.limit
    line(
        f"The newest {counted(len(known), 'proposal')}; --limit shows more" if more else counted(len(known), "proposal")
    )
    return 0


def _state(proposal: Proposal) -> str:
    version = f", version {proposal.version}" if proposal.version else ""
    answer = f": {proposal.answer}" if proposal.answer else ""
    return f"{proposal.state} by {proposal.decided_by}{version}{answer}" if proposal.decided_by else proposal.state


def _document(proposal: Proposal) -> dict[str, Any]:
    from hook_event_processor.cli.output import iso_time

    times = {name: iso_time(getattr(proposal, name)) for name in ("proposed_at", "decided_at")}
    said = dataclasses.asdict(proposal)
    del said["base_kept"]  # why it cannot be approved says so
    return {**said, **times}


@dataclasses.dataclass(frozen=True, slots=True)
class _Shown:
    """A proposal, the hook that it makes, if it makes one, and what that changes; or why it cannot be approved."""

    proposal: WholeProposal
    hook: NewHook | None
    refusal: str | None
    diff: list[str]
    settings: dict[str, tuple[Any, Any]]  # what they are, and what they would be


def proposal(arguments: argparse.Namespace, settings: Settings) -> int:
    from hook_event_processor.cli.connect import session
    from hook_event_processor.cli.hook_permissions import uses
    from hook_event_processor.cli.hook_reports import show_uses
    from hook_event_processor.cli.hook_versions import show_diff
    from hook_event_processor.cli.output import document, json_text, line

    with session(settings) as connection:
        shown = _shown(connection, arguments.number, settings)
    hook = shown.hook
    allowed = uses(hook.modules, settings.policy.grants(hook.name, hook.stack)) if hook else []
    if arguments.format == "json":
        document(
            {
                **_document(shown.proposal),
                "said": json_text(shown.proposal.said),
                "hook": dataclasses.asdict(hook) if hook else None,
                "uses": [dataclasses.asdict(use) for use in allowed],
                "settings": {name: {"from": old, "to": new} for name, (old, new) in shown.settings.items()},
                "diff": "\n".join(shown.diff),
                "refusal": shown.refusal,
            }
        )
        return 0
    _show(shown)
    show_uses(allowed)
    line()
    show_diff(shown.diff)
    return 0


def _shown(connection: Connection, number: int, settings: Settings) -> _Shown:
    from hook_event_processor.cli.hook_file import newest_texts
    from hook_event_processor.cli.hook_versions import changes
    from hook_event_processor.cli.proposed_hook import proposed_hook
    from hook_event_processor.errors import HookRefused
    from hook_event_processor.store import hook_changes, hooks, libraries
    from hook_event_processor.store import proposals as store

    found = store.get(connection, number)
    known = hooks.find(connection, found.hook_name)
    base = _base(connection, found, known)
    hook, refusal = None, store.why_not(found, known)
    try:
        hook, _ = proposed_hook(found, newest_texts(libraries.known(connection)), settings)
    except HookRefused as fault:
        refusal = refusal or f"it cannot be added: {fault}"
    is_base = known is not None and base is not None and known.version == base.version
    differing = hook_changes.differing(known, hook) if hook and known and is_base else {}
    new = _as_version(found, hook, base)
    diff = list(changes(connection, found.hook_name, base, new, f"proposal {found.id}"))
    return _Shown(found, hook, refusal, diff, {name: pair for name, pair in differing.items() if name not in _IN_DIFF})


# What the diff shows, and what follows from it or from where the file lies.
_IN_DIFF = {"file_path", "modules", "params", "param_defaults", "libraries", "overrides", "source"}


def _base(connection: Connection, proposal: WholeProposal, known: KnownHook | None) -> HookVersion | None:
    """The version that it changes, if it is still there."""
    from hook_event_processor.store import hooks

    if known is None or known.id != proposal.base_hook:
        return None
    return next((each for each in hooks.versions(connection, known.id) if each.version == proposal.base_version), None)


def _as_version(proposal: WholeProposal, hook: NewHook | None, base: HookVersion | None) -> HookVersion:
    from hook_event_processor.store.hooks import HookVersion

    like = hook or base
    return HookVersion(
        version=0,
        sha256=proposal.sha256,
        file_path=proposal.file_path,
        created_at=proposal.proposed_at,
        source_text=proposal.source_text,
        modules=[*like.modules] if like else [],
        params=like.params if like else {},
        libraries=like.libraries if like else {},
        reason=proposal.reason,
        fault=None,
    )


def _show(shown: _Shown) -> None:
    from hook_event_processor.cli.hook_reports import libraries_text, params_text
    from hook_event_processor.cli.output import fields, line, local_time

    found, hook = shown.proposal, shown.hook
    fields(
        {
            "Proposal": str(found.id),
            "State": _state(found),
            "Hook": found.hook_name,
            "Changes": f"version {found.base_version}" if found.base_version else "nothing: it is new",
            "Event Type": ", ".join(found.event_types),
            "Stack": found.stack or "all",
            "Description": (hook.description or None) if hook else None,
            "Priority": str(hook.priority) if hook else None,
            "Timeout": f"{hook.timeout_seconds:g}s" if hook else None,
            "Disabled": "yes" if hook and hook.disabled else None,
            "Parameters": (params_text(hook) or None) if hook else None,
            "Libraries": (libraries_text(hook) or None) if hook else None,
            "Proposed": f"{local_time(found.proposed_at)} by {found.proposed_by} ({found.client})",
            "Reason": found.reason or None,
            "Decided": local_time(found.decided_at) if found.decided_at else None,
            "SHA-256": found.sha256,
            "File": found.file_path or None,
            "Note": shown.refusal if found.state == "open" else None,
        }
    )
    for name, (old, new) in shown.settings.items():
        line(f"{name.removesuffix('_seconds').replace('_', ' ')}: {_value(old)} -> {_value(new)}")


def _value(value: object) -> str:
    return ", ".join(map(str, value)) if isinstance(value, list) else "-" if value is None else str(value)
