"""`hep status`: the whole on one screen."""

from __future__ import annotations

import argparse
import dataclasses
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from hook_event_processor.cli.parser import add_command, add_format

if TYPE_CHECKING:
    from hook_event_processor.settings import Settings
    from hook_event_processor.store.hosts import Counts
    from hook_event_processor.store.pauses import Pause
    from hook_event_processor.store.processors import Backlog, Processor
    from hook_event_processor.store.suspects import Counts as Suspects
    from hook_event_processor.telemetry.findings import Finding

_COUNTERS = ("processed", "succeeded", "failed", "retried", "errors", "unrouted")
_FEW_COUNTERS = ("processed", "failed")
_WAKE = {"listen": "LISTEN", "poll": "polling"}


def add_commands(commands: argparse._SubParsersAction[Any]) -> None:
    command = add_command(
        commands,
        "status",
        status,
        "show database, processors, backlog, rate, latency and failures",
        "watch hep status",
    )
    add_format(command)


def status(arguments: argparse.Namespace, settings: Settings) -> int:
    from hook_event_processor.cli.connect import session
    from hook_event_processor.cli.output import document
    from hook_event_processor.cli.pause import pause_document
    from hook_event_processor.store import hosts, pauses
    from hook_event_processor.store import processors as store
    from hook_event_processor.store.suspects import counts

    with session(settings) as connection:
        known = store.processors(connection)
        waiting = store.backlog(connection)
        fleet = hosts.counts(connection)
        suspected = counts(connection)
        paused = pauses.known(connection)
        database = _database(connection.info)
    if arguments.format == "json":
        document(
            {
                "database": database,
                "backlog": _backlog_document(waiting),
                "hosts": dataclasses.asdict(fleet),
                "suspects": dataclasses.asdict(suspected),
                "paused": [pause_document(each) for each in paused],
                **_processors_document(known),
            }
        )
    else:
        _show(database, known, waiting, fleet, paused)
        _show_suspects(suspected)
    return 0


def _show_suspects(suspected: Suspects) -> None:
    from hook_event_processor.cli.output import line
    from hook_event_processor.cli.suspicion import suspects_line

    if said := suspects_line(suspected):
        line()
        line(said)


def _database(info: Any) -> dict[str, str]:
    major, minor = divmod(info.server_version, 10_000)
    return {"name": info.dbname, "host": info.host, "user": info.user, "server": f"PostgreSQL {major}.{minor}"}


def _backlog_document(waiting: Backlog) -> dict[str, Any]:
    from hook_event_processor.store.processors import COUNT_LIMIT

    return {**dataclasses.asdict(waiting), "counted_up_to": COUNT_LIMIT}


def _processors_document(known: list[Processor]) -> dict[str, Any]:
    from hook_event_processor.cli.output import iso_time
    from hook_event_processor.telemetry.findings import documents

    listed = []
    for processor in known:
        fields = {**dataclasses.asdict(processor), "alive": processor.alive}
        fields["findings"] = documents(_findings(processor))
        fields["started_at"] = iso_time(processor.started_at)
        fields["heartbeat_at"] = iso_time(processor.heartbeat_at)
        listed.append(fields)
    return {"processors": listed}


def _show(
    database: dict[str, str], known: list[Processor], waiting: Backlog, fleet: Counts, paused: list[Pause]
) -> None:
    from hook_event_processor.cli.output import fields, line
    from hook_event_processor.cli.pause import pause_line

    alive = [processor for processor in known if processor.alive]
    fields(
        {
            "Database": f"{database['name']} on {database['host'] or 'localhost'}, {database['server']}",
            "Processors": _running(alive, len(known) - len(alive)),
            "Workers": _workers(alive),
            "Backlog": _backlog(waiting),
            "Rate": f"{sum(_number(p, 'rate_1m') for p in alive):,.1f} events/s in the last minute" if alive else None,
            "Latency": _latency(alive),
            "Since start": _totals(alive),
            "Failed": _failed(waiting),
            "Hosts": _hosts(fleet),
            "Paused": "; ".join(map(pause_line, paused)) or None,
            "Health": _health(known),
        }
    )
    if known:
        line()
        _show_processors(known)


