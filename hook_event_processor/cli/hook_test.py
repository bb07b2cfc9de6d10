"""`hep hook test`: try a hook on one event, dry unless it is said to be live."""

from __future__ import annotations

import argparse
import sys
from typing import TYPE_CHECKING, Any

from hook_event_processor.cli.names import some_name
from hook_event_processor.cli.parser import add_command, add_format
from hook_event_processor.cli.spans import duration
from hook_event_processor.errors import EventRefused, UsageError

if TYPE_CHECKING:
    from hook_event_processor.cli.hook_on_trial import OnTrial
    from hook_event_processor.settings import Settings
    from hook_event_processor.workshop.dry_run import Trial
    from hook_event_processor.workshop.trial_event import TrialEvent

_PLAIN = ("continue", "failed")  # outcomes that "Success" and "Failed" say already
_MORE = """\
The event is made up from what the catalog knows of its type, unless --event gives one: a file of JSON
(an event with type and data, or data alone; - reads standard input), the id of a past event or its
beginning, or another type. Programs, requests, notifications, files, state and dispatched events are
shown instead of done; --live does them for real, once, and records no execution. A database is needed
for a hook or an event that is in one, and for --live where the hook dispatches or keeps state.

Exit status: 0 the hook succeeded, 1 it failed, 2 misused."""


def add_test_command(group: argparse._SubParsersAction[Any]) -> None:
    command = add_command(
        group,
        "test",
        test,
        "try a hook on one event without effects: a dry run",
        'hep hook test notify.lua --event task.failed --data \'{"error": "no space"}\'\n'
        "         hep hook test notify --event 0198c0de",
        _MORE,
    )
    command.add_argument("hook", metavar="FILE|NAME", help="a Lua file, or the name of a hook in the database")
    command.add_argument("--event", metavar="FILE|ID|TYPE", help="the event (default: one of a type that it runs for)")
    command.add_argument("--data", metavar="JSON", help="the event's data, a JSON object; - reads standard input")
    command.add_argument("--stack", type=some_name, help="the event's stack, in place of its own or the hook's")
    command.add_argument(
        "--set", action="append", metavar="NAME=VALUE", help="set a parameter; may be given several times"
    )
    command.add_argument("--timeout", type=duration, metavar="DURATION", help="time of the run (default: the hook's)")
    command.add_argument("--live", action="store_true", help="do what the hook does, for real")
    add_format(command)


def test(arguments: argparse.Namespace, settings: Settings) -> int:
    from hook_event_processor.cli.hook_on_trial import hook_on_trial
    from hook_event_processor.cli.live import publish_dispatched, usable_database
    from hook_event_processor.workshop.dry_run import try_hook

    if arguments.timeout is not None and not arguments.timeout:
        raise UsageError("--timeout is 0: it takes the time of the run")
    hook = hook_on_trial(arguments.hook, arguments.set or [], settings)
    event = _event(arguments, hook, settings)
    timeout = arguments.timeout.total_seconds() if arguments.timeout else hook.timeout
    database = usable_database(settings) if arguments.live or _reads_database(hook) else None
    trial = try_hook(hook.program, event, settings, timeout, database=database, live=arguments.live)
    published = False
    try:
        if arguments.live and trial.dispatched:
            publish_dispatched(trial.dispatched, event.id, event.metadata, hook.program.hook, database)
            published = True
    finally:  # all else was done, be they published or not
        if arguments.format == "json":
            _print_document(hook, event, trial, live=arguments.live)
        else:
            _print_trial(hook, event, trial, published=published)
    return 0 if trial.good else 1


def _reads_database(hook: OnTrial) -> bool:
    return not {"state", "secret"}.isdisjoint(hook.program.modules)


def _event(arguments: argparse.Namespace, hook: OnTrial, settings: Settings) -> TrialEvent:
    from hook_event_processor.cli.event_lines import json_object
    from hook_event_processor.cli.trial_events import given_event, of_stack

    try:
        data = None
        if arguments.data is not None:
            text = sys.stdin.buffer.read() if arguments.data == "-" else arguments.data
            data = json_object("--data", text)
        event = given_event(arguments.event, data, hook.stack, hook.event_types, settings)
        return event if arguments.stack is None else of_stack(event, arguments.stack)
    except EventRefused as refusal:
        raise UsageError(str(refusal)) from None


def _print_trial(hook: OnTrial, event: TrialEvent, trial: Trial, *, published: bool) -> None:
    from hook_event_processor.cli.output import block, fields, line, milliseconds, success

    data = event.data.decode()
    fields(
        {
            "Hook": hook.program.hook,
            "Event": f"{event.type}  {data if len(data) <= 300 else f'{data[:300]}...'}",
            "Result": success(trial.good) + (f" ({trial.outcome})" if trial.outcome not in _PLAIN else ""),
            "Time": milliseconds(trial.duration * 1000),
            "Memory": f"{trial.memory / 1024:,.0f} KB of {hook.memory / 1024:,.0f} KB",
        }
    )
    if not hook.runs_for(event):
        line("Note: the hook does not run for events of this type; here it was made to.")
    if trial.outcome == "filtered":
        line("Note: the hook's filter left the event alone; --data gives it other data.")
    if trial.output:
        block("Output:", trial.output)
    if trial.error is not None:
        block("Error:", trial.error)
    if trial.shown:
        block("Would have done (--live does it):", "\n".join(trial.shown))
    if trial.dispatched:
        title = "Dispatched:" if published else "Would have dispatched:"
        block(title, "\n".join(f"{item.type}  {item.data.decode()}" for item in trial.dispatched))


def _print_document(hook: OnTrial, event: TrialEvent, trial: Trial, *, live: bool) -> None:
    from hook_event_processor.cli.output import document, json_text

    document(
        {
            "hook": hook.program.hook,
            "event": {
                "id": event.id,
                "type": event.type,
                "data": json_text(event.data.decode()),
                "metadata": json_text(event.metadata.decode()),
            },
            "matches": hook.runs_for(event),
            "live": live,
            "success": trial.good,
            "result": trial.outcome,
            "output": trial.output,
            "error": trial.error,
            "would_have_done": trial.shown,
            "dispatched": [
                {
                    "type": item.type,
                    "data": json_text(item.data.decode()),
                    "stack": item.stack,
                    "priority": item.priority,
                    "delay": item.delay,
                    "id": item.id,
                }
                for item in trial.dispatched
            ],
            "duration_ms": round(trial.duration * 1000, 3),
            "memory_bytes": trial.memory,
        }
    )
