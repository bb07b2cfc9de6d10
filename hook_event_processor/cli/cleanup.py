"""`hep events cleanup` and `hep events restore`: remove what is old, archived or not, and put it back."""

from __future__ import annotations

import argparse
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hook_event_processor.cli.names import some_name
from hook_event_processor.cli.parser import add_command, add_format
from hook_event_processor.cli.spans import duration
from hook_event_processor.errors import SettingsError, UsageError

if TYPE_CHECKING:
    from hook_event_processor.retention_policy import RetentionPolicy
    from hook_event_processor.settings import Settings
    from hook_event_processor.store.cleanup.everything import Report


def add_cleanup_commands(group: argparse._SubParsersAction[Any]) -> None:
    command = add_command(
        group,
        "cleanup",
        cleanup,
        "remove old events with their executions, archived or not",
        "hep events cleanup --older-than 720h --archive /var/lib/hook-event-processor/archive --dry-run",
        "Removes what was completed so long ago, in small steps that wait while processors work off a backlog.\n"
        "What is not finished stays, and failed events do unless an age is given for them. RETENTION,\n"
        "RETENTION_ARCHIVE and the rules in RETENTION_POLICY decide; with --older-than, that age alone does.\n"
        "Entries of 'hep audit', and proposals of hooks that were decided, go when they are older than\n"
        "AUDIT_RETENTION. Exit status 78: a setting or one of the rules is wrong; systemd does not try that again.",
    )
    command.set_defaults(settings_fault_status=os.EX_CONFIG)
    command.add_argument(
        "--older-than", type=duration, metavar="DURATION", help="30s, 10m, 720h, 7d and so on (default: RETENTION)"
    )
    command.add_argument(
        "--failed",
        action="store_true",
        help="remove failed events of that age, too; of a rule's age where it has no failed_age",
    )
    command.add_argument(
        "--archive",
        type=_archive,
        metavar="WHERE",
        help="before that, write them into files of this directory, or move them to tables (table); off: neither"
        " (default: RETENTION_ARCHIVE)",
    )
    command.add_argument(
        "--dry-run",
        action="store_true",
        help="say what would go, and remove nothing; a run that two rules let go counts for each",
    )
    add_format(command)
    command = add_command(
        group,
        "restore",
        restore,
        "put archived events back",
        "hep events restore /var/lib/hook-event-processor/archive/events-20261121T031502.123456Z.jsonl.gz",
        "With their executions, exactly as they were; nothing runs for them. Events that are there stay as they\n"
        "are: it can be repeated. All files are read first: one that was cut or altered is refused, with the line,\n"
        "and nothing is put back. The next cleanup takes them away again.",
    )
    command.add_argument("files", nargs="+", type=_file, metavar="FILE", help="a file of an archive, or its directory")
    command.add_argument("--check", action="store_true", help="only read them through")
    command.add_argument(
        "--run-again", action="store_true", help="put them back as new events, without their executions: hooks run"
    )
    add_format(command)


def _archive(text: str) -> str:
    from hook_event_processor import setting_values

    if text.lower() in ("off", "table"):
        return setting_values.archive(text)
    return str(Path(some_name(text)).expanduser().absolute())


def _file(text: str) -> Path:
    return Path(some_name(text))


def cleanup(arguments: argparse.Namespace, settings: Settings) -> int:
    from hook_event_processor.cli.connect import session
    from hook_event_processor.cli.progress import fraction_bar
    from hook_event_processor.store import audit, proposals
    from hook_event_processor.store.cleanup import everything

    policy = _policy(arguments, settings)
    rules = everything.Rules(policy, _matcher)
    with session(settings) as connection, fraction_bar("Removing") as report:
        done = everything.clean_up(connection, rules, dry_run=arguments.dry_run, report=report)
        if settings.audit_retention is not None and not arguments.dry_run:
            audit.forget(connection, settings.audit_retention)
            proposals.forget(connection, settings.audit_retention)
    _tell(arguments, policy, done)
    return 0


