"""Claiming: which rows a processor takes next, and how it finds them without reading what is done."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import groupby
from operator import itemgetter
from typing import Any, NamedTuple

from hook_event_processor.store import waiting
from hook_event_processor.store.json_text import bounded
from hook_event_processor.store.pipeline import Pipeline

# A full pass repairs what no cursor can see: rows that a dead processor let go.
FULL_PASS_SECONDS = 30.0
# How long a cursor runs ahead before it looks again at what was committed behind it.
PASS_SECONDS = 2.0
_MARK_SECONDS = 0.05
# How long a lane claims with care once a round has failed: whatever made it fail may still be pending.
CAREFUL_SECONDS = 60.0


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
# Keyset, not a bare ORDER BY: what is done lies before the cursor.
FRESH = _rows(f"{waiting.FRESH} AND seq > %(after)s", "seq", "limit")
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

_XMIN = "SELECT pg_snapshot_xmin(pg_current_snapshot())::text::bigint"
_OWN_XID = "SELECT pg_current_xact_id()::text::bigint"


@dataclass(slots=True)
class Cursor:
    """Where a lane reads the index of fresh rows: from `position` on, and from `floor` when it starts a pass.

    Every row at or below the floor has been seen by some claim. A row's
    transaction has its number before the row has its seq (trigger
    hook_events_wake), so once every transaction that is older than a mark has
    ended, one pass from the old floor sees all that lies below the mark.
    A pass reads everything that had been reached when it began; beyond that
    it leaves out what other lanes have just read and hold locked.
    """

    position: int = 0
    floor: int = 0
    reached: int = 0
    _pass_reads_to: int = 0
    _mark: tuple[int, int] | None = None  # a position, and a transaction that began after it was reached
    _candidate: int | None = None

    def start_pass(self, reached: int) -> None:
        """Go back to the floor; `reached` is the highest seq that any lane has read."""
        marked = self._mark[0] if self._mark is not None else 0
        self.position, self._pass_reads_to = self.floor, max(reached, self.reached, marked, self._candidate or 0)

    def skip(self, reached: int) -> None:
        """Go on behind what another lane has read, unless this pass has yet to see it."""
        if self.position >= self._pass_reads_to:
            self.position = max(self.position, reached)

    def ended_before(self, xmin: int) -> None:
        """This pass began when no transaction older than `xmin` was running."""
        if self._mark is not None and self._mark[1] < xmin:
            self._candidate, self._mark = self._mark[0], None

    def restart(self, floor: int) -> None:
        """Forget all but the floor of the table: the next pass is a full one."""
        self.position = self.floor = self.reached = floor
        self._mark = self._candidate = None

    def advance(self, position: int, *, to_the_end: bool) -> None:
        """The claim read up to `position`, or all there was."""
        self.position = max(self.position, position)
        self.reached = max(self.reached, position)
        if self._candidate is not None and (to_the_end or self.position >= self._candidate):
            self.floor, self._candidate = max(self.floor, self._candidate), None

    @property
    def wants_mark(self) -> bool:
        return self._mark is None and self._candidate is None

    def mark(self, reached: int, xid: int) -> None:
        """`reached` was read in a transaction that had ended before `xid` began."""
        self._mark = (reached, xid)


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

    def __init__(self, pipeline: Pipeline, max_payload: int, careful_until: float = 0.0) -> None:
        """`careful_until` (monotonic, in seconds) no payload is made a text that could be far too large."""
        self._pipeline = pipeline
        self._most_bytes = most_bytes(max_payload)
        self._careful_until = careful_until
        self._cursor = Cursor()
        self._pass_ends = 0.0
        self._full_pass_at = 0.0
        self._mark_at = 0.0
        self._has_room = False  # the last claim took all there was of the default priority

    @property
    def floor(self) -> int:
        """The seq up to which no fresh row waits, as far as this lane knows."""
        return self._cursor.floor

    @property
    def reached(self) -> int:
        """The highest seq that was read."""
        return self._cursor.reached

    def full_pass(self) -> None:
        """Let the next claim begin from the very start: rows behind the cursor may have been let go."""
        self._full_pass_at = 0.0

    def take(self, limit: int, free_slots: int, now: float, reached: int = 0) -> Claim:
        """Lock the rows to run next, `limit` of them; `now` is monotonic, in seconds.

        `reached` is the highest seq that another lane has read, if it is higher.
        Rows of priorities before 5 come first, those after it only when there
        is room; due rows get up to a tenth of a batch, and those that must run
        in a slot are no more than there are free ones. Does not commit.
        """
        starts_pass = self._starts_pass(now, reached)
        self._cursor.skip(reached)
        reached = max(reached, self._cursor.reached)
        marks = reached > self._cursor.floor and self._cursor.wants_mark and now >= self._mark_at
        parameters = {
            "limit": limit,
            "after": self._cursor.position,
            "unhurried": limit if self._has_room else 0,
            "due": max(limit // 10, 1),
            "slots": free_slots,
            "most_bytes": self._most_bytes,
        }
        with self._pipeline as pipeline:
            xmin = pipeline.execute(_XMIN) if starts_pass else None
            # Before the claim, from which the transaction may have its number.
            given = pipeline.execute(waiting.GIVEN) if marks else None
            claimed = pipeline.execute(CLAIM if now >= self._careful_until else CLAIM_WITH_CARE, parameters)
            xid = pipeline.execute(_OWN_XID) if marks else None
        if xmin is not None:
            self._cursor.ended_before(xmin.rows[0][0])
        claim = self._sorted(claimed.rows, parameters)
        if given is not None and xid is not None:
            self._cursor.mark(min(reached, given.rows[0][0]), xid.rows[0][0])
            self._mark_at = now + _MARK_SECONDS
        return claim

    def _sorted(self, claimed: Sequence[tuple[Any, ...]], limits: Mapping[str, int]) -> Claim:
        parts: tuple[list[Row], ...] = ([], [], [], [], [])
        for number, rows in groupby(claimed, itemgetter(-1)):
            parts[number].extend([_row(row[:-1]) for row in rows])
        urgent, normal, unhurried, due, for_slots = parts
        room = limits["limit"] - len(urgent) - len(normal)
        full = len(normal) == limits["limit"]
        self._cursor.advance(normal[-1].seq if normal else 0, to_the_end=not full)
        # What is not hurried was locked for nothing when there is no room for it after all.
        fresh = urgent + normal + unhurried[: max(room, 0)]
        again = room <= 0 or len(due) == limits["due"] or len(unhurried) >= max(room, 1) or not self._has_room
        self._has_room = not full
        if not full:
            self._pass_ends = 0.0
        return Claim(fresh, due, for_slots, again, more_for_slots=0 < limits["slots"] == len(for_slots))

    def _starts_pass(self, now: float, reached: int) -> bool:
        full = now >= self._full_pass_at
        if full:
            self._cursor.restart(waiting.floor(self._pipeline.connection))
            self._full_pass_at = now + FULL_PASS_SECONDS
        if full or now >= self._pass_ends:
            self._cursor.start_pass(reached)
            self._pass_ends = now + PASS_SECONDS
            return True
        return False


# What Row._make does, three times as fast.
_row = partial(tuple.__new__, Row)


def read_rows(cursor: Any) -> list[Row]:
    """What a cursor has for a statement of selected_with_care, in binary."""
    return list(map(_row, cursor.fetchall()))
