"""What health comes to: facts that are not as they should be, and those that are to be told all the same."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Finding:
    """A fact with its value, what it may be at most, and what that means; a healthy one is only told."""

    fact: str
    value: float | str | None
    limit: float | None
    meaning: str
    is_healthy: bool = False


def is_healthy(findings: Iterable[Finding]) -> bool:
    """Whether nothing is wrong."""
    return all(finding.is_healthy for finding in findings)


def in_a_line(findings: Iterable[Finding]) -> str:
    """What they mean, the worst first; empty for none."""
    in_order = sorted(findings, key=lambda finding: finding.is_healthy)
    return "; ".join(finding.meaning for finding in in_order)


def documents(findings: Iterable[Finding]) -> list[Mapping[str, Any]]:
    """The findings for JSON."""
    return [asdict(finding) for finding in findings]
