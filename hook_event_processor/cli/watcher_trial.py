"""`hep watcher test`: looks of a watcher here and now, that nothing is published of."""

from __future__ import annotations

import argparse
import dataclasses
import time
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from hook_event_processor.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from hook_event_processor.settings import Settings
    from hook_event_processor.watchers.check import Check, Definition, Kind, Noticed

_STATE_SHOWN = 2_000  # characters


@dataclasses.dataclass(frozen=True, slots=True)
class _Look:
    """What came of a look: the events, the state that it leaves, and how long it took."""

    at: datetime
    noticed: list[Noticed]
    state: object
    measured: Mapping[str, float] | None
    milliseconds: float


def test(arguments: argparse.Namespace, settings: Settings) -> int:
    from hook_event_processor.cli.output import document, line
    from hook_event_processor.cli.watcher_reports import hint_of
    from hook_event_processor.watchers import kinds
    from hook_event_processor.watchers.check import CheckFailed
    from hook_event_processor.watchers.host import programs

    programs.grant(settings.watch_exec)
    definition = _definition(arguments, settings)
    kind = kinds.kind(definition.type)
    as_document = arguments.format == "json"
    if not as_document:
        line(f"{kind.name}, {kind.target(definition) or '-'}, when {' or '.join(definition.conditions)}")
        if hint := hint_of(definition):
            line(hint)
    looks: list[_Look] = []
    try:
        check = kind.start(definition, None)
        looks.append(_look(check))
        if not as_document:
            _show_first(looks[0], definition, kind, waits=arguments.wait)
        if arguments.wait:
            looks += _looks_again(check, definition, talks=not as_document)
    except CheckFailed as fault:
        raise CheckFailed(f"it cannot look: {fault}") from None
    if as_document:
        document(_document(definition, kind, looks))
    elif arguments.wait or looks[0].noticed:
        _show_events([noticed for look in looks for noticed in look.noticed])
    return 0


def _definition(arguments: argparse.Namespace, settings: Settings) -> Definition:
    from hook_event_processor.cli.watcher_options import definition_of

    if (arguments.id is None) == (arguments.type is None):
        raise UsageError("'hep watcher test' takes the id of a watcher, or --type and its options")
    return definition_of(arguments, "test") if arguments.id is None else _stored(arguments, settings)


def _stored(arguments: argparse.Namespace, settings: Settings) -> Definition:
    """The definition of the watcher that is meant, with another interval if one is given."""
    from hook_event_processor.cli.connect import session
    from hook_event_processor.cli.watcher_options import definition_options
    from hook_event_processor.cli.watcher_reports import found
    from hook_event_processor.watchers import kinds

    if given := definition_options(arguments):
        raise UsageError(f"{given[0]} goes with --type: of a watcher that is stored, --interval alone can be changed")
    with session(settings) as connection:
        watcher = found(connection, arguments.id, arguments.host)
    definition = kinds.read_row(watcher)
    if arguments.interval is None:
        return definition
    return dataclasses.replace(definition, interval=arguments.interval)


def _look(check: Check) -> _Look:
    from hook_event_processor.watchers.check import Measures, Moment

    now = datetime.now(UTC)
    started = time.perf_counter()
    noticed = check.look(Moment(now, time.monotonic()))
    state, took = check.state(), time.perf_counter() - started
    return _Look(now, noticed, state, check.measured() if isinstance(check, Measures) else None, 1000 * took)


def _looks_again(check: Check, definition: Definition, *, talks: bool) -> list[_Look]:
    """As many looks as it takes to be sure, an interval apart, until one notices something."""
    from hook_event_processor.cli.output import line

    looks: list[_Look] = []
    for _ in range(int(definition.options.get("for", 1))):
        time.sleep(definition.interval)
        looks.append(_look(check))
        if talks:
            line(f"looked again, in {_took(looks[-1])}: {_counted(looks[-1].noticed)}")
        if looks[-1].noticed:
            break
    return looks


def _show_first(look: _Look, definition: Definition, kind: Kind, *, waits: bool) -> None:
    from hook_event_processor.cli.output import line
    from hook_event_processor.watchers.daemon.envelope import as_json

    if look.noticed:  # of a program's lines, each is an event
        line(f"looked for the first time, in {_took(look)}: {_counted(look.noticed)}")
    else:
        line(f"looked for the first time, in {_took(look)}: this is what later looks are compared with, and no event")
    if look.measured:
        line(f"now: {', '.join(f'{name} {value:.15g}' for name, value in look.measured.items())}")
    state = as_json(look.state).decode()
    line(f"state: {state[:_STATE_SHOWN]}{' ...' if len(state) > _STATE_SHOWN else ''}")
    line(f"Later looks, every {definition.interval:g}s, tell by {', '.join(kind.event_types(definition))}.")
    line(f"Waiting {definition.interval:g}s." if waits else "--wait looks again, and prints what it would tell.")


def _show_events(noticed: list[Noticed]) -> None:
    from hook_event_processor.cli.output import line
    from hook_event_processor.watchers.daemon.envelope import as_json

    for event in noticed:
        line(f"{event.type} {event.resource}".rstrip())
        line(f"  {as_json(event.data).decode()}")
    if not noticed:
        line("Nothing that its conditions stand for has happened meanwhile.")


def _took(look: _Look) -> str:
    from hook_event_processor.cli.output import milliseconds

    return milliseconds(look.milliseconds)


def _counted(noticed: list[Noticed]) -> str:
    from hook_event_processor.amount import counted

    return counted(len(noticed), "event")


def _document(definition: Definition, kind: Kind, looks: list[_Look]) -> dict[str, Any]:
    import orjson

    from hook_event_processor.cli.output import iso_time
    from hook_event_processor.watchers.daemon.envelope import as_json

    value = {
        "type": definition.type,
        "target": kind.target(definition),
        "conditions": list(definition.conditions),
        "interval_seconds": definition.interval,
        "looks": [
            {
                "at": iso_time(look.at),
                "milliseconds": round(look.milliseconds, 3),
                "state": look.state,
                "measured": look.measured,
                "events": [dataclasses.asdict(event) for event in look.noticed],
            }
            for look in looks
        ],
    }
    # Paths need not be UTF-8, as JSON is.
    document: dict[str, Any] = orjson.loads(as_json(value))
    return document
