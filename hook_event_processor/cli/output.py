"""What commands print. Everything from the database is made visible here, and nowhere else."""

from __future__ import annotations

import os
import re
import shutil
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from datetime import datetime
from typing import Any, Literal

from hook_event_processor.cli.visible import escape, escape_block
from hook_event_processor.errors import OutputFailed
from hook_event_processor.timestamp import rfc3339

_STYLES = {
    "completed": "green",
    "failed": "red",
    "lost": "red",
    "processing": "cyan",
    "retrying": "yellow",
    "scheduled": "blue",
    "paused": "yellow",
    "enabled": "green",
    "disabled": "dim",
    "applied": "green",
    "changed": "red",
    "active": "green",
    "failing": "red",
    "connected": "green",
    "late": "yellow",
    "disconnected": "red",
}
_WORDS = {True: ("✅ Success", "Success"), False: ("❌ Failed", "Failed")}
_GAP = "  "
_NARROWEST = 12  # columns of a terminal


def write(text: str) -> None:
    """Print a text as it is. Raises OutputFailed."""
    with _standard_output():
        sys.stdout.write(text)


def flush() -> None:
    """Have standard output take what was printed. Raises OutputFailed."""
    with _standard_output():
        sys.stdout.flush()


@contextmanager
def _standard_output() -> Iterator[None]:
    try:
        yield
    except BrokenPipeError:  # a reader that leaves is no fault
        raise
    except OSError as fault:
        drop()
        raise OutputFailed(f"standard output cannot be written: {fault.strerror}") from None


def drop() -> None:
    """What is still to be written goes nowhere: the interpreter's own flush must not complain."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _terminal() -> bool:
    """Whether standard output is a terminal that shows more than lines of text (terminfo, dumb and unknown)."""
    return sys.stdout.isatty() and os.environ.get("TERM", "").lower() not in ("dumb", "unknown")


def _colours() -> bool:
    return _terminal() and not os.environ.get("NO_COLOR")  # no-color.org


def sign(mark: str, colour: str, word: str) -> str:
    """`mark` in a colour (SGR parameters) where a terminal shows it, else `word`."""
    if not _shows_signs():
        return word
    return f"\x1b[{colour}m{mark}\x1b[0m" if _colours() else mark


def _shows_signs() -> bool:
    return _terminal() and (sys.stdout.encoding or "").lower().replace("-", "") == "utf8"


def line(text: str = "") -> None:
    """Print one line."""
    write(escape(text) + "\n")


def styled_line(text: str, style: str) -> None:
    """Print one line, in colour on a terminal. Tabs stay: it may be part of a patch."""
    shown = "\t".join(map(escape, text.split("\t")))
    if style and _terminal():
        from rich.text import Text

        _console().print(Text(shown, style=style), soft_wrap=True)
    else:
        write(shown + "\n")


def block(*titles_and_text: str) -> None:
    """Print a text of several lines, the last argument, under its titles."""
    *titles, text = titles_and_text
    head = "".join(f"{escape(title)}\n" for title in titles)
    write(f"\n{head}{escape_block(text.rstrip())}\n")


def error(text: str) -> None:
    """One line on standard error, with the program's name."""
    flush()
    sys.stderr.write(f"hep: {escape(text)}\n")


def note(text: str) -> None:
    """One line on standard error that is no fault: what goes on does not end because nobody can read it."""
    with suppress(OSError):
        sys.stderr.write(f"{escape(text)}\n")


@contextmanager
def heard_or_not() -> Iterator[Callable[[str], None]]:
    """What prints the lines of work that must not stop half-way because they cannot be printed.

    Raises, when the work is done, BrokenPipeError or OutputFailed for the first that could not.
    """
    faults: list[BrokenPipeError | OutputFailed] = []

    def say(text: str) -> None:
        try:
            line(text)
            flush()
        except (BrokenPipeError, OutputFailed) as fault:
            faults.append(fault)
            drop()

    yield say
    if faults and isinstance(faults[0], OutputFailed):
        raise OutputFailed(f"{faults[0]}; all was done")
    if faults:
        raise faults[0]


def result(form: str, text: str, value: Any) -> None:
    """Print what a command did: one line, or a JSON document when `form` is json. Raises OutputFailed as told()."""
    with told(text):
        if form == "json":
            document(value)
        else:
            line(text)


@contextmanager
def told(text: str) -> Iterator[None]:
    """What a command did is printed in the block, and `text` is that in a line.

    Raises OutputFailed with that line when it cannot be printed: it was done all the same.
    """
    try:
        yield
        flush()
    except OutputFailed as fault:
        raise OutputFailed(f"{fault}; {text}") from None


def document(value: Any) -> None:
    """Print one JSON document."""
    write(_json(value, indent=True) + "\n")


def document_line(value: Any) -> None:
    """Print one JSON document on one line, at once."""
    write(_json(value, indent=False) + "\n")
    flush()


def json_text(text: str) -> Any:
    """JSON that the database holds, to stand in a document as it is: Python could not hold all of it."""
    import orjson

    return orjson.Fragment(text)


def _json(value: Any, *, indent: bool) -> str:
    import orjson

    text = orjson.dumps(value, option=orjson.OPT_INDENT_2 if indent else 0).decode()
    # JSON lets DEL, C1 and the reordering marks stand as they are; they stand only inside strings.
    return re.sub("[\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ufeff]", _json_escape, text)


