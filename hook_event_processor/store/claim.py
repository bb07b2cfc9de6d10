"""Claiming: which rows a processor takes next, and how it finds them without reading what is done."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import groupby
from operator import itemgetter
from typing import Any, NamedTuple

from hook_event_processor.store import waiting
from hook_event_processor.store.frontier import Frontier, Read
from hook_event_processor.store.json_text import bounded
from hook_event_processor.store.pipeline import Pipeline
from hook_event_processor.store.writers import WRITERS, Writer

# How long a lane claims with care once a round has failed: whatever made it fail may still be pending.
CAREFUL_SECONDS = 60.0
# So many claims of a lane that were full are a backlog, of which processors read their slices.
BACKLOG_CLAIMS = 4


class Row(NamedTuple):
    """A claimed event as raw values: ids of 16 bytes, texts as UTF-8, times as 8 bytes, microseconds since 2000.

    The first ten are what a hook sees, in the order of lua/current.lua.
    `payload` is None when it, or the metadata, is larger than the claim allowed.
    """

    id: bytes
    source: bytes
    action: bytes
    resource: bytes
    resource_id: bytes
    timestamp: bytes
    payload: bytes | None
    metadata: bytes
    attempt: int
    priority: int
    seq: int
    ctid: bytes
    ready_at: bytes


def most_bytes(max_payload: int) -> int:
    """How long a text of `max_payload` bytes of JSON can be as PostgreSQL writes it.

    It puts a blank behind each comma and each colon: one for two bytes, at most.
    """
    return max_payload * 3 // 2


def _text(column: str) -> str:
    return f"CASE WHEN pg_column_size({column}) <= %(most_bytes)s THEN {column}::text END"


# As _text, but what holds such numbers that its text is too large is not made a text.
_text_with_care = partial(bounded, most_bytes="%(most_bytes)s")


_COLUMNS = """
    id, source, action, resource, resource_id, coalesce(occurred_at, created_at),
    CASE WHEN octet_length(payload_text) <= %(most_bytes)s AND octet_length(metadata_text) <= %(most_bytes)s
         THEN payload_text END,
    CASE WHEN octet_length(metadata_text) <= %(most_bytes)s THEN metadata_text ELSE '{}' END,
    retry_count + 1, priority, seq, ctid, greatest(created_at, available_at)
