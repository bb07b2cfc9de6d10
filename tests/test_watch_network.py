"""network and connection watchers, on real interfaces and on real sockets."""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import pytest
from interfaces import cable, ip, needs_ip, unused_name
from root_shell import as_root, needs_root
from watched import Watched, define, refusal

from hook_event_processor.watchers import kinds
from hook_event_processor.watchers.check import CheckFailed
from hook_event_processor.watchers.host import socket_diag, socket_tables, sockets
from hook_event_processor.watchers.host.socket_row import STATES, address
from hook_event_processor.watchers.kinds import connection


@pytest.fixture(name="cable")
def _cable() -> Iterator[tuple[str, str]]:
    with cable() as ends:
        yield ends


@contextmanager
def server(port: int = 0) -> Iterator[socket.socket]:
    """A TCP port that takes connections."""
    with socket.socket() as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(("127.0.0.1", port))
        listener.listen(64)
        yield listener


@needs_root
@needs_ip
def test_an_interface_whose_cable_is_pulled_is_down_until_it_is_back(cable: tuple[str, str]) -> None:
    left, right = cable
    watched, late = Watched("network", interface=left), Watched("network", "down", interface=left)
    assert watched.events() == late.events() == []
    ip(f"link set {right} down", **{left: "lowerlayerdown"})
    [(event_type, data)] = watched.events()
    assert data.pop("last_successful_ping").endswith("Z")
    assert (event_type, data) == ("network.down", {"interface": left, "state": "lowerlayerdown"})
    assert watched.events() == []
    [(event_type, data)] = late.resumed().events(late=True)
    assert (event_type, data["seen_late"]) == ("network.down", True)
    ip(f"link set {right} up", **{left: "up"})
    [(event_type, data)] = watched.events()
    assert 0 <= data.pop("downtime_duration") < 60
    assert (event_type, data) == ("network.up", {"interface": left, "state": "up"})
    assert watched.events() == []
    ip(f"link set {left} down", **{left: "down"})
    assert watched.types() == ["network.down"]
    ip(f"link delete {left}")
    assert watched.events() == []


@needs_root
@needs_ip
def test_interfaces_of_a_pattern_come_and_go(cable: tuple[str, str]) -> None:
    left, right = cable
    watched = Watched("network", interface=f"{left}*")
    assert watched.events() == []
    ip(f"link delete {left}")
    [(event_type, data)] = watched.events()
    assert (event_type, data["state"]) == ("network.down", "notpresent")
    assert watched.events() == []
    assert watched.check.state() == {}
    ip(f"link add {left} type veth peer name {right}")
    ip(f"link set {right} up")
    ip(f"link set {left} up", **{left: "up"})
    assert watched.types() == ["network.up"]


@needs_root
@needs_ip
def test_an_interface_is_down_once_so_many_looks_say_so_and_slow_below_its_speed(cable: tuple[str, str]) -> None:
    left, right = cable
    patient = Watched("network", interface=left, **{"for": 2})
    fast = Watched("network", interface=left, speed=10000)
    slow = Watched("network", "slow", interface=left, speed=20000)
    assert patient.events() == fast.events() == slow.events() == []
    assert fast.events() == []
    data = {"interface": left, "state": "up", "bandwidth": 10000, "expected_bandwidth": 20000}
    assert slow.events() == [("network.slow", data)]
    assert slow.events() == []
    ip(f"link set {right} down", **{left: "lowerlayerdown"})
    assert patient.events() == []
    assert patient.types() == ["network.down"]


@needs_root
@needs_ip
def test_an_interface_whose_driver_keeps_no_state_is_up_when_it_was_set_up() -> None:
    """As the loopback's does."""
    with unused_name() as name:
        made = as_root(f"ip link add {name} type dummy || ip link add {name} type ifb || echo none")
        if made:
            pytest.skip("this kernel has no such interface to make")
        watched = Watched("network", interface=name)
        assert watched.events() == []
        ip(f"link set {name} up", **{name: "unknown"})
        assert watched.types() == ["network.up"]


@needs_root
@needs_ip
def test_without_a_name_interfaces_without_a_device_do_not_count(cable: tuple[str, str]) -> None:
    left, right = cable
    watched = Watched("network")
    assert watched.events() == []
    ip(f"link set {right} down", **{left: "lowerlayerdown"})
    assert watched.events() == []


def test_a_host_is_there_when_it_takes_or_refuses_a_connection() -> None:
    with server() as listener:
        port = listener.getsockname()[1]
        watched = Watched("network", host="127.0.0.1", port=port)
        assert watched.events() == []
    assert watched.events() == []  # refused: somebody is there


