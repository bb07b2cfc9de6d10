"""A page of docs/ as a man page: ops/manual.py PAGE NAME SECTION DESCRIPTION. Needs nothing but Python."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from itertools import groupby
from pathlib import Path

_LINK = re.compile(r"\[([^\]]+)\]\([^)]+\)")
_MARKED = re.compile(r"`([^`]+)`|\*\*([^*]+)\*\*|\*([^*]+)\*")
_CELLS = re.compile(r"(?<!\\)\|")
_ROFF = {"\\": "\\e", "-": "\\-", "`": "\\(ga", "'": "\\(aq", "^": "\\(ha", "~": "\\(ti"}


def man_page(text: str, name: str, section: str, description: str) -> str:
    """The Markdown that our pages use, as roff: headings, paragraphs, tables, lists, fenced blocks."""
    heading = [f'.TH {name.upper()} {section} "" "" "Hook Event Processor"', ".SH NAME", f"{name} \\- {description}"]
    lines = text.splitlines()
    if lines and lines[0].startswith("# "):
        lines[0] = "## Description"
    return "\n".join([*heading, *_body(lines), ".SH SEE ALSO", ".BR hep (1)", ""])


def _body(lines: list[str]) -> Iterator[str]:
    fenced = False
    plain: list[str] = []
    for line in lines:
        if line.startswith("```"):
            yield from _blocks(plain)
            plain = []
            yield from (".EE", ".RE") if fenced else (".PP", ".RS 4", ".EX")
            fenced = not fenced
        elif fenced:
            yield _guarded(_escaped(line))
        else:
            plain.append(line)
    yield from _blocks(plain)


def _blocks(lines: list[str]) -> Iterator[str]:
    for is_text, block in groupby(lines, key=lambda line: bool(line.strip())):
        if is_text:
            yield from _block(list(block))


def _block(lines: list[str]) -> Iterator[str]:
    first = lines[0]
    if first.startswith("#"):
        level, _, title = first.partition(" ")
        yield f".SH {_marked(title.upper())}" if len(level) <= 2 else f".SS {_marked(title)}"
        yield from _block(lines[1:]) if lines[1:] else ()
    elif first.startswith("|"):
        yield from _table(lines)
    elif first.startswith("- "):
        for item in "\n".join(lines).removeprefix("- ").split("\n- "):
            yield from (".IP \\(bu 2", _marked(" ".join(item.split())))
    else:
        yield from (".PP", _marked(" ".join(lines)))


def _table(lines: list[str]) -> Iterator[str]:
    """Each row as a tagged paragraph; of more than two columns with their headings."""
    header, _, *rows = [[cell.strip() for cell in _CELLS.split(line.strip("| "))] for line in lines]
    for tag, *cells in rows:
        said = cells if len(cells) == 1 else [f"{name}: {cell}" for name, cell in zip(header[1:], cells, strict=True)]
        yield from (".TP", _marked(tag), _marked("; ".join(said)))


def _marked(text: str) -> str:
    """Code in bold, emphasis in italics, links as their text; never a request of roff's."""
    text = _LINK.sub(r"\1", text).replace("\\|", "|")
    parts, at = [], 0
    for found in _MARKED.finditer(text):
        font = "I" if found[3] else "B"
        parts += [_escaped(text[at : found.start()]), f"\\f{font}{_escaped(found[1] or found[2] or found[3])}\\fR"]
        at = found.end()
    return _guarded("".join(parts) + _escaped(text[at:]))


def _escaped(text: str) -> str:
    return "".join(_ROFF.get(character, character) for character in text)


def _guarded(line: str) -> str:
    """A line of text, though it begins like a request."""
    return f"\\&{line}" if line.startswith(".") else line


if __name__ == "__main__":
    page, *titles = sys.argv[1:]
    sys.stdout.write(man_page(Path(page).read_text(encoding="utf-8"), *titles))
