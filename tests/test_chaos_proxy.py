"""The proxy of the chaos tests: what it does to connections, and to which."""

from __future__ import annotations

import select
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import psycopg
import pytest
from psycopg import Connection
from psycopg.conninfo import conninfo_to_dict

from hook_event_processor.store.database import Database

sys.path.insert(0, str(Path(__file__).parent.parent))
from ops.chaos.proxy import Proxy, named, proxy

Connect = Callable[[str], Connection]


@pytest.fixture
def between(database: Database) -> Iterator[Proxy]:
    given = conninfo_to_dict(database.conninfo)
    with proxy(f"{given['host']}/.s.PGSQL.{given['port']}") as running:
        yield running


@pytest.fixture
def connect(database: Database, between: Proxy) -> Iterator[Connect]:
    """Connects through the proxy, under a name."""
    opened = []

    def connect(name: str) -> Connection:
        conninfo = between.conninfo(database.conninfo)
        opened.append(psycopg.connect(conninfo, application_name=name, autocommit=True, connect_timeout=2))
        return opened[-1]

    yield connect
    for connection in opened:
        connection.close()


def _answers(connection: Connection) -> bool:
    return connection.execute("SELECT 1").fetchone() == (1,)


def _asked(connection: Connection, seconds: float) -> bool:
    """Whether anything comes back within so many seconds."""
    connection.pgconn.send_query(b"SELECT 1")
    connection.pgconn.flush()
    return bool(select.select([connection.fileno()], [], [], seconds)[0])


def test_connections_are_told_apart_by_their_names(between: Proxy, connect: Connect) -> None:
    lookout, lane = connect("p1 lookout"), connect("p1 lane 1")
    assert between.names() == ["p1 lane 1", "p1 lookout"]
    assert between.reset(named("lookout")) == 1
    with pytest.raises(psycopg.OperationalError):
        _answers(lookout)
    assert _answers(lane)


def test_what_is_stalled_goes_on_where_it_was(between: Proxy, connect: Connect) -> None:
    held, other = connect("held"), connect("other")
    assert between.stall(named("held")) == 1
    assert not _asked(held, 0.3)
    assert _answers(other)
    between.heal()
    assert select.select([held.fileno()], [], [], 5)[0]
    assert between.names() == ["held", "other"]


def test_a_black_hole_takes_in_new_connections_too_and_old_ones_come_out_of_it(
    between: Proxy, connect: Connect
) -> None:
    old = connect("old")
    assert between.black_hole() == 1
    with pytest.raises(psycopg.OperationalError, match="timeout"):
        connect("new")
    mending = threading.Timer(0.5, between.heal)
    mending.start()
    assert _answers(old)
    assert _answers(connect("newer"))


@pytest.mark.parametrize("way", ["vanish", "half_open"])
def test_a_connection_that_is_lost_one_way_stays_so(between: Proxy, connect: Connect, way: str) -> None:
    listener = connect("listener")
    assert getattr(between, way)(named("listener")) == 1
    assert not _asked(listener, 0.3)
    between.heal()
    assert not select.select([listener.fileno()], [], [], 0.3)[0]
    assert _answers(connect("listener"))  # a new one is well
    assert getattr(between, way)(named("listener")) == 1  # and only it is hit