"""


def _with_texts(rows: str, text: Callable[[str], str], also: str = "") -> str:
    texts = f"{text('payload')} AS payload_text, {text('metadata')} AS metadata_text"
    return f"SELECT *, {texts} {also} FROM ({rows}) AS locked"


def selected_with_care(rows: str) -> str:
    """A statement that selects the columns of a Row from `rows`, which are all of hook_events and ctid."""
    return f"SELECT {_COLUMNS} FROM ({_with_texts(rows, _text_with_care)}) AS claimed"


# statement_timestamp(): the index can be searched by a STABLE value; of a volatile one every scheduled row is read.
_DUE = f"{waiting.DUE} AND available_at <= statement_timestamp()"


def _rows(condition: str, order: str, limit: str) -> str:
    return (
        f"SELECT *, ctid FROM hook_events WHERE {condition} ORDER BY {order} LIMIT %({limit})s FOR UPDATE SKIP LOCKED"
    )


URGENT = _rows(f"{waiting.PRIORITIZED} AND priority < 5", "priority, seq", "limit")
# Keyset, not a bare ORDER BY: what is done lies before it.
FRESH = _rows(f"{waiting.FRESH} AND seq > %(after)s AND seq <= %(upto)s", "seq", "limit")
UNHURRIED = _rows(f"{waiting.PRIORITIZED} AND priority > 5", "priority, seq", "unhurried")
DUE = _rows(f"NOT needs_slot AND {_DUE}", "available_at", "due")
DUE_FOR_SLOT = _rows(f"needs_slot AND {_DUE}", "available_at", "slots")
_PARTS = (URGENT, FRESH, UNHURRIED, DUE, DUE_FOR_SLOT)


def _claim(text: Callable[[str], str]) -> str:
    # One statement: at a moderate rate most claims are of a few rows, and what five cost is not the rows.
    # Below UNION ALL, and not around it, each text is made once, and costs no node of the plan.
    parts = [_with_texts(rows, text, f", {number} AS part") for number, rows in enumerate(_PARTS)]
    return f"SELECT {_COLUMNS}, part FROM ({' UNION ALL '.join(parts)}) AS claimed"


CLAIM = _claim(_text)
# Up to several times as long for each row, and so only where the usual one may have failed.
CLAIM_WITH_CARE = _claim(_text_with_care)


@dataclass(slots=True)
class Claim:
    """Locked rows of this transaction.

    `again`: there is probably more to take at once; `more_for_slots`: once slots are free again.
    """

    fresh: list[Row]
    due: list[Row]
    for_slots: list[Row]
    again: bool
    more_for_slots: bool

    @property
    def rows(self) -> list[Row]:
        return self.fresh + self.due + self.for_slots


class Claims:
    """One lane's claims, in its session."""

    def __init__(self, pipeline: Pipeline, frontier: Frontier, max_payload: int, careful_until: float = 0.0) -> None:
        """`careful_until` (monotonic, in seconds) no payload is made a text that could be far too large."""
        self._pipeline = pipeline
        self._frontier = frontier
        self._most_bytes = most_bytes(max_payload)
        self._careful_until = careful_until
        self._has_room = False  # the last claim took all there was of the default priority
        self._full_claims = 0  # one after the other

    def take(self, limit: int, free_slots: int, now: float) -> Claim:
        """Lock the rows to run next, `limit` of them; `now` is monotonic, in seconds.

        Rows of priorities before 5 come first, those after it only when there
        is room; due rows get up to a tenth of a batch, and those that must run
        in a slot are no more than there are free ones. Does not commit.
        """
        frontier = self._frontier
        backlog = self._full_claims >= BACKLOG_CLAIMS
        with frontier.read(now, at_end=self._has_room, backlog=backlog) as read:
            if read.full:
                frontier.from_floor(read, waiting.floor(self._pipeline.connection))
            parameters = {
                "limit": limit,
                "after": read.start,
                "upto": read.upto,
                "unhurried": limit if self._has_room else 0,
                "due": max(limit // 10, 1),
                "slots": free_slots,
                "most_bytes": self._most_bytes,
            }
            with self._pipeline as pipeline:
                # In this order: whoever writes then, and did not before, has its seqs from after the first.
                given = pipeline.execute(waiting.GIVEN) if read.looks else None
                writers = pipeline.execute(WRITERS) if read.looks else None
                claimed = pipeline.execute(CLAIM if now >= self._careful_until else CLAIM_WITH_CARE, parameters)
            if given is not None and writers is not None:
                frontier.looked(read, given.rows[0][0], [Writer(*row) for row in writers.rows])
            claim = self._sorted(read, claimed.rows, parameters)
        # After the read: what it reads again itself, it has not read to the end.
        claim.again = claim.again or frontier.has_more
        return claim

    def _sorted(self, read: Read, claimed: Sequence[tuple[Any, ...]], limits: Mapping[str, int]) -> Claim:
        parts: tuple[list[Row], ...] = ([], [], [], [], [])
        for number, rows in groupby(claimed, itemgetter(-1)):
            parts[number].extend([_row(row[:-1]) for row in rows])
        urgent, normal, unhurried, due, for_slots = parts
        room = limits["limit"] - len(urgent) - len(normal)
        full = len(normal) == limits["limit"]
        self._frontier.ended(read, normal[-1].seq if normal else 0, to_the_end=not full)
        # What is not hurried was locked for nothing when there is no room for it after all.
        fresh = urgent + normal + unhurried[: max(room, 0)]
        again = room <= 0 or len(due) == limits["due"] or len(unhurried) >= max(room, 1) or not self._has_room
        if not read.of_slice:  # behind one there is another, or what was passed by
            self._has_room = not full
            self._full_claims = self._full_claims + 1 if full else 0
        return Claim(fresh, due, for_slots, again, more_for_slots=0 < limits["slots"] == len(for_slots))


# What Row._make does, three times as fast.
_row = partial(tuple.__new__, Row)


def read_rows(cursor: Any) -> list[Row]:
    """What a cursor has for a statement of selected_with_care, in binary."""
    return list(map(_row, cursor.fetchall()))
