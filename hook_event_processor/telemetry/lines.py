"""A log record as text that is safe to print: secrets hidden, control characters escaped."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterable
from urllib.parse import quote

# Control characters other than newline and tab, line and paragraph separators,
# marks that turn the direction of text, and halves of surrogate pairs: what a
# terminal would obey, or what could pass for a line of its own.
_UNSAFE = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")
_CONTINUATION = "\n    "


class LineFormatter(logging.Formatter):
    """`[INFO] HookEventProcessor: message`; what follows a newline is indented, so no text can pose as a record."""

    def __init__(self, prefix: str = "") -> None:
        super().__init__(prefix + "[%(levelname)s] %(name)s: %(message)s", "%Y-%m-%d %H:%M:%S")
        self._secrets: frozenset[str] = frozenset()
        self._pattern: re.Pattern[str] | None = None

    def format(self, record: logging.LogRecord) -> str:
        """The record and its traceback as one text without a final newline."""
        return printable(self.hide(super().format(record)))

    def mask(self, secrets: Iterable[str]) -> None:
        """Show `***` for these texts from now on, as they are and as they are written in URLs and connection strings.

        Empty ones are passed over.
        """
        self._secrets |= {form for secret in secrets if secret for form in _written_forms(secret)}
        longest_first = sorted(self._secrets, key=len, reverse=True)
        self._pattern = re.compile("|".join(map(re.escape, longest_first))) if longest_first else None

    def hide(self, text: str) -> str:
        """`text` with `***` for every secret in it."""
        return self._pattern.sub("***", text) if self._pattern else text


def printable(text: str) -> str:
    """`text` with control characters shown as escapes and continuation lines indented."""
    text = text.replace("\r\n", "\n").rstrip("\n")
    return _UNSAFE.sub(_escape, text).replace("\n", _CONTINUATION)


def _escape(match: re.Match[str]) -> str:
    return match.group().encode("unicode_escape").decode("ascii")


def _written_forms(secret: str) -> set[str]:
    # libpq's connection strings put a backslash before quotes and backslashes.
    return {secret, quote(secret, safe=""), re.sub(r"([\\'])", r"\\\1", secret)}
