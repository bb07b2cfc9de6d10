"""What health comes to: facts that are not as they should be, and those that are to be told all the same."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Mapping
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


def of_threads(still: Mapping[str, float], limit: float) -> Iterator[Finding]:
    """The threads that have stood `still` for longer than so many seconds."""
    for part, seconds in still.items():
        if seconds > limit:
            yield Finding(part, round(seconds, 1), limit, f"{part} has stood still for {seconds:.0f} s")


class Alarm:
    """Says in the log what has become wrong, once each, and when all is well again."""

    def __init__(self, logger: logging.Logger) -> None:
        self._logger = logger
        self._wrong: frozenset[str] = frozenset()

    def changes(self, findings: Iterable[Finding]) -> bool:
        """Whether other facts are wrong now than the last time."""
        wrong = {finding.fact: finding for finding in findings if not finding.is_healthy}
        if wrong.keys() == self._wrong:
            return False
        if new := wrong.keys() - self._wrong:
            self._logger.warning("unhealthy: %s", in_a_line(wrong[fact] for fact in sorted(new)))
        elif not wrong:
            self._logger.info("healthy again")
        self._wrong = frozenset(wrong)
        return True


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
