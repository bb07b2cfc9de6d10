"""port watchers on real sockets: open and closed, latency, what listens here, UDP."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime

import pytest
from ports import free_ports
from watched import Watched, define, refusal

from hook_event_processor.watchers import kinds
from hook_event_processor.watchers.check import CheckFailed, Moment
from hook_event_processor.watchers.host import probe, sockets
from hook_event_processor.watchers.host.socket_row import STATES


@contextmanager
def server(port: int = 0, host: str = "127.0.0.1", family: int = socket.AF_INET) -> Iterator[int]:
    """A TCP port that takes connections."""
    with socket.socket(family, socket.SOCK_STREAM) as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((host, port))
        listener.listen(16)
        yield listener.getsockname()[1]


@contextmanager
def udp_server(port: int = 0, answers: bool = False) -> Iterator[int]:
    """A UDP port, which answers each packet or none."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as listener:
        listener.bind(("127.0.0.1", port))
        listener.settimeout(5)
        if answers:
            threading.Thread(target=lambda: listener.sendto(b"yes", listener.recvfrom(100)[1]), daemon=True).start()
        yield listener.getsockname()[1]


@contextmanager
def full_server() -> Iterator[int]:
    """A TCP port whose queue of connections is full: the next connect is answered by nothing."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        port = listener.getsockname()[1]
        waiting = []
        for _ in range(4):
            client = socket.socket()
            client.setblocking(False)
            client.connect_ex(("127.0.0.1", port))
            waiting.append(client)
        try:
            yield port
        finally:
            for client in waiting:
                client.close()


def test_a_port_that_closes_and_opens_is_told_of_once_each() -> None:
    with server() as port:
        watched = Watched("port", port=port)
        assert watched.events() == watched.events() == []
    closed = {"port": port, "protocol": "tcp", "remote_host": "127.0.0.1", "reason": "connection refused"}
    assert watched.events() == [("port.closed", closed)]
    assert watched.events() == []
    with server(port):
        [(event_type, data)] = watched.events()
        assert (event_type, data["port"]) == ("port.opened", port)
        assert 0 <= data["latency_ms"] < 1000
        assert 0 <= data["downtime_duration"] < 60
        assert watched.events() == []


def test_a_downtime_over_which_the_clock_was_set_back_is_none() -> None:
    with server() as port:
        watched = Watched("port", port=port)
        state = {"open": False, "since": time.time() + 3600}
        watched.check = kinds.kind("port").start(watched.definition, state)
        assert watched.one()["downtime_duration"] == 0


def test_only_what_the_conditions_stand_for_is_told() -> None:
    with server() as port:
        opened, closed = Watched("port", "opened", port=port), Watched("port", "closed", port=port)
        assert opened.events() == closed.events() == []
    assert (opened.types(), closed.types()) == ([], ["port.closed"])
    with server(port):
        assert (opened.types(), closed.types()) == (["port.opened"], [])


def test_what_changed_while_the_daemon_was_away_is_seen_late() -> None:
    with server() as port:
        watched = Watched("port", port=port)
        watched.events()
    again = watched.resumed()
    [(event_type, data)] = again.events(late=True)
    assert (event_type, data["seen_late"]) == ("port.closed", True)
    assert again.events() == []


def test_a_port_is_closed_once_so_many_looks_in_a_row_say_so() -> None:
    with server() as port:
        watched = Watched("port", port=port, **{"for": 3})
        watched.events()
    assert watched.events() == watched.events() == []
    with server(port):
        assert watched.events() == []
    assert [watched.types() for _ in range(4)] == [[], [], ["port.closed"], []]


def test_a_port_that_does_not_answer_in_time_is_closed() -> None:
    with full_server() as port:
        answer = probe.tcp("127.0.0.1", port, 0.05)
    assert answer == (False, "no answer within 0.05 s", None, False)


def test_a_name_stands_for_the_first_of_its_addresses_that_answers() -> None:
    with server() as port:
        assert probe.tcp("localhost", port, 1.0).open


def test_a_host_that_nobody_knows_cannot_be_looked_at() -> None:
    with pytest.raises(CheckFailed, match=r"cannot find the address of no-such-host\.invalid"):
        Watched("port", port=80, host="no-such-host.invalid").events()


def test_a_socket_that_is_connected_to_itself_is_no_open_port(monkeypatch: pytest.MonkeyPatch) -> None:
    [port] = free_ports(1)
    create = socket.socket

    def bound(*arguments: int) -> socket.socket:
        """What the kernel does once in 28,000 times: the client's port is the very one it connects to."""
        made = create(*arguments)
        made.bind(("127.0.0.1", port))
        return made

    monkeypatch.setattr(socket, "socket", bound)
    assert probe.tcp("127.0.0.1", port, 1.0) == (False, "connection refused", None, True)


