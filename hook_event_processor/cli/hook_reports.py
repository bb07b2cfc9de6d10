"""`hep hook get | show | logs | history`: one hook, and how its runs went."""

from __future__ import annotations

import argparse
import dataclasses
from collections.abc import Container, Mapping
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from hook_event_processor.cli.parser import add_command, add_format
from hook_event_processor.cli.spans import count

if TYPE_CHECKING:
    from hook_event_processor.cli.hook_permissions import Use
    from hook_event_processor.settings import Settings
    from hook_event_processor.store.executions import Execution, Summary
    from hook_event_processor.store.hook_changes import NewHook
    from hook_event_processor.store.hooks import HookVersion, KnownHook

_SHOWN_RUNS = 10


def add_report_commands(group: argparse._SubParsersAction[Any]) -> None:
    for name, summary, form in (
        ("get", "print all about a hook as JSON", "json"),
        ("show", "show a hook with its latest runs", "table"),
    ):
        command = add_command(group, name, show, summary, f"hep hook {name} notify_on_failure")
        _add_name(command)
        command.add_argument("--text", action="store_true", help="print its Lua text, too (JSON always has it)")
        add_format(command, form)
    _add_logs(group)
    command = add_command(
        group,
        "history",
        history,
        "show a hook's runs, success rate and durations over time, and its versions",
        "hep hook history notify_on_failure --by hour --limit 24",
    )
    _add_name(command)
    command.add_argument("--limit", type=count, default=20, metavar="N", help="so many days or hours (default 20)")
    command.add_argument("--by", choices=("day", "hour"), default="day", help="length of a period (default day; UTC)")
    add_format(command)


def _add_logs(group: argparse._SubParsersAction[Any]) -> None:
    command = add_command(
        group,
        "logs",
        logs,
        "list a hook's latest runs",
        "hep hook logs notify_on_failure --only-failed --error",
        "JSON holds output and error of every run.",
    )
    _add_name(command)
    command.add_argument("--limit", type=count, default=20, metavar="N", help="so many runs (default 20)")
    command.add_argument("--output", action="store_true", help="print what each run logged and returned")
    command.add_argument("--error", action="store_true", help="print why runs failed")
    command.add_argument("--only-failed", action="store_true", help="only runs that failed")
    add_format(command)


def _add_name(command: argparse.ArgumentParser) -> None:
    command.add_argument("name", metavar="NAME", help="the hook's name")


def hook_document(hook: KnownHook) -> dict[str, Any]:
    """A hook for JSON."""
    from hook_event_processor.cli.output import iso_time

    times = {name: iso_time(getattr(hook, name)) for name in ("created_at", "updated_at", "last_run")}
    return {**dataclasses.asdict(hook), **times, "params": {**hook.param_defaults, **hook.params}}


def standing_document(hook: KnownHook, paused: Mapping[str, datetime | None]) -> dict[str, Any]:
    """A hook for JSON, with whether it is paused, and until when."""
    from hook_event_processor.cli.output import iso_time

    until = paused.get(hook.name)
    return {**hook_document(hook), "paused": hook.name in paused, "paused_until": iso_time(until)}


def libraries_text(hook: KnownHook | NewHook) -> str:
    """The libraries that a hook runs with, with their versions."""
    return ", ".join(f"lib.{name} (version {version})" for name, version in sorted(hook.libraries.items()))


def params_text(hook: KnownHook | NewHook) -> str:
    """The parameters that a hook sees; with the default, where another value was set."""
    return ", ".join(
        f"{name} = {_value(hook.params[name])} (default {_value(default)})"
        if name in hook.params
        else f"{name} = {_value(default)}"
        for name, default in sorted(hook.param_defaults.items())
    )


def set_text(hook: KnownHook) -> str:
    """What was set over the defaults of a hook's parameters, for a cell."""
    return ", ".join(f"{name}={_value(value)}" for name, value in sorted(hook.params.items())) or "-"


def _value(value: object) -> str:
    import orjson

    return orjson.dumps(value).decode()


