"""Hooks made anew from what is stored of them: with newer libraries, or with an older version's text."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING

from hook_event_processor.cli.hook_file import LibraryText, LuaFile, Said, hook_of, newest_texts, said_of
from hook_event_processor.errors import HookRefused, NotFound

if TYPE_CHECKING:
    from psycopg import Connection

    from hook_event_processor.settings import Settings
    from hook_event_processor.store.hook_changes import Change
    from hook_event_processor.store.hooks import HookVersion, KnownHook


def refresh_users(connection: Connection, library: str, settings: Settings) -> list[KnownHook]:
    """Give every hook that runs with a library a version that runs with its newest text; returns those.

    Raises HookRefused when one of them cannot be loaded with it.
    """
    from hook_event_processor.store import hook_changes, hooks, libraries

    known = libraries.known(connection)
    reason = f"lib.{library} version {known[library].version}"
    refreshed = []
    for hook in hooks.using(connection, library):
        # The same text may have been added from another file since.
        version = replace(hooks.version_of(connection, hook, hook.version), file_path=hook.file_path)
        try:
            change, stored = store_again(
                connection, hook, version, said_of(hook, reason), newest_texts(known), settings
            )
        except HookRefused as refusal:
            raise HookRefused(
                f"the hook {hook.name} cannot be loaded with this version of lib.{library}: {refusal}"
            ) from None
        if change is hook_changes.Change.REPLACED:
            refreshed.append(stored)
    return refreshed


def store_again(
    connection: Connection,
    hook: KnownHook,
    version: HookVersion,
    said: Said,
    shared: Mapping[str, LibraryText],
    settings: Settings,
) -> tuple[Change, KnownHook]:
    """Store a hook with the text of one of its versions."""
    from hook_event_processor.store import hook_changes

    new, _ = hook_of(LuaFile(version.source_text, version.file_path, hook.name), said, shared, settings)
    return hook_changes.add(connection, new)


def library_texts_of(connection: Connection, hook: KnownHook, version: HookVersion) -> dict[str, LibraryText]:
    """The libraries that a version of a hook ran with. Raises HookRefused when one was removed."""
    from hook_event_processor.store import libraries

    try:
        return {
            name: LibraryText(number, libraries.text_of(connection, name, number))
            for name, number in version.libraries.items()
        }
    except NotFound as fault:
        raise HookRefused(f"version {version.version} of the hook {hook.name} cannot run again: {fault}") from None
