"""The command line of a benchmark: its sizes, each with a value for the short form and one for the full form."""

from __future__ import annotations

import argparse
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Size:
    """A number that decides how long a benchmark takes."""

    short: int
    full: int
    help: str


def parser(description: str | None, **sizes: Size) -> argparse.ArgumentParser:
    """A parser with --full and an option for each size; parse with parse()."""
    made = argparse.ArgumentParser(description=description)
    made.add_argument("--full", action="store_true", help="at full size, as docs/performance.md shows it")
    for name, size in sizes.items():
        made.add_argument(
            f"--{name.replace('_', '-')}", type=int, help=f"{size.help} (default {size.short:,}; --full {size.full:,})"
        )
    made.set_defaults(sizes=sizes)
    return made


def parse(parser: argparse.ArgumentParser) -> argparse.Namespace:
    """The arguments, each size decided."""
    arguments = parser.parse_args()
    for name, size in arguments.sizes.items():
        if getattr(arguments, name) is None:
            setattr(arguments, name, size.full if arguments.full else size.short)
    return arguments
