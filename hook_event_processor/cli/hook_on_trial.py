"""The hook that is tried: from a file, with the shared code beside it, or from the database as it is there."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hook_event_processor.errors import HookRefused

if TYPE_CHECKING:
    from hook_event_processor.lua.program import Program
    from hook_event_processor.settings import Settings
    from hook_event_processor.workshop.trial_event import TrialEvent


@dataclass(frozen=True, slots=True)
class OnTrial:
    """A hook that can be run; its timeout is in seconds, its memory in bytes."""

    program: Program
    event_types: Sequence[str]
    stack: str | None
    timeout: float
    memory: int

    def runs_for(self, event: TrialEvent) -> bool:
        """Whether it runs for events of that type."""
        from hook_event_processor.registry import parse_pattern

        return any(parse_pattern(pattern).matches(event.source, event.action) for pattern in self.event_types)


def hook_on_trial(hook: str, settings_of_params: Sequence[str], settings: Settings) -> OnTrial:
    """The hook of a file, or of that name. Raises HookRefused, NotFound or StoreUnavailable."""
    from hook_event_processor.lua.params import parse_set

    texts = parse_set(list(settings_of_params))
    path = Path(hook)
    if path.is_file():
        return _from_file(path, texts, settings)
    if path.suffix == ".lua" or len(path.parts) > 1:
        raise HookRefused(f"{hook} cannot be read: there is no such file")
    return _from_database(hook, texts, settings)


def _from_file(path: Path, texts: Mapping[str, str], settings: Settings) -> OnTrial:
    from hook_event_processor.lua.loader import program, read_definition
    from hook_event_processor.workshop.shared import shared_beside
    from hook_event_processor.workshop.texts import read_text

    text, libraries = read_text(path), shared_beside(path)
    definition = read_definition(text, str(path), libraries)
    return OnTrial(
        program(
            text,
            definition.name or path.stem,
            definition.stack,
            _params(str(path), definition.params, {}, texts),
            libraries,
        ),
        definition.event_types,
        definition.stack,
        definition.timeout_seconds or settings.hook_timeout,
        settings.hook_memory,
    )


def _from_database(name: str, texts: Mapping[str, str], settings: Settings) -> OnTrial:
    from hook_event_processor.cli.connect import session
    from hook_event_processor.lua.loader import program
    from hook_event_processor.store import hooks, libraries

    with session(settings) as connection:
        known = hooks.get(connection, name)
        if known.kind != "lua":
            raise HookRefused(f"{name} is a Python handler: only hooks written in Lua can be tried")
        text = hooks.version_of(connection, known, known.version).source_text
        shared = {
            library: libraries.text_of(connection, library, version) for library, version in known.libraries.items()
        }
    return OnTrial(
        program(text, name, known.stack, _params(name, known.param_defaults, known.params, texts), shared),
        known.event_types,
        known.stack,
        known.timeout_seconds,
        settings.hook_memory,
    )


def _params(where: str, defaults: Mapping[str, Any], stored: Mapping[str, Any], texts: Mapping[str, str]) -> bytes:
    """What is set over the defaults, as JSON; empty when nothing is."""
    import orjson

    from hook_event_processor.lua.params import check, values_of

    try:
        params = check(defaults, {**stored, **values_of(defaults, texts)})
    except HookRefused as refusal:
        raise HookRefused(f"{where}: {refusal}") from None
    return orjson.dumps(params) if params else b""