def test_a_latency_over_the_threshold_is_told_of_until_it_is_normal(monkeypatch: pytest.MonkeyPatch) -> None:
    taken = iter([300.0, 300.0, 300.0, 180.0, 120.0, 1.0])
    with server() as port:
        monkeypatch.setattr(probe, "_connect", lambda *_: next(taken))
        watched = Watched("port", port=port, latency="200ms", until_normal="50ms")
        told = [watched.events() for _ in range(6)]
    assert [[event_type for event_type, _ in events] for events in told] == [
        *([], ["port.latency_high"], [], [], ["port.latency_normal"], [])
    ]
    assert told[1][0][1] == {
        "port": port,
        "protocol": "tcp",
        "remote_host": "127.0.0.1",
        "latency_ms": 300.0,
        "threshold_ms": 200.0,
    }


def test_the_latency_of_a_real_connect_is_compared() -> None:
    with server() as port:
        watched = Watched("port", "above", port=port, latency="0.001ms", average=2)
        assert watched.events() == []  # the baseline
        assert watched.types() == ["port.latency_high"]
        assert watched.events() == []
        assert watched.resumed().events(late=True) == []


def test_a_port_of_this_host_is_looked_up_without_connecting() -> None:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port = listener.getsockname()[1]
        watched = Watched("port", port=port, listen=True)
        assert watched.events() == []  # bound, but it does not listen
        listener.listen()
        listener.setblocking(False)
        assert watched.types() == ["port.opened"]
        with pytest.raises(BlockingIOError):
            listener.accept()
    assert watched.types() == ["port.closed"]


def test_a_connection_on_a_port_is_nothing_that_listens() -> None:
    with server() as port, socket.create_connection(("127.0.0.1", port)) as client:
        own_port = client.getsockname()[1]
        moment = Moment(datetime.now(UTC), -100.0)
        places = sockets.LISTENING.at(moment.monotonic)
        assert port in places
        assert own_port not in places
        rows = sockets.connections(None).at(moment.monotonic)
        # Another connection may have left the client's port in TIME-WAIT.
        mine = [row for row in rows if (row.local_port, row.remote_port) == (own_port, port)]
        assert [row.state for row in mine] == [STATES["ESTABLISHED"]]


@pytest.mark.parametrize(
    ("bound", "family", "host", "is_there"),
    [
        ("127.0.0.1", socket.AF_INET, "127.0.0.1", True),
        ("127.0.0.1", socket.AF_INET, "127.0.0.2", False),
        ("0.0.0.0", socket.AF_INET, "127.0.0.2", True),
        ("::1", socket.AF_INET6, "::1", True),
        ("::", socket.AF_INET6, "127.0.0.1", True),
        ("0.0.0.0", socket.AF_INET, "::1", False),
        ("0.0.0.0", socket.AF_INET, "::ffff:127.0.0.1", True),
        ("0.0.0.0", socket.AF_INET, "0.0.0.0", True),
        ("127.0.0.1", socket.AF_INET, "0.0.0.0", False),
        ("::", socket.AF_INET6, "0:0::0", True),
        ("127.0.0.1", socket.AF_INET, "localhost", True),
        ("::1", socket.AF_INET6, "localhost", True),
        ("127.0.0.2", socket.AF_INET, "localhost", False),
        ("::ffff:127.0.0.1", socket.AF_INET6, "127.0.0.1", True),
    ],
)
def test_what_listens_is_looked_up_by_address(bound: str, family: int, host: str, is_there: bool) -> None:
    with server(0, bound, family) as port:
        watched = Watched("port", port=port, listen=True, host=host)
        watched.events()
        assert watched.check.state()["open"] is is_there  # type: ignore[index]