def _health(known: list[Processor]) -> str | None:
    """What is wrong with processors that run; 'hep health' also tells of those that have fallen silent."""
    from hook_event_processor.telemetry.findings import in_a_line

    running = [processor for processor in known if processor.alive]
    wrong = []
    for processor in running:
        told = [finding for finding in _findings(processor) if not finding.is_healthy]
        wrong += [f"{processor.node}: {in_a_line(told)}"] if told else []
    return "; ".join(wrong) or ("good" if running else None)


def _findings(processor: Processor) -> list[Finding]:
    from hook_event_processor.processor import health

    facts = health.read(processor.health)
    return health.judge(facts) if facts else []


def _hosts(fleet: Counts) -> str | None:
    """Hosts by status, and their watchers; nothing where there are none."""
    from hook_event_processor.amount import counted

    statuses = ("connected", "stopped", "late", "disconnected")
    numbers = [f"{number} {status}" for status in statuses if (number := getattr(fleet, status))]
    if not numbers and not fleet.watchers:
        return None
    disabled = fleet.watchers - fleet.enabled
    more = (f", {disabled} disabled" if disabled else "") + (f", {fleet.failing} cannot look" if fleet.failing else "")
    return f"{', '.join(numbers) or 'none heard of'}; {counted(fleet.watchers, 'watcher')}{more}"


def _running(alive: list[Processor], lost: int) -> str:
    if not alive and not lost:
        return "none: start one with ./ops/up or 'hep run'"
    return f"{len(alive)} running" + (f", {lost} lost" if lost else "")


def _workers(alive: list[Processor]) -> str | None:
    if not alive:
        return None
    stuck = sum(processor.stuck for processor in alive)
    return f"{sum(p.busy for p in alive):,} of {sum(p.workers for p in alive):,} busy, {stuck:,} stuck"


def _backlog(waiting: Backlog) -> str:
    from hook_event_processor.cli.output import age

    oldest = waiting.oldest_seconds
    due = f", the oldest due for {age(oldest)}" if oldest is not None else ""
    paused = f", {_count(waiting.paused)} paused" if waiting.paused else ""
    return (
        f"{_count(waiting.pending)} pending{due}; {_count(waiting.retrying)} retrying,"
        f" {_count(waiting.scheduled)} scheduled, {_count(waiting.processing)} processing{paused}"
    )


def _totals(alive: list[Processor]) -> str | None:
    totals = (f"{sum(_number(p, counter) for p in alive):,.0f} {counter}" for counter in _COUNTERS)
    return ", ".join(totals) if alive else None


def _failed(waiting: Backlog) -> str:
    hint = ": 'hep events list --status failed' lists them" if waiting.failed else ""
    return f"{_count(waiting.failed)} event{'s' * (waiting.failed != 1)}{hint}"


def _count(number: int) -> str:
    from hook_event_processor.store.processors import COUNT_LIMIT

    return f"at least {number:,}" if number >= COUNT_LIMIT else f"{number:,}"


def _latency(alive: Iterable[Processor]) -> str | None:
    """From due to claimed, by the slowest processor."""
    from hook_event_processor.cli.output import milliseconds

    medians = [_number(p, "latency_p50_ms") for p in alive if p.stats.get("latency_p50_ms") is not None]
    worst = [_number(p, "latency_p99_ms") for p in alive if p.stats.get("latency_p99_ms") is not None]
    if not medians or not worst:
        return None
    return f"claimed {milliseconds(max(medians))} after being due (median), 99 of 100 within {milliseconds(max(worst))}"


def _number(processor: Processor, key: str) -> float:
    value = processor.stats.get(key)
    return float(value) if isinstance(value, int | float) else 0.0


def _show_processors(known: list[Processor]) -> None:
    from hook_event_processor.cli.output import age, table

    headers = ("Processor", "State", "Wake", "Busy", "Stuck", "Leased", "Rate", "Processed", "Failed", "Heard")
    rows = [
        (
            processor.node,
            processor.state if processor.alive else "lost",
            _WAKE.get(processor.wake, processor.wake),
            f"{processor.busy}/{processor.workers}",
            str(processor.stuck),
            f"{_number(processor, 'leased'):.0f}",
            f"{_number(processor, 'rate_1m'):,.1f}/s",
            *(f"{_number(processor, counter):,.0f}" for counter in _FEW_COUNTERS),
            f"{age(processor.age_seconds)} ago",
        )
        for processor in known
    ]
    table(headers, rows, right=headers[3:], wrapped=("Processor",))
