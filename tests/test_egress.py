"""Where hooks may connect to: by name and by network, and on the address that is connected to."""

from __future__ import annotations

import socket
import threading
from ipaddress import ip_address
from time import perf_counter
from typing import Any

import pytest
from web import serving

from hook_event_processor.egress import Egress, Forbidden, egress, parse_rule
from hook_event_processor.lua.web.dial import Patience, TimedOut, Unreachable, dial

_HERE = ("127.0.0.1",)


def _permits(allow: tuple[str, ...], host: str, address: str, port: int = 443, deny: tuple[str, ...] = ()) -> bool:
    return egress(allow, deny).permits(host, port, ip_address(address))


def _patience(seconds: float = 5.0, cancelled: threading.Event | None = None) -> Patience:
    return Patience(perf_counter() + seconds, cancelled or threading.Event())


@pytest.mark.parametrize(
    "address", ["93.184.216.34", "2606:2800:220:1::1", "64:ff9b::5db8:d822", "::ffff:93.184.216.34"]
)
def test_every_public_address_is_permitted_by_default(address: str) -> None:
    assert _permits(("*",), "example.com", address)


@pytest.mark.parametrize(
    "address",
    [
        *("127.0.0.1", "127.9.9.9", "::1", "10.1.2.3", "172.31.0.1", "192.168.1.1", "100.64.0.1", "fd00::1"),
        *("169.254.169.254", "fe80::1", "fe80::1%1", "fd00:ec2::254", "100.100.100.200", "168.63.129.16"),
        *(
            "0.0.0.0",
            "0.1.2.3",
            "::",
            "224.0.0.1",
            "255.255.255.255",
            "ff02::1",
            "192.0.2.1",
            "198.18.0.1",
            "240.0.0.1",
        ),
        *("::ffff:127.0.0.1", "::ffff:169.254.169.254", "64:ff9b::7f00:1", "64:ff9b::a9fe:a9fe", "64:ff9b:1::a00:1"),
        *("::127.0.0.1", "2002:7f00:1::", "2001:0:4136:e378:8000:63bf:3fff:fdd2", "fec0::1", "2001:db8::1"),
    ],
)
def test_what_is_not_public_is_refused_by_default(address: str) -> None:
    assert not _permits(("*",), "example.com", address)
    assert not _permits(("*", "*.com"), "example.com", address)


@pytest.mark.parametrize(
    ("rule", "address"),
    [
        ("127.0.0.1", "127.0.0.1"),
        ("127.0.0.1", "::ffff:127.0.0.1"),
        ("::ffff:127.0.0.0/104", "127.0.0.1"),
        ("10.0.0.0/8", "10.1.2.3"),
        ("10.1.2.3/8", "10.9.9.9"),
        ("::1", "::1"),
        ("[::1]:443", "::1"),
        ("[fd00::/8]:443", "fd12::1"),
        ("169.254.169.254", "169.254.169.254"),
        ("127.0.0.0/8:443", "127.0.0.1"),
    ],
)
def test_what_is_not_public_is_permitted_when_its_network_is_listed(rule: str, address: str) -> None:
    assert _permits((rule,), "anything.example", address)


def test_an_exact_name_permits_internal_addresses_but_no_link_local_ones() -> None:
    assert _permits(("grafana.corp",), "grafana.corp", "10.0.0.7")
    assert _permits(("Grafana.corp",), "GRAFANA.corp.", "127.0.0.1")
    assert not _permits(("grafana.corp",), "grafana.corp", "169.254.169.254")
    assert not _permits(("*.corp",), "grafana.corp", "10.0.0.7")


def test_names_match_by_globs_and_nothing_else_does() -> None:
    assert _permits(("*.example.com",), "api.example.com", "93.184.216.34")
    assert not _permits(("*.example.com",), "example.com", "93.184.216.34")
    assert not _permits(("*.example.com",), "api.example.com.evil.net", "93.184.216.34")
    assert not _permits(("93.184.0.0/16",), "example.com", "8.8.8.8")


def test_a_port_limits_a_rule() -> None:
    assert _permits(("example.com:443",), "example.com", "93.184.216.34", 443)
    assert not _permits(("example.com:443",), "example.com", "93.184.216.34", 80)
    assert not _permits(("127.0.0.1:8080",), "127.0.0.1", "127.0.0.1", 22)


@pytest.mark.parametrize(
    "denied", ["example.com", "*.com", "93.184.0.0/16", "93.184.216.34:443", "EXAMPLE.com", "::ffff:93.184.0.0/112"]
)
def test_what_is_denied_is_refused_whatever_is_allowed(denied: str) -> None:
    assert not _permits(("*", "example.com", "93.184.216.34"), "example.com", "93.184.216.34", deny=(denied,))


@pytest.mark.parametrize("address", ["64:ff9b::5db8:d822", "::ffff:93.184.216.34"])
def test_a_denied_network_holds_what_is_another_way_to_it(address: str) -> None:
    assert not _permits(("*", "::/0"), "example.com", address, deny=("93.184.216.34",))


@pytest.mark.parametrize(
    "text",
    [
        "",
        "exa mple.com",
        "example.com:65536",
        "http://example.com",
        "example.com:0",
        "a:b",
        "[::1]:70000",
        "::1/200",
        "ü.de",
    ],
)
def test_a_rule_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"port|host"):
        parse_rule(text)


