"""What a check finds: one line each, as editors read them."""

from __future__ import annotations

import enum
from dataclasses import dataclass


class Severity(enum.StrEnum):
    """How bad it is: an error fails the check, a warning only a strict one, a note never."""

    ERROR = "error"
    WARNING = "warning"
    NOTE = "note"


@dataclass(frozen=True, slots=True, order=True)
class Finding:
    """One finding; line and column count from 1."""

    line: int
    column: int
    severity: Severity
    message: str
