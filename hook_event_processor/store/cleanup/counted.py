"""Where a count of the newest events ends: from which seq down they go."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Mapping

from psycopg import Connection

from hook_event_processor.retention_policy import Keep
from hook_event_processor.store.cleanup.pace import Pace
from hook_event_processor.store.cleanup.pages import ranges

# So many parts of what is there are counted apart, or every single event: one part more than the count may stay.
_PARTS = 65_536
STACK = "coalesce(metadata ->> 'stack', payload ->> 'stack')"

_COUNT = """
SELECT source, action, {stack}, seq >> %(shift)s, count(*) FROM hook_events
WHERE ctid >= %(first)s::tid AND ctid < %(last)s::tid AND processed GROUP BY 1, 2, 3, 4
"""


def cut_offs(
    connection: Connection, rule_of: Callable[[str, str, str | None], Keep], pace: Pace, *, stacks: bool
) -> Mapping[Keep, int]:
    """For each rule with a count the seq at and below which completed events are more than it keeps."""
    shift = 0  # a part is 2 ** shift seqs
    counts: defaultdict[Keep, Counter[int]] = defaultdict(Counter)
    statement = _COUNT.format(stack=STACK if stacks else "NULL::text")
    for pages in ranges(connection, "hook_events", pace):
        values = {"shift": shift, "first": pages.first, "last": pages.last}
        with pace.step():
            rows = connection.execute(statement, values).fetchall()
        for source, action, stack, part, count in rows:
            keep = rule_of(source, action, stack)
            if keep.count:
                counts[keep][part] += count
        while sum(map(len, counts.values())) > 2 * _PARTS:
            shift += 1
            for keep, parts in counts.items():
                counts[keep] = _halved(parts)
    return {keep: (_cut_off(parts, keep.count) << shift) - 1 for keep, parts in counts.items()}


def _halved(parts: Mapping[int, int]) -> Counter[int]:
    """Two parts each made one."""
    halved: Counter[int] = Counter()
    for part, count in parts.items():
        halved[part >> 1] += count
    return halved


def _cut_off(parts: Mapping[int, int], kept: int) -> int:
    """The part with which the newest `kept` are complete."""
    for part in sorted(parts, reverse=True):
        kept -= parts[part]
        if kept <= 0:
            return part
    return min(parts)
