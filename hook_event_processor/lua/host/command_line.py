"""A command as one line: its words by a shell's rules for quotes, and what in it only a shell would act on."""

from __future__ import annotations

import re
import shlex

# The parts of a line: '...', an escaped character, "..." (its inside is group 1), or any character (group 2).
_PART = re.compile(r"""'[^']*'|\\.|"((?:[^"\\]|\\.)*)"|(.)""", re.DOTALL)
# What a shell would act on. Double quotes do not keep it from expanding.
_EXPANSION = re.compile(r"`|\$[A-Za-z_{(]")
_OPERATOR = re.compile(r"[|;&<>\n]")
_ESCAPED = re.compile(r"\\.", re.DOTALL)
# What a shell makes of these outside of '...'; shlex keeps some of it.
_DROPPED = {"\\$": "$", "\\`": "`", "\\\n": ""}


def split(line: str) -> list[str]:
    """The words of a line, by a shell's rules for quotes and by none of its others. Raises ValueError."""
    return shlex.split(_PART.sub(_as_in_a_shell, line))


def _as_in_a_shell(part: re.Match[str]) -> str:
    """The part of a line without the backslashes that shlex would keep."""
    text = part.group()
    return text if text.startswith("'") else _ESCAPED.sub(lambda found: _DROPPED.get(found[0], found[0]), text)


def meant_for_a_shell(line: str) -> str | None:
    """What in the line only a shell would act on."""
    bare, quoted = [], []
    for part in _PART.finditer(line):
        bare.append(part.group(2) or " ")
        quoted.append(_ESCAPED.sub("", part.group(1) or ""))
    unquoted = "".join(bare)
    found = _OPERATOR.search(unquoted) or _EXPANSION.search(unquoted) or _EXPANSION.search(" ".join(quoted))
    if found is None:
        return None
    return "a line break" if found.group() == "\n" else found.group()
