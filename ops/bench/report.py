"""What a benchmark prints: its table, what it was measured with, and one line of JSON."""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Mapping, Sequence

from rich.console import Console
from rich.table import Table

import server
from server import Database

Row = tuple[str, ...]


def show(
    title: str,
    columns: Sequence[str],
    rows: Sequence[Row],
    *,
    database: Database | None = None,
    settings: Mapping[str, object] | None = None,
    notes: Sequence[str] = (),
    **values: object,
) -> None:
    """Print the table, then how it came about, then `values` as JSON; `settings` are the product's non-default ones."""
    table = Table(title=title, title_justify="left")
    for index, column in enumerate(columns):
        table.add_column(column, justify="right" if index else "left")
    for row in rows:
        table.add_row(*row)
    console = Console(width=110, highlight=False)
    console.print(table)
    for note in notes:
        console.print(note, soft_wrap=True)
    conditions = _conditions(database, settings or {})
    for line in conditions.values():
        console.print(line, soft_wrap=True)
    print(json.dumps({"bench": title, **values, "conditions": conditions}), flush=True)


def _conditions(database: Database | None, settings: Mapping[str, object]) -> dict[str, str]:
    own = ", ".join(f"{name}={value}" for name, value in settings.items()) or "defaults"
    load = os.getloadavg()
    found = {
        "machine": f"{os.cpu_count()} cores, {platform.system()} {platform.release()}, Python"
        f" {platform.python_version()}; load {load[0]:.1f} {load[1]:.1f} {load[2]:.1f}",
        "product": f"Hook Event Processor: {own}",
    }
    if database is not None:
        found["server"] = server.settings(database.connection)
        found["disk"] = str(database.disk)
    return found


def number(value: float) -> str:
    """With a comma at each thousand, and as many decimals as say something."""
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:,.1f}" if abs(value) >= 10 else f"{value:,.2f}"
