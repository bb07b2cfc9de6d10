"""Write the man pages: ops/pages.py DIRECTORY.

From the parser come hep(1) and a page for each group of commands, from docs/ the rest. Needs argparse-manpage,
and none of the product's dependencies: the wheel's build runs it, too.
"""

from __future__ import annotations

import argparse
import os
import re
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
# From docs/, by page: the name with its section, and what the page tells.
_DOCUMENTS = {
    "writing-hooks.md": ("hep-hooks.7", "how hooks are written"),
    "service.md": ("hook-event-processor.8", "take events from PostgreSQL and run hooks for them, under systemd"),
}
# Other names of pages, under which they are looked for.
_ALIASES = {"hook.lua.5": "man7/hep-hooks.7", "hook-event-processor.1": "man1/hep.1"}
_MANUAL = "Hook Event Processor"
# What argparse-manpage and we write ourselves.
_REQUEST = re.compile(r"\.(TH|SH|SS|TP|B|BR|RS|RE|nf|fi)\b")
_WIDTH = "74"  # of usages, which stand in a page of 80 columns as they are


def pages() -> Mapping[str, str]:
    """The text of every page by its file name, such as hep-hook.1."""
    sys.path[:0] = [str(ROOT), str(ROOT / "ops")]
    from manual import man_page

    found = dict(_from_parser())
    for file, (name, summary) in _DOCUMENTS.items():
        title, _, section = name.rpartition(".")
        found[name] = man_page((ROOT / "docs" / file).read_text(encoding="utf-8"), title, section, summary)
    for name, target in _ALIASES.items():
        found[name] = f".so {target}\n"
    return found


def _from_parser() -> Iterator[tuple[str, str]]:
    os.environ["COLUMNS"] = _WIDTH
    from hook_event_processor.cli.parser import whole_parser

    top = whole_parser()
    commands = _subcommands(top)
    assert commands is not None
    summaries = {choice.dest: choice.help or "" for choice in commands._choices_actions}
    groups = {name: each for name, each in commands.choices.items() if _subcommands(each) is not None}
    for name, group in groups.items():
        yield f"hep-{name}.1", _page(group, f"hep-{name}", summaries.get(name, ""), ["hep (1)"])
        # hep(1) names the group, and its own page tells the rest.
        del commands._name_parser_map[name]
    see = [*(f"hep-{name} (1)" for name in groups), "hep-hooks (7)", "hook-event-processor (8)"]
    yield "hep.1", _page(top, "hep", "take events from PostgreSQL and run hooks for them", see)


def _subcommands(parser: argparse.ArgumentParser) -> Any:
    return next((action for action in parser._actions if isinstance(action, argparse._SubParsersAction)), None)


def _page(parser: argparse.ArgumentParser, name: str, summary: str, see: list[str]) -> str:
    from argparse_manpage.manpage import Manpage

    page = Manpage(parser, format="single-commands-section" if name != "hep" else "pretty")
    page.prog, page.description = name, summary
    page.date, page.source, page.manual = "", "hook-event-processor", _MANUAL
    for command in _commands_below(parser):
        # The examples stand there, and argparse-manpage leaves it out.
        command.description = "\n\n".join(text for text in (command.description, command.epilog) if text)
    page.add_section("see also", ">", "\n".join(f".BR {each}" for each in see).replace("-", "\\-"))
    text = str(page).replace("\n.SH COMMENTS\n", "\n.SH NOTES\n")
    return "\n".join([*_laid_out(text.splitlines()), ""])


def _commands_below(parser: argparse.ArgumentParser) -> Iterator[argparse.ArgumentParser]:
    commands = _subcommands(parser)
    for command in {id(each): each for each in commands.choices.values()}.values() if commands else ():
        yield command
        yield from _commands_below(command)


def _laid_out(lines: list[str]) -> Iterator[str]:
    """The page's lines: usages, examples and what is indented stand as they are, and roff fills the rest."""
    stands = False
    for line in lines:
        if line.startswith(("usage: ", "example: ", " ")) != stands:
            stands = not stands
            yield ".nf" if stands else ".fi"
        # Typed as it is printed, where a quotation mark would become a typographer's.
        yield _guarded(line.replace("'", "\\(aq") if stands else line)
        if line.startswith(".TH "):
            yield from (".nh", ".ad l")  # no hyphen and no wider blank in what is a name, or is to be typed


def _guarded(line: str) -> str:
    """A line of text, though it begins like a request of roff's."""
    return f"\\&{line}" if line.startswith("'") or (line.startswith(".") and not _REQUEST.match(line)) else line


def write(directory: Path) -> None:
    """Write every page into the directory."""
    directory.mkdir(parents=True, exist_ok=True)
    for name, text in pages().items():
        (directory / name).write_text(text, encoding="utf-8")


if __name__ == "__main__":
    write(Path(sys.argv[1]))
