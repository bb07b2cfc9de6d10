"""What runs have shown, as a table for people, as Markdown for the page, and as JSON."""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Sequence
from typing import Any

from rich.console import Console
from rich.table import Table

from ops.chaos.rates import SHARE
from ops.chaos.trial import Result

COLUMNS = (
    "scenario", "seed", "events", "blows", "in flight", "lost", "unfinished", "recorded twice", "extra effects",
    "allowed", "recovery s", "rate before", "rate after", "findings",
)  # fmt: skip


def row(result: Result) -> tuple[str, ...]:
    """The cells of a run."""
    account, rates = result.account, result.rates
    return (
        result.scenario,
        str(result.seed),
        f"{account.acknowledged:,}",
        str(len(result.blows)),
        _in_flight(result),
        str(account.lost.total + account.not_run.total),
        str(account.unfinished.total + account.dead.total),
        str(account.recorded_twice.total + account.children.total),
        str(account.extra),
        str(account.allowed),
        _recovery(result),
        f"{rates.before:,.0f}",
        f"{rates.after:,.0f}",
        str(len(result.findings)),
    )


def _in_flight(result: Result) -> str:
    """Fewest to most at a blow."""
    counts = [len(blow.in_flight) for blow in result.blows]
    return "-" if not counts else f"{min(counts)} to {max(counts)}" if min(counts) < max(counts) else str(counts[0])


def _recovery(result: Result) -> str:
    if not result.rates.recoveries:
        return "-"
    if not result.rates.comparable:
        return "?"
    slowest = result.rates.slowest
    return "not" if slowest is None else f"{slowest:.1f}"


def show(results: Sequence[Result]) -> None:
    """Print the table, findings and notes."""
    table = Table(title="chaos", title_justify="left")
    for index, column in enumerate(COLUMNS):
        table.add_column(column, justify="right" if index else "left")
    for result in results:
        table.add_row(*row(result))
    console = Console(width=160, highlight=False)
    console.print(table)
    for result in results:
        for note in result.notes:
            console.print(f"{result.scenario}: {note}", soft_wrap=True, markup=False)
        for finding in result.findings:
            console.print(f"FOUND {result.scenario}, seed {result.seed}: {finding}", soft_wrap=True, markup=False)


def markdown(results: Sequence[Result]) -> str:
    """The table as docs/reliability.md has it."""
    lines = ["| " + " | ".join(COLUMNS) + " |", "|" + "---|" * len(COLUMNS)]
    return "\n".join(lines + ["| " + " | ".join(row(result)) + " |" for result in results])


def conditions() -> str:
    """The machine, and what else it did."""
    load = os.getloadavg()
    return (
        f"{os.cpu_count()} cores, {platform.system()} {platform.release()}, Python {platform.python_version()};"
        f" load {load[0]:.1f} {load[1]:.1f} {load[2]:.1f}; recovery: seconds from the fault's end until a second with"
        f" {SHARE:.0%} of the rate before begins"
    )


def as_json(result: Result) -> str:
    """One line with everything."""
    account = result.account
    said: dict[str, Any] = {name: getattr(account, name).total for name in account.WRONG}
    return json.dumps(
        {
            "chaos": result.scenario,
            "seed": result.seed,
            "seconds": result.seconds,
            "events": account.acknowledged,
            "doubtful": account.doubtful,
            "arrived": account.arrived,
            **said,
            "extra_effects": account.extra,
            "allowed_effects": account.allowed,
            "blows": [
                {"name": blow.name, "in_flight": len(blow.in_flight), "pending": blow.pending} for blow in result.blows
            ],
            "rate_before": round(result.rates.before),
            "rate_after": round(result.rates.after),
            "recoveries": [[name, seconds] for name, seconds in result.rates.recoveries],
            "drained_seconds": round(result.drained_seconds, 1),
            "findings": result.findings,
            "notes": result.notes,
        }
    )
