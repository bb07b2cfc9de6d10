"""Plans of the hot path: what a claim reads beside a long history, dead letters and events for tomorrow.

EXPLAIN says which index is used and how many blocks are read; a twentieth of the
rows gives the plans of a table with a million processed ones.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from psycopg import Connection

from hook_event_processor.store import ack, claim, pauses, record, tail, waiting, watch
from hook_event_processor.store.database import PLAN_ONCE, Database

PROCESSED, FAILED, SCHEDULED, FRESH, URGENT = 40_000, 5_000, 5_000, 5_000, 500
LIMIT = 100
# A block each for a row's page and its index entry, at the most, and a few for the way down the index.
FEW_BLOCKS = 10
# How lanes have their statements planned, and how others do.
AS_LANES = PLAN_ONCE
CUSTOM = "SET LOCAL plan_cache_mode = force_custom_plan"
in_each_mode = pytest.mark.parametrize(
    "mode", [pytest.param(AS_LANES, id="as lanes"), pytest.param(CUSTOM, id="custom")]
)
LIMITS = ("limit", "unhurried", "due", "slots")
TYPES = {"after": "bigint", "upto": "bigint", "most_bytes": "int", **dict.fromkeys(LIMITS, "int")}
VALUES = {"after": PROCESSED, "upto": 10**9, "most_bytes": 100_000, **dict.fromkeys(LIMITS, LIMIT)}


@pytest.fixture(scope="module")
def crowded(shared_database: Database) -> Iterator[Connection]:
    """A session on a database with rows of every state."""
    with shared_database.session("tests") as connection:
        _crowd(connection)
        yield connection


def _crowd(connection: Connection) -> None:
    connection.execute(
        "INSERT INTO hook_events (source, action, processed, processed_at)"
        " SELECT 'task', 'done', TRUE, now() FROM generate_series(1, %s)",
        (PROCESSED,),
    )
    connection.execute(
        "INSERT INTO hook_events (source, action, retry_count, failed_at)"
        " SELECT 'task', 'failed', 3, now() FROM generate_series(1, %s)",
        (FAILED,),
    )
    connection.execute(
        "INSERT INTO hook_events (source, action, needs_slot, available_at)"
        " SELECT 'task', 'later', n %% 2 = 0, now() + interval '1 day' FROM generate_series(1, %s) AS n",
        (SCHEDULED,),
    )
    for priority, count in ((5, FRESH), (1, URGENT), (9, URGENT)):
        connection.execute(
            "INSERT INTO hook_events (source, action, priority)"
            " SELECT 'task', 'started', %s FROM generate_series(1, %s)",
            (priority, count),
        )
    connection.execute("UPDATE hook_events_floor SET seq = (SELECT max(seq) FROM hook_events WHERE processed)")
    connection.execute("VACUUM ANALYZE hook_events")


@contextmanager
def _rolled_back(connection: Connection) -> Iterator[None]:
    with connection.transaction(force_rollback=True):
        yield


def _prepare(connection: Connection, statement: str, **values: Any) -> str:
    """Prepare a statement as the processor does; returns what executes it with these values."""
    names = list(dict.fromkeys(re.findall(r"%\((\w+)\)s", statement)))
    for place, name in enumerate(names, 1):
        statement = statement.replace(f"%({name})s", f"${place}")
    types = f"({', '.join(TYPES[name] for name in names)})" if names else ""
    arguments = f"({', '.join(str({**VALUES, **values}[name]) for name in names)})" if names else ""
    connection.execute(f"PREPARE pinned {types} AS {statement.replace('%%', '%')}")
    return f"EXECUTE pinned {arguments}"


def _plan(connection: Connection, statement: str, mode: str, **values: Any) -> dict[str, Any]:
    """The plan of a statement, as it ran with these values."""
    with _rolled_back(connection):
        connection.execute(mode)
        plan = _explained(connection, _prepare(connection, statement, **values))
        connection.execute("DEALLOCATE pinned")
    return plan


def _explained(connection: Connection, statement: str) -> dict[str, Any]:
    row = connection.execute(f"EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) {statement}").fetchone()
    assert row is not None
    plan: dict[str, Any] = row[0][0]["Plan"]
    return plan


def _nodes(plan: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield plan
    for child in plan.get("Plans", []):
        yield from _nodes(child)


def _scans(plan: dict[str, Any]) -> list[dict[str, Any]]:
    return [node for node in _nodes(plan) if "Scan" in node["Node Type"] and "Subquery" not in node["Node Type"]]


def _blocks(plan: dict[str, Any]) -> int:
    return int(plan["Shared Hit Blocks"] + plan["Shared Read Blocks"])


def _assert_frugal(plan: dict[str, Any], index: str, rows: int) -> None:
    """One scan, of this index, in its order; it meets no row that it does not return."""
    (scan,) = _scans(plan)
    assert (scan["Node Type"], scan.get("Index Name")) == ("Index Scan", index)
    assert not [node for node in _nodes(plan) if "Sort" in node["Node Type"]]
    assert scan.get("Rows Removed by Filter", 0) == 0
    assert plan["Actual Rows"] == rows
    # Locking a row reads its page once more.
    assert _blocks(plan) <= 3 * rows + FEW_BLOCKS


@in_each_mode
@pytest.mark.parametrize(
    ("statement", "index", "rows"),
    [
        pytest.param(claim.FRESH, "hook_events_fresh", LIMIT, id="fresh"),
        pytest.param(claim.URGENT, "hook_events_prioritized", LIMIT, id="urgent"),
        pytest.param(claim.UNHURRIED, "hook_events_prioritized", LIMIT, id="unhurried"),
        pytest.param(claim.DUE, "hook_events_due", 0, id="due"),
        pytest.param(claim.DUE_FOR_SLOT, "hook_events_due", 0, id="due for a slot"),
    ],
)
def test_a_claim_reads_its_own_rows_alone(
    crowded: Connection, statement: str, index: str, rows: int, mode: str
) -> None:
    _assert_frugal(_plan(crowded, statement, mode), index, rows)


def _assert_each_by_its_index(plan: dict[str, Any]) -> None:
    assert [scan.get("Index Name") for scan in _scans(plan)] == [
        "hook_events_prioritized",
        "hook_events_fresh",
        "hook_events_prioritized",
        "hook_events_due",
        "hook_events_due",
    ]
    assert not [node for node in _nodes(plan) if "Sort" in node["Node Type"] or node.get("Rows Removed by Filter")]


@in_each_mode
def test_one_statement_claims_them_all(crowded: Connection, mode: str) -> None:
    plan = _plan(crowded, claim.CLAIM, mode)
    _assert_each_by_its_index(plan)
    assert plan["Actual Rows"] == 3 * LIMIT
    assert _blocks(plan) <= 3 * 3 * LIMIT + 5 * FEW_BLOCKS
    assert len(claim.CLAIM) < 4096  # psycopg would parse it anew for each claim


@in_each_mode
def test_a_claim_of_a_slice_reads_nothing_beyond_it(crowded: Connection, mode: str) -> None:
    row = crowded.execute(f"SELECT min(seq) FROM hook_events WHERE {waiting.FRESH}").fetchone()
    assert row is not None
    _assert_frugal(_plan(crowded, claim.FRESH, mode, upto=row[0] + 9), "hook_events_fresh", 10)


@in_each_mode
def test_a_claim_behind_the_last_row_reads_nothing(crowded: Connection, mode: str) -> None:
    last = crowded.execute("SELECT max(seq) FROM hook_events").fetchone()
    assert last is not None
    _assert_frugal(_plan(crowded, claim.FRESH, mode, after=last[0]), "hook_events_fresh", 0)


@pytest.mark.parametrize(("statement", "blocks"), [(claim.CLAIM, 5 * LIMIT), (claim.CLAIM_WITH_CARE, 5 * LIMIT)])
def test_what_was_planned_for_an_empty_table_serves_a_full_one(
    database: Database, connection: Connection, statement: str, blocks: int
) -> None:
    connection.execute("VACUUM ANALYZE hook_events")
    with database.session("tests") as lane:
        lane.execute(PLAN_ONCE)
        execute = _prepare(lane, statement, after=0)
        assert lane.execute(execute).fetchall() == []
        connection.execute(
            "INSERT INTO hook_events (source, action) SELECT 'task', 'started' FROM generate_series(1, 10000)"
        )
        plan = _explained(lane, execute)
    _assert_each_by_its_index(plan)
    assert plan["Actual Rows"] == LIMIT
    assert _blocks(plan) <= blocks


@pytest.mark.parametrize(
    ("statement", "parameters"),
    [
        (ack.FAILED, {"errors": "ARRAY['no']", "delays": "ARRAY[1]", "slots": "ARRAY[false]"}),
        (pauses.HOLD, {"seqs": "ARRAY[1]", "pauses": "ARRAY[1]"}),
    ],
    ids=["failed", "held"],
)
def test_single_events_are_found_in_a_full_table_by_what_was_planned_for_an_empty_one(
    database: Database, connection: Connection, statement: str, parameters: dict[str, str]
) -> None:
    connection.execute("VACUUM ANALYZE hook_events")
    text = statement.replace("%(ids)b", "$1")
    for name, value in parameters.items():
        text = re.sub(rf"%\({name}\)[sb]", value, text)
    with database.session("tests") as lane:
        lane.execute(PLAN_ONCE)
        lane.execute(f"PREPARE pinned (uuid[]) AS {text}")
        lane.execute("EXECUTE pinned ('{}')")
        connection.execute("INSERT INTO hook_events (source, action) SELECT 'a', 'b' FROM generate_series(1, 10000)")
        event_id = connection.execute("SELECT id FROM hook_events LIMIT 1").fetchone()
        assert event_id is not None
        plan = _explained(lane, f"EXECUTE pinned (ARRAY['{event_id[0]}'::uuid])")
    assert max(node["Actual Rows"] * node["Actual Loops"] for node in _scans(plan)) <= 1
    assert _blocks(plan) <= 10 * FEW_BLOCKS  # each index of the table has an entry more


def test_due_rows_are_found_among_those_for_tomorrow(crowded: Connection) -> None:
    with _rolled_back(crowded):
        crowded.execute(
            "UPDATE hook_events SET available_at = now() - interval '1 second'"
            " WHERE id IN (SELECT id FROM hook_events WHERE available_at IS NOT NULL AND NOT needs_slot LIMIT 10)"
        )
        _assert_frugal(_plan(crowded, claim.DUE, AS_LANES), "hook_events_due", 10)


@in_each_mode
def test_a_look_reads_a_few_entries(crowded: Connection, mode: str) -> None:
    plan = _plan(crowded, watch.LOOK.replace("%s", "0"), mode)
    indexes = {scan.get("Index Name") for scan in _scans(plan)} - {None}
    assert indexes == {"hook_events_fresh", "hook_events_prioritized", "hook_events_due"}
    assert _blocks(plan) <= 4 * FEW_BLOCKS


def test_acknowledging_needs_no_index(crowded: Connection) -> None:
    """Locked rows stay where they are: their addresses lead to them."""
    rows = crowded.execute("SELECT ctid FROM hook_events WHERE NOT processed LIMIT 100").fetchall()
    addresses = ", ".join(f"'{row[0]}'" for row in rows)
    plan = _plan(crowded, ack.PROCESSED.replace("%b", f"ARRAY[{addresses}]::tid[]"), CUSTOM)
    assert [scan["Node Type"] for scan in _scans(plan)] == ["Tid Scan"]


@pytest.mark.parametrize("statement", [ack.PARKED, ack.POSTPONED, ack.FINISHED])
def test_single_events_are_found_by_their_ids(crowded: Connection, statement: str) -> None:
    ids = "ARRAY(SELECT id FROM hook_events LIMIT 10)"
    plan = _plan(crowded, statement.replace("%b", ids), CUSTOM)
    assert "hook_events_pkey" in {scan.get("Index Name") for scan in _scans(plan)}


@pytest.mark.parametrize(("after", "rows"), [(PROCESSED // 2, 1_000), (10**6, 0)], ids=["behind", "at the end"])
def test_a_tail_finds_events_in_the_ranges_of_pages_where_they_lie(crowded: Connection, after: int, rows: int) -> None:
    values = {"after": after, "upto": after + 1_000, "limit": 10**5}
    plan = _plan(crowded, tail.FIND.format(condition="TRUE"), CUSTOM, **values)
    assert [scan.get("Index Name") for scan in _scans(plan)] == [None, "hook_events_newest"]
    assert plan["Actual Rows"] == rows
    # A range of 32 pages is read as a whole: one that begins before them, and one that ends behind.
    assert sum(scan.get("Rows Removed by Index Recheck", 0) for scan in _scans(plan)) < 5_000


def test_a_tail_reads_events_by_their_ids(crowded: Connection) -> None:
    ids = "ARRAY(SELECT id FROM hook_events LIMIT 1000)"
    plan = _plan(crowded, tail.READ.replace("%(ids)s", ids), CUSTOM)
    (*_, scan) = _scans(plan)
    assert (scan["Index Name"], scan["Actual Rows"], scan["Actual Loops"]) == ("hook_events_pkey", 1, 1_000)


def test_recording_reads_nothing() -> None:
    """Executions are inserted from what is sent: the statement names no other table."""
    assert re.findall(r"\b(?:FROM|JOIN)\s+(\w+)", record.EXECUTIONS) == ["unnest"]
