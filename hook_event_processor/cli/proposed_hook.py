"""A proposal as the hook that it would make. What it says of itself is not believed: the text is read anew."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from hook_event_processor.cli.hook_directory import check_key
from hook_event_processor.cli.hook_file import LibraryText, LuaFile, Said, hook_of
from hook_event_processor.errors import HookRefused

if TYPE_CHECKING:
    from hook_event_processor.lua.loader import Definition
    from hook_event_processor.settings import Settings
    from hook_event_processor.store.hook_changes import NewHook
    from hook_event_processor.store.proposals import WholeProposal

# What may be said over a text, as hooks.toml calls it.
_KEYS = {"event_types": "event_type", "stack": "stack", "priority": "priority", "description": "description"}


def proposed_hook(
    proposal: WholeProposal, shared: Mapping[str, LibraryText], settings: Settings
) -> tuple[NewHook, Definition]:
    """What adding it would store. Raises HookRefused: it cannot be added, or is not what it seems."""
    where = f"proposal {proposal.id}"
    file = LuaFile(proposal.source_text, proposal.file_path or where, "")
    hook, definition = hook_of(file, _said(proposal, where), shared, settings)
    seems, is_ = (_whose(each.event_types, each.stack) for each in (proposal, hook))
    if seems != is_:
        raise HookRefused(f"{where} says that it is {seems}, and its text, with the options, is {is_}")
    return hook, definition


def _whose(event_types: object, stack: str | None) -> str:
    return f"for {', '.join(map(repr, event_types))}{f' of the stack {stack!r}' if stack else ''}"  # type: ignore[call-overload]


def _said(proposal: WholeProposal, where: str) -> Said:
    said = proposal.said_over()
    overrides, params, disabled = said.get("overrides", {}), said.get("params", {}), said.get("disabled")
    if not isinstance(overrides, dict):
        raise HookRefused(f"{where}: overrides is {overrides!r}: it takes an object")
    check_key(where, "params", params)
    for key, value in overrides.items():
        if key == "name" and value == proposal.hook_name:
            continue
        if key not in _KEYS or (key == "event_types" and not isinstance(value, list)):
            raise HookRefused(f"{where}: {key} is {value!r}, which options do not say over a hook")
        check_key(where, _KEYS[key], value)
    if disabled is not None and disabled is not True:
        raise HookRefused(f"{where}: disabled is {disabled!r}: it takes true, or is left out")
    reason = f"proposal {proposal.id} by {proposal.proposed_by}"
    return Said(proposal.hook_name, overrides, params=params, disabled=disabled, reason=reason)
