"""The database session: what psycopg alone would not do."""

from __future__ import annotations

import pytest

from hook_event_processor.store.database import Database


@pytest.mark.timeout(30)
def test_a_pipeline_sends_more_than_the_socket_holds(database: Database) -> None:
    """A claim whose hooks say or dispatch much would otherwise stand still until its session is ended."""
    with database.connect("tests") as connection:
        with connection.pipeline():
            cursor = connection.execute("SELECT length(%s)", ("x" * 8_000_000,))
            connection.commit()
        assert cursor.fetchone() == (8_000_000,)
        assert connection.execute("SELECT 1").fetchone() == (1,)
