"""Statements that are sent together, of which none waits for another."""

from __future__ import annotations

from collections.abc import Iterator

import psycopg
import pytest
from psycopg import errors
from psycopg.pq import TransactionStatus

from hook_event_processor.store.database import Database
from hook_event_processor.store.pipeline import Parameters, Pipeline


@pytest.fixture(params=[True, False], ids=["prepared", "not prepared"])
def pipeline(database: Database, request: pytest.FixtureRequest) -> Iterator[Pipeline]:
    with database.connect("tests") as connection:
        yield Pipeline(connection, may_prepare=lambda: request.param)


def _send(pipeline: Pipeline, *statements: tuple[str, Parameters]) -> None:
    with pipeline:
        for statement, parameters in statements:
            pipeline.execute(statement, parameters)


def test_answers_are_there_at_the_end_and_parameters_by_place_and_by_name(pipeline: Pipeline) -> None:
    with pipeline:
        first = pipeline.execute("SELECT %s::int, %s::text", (5, None))
        second = pipeline.execute("SELECT %(a)s::int - %(b)s::int + %(a)s::int, 7 %% 4", {"b": 1, "a": 3})
        none = pipeline.execute("SELECT 1 WHERE FALSE")
        assert first.rows == []
    assert (first.rows, second.rows, none.rows) == ([(5, None)], [(5, 3)], [])


def test_it_begins_a_transaction_and_goes_on_in_one(pipeline: Pipeline) -> None:
    status = pipeline.connection.info
    pipeline.run("CREATE TEMPORARY TABLE kept (n int)")
    assert status.transaction_status == TransactionStatus.INTRANS
    with pipeline:
        pipeline.execute("INSERT INTO kept VALUES (%s)", (1,))
        pipeline.execute("COMMIT")
    assert status.transaction_status == TransactionStatus.IDLE
    pipeline.run("INSERT INTO kept VALUES (2)")
    pipeline.run("ROLLBACK")
    assert pipeline.run("SELECT n FROM kept") == [(1,)]


def test_what_follows_a_failure_does_not_run_and_the_session_goes_on(pipeline: Pipeline) -> None:
    """The error is that of the statement, the COMMIT behind it is none, and what is known by its name stays known."""
    pipeline.run("CREATE TEMPORARY TABLE kept (n int UNIQUE)")
    pipeline.run("COMMIT")
    insert = ("INSERT INTO kept VALUES (%s)", (1,))
    for _ in range(2):
        with pytest.raises(errors.UniqueViolation) as told:
            _send(pipeline, insert, insert, ("COMMIT", ()))
        assert told.value.diag.constraint_name == "kept_n_key"
        assert pipeline.connection.info.transaction_status == TransactionStatus.INERROR
        pipeline.run("ROLLBACK")
    assert pipeline.run("SELECT count(*) FROM kept") == [(0,)]


def test_a_statement_that_cannot_be_prepared_is_tried_anew(pipeline: Pipeline) -> None:
    with pytest.raises(errors.UndefinedTable):
        pipeline.run("SELECT n FROM late")
    pipeline.run("ROLLBACK")
    pipeline.run("CREATE TEMPORARY TABLE late (n int)")
    assert pipeline.run("SELECT n FROM late") == []


def test_an_exception_on_the_way_is_told_and_what_was_sent_before_is_taken_off(pipeline: Pipeline) -> None:
    with pytest.raises(psycopg.DataError, match="NUL"):
        _send(pipeline, ("SAVEPOINT one", ()), ("SELECT %s::text", ("a\0b",)))
    pipeline.run("ROLLBACK TO SAVEPOINT one")
    assert pipeline.run("SELECT 1") == [(1,)]


@pytest.mark.timeout(30)
def test_it_sends_and_gets_more_than_the_socket_holds(pipeline: Pipeline) -> None:
    """Neither waits for the other to read: a claim whose hooks say much would stand still for good."""
    with pipeline:
        answers = [pipeline.execute("SELECT %s::text", (digit * 4_000_000,)) for digit in "123"]
    assert [(len(answer.rows[0][0]), answer.rows[0][0][:1]) for answer in answers] == [
        (4_000_000, "1"),
        (4_000_000, "2"),
        (4_000_000, "3"),
    ]
    assert pipeline.run("SELECT 1") == [(1,)]


def test_the_end_of_the_session_is_told_by_its_reason(database: Database, pipeline: Pipeline) -> None:
    pid = pipeline.connection.info.backend_pid
    with database.session("other") as other:
        other.execute("SELECT pg_terminate_backend(%s)", (pid,))
    with pytest.raises(psycopg.OperationalError, match="administrator"):
        pipeline.run("SELECT 1")
    assert pipeline.connection.closed
    with pytest.raises(psycopg.OperationalError):
        pipeline.run("SELECT 1")


def test_a_session_that_may_not_prepare_at_first_prepares_from_then_on(database: Database) -> None:
    """As lanes do whose session came back before that of who listens."""
    may = False
    with database.connect("tests") as connection:
        pipeline = Pipeline(connection, may_prepare=lambda: may)
        prepared = "SELECT count(*) FROM pg_prepared_statements"
        assert pipeline.run(prepared) == [(0,)]
        may = True
        assert pipeline.run(prepared) == pipeline.run(prepared) == [(1,)]


@pytest.mark.parametrize(("may", "mode"), [(True, "force_generic_plan"), (False, "auto")])
def test_what_it_prepares_is_planned_once(database: Database, may: bool, mode: str) -> None:
    """A session that a pooler lends out stays as it is for others; and no rollback takes the settings back."""
    with database.connect("tests") as connection:
        pipeline = Pipeline(connection, may_prepare=lambda: may)
        for _ in range(2):
            assert pipeline.run("SHOW plan_cache_mode") == [(mode,)]
            pipeline.run("ROLLBACK")