def _json_escape(match: re.Match[str]) -> str:
    return f"\\u{ord(match[0]):04x}"


def fields(pairs: Mapping[str, str | None]) -> None:
    """Print names and values, aligned; what is None is left out."""
    width = max((len(name) for name, value in pairs.items() if value is not None), default=0) + 1
    for name, value in pairs.items():
        if value is not None:
            line(f"{name + ':':{width}} {value}")


def table(
    headers: Sequence[str],
    rows: Iterable[Sequence[str]],
    *,
    right: Iterable[str] = (),
    wrapped: Iterable[str] = (),
    plain: Iterable[str] = (),
    title: str = "",
) -> None:
    """Print a table: with rules and colours on a terminal, aligned text elsewhere.

    `right` names the columns of numbers, `wrapped` those whose cells may take
    several lines, `plain` those whose words are no states. A terminal too narrow for the others gets aligned text.
    """
    escaped = [[escape(cell) for cell in row] for row in rows]
    widths = [max(map(_width, column)) for column in zip(headers, *escaped, strict=True)]
    if _terminal() and _fits(headers, widths, frozenset(wrapped)):
        unstyled = [name in frozenset(plain) for name in headers]
        styles = [["" if bare else _style(cell) for bare, cell in zip(unstyled, row, strict=True)] for row in escaped]
        _ruled_table(headers, escaped, styles, frozenset(right), frozenset(wrapped), title)
    else:
        _plain_table(headers, escaped, widths, frozenset(right), title)


def _fits(headers: Sequence[str], widths: Sequence[int], wrapped: frozenset[str]) -> bool:
    """Whether a terminal has room for all columns, where wrapped ones can be as narrow as their bound."""
    least = [min(width, _NARROWEST) if name in wrapped else width for name, width in zip(headers, widths, strict=True)]
    rules = 3 * len(headers) + 1
    return sum(least) + rules <= shutil.get_terminal_size().columns


def _plain_table(
    headers: Sequence[str], rows: list[list[str]], widths: Sequence[int], right: frozenset[str], title: str
) -> None:
    if title:
        write(f"{title}\n")
    for row in (list(headers), *rows):
        cells = [
            " " * (width - _width(cell)) + cell if header in right else cell + " " * (width - _width(cell))
            for cell, width, header in zip(row, widths, headers, strict=True)
        ]
        write(_GAP.join(cells).rstrip() + "\n")


def _width(text: str) -> int:
    """Columns of a terminal that the text takes."""
    if text.isascii():
        return len(text)
    from rich.cells import cell_len

    return cell_len(text)


def _style(cell: str) -> str:
    return _STYLES.get(cell.split(" ")[0], "")


def _ruled_table(
    headers: Sequence[str],
    rows: list[list[str]],
    styles: list[list[str]],
    right: frozenset[str],
    wrapped: frozenset[str],
    title: str,
) -> None:
    from rich.box import ROUNDED
    from rich.table import Table
    from rich.text import Text

    ruled = Table(box=ROUNDED, title=title or None, title_justify="left", title_style="bold", header_style="bold")
    for name in headers:
        justify: Literal["left", "right"] = "right" if name in right else "left"
        ruled.add_column(Text(name), justify=justify, no_wrap=name not in wrapped, overflow="fold")
    for row, styles_of_row in zip(rows, styles, strict=True):
        # Text, not str: square brackets in a cell are no markup.
        ruled.add_row(*(Text(cell, style=style) for cell, style in zip(row, styles_of_row, strict=True)))
    _console().print(ruled)


def _console() -> Any:
    from rich.console import Console

    size = shutil.get_terminal_size()
    return Console(
        file=sys.stdout,
        width=size.columns,
        height=size.lines,
        no_color=not _colours(),
        highlight=False,
        markup=False,
        emoji=False,
    )


def success(ended_well: bool) -> str:
    """How a run ended, in a word; with a mark where a terminal shows it."""
    marked, plain = _WORDS[ended_well]
    return marked if _shows_signs() else plain


def local_time(moment: datetime | None) -> str:
    """Date and time of day where the user is; a dash for none."""
    return moment.astimezone().strftime("%Y-%m-%d %H:%M:%S") if moment else "-"


def iso_time(moment: datetime | None) -> str | None:
    """RFC 3339 in UTC, for JSON."""
    return rfc3339(moment) if moment else None


def milliseconds(duration: float) -> str:
    """A duration of a run: 0.04ms, 234ms, 1.2s, 2m30s."""
    if duration < 10:
        return f"{duration:.2f}ms"
    if duration < 1_000:
        return f"{duration:.0f}ms"
    return f"{duration / 1_000:.1f}s" if duration < 60_000 else age(duration / 1_000)


def age(seconds: float) -> str:
    """A span of time in its two greatest units: 12s, 3m12s, 5h02m, 3d04h."""
    whole = max(0, int(seconds))
    if whole < 60:
        return f"{whole}s"
    if whole < 3_600:
        return f"{whole // 60}m{whole % 60:02d}s"
    if whole < 86_400:
        return f"{whole // 3_600}h{whole % 3_600 // 60:02d}m"
    return f"{whole // 86_400}d{whole % 86_400 // 3_600:02d}h"
