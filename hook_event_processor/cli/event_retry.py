"""`hep events retry`: failed events run again."""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from hook_event_processor.cli.audit import add_reason
from hook_event_processor.cli.event_filter import add_filter, add_since, read_filter
from hook_event_processor.cli.names import some_name
from hook_event_processor.cli.parser import add_command, add_format
from hook_event_processor.errors import HookEventProcessorError, UsageError

if TYPE_CHECKING:
    from uuid import UUID

    from psycopg import Connection

    from hook_event_processor.settings import Settings
    from hook_event_processor.store.dead_letters import DeadLetter, Wanted

_NARROWING = ("type", "source", "stack", "agent", "session", "correlation", "since", "hook")
_SHOWN_IDS = 10
_Hooks = tuple[tuple[str, str], ...]  # names, each with what has become of the hook
_HINT = "'hep hook enable' or 'hep hook add' lets such a hook run; --force retries without it"


def add_retry_command(group: argparse._SubParsersAction[Any]) -> None:
    command = add_command(
        group,
        "retry",
        retry,
        "run failed events again",
        "hep events retry --failed --hook notify --since 1d --dry-run",
        "Their count of attempts and their errors are cleared; the executions stay.\n"
        "Hooks that have succeeded for an event do not run again for it.\n"
        "An event is left as it is when the hooks that it failed in are disabled or removed:\n"
        "it would be completed without them.",
    )
    command.add_argument("ids", nargs="*", metavar="ID", help="an event's id, or the beginning of it")
    command.add_argument(
        "--failed", action="store_true", help="all failed events, or those that the options below match"
    )
    add_filter(command)
    add_since(command)
    command.add_argument("--hook", type=some_name, metavar="NAME", help="failed in this hook, be it removed since")
    command.add_argument("--force", action="store_true", help="also those whose failed hooks are disabled or removed")
    command.add_argument("--dry-run", action="store_true", help="only say what would run again")
    add_reason(command)
    add_format(command)


def retry(arguments: argparse.Namespace, settings: Settings) -> int:
    from hook_event_processor.cli.connect import session
    from hook_event_processor.store import dead_letters

    if bool(arguments.ids) == arguments.failed:
        raise UsageError("give either the ids of events or --failed (see 'hep events retry --help')")
    narrowed = next((name for name in _NARROWING if getattr(arguments, name) is not None), None)
    if arguments.ids and narrowed:
        raise UsageError(f"--{narrowed} says which of all failed events: it goes with --failed, not with ids")
    with session(settings) as connection:
        wanted = _wanted(arguments, connection)
        options = {"force": arguments.force, "dry_run": arguments.dry_run, "reason": arguments.reason}
        outcome = _Outcome()
        try:
            for letter in dead_letters.retry(connection, wanted, **options):
                outcome.add(letter)
        except BaseException:
            _tell_part(arguments, outcome)
            raise
    if wanted.ids is not None and len(wanted.ids) == 1:
        for hooks in outcome.left_out:
            raise HookEventProcessorError(
                f"the event {wanted.ids[0]} is not retried, since {_named(hooks)} failed and would not run; {_HINT}"
            )
    _tell(arguments, wanted.ids or (), outcome)
    return 1 if arguments.ids and outcome.left_out else 0


def _wanted(arguments: argparse.Namespace, connection: Connection) -> Wanted:
    """Which events the arguments ask for. Raises HookEventProcessorError when one of those named has not failed."""
    from hook_event_processor.store import event_ids, events, executions, hooks
    from hook_event_processor.store.dead_letters import Wanted

    if arguments.failed:
        # One that was removed is known by its runs.
        if arguments.hook is not None and arguments.hook not in executions.hook_names(connection).values():
            hooks.get(connection, arguments.hook)
        return Wanted(read_filter(arguments, connection), hook=arguments.hook)
    ids = list(dict.fromkeys(event_ids.resolve(connection, text) for text in arguments.ids))
    for event_id in ids:
        state = events.get(connection, event_id).state
        if state != "failed":
            raise HookEventProcessorError(f"the event {event_id} is {state}: only failed events can be retried")
    return Wanted(events.Filter(), ids)


class _Outcome:
    """How many events run again; by the hooks that they miss, which of them do, and which are left out."""

    def __init__(self) -> None:
        self.count = 0
        self.without: dict[_Hooks, list[UUID]] = {}
        self.left_out: dict[_Hooks, list[UUID]] = {}

    def add(self, letter: DeadLetter) -> None:
        self.count += letter.runs_again
        if letter.missing:
            groups = self.without if letter.runs_again else self.left_out
            groups.setdefault(tuple(sorted(letter.missing.items())), []).append(letter.id)


def _tell_part(arguments: argparse.Namespace, outcome: _Outcome) -> None:
    """Say what the steps before a fault or Ctrl-C have done."""
    from hook_event_processor.amount import counted
    from hook_event_processor.cli.output import note

    if outcome.count and not arguments.dry_run:
        note(f"at least {counted(outcome.count, 'failed event')} will run again; not all were reached")


def _tell(arguments: argparse.Namespace, ids: Sequence[UUID], outcome: _Outcome) -> None:
    from hook_event_processor.amount import counted
    from hook_event_processor.cli.output import document, line, told

    which = f"event {ids[0]}" if len(ids) == outcome.count == 1 else counted(outcome.count, "failed event")
    text = f"{which} {'would' if arguments.dry_run else 'will'} run again"
    with told(text):
        if arguments.format == "json":
            document(
                {
                    **({"id": ids[0]} if len(ids) == 1 else {}),
                    "dry_run": arguments.dry_run,
                    "retried": outcome.count,
                    "without": _group_documents(outcome.without),
                    "left_out": _group_documents(outcome.left_out),
                }
            )
            return
        line(text)
        for hooks, events in outcome.without.items():
            line(f"without {_named(hooks)}, which failed: {_listed(events)}")
        for hooks, events in outcome.left_out.items():
            line(f"left out, since {_named(hooks)} failed and would not run: {_listed(events)}")
        if outcome.left_out:
            line(f"{_HINT}.")


def _named(hooks: _Hooks) -> str:
    return ", ".join(f"{name} ({why})" for name, why in hooks)


def _listed(events: Sequence[UUID]) -> str:
    from hook_event_processor.amount import counted

    if len(events) == 1:
        return f"event {events[0]}"
    shown = [str(event_id) for event_id in events[:_SHOWN_IDS]] + ["..."] * (len(events) > _SHOWN_IDS)
    return f"{counted(len(events), 'event')}: {', '.join(shown)}"


def _group_documents(groups: Mapping[_Hooks, Sequence[UUID]]) -> list[dict[str, Any]]:
    return [{"hooks": dict(hooks), "ids": events} for hooks, events in groups.items()]
