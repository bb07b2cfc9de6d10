"""Losing the database and finding it again is said once each, in whichever order threads find out."""

from __future__ import annotations

from time import monotonic

import pytest
from psycopg import Connection, OperationalError, errors

from hook_event_processor.errors import StoreUnavailable
from hook_event_processor.processor.outage import Outage
from hook_event_processor.store.database import Database


def test_an_outage_is_said_once_and_its_end_once(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO", logger="HookEventProcessor")
    outage = Outage()
    for _ in range(3):
        outage.notice(StoreUnavailable("connection refused"), "a round failed", None, 0)
    assert outage.seconds is not None
    assert [outage.end(monotonic()) for _ in range(3)] == [1, 1, 1]
    assert outage.seconds is None
    assert [message[:20] for message in caplog.messages] == ["the database is away", "the database is back"]


def test_what_the_server_refuses_is_a_line_and_not_said_again_at_once(caplog: pytest.LogCaptureFixture) -> None:
    outage = Outage()
    for fault in (errors.DiskFull("no space"), errors.ReadOnlySqlTransaction("read-only"), errors.DiskFull("no space")):
        for _ in range(3):
            outage.notice(fault, "a round failed", None, 0)
            outage.notice(fault, "a row could not be written", None, 0)
    outage.notice(errors.InsufficientPrivilege("permission denied"), "a round failed", None, 0)
    said = ["no space", "read-only", "no space"]
    whats = ("a round failed", "a row could not be written")
    assert caplog.messages == [
        *(f"{what}, trying again: {why}" for why in said for what in whats),
        "a round failed, trying again: permission denied",
    ]
    assert not any(record.exc_info for record in caplog.records)
    outage.notice(ValueError("a fault of ours"), "a round failed", None, 0)
    assert caplog.records[-1].exc_info


def test_a_session_that_was_begun_before_an_outage_does_not_end_it() -> None:
    outage = Outage()
    before = monotonic()
    outage.begin("server closed the connection")
    assert outage.end(before) == 0
    assert outage.seconds is not None
    assert outage.end(monotonic()) == 1
    assert outage.seconds is None


def test_a_session_that_an_outage_took_says_nothing_once_it_is_over(
    database: Database, caplog: pytest.LogCaptureFixture
) -> None:
    """Whether it had told of itself before, or only after the end: what counts is when it was begun."""
    caplog.set_level("WARNING", logger="HookEventProcessor")
    outage = Outage()
    before = monotonic()
    with database.session("tests") as connection:
        pass
    outage.begin("server closed the connection")
    outage.end(monotonic())
    lost = OperationalError("terminating connection")
    _notice(outage, lost, connection, outage.end(before))
    assert outage.seconds is None
    _notice(outage, lost, connection, outage.end(monotonic()))
    assert outage.seconds is not None
    assert len(caplog.messages) == 2


def _notice(outage: Outage, fault: Exception, connection: Connection, begun: int) -> None:
    assert connection.closed
    outage.notice(fault, "a round failed", connection, begun)