def _policy(arguments: argparse.Namespace, settings: Settings) -> RetentionPolicy:
    from hook_event_processor.retention_policy import default_policy, read_retention

    archive = settings.retention_archive if arguments.archive is None else arguments.archive
    if arguments.older_than is not None:
        return default_policy(arguments.older_than, archive, failed=arguments.failed)
    policy = default_policy(settings.retention, archive, failed=arguments.failed)
    if settings.retention_policy is not None:
        policy = read_retention(settings.retention_policy, policy, failed=arguments.failed)
    if arguments.failed and all(keep.failed_age is None for keep in policy.events):
        raise UsageError("--failed: neither RETENTION nor a rule has an age for failed events: give --older-than")
    return policy


def _matcher(pattern: str) -> Any:
    """What a pattern of a rule matches. Raises SettingsError."""
    from hook_event_processor.errors import PatternRefused
    from hook_event_processor.registry import parse_pattern

    try:
        return parse_pattern(pattern).matches
    except PatternRefused as fault:
        raise SettingsError(f"RETENTION_POLICY: {fault}") from None


def _tell(arguments: argparse.Namespace, policy: RetentionPolicy, done: Report) -> None:
    from hook_event_processor.amount import counted
    from hook_event_processor.cli.output import result
    from hook_event_processor.retention_policy import TABLE

    events = sum(done.events.values())
    value = {
        "dry_run": arguments.dry_run,
        "events": events,
        "executions": done.executions,
        "versions": done.versions,
        "rules": dict(done.events),
        "archives": [str(path) for path in done.files],
        "waited_seconds": done.waited_seconds,
    }
    if not policy.removes:
        result(arguments.format, "nothing is removed: RETENTION is off", value)
        return
    text = f"{counted(events, 'event')} and {counted(done.executions, 'execution')}"
    if done.versions:
        text += f", {counted(done.versions, 'hook version')}"
    named = [f"{name}: {counted(number, 'event')}" for name, number in sorted(done.events.items())]
    if len(policy.events) > 1 and named:
        text += f" ({', '.join(named)})"
    places = [str(path) for path in done.files]
    if any(keep.archive == TABLE and done.events[keep.name] for keep in policy.events):
        places.append("the tables hook_archived_events and hook_archived_executions")
    if places and not arguments.dry_run:
        text += f"; archived in {', '.join(places)}"
    if done.waited_seconds:
        text += f"; waited {done.waited_seconds:g} s for processors to work off a backlog"
    result(arguments.format, f"{'would remove' if arguments.dry_run else 'removed'}: {text}", value)


def restore(arguments: argparse.Namespace, settings: Settings) -> int:
    from hook_event_processor import archive_file
    from hook_event_processor.amount import counted
    from hook_event_processor.cli.connect import session
    from hook_event_processor.cli.output import result
    from hook_event_processor.cli.progress import fraction_bar
    from hook_event_processor.store.cleanup import restore as store

    if arguments.check and arguments.run_again:
        raise UsageError("give either --check or --run-again (see 'hep events restore --help')")
    paths = archive_file.files(arguments.files)
    if arguments.check:
        totals = store.check(paths)
        events, runs = sum(one.events for one in totals), sum(one.executions for one in totals)
        text = f"whole: {counted(len(paths), 'file')} with {counted(events, 'event')} and {counted(runs, 'execution')}"
        result(arguments.format, text, {"files": len(paths), "events": events, "executions": runs})
        return 0
    with session(settings) as connection, fraction_bar("Restoring") as report:
        done = store.restore(connection, paths, run_again=arguments.run_again, report=report)
    text = f"restored: {counted(done.events, 'event')} and {counted(done.executions, 'execution')}"
    if done.present:
        text += f"; {counted(done.present, 'event')} {'was' if done.present == 1 else 'were'} there already"
    value = {"events": done.events, "executions": done.executions, "present": done.present}
    result(arguments.format, text, value)
    return 0