def status_word(hook: KnownHook, apart: Container[int], paused: Mapping[str, datetime | None]) -> str:
    """Whether the hook is enabled or paused; and if it is among those, that it runs in processes of its own."""
    from hook_event_processor.cli.output import local_time

    words = ["disabled"] * (not hook.enabled)
    if hook.name in paused:
        until = paused[hook.name]
        words.append(f"paused until {local_time(until)}" if until else "paused")
    return ", ".join([*(words or ["enabled"]), *["runs apart"] * (hook.id in apart)])


def show(arguments: argparse.Namespace, settings: Settings) -> int:
    from hook_event_processor.cli.connect import session
    from hook_event_processor.cli.hook_permissions import uses
    from hook_event_processor.cli.output import block, document, line
    from hook_event_processor.store import executions, hooks
    from hook_event_processor.store.event_ids import short_ids
    from hook_event_processor.store.pauses import paused_hooks
    from hook_event_processor.store.suspects import deadly_hooks

    with session(settings) as connection:
        hook = hooks.get(connection, arguments.name)
        apart = deadly_hooks(connection)
        paused = paused_hooks(connection)
        texts = hooks.versions(connection, hook.id)
        # JSON is without them: whoever may see hooks, and not their runs, can have it.
        runs = executions.of_hook(connection, hook.id, _SHOWN_RUNS) if arguments.format != "json" else []
        short = short_ids(connection, [run.event_id for run in runs]) if runs else {}
    current = next((text.source_text for text in texts if text.version == hook.version), None)
    allowed = uses(hook.modules, settings.policy.grants(hook.name, hook.stack))
    if arguments.format == "json":
        document(
            {
                **standing_document(hook, paused),
                "uses": [dataclasses.asdict(use) for use in allowed],
                "versions": versions_document(texts),
                "source_text": current,
            }
        )
        return 0
    _show_hook(hook, allowed, status_word(hook, apart, paused))
    line()
    if runs:
        _runs_table(runs, short, title="Latest Runs")
    else:
        line("It has not run yet.")
    if arguments.text and current is not None:
        block(f"Version {hook.version}:", current)
    return 0


def _show_hook(hook: KnownHook, allowed: list[Use], status: str) -> None:
    from hook_event_processor.cli.output import fields, local_time

    fields(
        {
            "Hook": hook.name,
            "Description": hook.description or None,
            "Event Type": ", ".join(hook.event_types),
            "Stack": hook.stack or "all",
            "Status": status,
            "Fault": hook.fault,
            "Kind": hook.kind,
            "Priority": str(hook.priority),
            "Timeout": f"{hook.timeout_seconds:g}s",
            "Retry": ", ".join(f"{name} {value}" for name, value in hook.retry.items()) or None,
            "Parameters": params_text(hook) or None,
            "Libraries": libraries_text(hook) or None,
            "Version": str(hook.version),
            "File": hook.file_path or None,
            "Applied From": hook.source,
            "Created": local_time(hook.created_at),
            "Updated": local_time(hook.updated_at),
            "Runs": f"{hook.run_count:,}",
            "Last Run": local_time(hook.last_run),
        }
    )
    show_uses(allowed)


def show_uses(allowed: list[Use]) -> None:
    """What a hook may do with its modules on this host, as a table."""
    from hook_event_processor.cli.output import line, table

    if allowed:
        line()
        rows = [(use.module, use.granted or "nothing", use.setting or "-") for use in allowed]
        table(("Module", "Granted Here", "Setting"), rows, wrapped=("Granted Here",), title="Modules")


def logs(arguments: argparse.Namespace, settings: Settings) -> int:
    from hook_event_processor.cli.connect import session
    from hook_event_processor.cli.output import document, line
    from hook_event_processor.store import executions, hooks
    from hook_event_processor.store.event_ids import short_ids

    with session(settings) as connection:
        hook = hooks.get(connection, arguments.name)
        runs = executions.of_hook(connection, hook.id, arguments.limit, only_failed=arguments.only_failed)
        short = short_ids(connection, [run.event_id for run in runs])
    if arguments.format == "json":
        document(_logs_document(hook, runs))
    elif not runs:
        line(f"No {'failed ' if arguments.only_failed else ''}runs of the hook {hook.name}.")
    else:
        _runs_table(runs, short)
        for run in runs:
            _show_texts(run, short[run.event_id], arguments)
    return 0