@pytest.mark.parametrize("kind", [socket.SOCK_STREAM, socket.SOCK_DGRAM])
@pytest.mark.parametrize("v6only", [0, 1])
@pytest.mark.parametrize(("host", "is_v4"), [("::", False), ("::1", False), ("127.0.0.1", True), ("0.0.0.0", True)])
def test_what_takes_ipv6_only_is_not_there_for_ipv4(
    kind: socket.SocketKind, v6only: int, host: str, is_v4: bool
) -> None:
    with socket.socket(socket.AF_INET6, kind) as bound:
        bound.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, v6only)
        bound.bind(("::", 0))
        if kind is socket.SOCK_STREAM:
            bound.listen()
        protocol = "tcp" if kind is socket.SOCK_STREAM else "udp"
        watched = Watched("port", port=bound.getsockname()[1], listen=True, host=host, protocol=protocol)
        watched.events()
        assert watched.check.state()["open"] is not (is_v4 and v6only == 1)  # type: ignore[index]


def test_what_listens_on_all_addresses_does_not_listen_on_another_host_s() -> None:
    """192.0.2.0/24 is nobody's: RFC 5737."""
    with server(0, "0.0.0.0") as port, pytest.raises(CheckFailed, match="is no address of this host"):
        Watched("port", port=port, listen=True, host="192.0.2.1").events()


def test_a_udp_port_of_this_host_is_looked_up() -> None:
    with udp_server() as port:
        watched = Watched("port", port=port, protocol="udp")
        assert watched.events() == []
    assert watched.types() == ["port.closed"]
    with udp_server(port):
        assert watched.types() == ["port.opened"]


def test_a_udp_client_is_no_open_port() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
        client.connect(("127.0.0.1", 9))
        assert client.getsockname()[1] not in sockets.read_udp()


def test_a_udp_port_elsewhere_is_closed_when_it_refuses_and_open_when_it_answers() -> None:
    [port] = free_ports(1)
    watched = Watched("port", port=port, protocol="udp", host="127.0.0.1", send=r"hello\x00", timeout="3s")
    assert watched.events() == []
    with udp_server(port, answers=True):
        assert watched.types() == ["port.opened"]
    assert watched.types() == ["port.closed"]


def test_the_silence_of_a_udp_port_says_nothing() -> None:
    with udp_server() as port:
        watched = Watched("port", port=port, protocol="udp", host="127.0.0.1", timeout="20ms")
        assert watched.events() == watched.events() == []
        assert watched.check.state()["open"] is None  # type: ignore[index]
    assert watched.events() == []  # nothing was known before: this is the baseline
    with udp_server(port):
        assert watched.events() == []


def test_definitions_that_make_no_sense_are_refused() -> None:
    assert refusal("port") == "a port watcher needs --port"
    assert "a number from 1 to 65535" in refusal("port", port=0)
    assert "it has above, below, changed, closed, created" in refusal("port", "crashed", port=80)
    assert "it needs --latency, such as 200ms" in refusal("port", "above", port=80)
    assert "a duration with its unit, such as 200ms" in refusal("port", port=80, latency="200")
    assert "--latency takes less than --timeout" in refusal("port", port=80, latency="3s")
    assert "--until-normal takes less than --latency" in refusal("port", port=80, latency="1ms", until_normal="1ms")
    assert "does not go with --protocol udp" in refusal("port", port=80, latency="1ms", protocol="udp")
    assert "--send goes with --protocol udp" in refusal("port", port=80, send="x")
    assert "--latency needs --when above or below or changed" in refusal("port", "closed", port=80, latency="1ms")
    assert "--average is about the latency" in refusal("port", port=80, average=3)
    assert "with --listen it takes an address" in refusal("port", port=80, listen=True, host="www.example.com")
    assert "of sockets that are looked up" in refusal("port", port=80, listen=True, timeout="1s")


def test_lists_show_where_the_port_is() -> None:
    target = kinds.kind("port").target
    assert target(define("port", port=8080)) == "tcp 127.0.0.1:8080"
    assert target(define("port", port=8080, host="[::1]")) == "tcp [::1]:8080"
    assert target(define("port", port=53, protocol="udp")) == "udp 53"
    assert target(define("port", port=443, host="a", latency="200ms")) == "tcp a:443, latency: 200ms"
