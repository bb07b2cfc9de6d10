"""What stands in a page between fences, and the outcomes that its comments promise.

A Lua block that begins with `-- name.lua` is a file of that name; in a hook's,
lines `--> for TYPE JSON: OUTCOME` say what a run comes to. Any other Lua block
is a fragment: `CODE --> VALUES` says what the code gives, as hep hook repl
would show it, and `--> error: TEXT` that it raises. `...` stands for anything.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parent.parent
_FENCED = re.compile(r"^```(\w+)\n(.*?)^```$", re.DOTALL | re.MULTILINE)
_FILE = re.compile(r"-- ((?:lib/)?[\w-]+\.lua)\n")
_RUN = re.compile(r"^--> for (\S+) (\{.*\})(?: in (\w+))?: (.+)$", re.MULTILINE)
_PROMISE = re.compile(r"^(\s*)(\S.*?)\s*-->(?: (.+))?$")
_LOCAL = re.compile(r"local ([\w, ]+?)\s*=")


@dataclass(frozen=True)
class Block:
    """A fenced block: the line of the page on which its text begins, its language, and its text."""

    line: int
    language: str
    text: str

    @property
    def file(self) -> str | None:
        """The name of the file that it is."""
        found = _FILE.match(self.text)
        return found[1] if found and self.language == "lua" else None

    @property
    def is_hook(self) -> bool:
        return self.file is not None and not self.file.endswith("_spec.lua") and not self.file.startswith("lib/")

    @property
    def runs(self) -> list[tuple[str, str, str | None, str]]:
        """Of a hook: event types, data, stacks, and what the runs come to."""
        return [(each[1], each[2], each[3], each[4]) for each in _RUN.finditer(self.text)]


def blocks(page: Path) -> list[Block]:
    text = page.read_text()
    return [Block(text.count("\n", 0, each.start()) + 2, each[1], each[2]) for each in _FENCED.finditer(text)]


@dataclass(frozen=True)
class Promise:
    """What a fragment's line says that it gives."""

    line: int
    code: str
    values: str

    def is_kept_by(self, values: str) -> bool:
        # A nil behind the values says nothing.
        return matches(self.values, values) or matches(self.values, values.removesuffix(", nil"))


def matches(pattern: str, text: str) -> bool:
    """Whether it is that text, with ... for anything."""
    return re.fullmatch(".*".join(map(re.escape, pattern.split("..."))), text, re.DOTALL) is not None


# What differs from run to run: ids, times, digests, durations, memory, directories; and the spaces beside them.
_VARYING = re.compile(
    r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d|\b[0-9a-f]{8,}(?:-[0-9a-f]+)*|\d+(?:\.\d+)?ms|\d+ KB|/[\w/.-]+/(?=\w+\.lua)| +"
)


def prints(shown: str, printed: str) -> bool:
    """Whether a command printed what the page shows, but for what differs from run to run."""
    return matches(_plain(shown), _plain(printed))


def _plain(text: str) -> str:
    return "\n".join(_VARYING.sub(" ", line.rstrip()) for line in text.strip().splitlines())


def promises(fragment: str) -> Iterator[Promise]:
    for number, line in enumerate(fragment.splitlines(), 1):
        if found := _PROMISE.match(line):
            yield Promise(number, found[2], found[3] or "")


def instrumented(fragment: str) -> str:
    """The fragment with a call of see(line, values...) or see_error(line, function) for each promise."""
    lines = fragment.splitlines()
    for promise in promises(fragment):
        declared = _LOCAL.match(promise.code)
        if promise.values.startswith("error: "):
            line = f"see_error({promise.line}, function() {promise.code} end)"
        elif declared:
            line = f"{promise.code} see({promise.line}, {declared[1]})"
        else:
            line = f"see({promise.line}, {promise.code})"
        lines[promise.line - 1] = line
    return "\n".join(lines)
