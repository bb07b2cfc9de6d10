"""The events of the load: what each is, which hooks it runs, and what must be there afterwards.

Event n has an id that says n, so that the ledger is numbers and not ids.
"""

from __future__ import annotations

import hashlib
import random
from collections.abc import Mapping
from dataclasses import dataclass
from uuid import UUID


@dataclass(frozen=True, slots=True)
class Kind:
    """Events of the type chaos.NAME: the hooks that must succeed once each, and the events that they dispatch."""

    name: str
    hooks: tuple[str, ...]
    children: int = 0
    # The hook whose effect the auditor sees outside the database.
    effect: str | None = None


PLAIN = Kind("plain", ("plain",))
PARENT = Kind("parent", ("parent",), children=1)
# Two hooks: one succeeds at once and must not run again while the other is retried.
FLAKY = Kind("flaky", ("steady", "flaky"), children=1)
HTTP = Kind("http", ("http",), children=1, effect="http")
FILE = Kind("file", ("file",), effect="file")
KINDS = {kind.name: kind for kind in (PLAIN, PARENT, FLAKY, HTTP, FILE)}

# Of a hundred events; the rest is plain.
MIXED: Mapping[str, int] = {"http": 5, "file": 5, "parent": 20, "flaky": 2}


class Numbering:
    """Which number is which event, by seed: the id of each, and its kind."""

    def __init__(self, seed: int, shares: Mapping[str, int] = MIXED) -> None:
        """`shares` says how many of a hundred events are of each kind; the rest is plain."""
        kinds = [KINDS[name] for name, share in shares.items() for _ in range(share)]
        kinds += [PLAIN] * (100 - len(kinds))
        random.Random(seed).shuffle(kinds)
        self._kinds = kinds
        digest = int.from_bytes(hashlib.sha256(f"chaos {seed}".encode()).digest()[:8])
        # UUID version 8: what stands in it is the writer's own affair (RFC 9562, section 5.8).
        self._high = digest & ~0xF000 | 0x8000
        self._variant = 0x2 << 62

    @property
    def events_a_number(self) -> float:
        """How many events there are for each that the writer inserts, with those that hooks dispatch."""
        return 1 + sum(kind.children for kind in self._kinds) / len(self._kinds)

    def kind(self, number: int) -> Kind:
        return self._kinds[number % len(self._kinds)]

    def id(self, number: int) -> UUID:
        return UUID(int=self._high << 64 | self._variant | number)

    def number(self, event_id: UUID) -> int | None:
        """The number of an event of the load; None for one that something else has published."""
        high, low = event_id.int >> 64, event_id.int & (1 << 64) - 1
        return low ^ self._variant if high == self._high else None
