"""Connections that hooks' requests share, one after the other."""

from __future__ import annotations

import sys
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack
from time import perf_counter

import httpcore
import httpx
import pytest
from httpcore import SyncBackend
from web import Site, serving

from hook_event_processor.egress import egress
from hook_event_processor.lua.web.connections import Connections
from hook_event_processor.lua.web.dial import Patience
from hook_event_processor.lua.web.exchange import Request, exchange


@pytest.fixture
def site() -> Iterator[Site]:
    with serving() as running:
        yield running


def _ask(connection: httpcore.HTTPConnection, site: Site) -> None:
    connection.request("GET", site.url).close()


def test_a_connection_is_used_again_and_by_one_request_at_a_time(site: Site) -> None:
    connections, origin = Connections(SyncBackend()), httpcore.URL(site.url).origin
    with connections.connection(origin) as first:
        _ask(first, site)
    with connections.connection(origin) as again, connections.connection(origin) as other:
        assert again is first
        assert other is not first
        _ask(other, site)


def test_no_other_request_closes_the_connection_of_one_that_waits(site: Site) -> None:
    """Neither when more are idle than are kept, nor when an answer makes it readable."""
    connections, origin = Connections(SyncBackend()), httpcore.URL(site.url).origin
    with connections.connection(origin) as first:
        _ask(first, site)
    with connections.connection(origin) as waiting:
        assert waiting is first
        answer = waiting.handle_request(httpcore.Request("GET", site.url, headers={"Host": site.host}))
        with ExitStack() as stack:
            for connection in [stack.enter_context(connections.connection(origin)) for _ in range(30)]:
                _ask(connection, site)
        assert answer.read() == b"ok"
        answer.close()
    with connections.connection(origin) as last:
        assert last is first


def test_what_could_not_be_opened_is_not_kept() -> None:
    connections, origin = Connections(SyncBackend()), httpcore.URL("http://127.0.0.1:1/").origin
    for _ in range(2):
        with pytest.raises(httpcore.ConnectError), connections.connection(origin) as connection:
            connection.request("GET", "http://127.0.0.1:1/")
    assert connections._idle == []


def test_a_connection_that_does_not_tell_whether_it_holds_more_is_not_kept(site: Site) -> None:
    connections, origin = Connections(SyncBackend()), httpcore.URL(site.url).origin
    with connections.connection(origin) as connection:
        _ask(connection, site)
        del connection._connection._h11_state  # type: ignore[union-attr]
    assert connection.is_closed()
    assert connections._idle == []


def test_requests_of_many_threads_arrive_once_each(site: Site) -> None:
    """Found by ops/chaos: a connection that was closed under a request made it be sent twice."""
    rules = egress(("127.0.0.1",), ())

    def ask(thread: int) -> None:
        for number in range(10):
            patience = Patience(perf_counter() + 20, threading.Event())
            exchange(rules, Request("GET", httpx.URL(f"{site.url}/{thread}/{number}"), (), b""), patience)

    threads = [threading.Thread(target=ask, args=(number,)) for number in range(40)]
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    try:
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    finally:
        sys.setswitchinterval(interval)
    arrived = Counter(received.path for received in site.received)
    assert (len(arrived), max(arrived.values())) == (400, 1)
