"""port: whether a TCP or UDP port is open, and how long a connection to it takes."""

from __future__ import annotations

import errno
import socket
from collections.abc import Callable, Mapping, Sequence
from ipaddress import ip_address
from typing import Any

from hook_event_processor.timestamp import elapsed
from hook_event_processor.watchers import parsers
from hook_event_processor.watchers.check import (
    CheckFailed,
    Definition,
    Kind,
    Moment,
    Noticed,
    Option,
    WatcherRefused,
    integer,
)
from hook_event_processor.watchers.host import probe, sockets
from hook_event_processor.watchers.host.probe import Answer
from hook_event_processor.watchers.host.socket_row import address
from hook_event_processor.watchers.kinds import reach
from hook_event_processor.watchers.kinds.edge import Crossing, Threshold
from hook_event_processor.watchers.notice import Notice

_HOST = "127.0.0.1"
_LOCALHOST = ("127.0.0.1", "::1")
_CONDITIONS = {
    "changed": ("port.opened", "port.closed", "port.latency_high", "port.latency_normal"),
    "opened": ("port.opened",),
    "created": ("port.opened",),
    "started": ("port.opened",),
    "exists": ("port.opened",),
    "closed": ("port.closed",),
    "deleted": ("port.closed",),
    "stopped": ("port.closed",),
    "failed": ("port.closed",),
    "above": ("port.latency_high",),
    "below": ("port.latency_normal",),
}


class _Check:
    """One port: open or closed, and a threshold for its latency."""

    def __init__(self, definition: Definition, state: object) -> None:
        kept: Mapping[str, Any] = state if isinstance(state, dict) else {}
        options = definition.options
        self._notice = Notice(definition, _CONDITIONS)
        self._ask = _way(definition)
        self._about = {"port": options["port"], "protocol": _protocol(definition), "remote_host": _host(definition)}
        self._resource = probe.shown(_host(definition), options["port"])
        self._needed = int(options.get("for", 1))
        self._missed = 0
        self._open: bool | None = kept.get("open")
        self._since: float | None = kept.get("since")
        limit = options.get("latency")
        self._latency = None if limit is None else Threshold(limit, options, kept.get("high"))
        self._limit = limit

    def look(self, moment: Moment) -> list[Noticed]:
        answer = self._ask(moment)
        is_baseline = self._open is None
        noticed = self._moved(answer, moment)
        if is_baseline:
            return []
        if answer.latency_ms is not None and self._latency is not None:
            noticed += self._compared(answer.latency_ms, self._latency, moment)
        return noticed

    def _moved(self, answer: Answer, moment: Moment) -> list[Noticed]:
        """The port's opening or closing, which takes as many looks as `--for` asks."""
        self._missed = self._missed + 1 if answer.open is False else 0
        if answer.open is None or answer.open == self._open or (self._open and self._missed < self._needed):
            return []
        since, now = self._since, moment.time.timestamp()
        self._open, self._since = answer.open, now
        if not answer.open:
            return self._tell(moment, "port.closed", {"reason": answer.reason})
        downtime = None if since is None else elapsed(since, now)
        latency = None if answer.latency_ms is None else round(answer.latency_ms, 3)
        return self._tell(moment, "port.opened", {"latency_ms": latency, "downtime_duration": downtime})

    def _compared(self, latency_ms: float, threshold: Threshold, moment: Moment) -> list[Noticed]:
        crossing = threshold.update(latency_ms)
        if crossing is None:
            return []
        event_type = "port.latency_high" if crossing is Crossing.HIGH else "port.latency_normal"
        return self._tell(
            moment, event_type, {"latency_ms": round(threshold.value, 3), "threshold_ms": round(self._limit or 0.0, 3)}
        )

    def _tell(self, moment: Moment, event_type: str, data: Mapping[str, Any]) -> list[Noticed]:
        return self._notice.of(moment, event_type, self._resource, {**self._about, **data})

    def state(self) -> object:
        return {"open": self._open, "since": self._since, "high": self._latency is not None and self._latency.state}


def _way(definition: Definition) -> Callable[[Moment], Answer]:
    """How the port is asked."""
    options = definition.options
    host, port, timeout = _host(definition), options["port"], options.get("timeout", reach.TIMEOUT)
    if _looks_at_sockets(definition):
        addresses = _addresses(options["host"]) if "host" in options else ()
        return lambda moment: _listening(definition, addresses, moment)
    if _protocol(definition) == "udp":
        packet = options.get("send", b"")
        return lambda _: probe.udp(host, port, timeout, packet)
    return lambda _: probe.tcp(host, port, timeout)