def _runs_table(runs: list[Execution], short: dict[Any, str], title: str = "") -> None:
    from hook_event_processor.cli.output import local_time, milliseconds, success, table

    headers = ("Executed At", "Event", "Event Type", "Status", "Result", "Attempt", "Duration", "Version")
    rows = [
        (
            local_time(run.executed_at),
            short[run.event_id],
            run.event_type or "(removed)",
            success(run.success),
            run.result,
            str(run.attempt),
            milliseconds(run.duration_ms),
            str(run.version),
        )
        for run in runs
    ]
    table(headers, rows, right=("Attempt", "Duration", "Version"), wrapped=("Event Type",), title=title)


def _show_texts(run: Execution, short: str, arguments: argparse.Namespace) -> None:
    from hook_event_processor.cli.output import block, local_time

    where = f"{local_time(run.executed_at)} event {short}"
    if arguments.output and run.output:
        block(f"Output of {where}:", run.output)
    if arguments.error and run.error:
        block(f"Error of {where}:", run.error)


def execution_document(run: Execution) -> dict[str, Any]:
    """A run of a hook for JSON."""
    from hook_event_processor.cli.output import iso_time

    return {**dataclasses.asdict(run), "executed_at": iso_time(run.executed_at)}


def _logs_document(hook: KnownHook, runs: list[Execution]) -> dict[str, Any]:
    succeeded = sum(run.success for run in runs)
    return {
        "hook": hook.name,
        "total_shown": len(runs),
        "success_count": succeeded,
        "failed_count": len(runs) - succeeded,
        "executions": [execution_document(run) for run in runs],
    }


def history(arguments: argparse.Namespace, settings: Settings) -> int:
    from hook_event_processor.cli.connect import session
    from hook_event_processor.cli.output import document
    from hook_event_processor.store import executions, hooks

    with session(settings) as connection:
        hook = hooks.get(connection, arguments.name)
        periods = executions.history(connection, hook.id, arguments.by, arguments.limit)
        texts = hooks.versions(connection, hook.id)
    if arguments.format == "json":
        document(
            {
                "hook": hook.name,
                "by": arguments.by,
                "periods": [_period_document(period) for period in periods],
                "versions": versions_document(texts),
            }
        )
    else:
        _show_history(hook, arguments.by, periods, texts)
    return 0


def _show_history(hook: KnownHook, by: str, periods: list[Summary], texts: list[HookVersion]) -> None:
    from hook_event_processor.cli.output import line, local_time, milliseconds, table

    if periods:
        headers = (f"{by.capitalize()} (UTC)", "Runs", "Failed", "Success", "Median", "95 of 100", "Longest")
        rows = [
            (
                period.since.astimezone(UTC).strftime("%Y-%m-%d" if by == "day" else "%Y-%m-%d %H:00"),
                f"{period.runs:,}",
                f"{period.failed:,}",
                f"{100 * period.succeeded / period.runs:.2f}%",
                milliseconds(period.median_ms),
                milliseconds(period.p95_ms),
                milliseconds(period.max_ms),
            )
            for period in periods
        ]
        table(headers, rows, right=headers[1:])
    else:
        line(f"The hook {hook.name} has not run in this time.")
    if texts:
        line()
        rows_of_texts = [
            (
                f"{t.version}{' (current)' * (t.version == hook.version)}",
                local_time(t.created_at),
                t.sha256[:12],
                t.file_path,
            )
            for t in texts
        ]
        table(("Version", "Added", "SHA-256", "File"), rows_of_texts, wrapped=("File",))


def _period_document(period: Summary) -> dict[str, Any]:
    from hook_event_processor.cli.output import iso_time

    rate = period.succeeded / period.runs
    return {**dataclasses.asdict(period), "since": iso_time(period.since), "success_rate": rate}


def versions_document(texts: list[HookVersion]) -> list[dict[str, Any]]:
    """The versions of a hook for JSON, without their texts."""
    from hook_event_processor.cli.output import iso_time

    return [
        {
            "version": t.version,
            "sha256": t.sha256,
            "file_path": t.file_path,
            "created_at": iso_time(t.created_at),
            "modules": t.modules,
            "params": t.params,
            "libraries": t.libraries,
            "reason": t.reason,
            "fault": t.fault,
        }
        for t in texts
    ]
