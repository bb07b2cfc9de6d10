"""Where a count of the newest events ends: from which seq down they go."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Mapping

from psycopg import Connection

from hook_event_processor.retention_policy import Keep
from hook_event_processor.store.cleanup.pace import Pace
from hook_event_processor.store.cleanup.pages import ranges

# So many spans of seq are counted apart: a few events more than the count may stay.
_SPANS = 65_536
STACK = "coalesce(metadata ->> 'stack', payload ->> 'stack')"

# A scale, no more: the events that have an index by their seq are enough for it.
_NEWEST = """
SELECT coalesce(max(seq), 0) FROM hook_events WHERE available_at IS NULL AND failed_at IS NULL AND priority = 5
"""
_COUNT = """
SELECT source, action, {stack}, seq / %(span)s, count(*) FROM hook_events
WHERE ctid >= %(first)s::tid AND ctid < %(last)s::tid AND processed GROUP BY 1, 2, 3, 4
"""


def cut_offs(
    connection: Connection, rule_of: Callable[[str, str, str | None], Keep], pace: Pace, *, stacks: bool
) -> Mapping[Keep, int]:
    """For each rule with a count the seq at and below which completed events are more than it keeps."""
    row = connection.execute(_NEWEST).fetchone()
    span = max(1, (int(row[0]) if row else 0) // _SPANS)
    counts: defaultdict[Keep, Counter[int]] = defaultdict(Counter)
    statement = _COUNT.format(stack=STACK if stacks else "NULL::text")
    for pages in ranges(connection, "hook_events", pace):
        with pace.step():
            rows = connection.execute(statement, {"span": span, "first": pages.first, "last": pages.last}).fetchall()
        for source, action, stack, place, count in rows:
            keep = rule_of(source, action, stack)
            if keep.count:
                counts[keep][place] += count
    return {keep: _cut_off(places, keep.count) * span - 1 for keep, places in counts.items()}


def _cut_off(places: Counter[int], kept: int) -> int:
    """The span with which the newest `kept` are complete."""
    for place in sorted(places, reverse=True):
        kept -= places[place]
        if kept <= 0:
            return place
    return min(places)