def test_a_downtime_over_which_the_clock_was_set_back_is_none() -> None:
    with server() as listener:
        watched = Watched("network", host="127.0.0.1", port=listener.getsockname()[1])
        watched.look()
        down = {key: {"up": False, "since": time.time() + 3600} for key in watched.check.state()}  # type: ignore[attr-defined]
        watched.check = kinds.kind("network").start(watched.definition, down)
        assert watched.one()["downtime_duration"] == 0


def test_a_host_that_does_not_answer_is_down() -> None:
    # A queue that is full is as silent as a host that is off.
    with ExitStack() as held:
        listener = held.enter_context(socket.socket())
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        port = listener.getsockname()[1]
        watched = Watched("network", host="127.0.0.1", port=port, timeout="50ms", latency="40ms")
        assert watched.events() == []
        accepted = listener.accept()[0]
        for _ in range(4):
            client = held.enter_context(socket.socket())
            client.setblocking(False)
            client.connect_ex(("127.0.0.1", port))
        [(event_type, data)] = watched.events()
        assert (event_type, data.pop("last_successful_ping")[-1]) == ("network.down", "Z")
        assert data == {"remote_host": "127.0.0.1", "port": port, "reason": "no answer within 0.05 s"}
        assert watched.events() == []
        accepted.close()
    assert watched.types() == ["network.up"]


def test_a_host_that_answers_slowly_is_told_of() -> None:
    with server() as listener:
        watched = Watched("network", host="127.0.0.1", port=listener.getsockname()[1], latency="0.001ms")
        assert watched.events() == []
        [(event_type, data)] = watched.events()
        assert (event_type, data["threshold"]) == ("network.latency_high", 0.001)
        assert data["latency"] > 0.001


def test_an_address_that_connects_and_leaves_is_told_of_once_each() -> None:
    with server() as listener:
        port = listener.getsockname()[1]
        watched = Watched("connection", local_port=port)
        assert watched.events() == []
        with socket.create_connection(("127.0.0.1", port), source_address=("127.0.0.3", 0)):
            [(event_type, data)] = watched.events()
            with socket.create_connection(("127.0.0.1", port), source_address=("127.0.0.3", 0)):
                assert watched.events() == []
            assert watched.resumed().events(late=True) == []
        assert data.pop("remote_port") > 0
        assert (event_type, data) == (
            "connection.opened",
            {"state": "ESTABLISHED", "local_port": port, "remote_address": "127.0.0.3", "count": 1},
        )
        closed = {"state": "ESTABLISHED", "local_port": port, "remote_address": "127.0.0.3"}
        assert watched.events() == [("connection.closed", closed)]


def test_connections_are_counted_against_a_threshold() -> None:
    with server() as listener, ExitStack() as held:
        port = listener.getsockname()[1]

        def connect(count: int) -> None:
            for _ in range(count):
                held.enter_context(socket.create_connection(("127.0.0.1", port)))

        # Each of them is in the table from both of its ends.
        watched = Watched("connection", "above", "normal", port=port, threshold=3, until_normal=1)
        idle = Watched("connection", "below", remote_port=port, threshold=2)
        assert watched.events() == idle.events() == []
        assert (watched.types(), idle.types()) == ([], ["connection.count_low"])
        connect(3)
        assert watched.events() == []
        connect(1)
        [(event_type, data)] = watched.events()
        assert (event_type, data) == (
            "connection.count_high",
            {
                "state": "ESTABLISHED",
                "port": port,
                "count": 4,
                "threshold": 3,
                "remotes": [{"remote_address": "127.0.0.1", "count": 4}],
            },
        )
        assert (watched.events(), idle.events()) == ([], [])
        held.close()
        assert watched.types() == ["connection.count_normal"]


@pytest.mark.parametrize(
    ("remote", "is_there"),
    [("127.0.0.4", True), ("127.0.0.0/24", True), ("127.0.0.5", False), ("::1", False), ("::/0", False)],
)
def test_connections_are_chosen_by_the_other_end_s_network(remote: str, is_there: bool) -> None:
    with server() as listener:
        port = listener.getsockname()[1]
        with socket.create_connection(("127.0.0.1", port), source_address=("127.0.0.4", 0)):
            watched = Watched("connection", remote=remote, local_port=port)
            watched.events()
            assert bool(watched.check.state()) is is_there


def test_connections_are_chosen_by_their_state() -> None:
    with server() as listener:
        port = listener.getsockname()[1]
        waiting = Watched("connection", "above", state="close-wait", port=port, threshold=0)
        any_state = Watched("connection", "above", state="any", local_port=port, threshold=0)
        assert waiting.events() == waiting.events() == []
        with socket.create_connection(("127.0.0.1", port)):
            accepted = listener.accept()[0]
        assert waiting.types() == ["connection.count_high"]
        assert any_state.events() == []
        assert any_state.types() == ["connection.count_high"]
        accepted.close()