def test_a_name_that_no_address_could_permit_is_not_looked_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: pytest.fail("it was looked up"))
    for rules in (egress(("example.com",), ()), egress(("*",), ("*.evil.net",)), egress((), ())):
        with pytest.raises(Forbidden, match=r"data\.evil\.net:443"):
            dial(rules, "data.evil.net", 443, _patience())


def _resolver(monkeypatch: pytest.MonkeyPatch, *answers: list[str]) -> list[str]:
    """Names get these addresses, one list after the other; returns what was looked up."""
    asked: list[str] = []
    left = list(answers)
    real = socket.getaddrinfo

    def fake(host: str, port: int, *args: Any, flags: int = 0, **options: Any) -> Any:
        if flags & socket.AI_NUMERICHOST:
            return real(host, port, *args, flags=flags, **options)
        asked.append(host)
        addresses = left.pop(0) if len(left) > 1 else left[0]
        return [each for address in addresses for each in real(address, port, type=socket.SOCK_STREAM)]

    monkeypatch.setattr(socket, "getaddrinfo", fake)
    return asked


def test_the_address_that_was_checked_is_the_one_that_is_connected_to(monkeypatch: pytest.MonkeyPatch) -> None:
    """A resolver that gives a permitted address first and another one a moment later (DNS rebinding)."""
    with serving() as permitted, serving("127.0.0.2") as other:
        asked = _resolver(monkeypatch, ["127.0.0.1"], ["127.0.0.2"])
        stream = dial(egress(_HERE, ()), "rebinding.example", permitted.port, _patience())
        assert asked == ["rebinding.example"]
        stream.write(b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n", _patience())
        assert stream.read(1000, _patience()).startswith(b"HTTP/1.1 200")
        stream.close()
        assert (len(permitted.received), len(other.received)) == (1, 0)
        with pytest.raises(Forbidden, match=r"127\.0\.0\.2"):
            dial(egress(_HERE, ()), "rebinding.example", permitted.port, _patience())


def test_of_several_addresses_only_permitted_ones_are_connected_to(monkeypatch: pytest.MonkeyPatch) -> None:
    with serving("127.0.0.2") as site:
        _resolver(monkeypatch, ["127.0.0.1", "127.0.0.2"])
        dial(egress(("127.0.0.2",), ()), "both.example", site.port, _patience()).close()


def test_the_next_address_is_tried_when_one_refuses(monkeypatch: pytest.MonkeyPatch) -> None:
    with serving() as site:
        _resolver(monkeypatch, ["127.0.0.3", "127.0.0.1"])
        dial(egress(("127.0.0.0/8",), ()), "both.example", site.port, _patience()).close()


@pytest.mark.parametrize("host", ["2130706433", "0x7f000001", "0177.0.0.1", "127.1", "::ffff:127.0.0.1", "0x7f.1"])
def test_an_address_is_read_as_the_resolver_reads_it(host: str) -> None:
    with pytest.raises(Forbidden, match=r"127\.0\.0\.1"):
        dial(egress(("*",), ()), host, 80, _patience())
    with serving() as site:
        dial(egress(_HERE, ()), host, site.port, _patience()).close()


@pytest.mark.parametrize("host", ["0", "0.0.0.0", "localhost", "::", "::1"])
def test_no_name_of_this_host_is_permitted_by_default(host: str) -> None:
    with pytest.raises(Forbidden) as refused:
        dial(egress(("*",), ()), host, 80, _patience())
    assert str(refused.value).startswith("[::" if ":" in host else host)


def _slow_resolver(monkeypatch: pytest.MonkeyPatch) -> threading.Event:
    answered = threading.Event()

    def fake(*_: Any, flags: int = 0, **__: Any) -> Any:
        if flags & socket.AI_NUMERICHOST:
            raise socket.gaierror(socket.EAI_NONAME, "not numeric")
        answered.wait(20)
        raise socket.gaierror(socket.EAI_AGAIN, "late")

    monkeypatch.setattr(socket, "getaddrinfo", fake)
    return answered


def test_a_resolver_that_does_not_answer_holds_nobody_up(monkeypatch: pytest.MonkeyPatch) -> None:
    answered = _slow_resolver(monkeypatch)
    started = perf_counter()
    with pytest.raises(Unreachable, match="the resolver did not answer"):
        dial(egress(("*",), ()), "slow.example", 80, _patience(0.2))
    assert perf_counter() - started < 5
    answered.set()


def test_a_run_that_was_given_up_waits_for_no_resolver(monkeypatch: pytest.MonkeyPatch) -> None:
    answered, cancelled = _slow_resolver(monkeypatch), threading.Event()
    threading.Timer(0.1, cancelled.set).start()
    started = perf_counter()
    with pytest.raises(TimedOut):
        dial(egress(("*",), ()), "slow.example", 80, _patience(60, cancelled))
    assert perf_counter() - started < 5
    answered.set()


def test_rules_are_read_once() -> None:
    assert egress(("*",), ()) is egress(("*",), ())
    assert isinstance(egress(("*",), ()), Egress)