def _listening(definition: Definition, addresses: Sequence[str], moment: Moment) -> Answer:
    """Whether a socket of this host listens at one of the addresses, or anywhere for none. Raises CheckFailed."""
    table = sockets.UDP if _protocol(definition) == "udp" else sockets.LISTENING
    places = table.at(moment.monotonic).get(definition.options["port"], frozenset())
    if not addresses:
        return Answer(True) if places else Answer(False, "no socket listens")
    if not places.isdisjoint(addresses):
        return Answer(True)
    own = [one for one in addresses if _is_own(one)]
    if not own:
        raise CheckFailed(f"{' and '.join(addresses)} is no address of this host")
    if any((sockets.ANY_IPV6 if ":" in one else sockets.ANY_IPV4) in places for one in own):
        return Answer(True)
    return Answer(False, "no socket listens")


def _addresses(host: str) -> Sequence[str]:
    """The addresses that --host stands for with --listen, as the kernel's tables have them. Raises ValueError."""
    if host == "localhost":
        return _LOCALHOST
    return (address(ip_address(host).packed),)


def _is_own(one: str) -> bool:
    """Whether an address is one of this host's."""
    try:
        with socket.socket(socket.AF_INET6 if ":" in one else socket.AF_INET, socket.SOCK_DGRAM) as bound:
            bound.bind((one, 0))
    except OSError as fault:
        return fault.errno not in (errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT)
    return True


def _protocol(definition: Definition) -> str:
    return str(definition.options.get("protocol", "tcp"))


def _host(definition: Definition) -> str:
    return str(definition.options.get("host", _HOST))


def _looks_at_sockets(definition: Definition) -> bool:
    # An answer to a packet over UDP is rare, and silence says nothing: this host's own ports are looked up.
    return bool(definition.options.get("listen")) or (_protocol(definition) == "udp" and _is_local(definition))


def _is_local(definition: Definition) -> bool:
    return "host" not in definition.options and "send" not in definition.options


def _parse_protocol(text: str) -> str:
    if text.lower() not in ("tcp", "udp"):
        raise ValueError(text)
    return text.lower()


def _parse_packet(text: str) -> bytes:
    r"""The bytes of a text, in which \r, \n, \0 and \xHH stand for what they do in Python."""
    packet = text.encode("latin-1", "backslashreplace").decode("unicode_escape").encode("latin-1")
    if len(packet) > 1400:
        raise ValueError(text)
    return packet


def _validate(definition: Definition) -> None:
    options = definition.options
    if "latency" in options and (_protocol(definition) == "udp" or options.get("listen")):
        raise WatcherRefused("--latency is the time of a TCP connect: it does not go with --protocol udp or --listen")
    if "send" in options and (_protocol(definition) != "udp" or options.get("listen")):
        raise WatcherRefused("--send goes with --protocol udp, without --listen")
    if "timeout" in options and _looks_at_sockets(definition):
        raise WatcherRefused("--timeout is for an answer: of sockets that are looked up, none is waited for")
    if options.get("listen") and "host" in options:
        _validate_address(options["host"])
    reach.validate(definition)


def _validate_address(host: str) -> None:
    try:
        _addresses(host)
    except ValueError:
        raise WatcherRefused(
            f"--host is {host!r}: with --listen it takes an address of the host that looks, 0.0.0.0, :: or localhost"
        ) from None


def _target(definition: Definition) -> str:
    place = probe.shown(_host(definition), definition.options["port"])
    place = str(definition.options["port"]) if _looks_at_sockets(definition) else place
    return f"{_protocol(definition)} {place}{reach.shown_latency(definition)}"


KIND = Kind(
    name="port",
    summary="whether a TCP or UDP port is open, and how long a connection to it takes",
    interval=10.0,
    example="--port 8080 --when closed --for 2 --interval 5s",
    conditions=_CONDITIONS,
    options={
        "port": Option(integer(1, 65535), "a number from 1 to 65535", "the port", required=True),
        "host": Option(
            reach.parse_host, "an address or a name", f"where it is (default {_HOST}; anywhere with --listen)"
        ),
        "protocol": Option(_parse_protocol, "tcp or udp", "the protocol (default tcp)"),
        "listen": parsers.flag("look for a socket of this host that listens, and connect to none"),
        "send": Option(_parse_packet, r"a text of at most 1400 bytes; \xHH is a byte", "what a UDP port is asked"),
        **reach.OPTIONS,
    },
    start=_Check,
    blocks=True,
    target=_target,
    validate=_validate,
    tells_with=dict.fromkeys(("port.latency_high", "port.latency_normal"), ("latency",)),
)