def test_more_other_ends_than_can_be_kept_apart_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection, "_MAX_REMOTES", 1)
    with server() as listener, ExitStack() as held:
        port = listener.getsockname()[1]
        for last in (6, 7):
            source = (f"127.0.0.{last}", 0)
            held.enter_context(socket.create_connection(("127.0.0.1", port), source_address=source))
        with pytest.raises(CheckFailed, match="connections with 2 addresses, at most 1 are kept apart"):
            Watched("connection", local_port=port).events()


def test_addresses_are_shown_as_people_write_them() -> None:
    assert address(bytes([127, 0, 0, 1])) == "127.0.0.1"
    assert address(bytes(15) + b"\x01") == "::1"
    assert address(bytes(10) + b"\xff\xff" + bytes([127, 0, 0, 1])) == "127.0.0.1"


@pytest.mark.parametrize(("family", "host"), [(socket.AF_INET, "127.0.0.1"), (socket.AF_INET6, "::1")])
def test_netlink_and_the_tables_of_proc_list_the_same(family: int, host: str) -> None:
    every = sum(1 << state for state in STATES.values())
    with socket.socket(family) as listener, socket.socket(family, socket.SOCK_DGRAM) as datagrams:
        listener.bind((host, 0))
        listener.listen()
        datagrams.bind((host, 0))
        port, udp_port = listener.getsockname()[1], datagrams.getsockname()[1]
        with socket.create_connection((host, port)) as client:
            far = client.getsockname()[1]
            # Those of these sockets alone: other connections may have left their ports in TIME-WAIT.
            tcp, udp = {(port, 0), (port, far), (far, port)}, {(udp_port, 0)}
            for number, name, ours in ((socket.IPPROTO_TCP, "tcp", tcp), (socket.IPPROTO_UDP, "udp", udp)):
                by_netlink, by_tables = socket_diag.dump(number, every), socket_tables.dump(name, every)
                mine = {row for row in by_netlink if (row.local_port, row.remote_port) in ours}
                assert mine == {row for row in by_tables if (row.local_port, row.remote_port) in ours}
                assert len(mine) == len(ours)
        listen = 1 << STATES["LISTEN"]
        for rows in (socket_tables.dump("tcp", listen), socket_diag.dump(socket.IPPROTO_TCP, listen)):
            assert [row.state for row in rows if row.local_port == port] == [STATES["LISTEN"]]


def test_where_netlink_is_shut_out_the_tables_are_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(socket_diag, "_NETLINK_SOCK_DIAG", 31)  # no such protocol, as under RestrictAddressFamilies=
    with server() as listener:
        assert listener.getsockname()[1] in sockets.read_listening()


def test_definitions_that_make_no_sense_are_refused() -> None:
    assert "--when slow is about interfaces: it does not go with --host" in refusal("network", "slow", host="a")
    assert "--interface is about interfaces: it does not go with --host" in refusal("network", interface="a", host="b")
    assert "--latency is about hosts: it needs --host" in refusal("network", interface="eth0", latency="1ms")
    assert "--when above is about hosts: it needs --host" in refusal("network", "above", interface="eth0")
    assert "--when slow needs --speed" in refusal("network", "slow", interface="eth0")
    assert "it needs --latency" in refusal("network", "above", host="a")
    assert "--latency needs --when above or below" in refusal("network", "down", host="a", latency="1ms")
    assert "--speed needs --when slow" in refusal("network", "down", "up", interface="eth0", speed=1000)
    assert "it needs --threshold" in refusal("connection", "above")
    assert "it does not go with --threshold" in refusal("connection", "opened", threshold=1)
    assert "take a watcher each" in refusal("connection", "above", "below", threshold=1)
    assert "--for goes with --threshold" in refusal("connection", **{"for": 2})
    assert "one of ESTABLISHED" in refusal("connection", state="open")
    assert "such as 10.0.0.0/8" in refusal("connection", remote="example.com")


def test_lists_show_what_is_watched() -> None:
    target = kinds.kind("network").target
    assert target(define("network", interface="eth0")) == "eth0"
    assert target(define("network", interface="eth0", speed=1000)) == "eth0, speed: 1000"
    assert target(define("network", host="db-1", port=5432)) == "db-1:5432"
    assert target(define("network", host="db-1", latency="1.5s")) == "db-1:443, latency: 1500ms"
    target = kinds.kind("connection").target
    assert target(define("connection", remote="10.1.2.3/8", port=22)) == "ESTABLISHED, remote 10.0.0.0/8, port 22"
    assert target(define("connection", state="any", threshold=5)) == "ANY, threshold: 5"
