"""Where hooks may connect to: rules by host name and by network, asked for the very address that is connected to."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from enum import IntEnum
from fnmatch import fnmatchcase
from functools import lru_cache
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_network

Address = IPv4Address | IPv6Address
_HOST = re.compile(r"[a-z0-9*._-]+")
_MAPPED = IPv6Network("::ffff:0:0/96")
_NAT64 = IPv6Network("64:ff9b::/96")  # RFC 6052: the last 32 bits are the IPv4 address that is reached


class Forbidden(Exception):
    """No rule permits the connection; the message names host, port and address."""


class Reach(IntEnum):
    """What kind of rule lets a hook reach an address."""

    PUBLIC = 0  # any that matches
    INTERNAL = 1  # one that gives the host's exact name, the address, or its network
    CLOSED = 2  # one that gives the address or its network: no name, which others may point anywhere


# Networks of organisations and of the host itself (RFC 1918, 4193, 6598, 1122).
_INTERNAL = [
    ip_network(text)
    for text in ("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "127.0.0.0/8", "100.64.0.0/10", "::1", "fc00::/7")
]
# Cloud hosts hand out credentials here: on link-local addresses, and on these.
_METADATA = [ip_network(text) for text in ("fd00:ec2::254", "fd20:ce::254", "100.100.100.200", "168.63.129.16")]
# Not for hosts, or translated to some IPv4 address (IANA's special-purpose registries).
_SPECIAL = [
    ip_network(text)
    for text in (
        *("0.0.0.0/8", "169.254.0.0/16", "192.0.0.0/24", "192.0.2.0/24", "192.88.99.0/24", "198.18.0.0/15"),
        *("198.51.100.0/24", "203.0.113.0/24", "224.0.0.0/4", "240.0.0.0/4"),
        *("::/96", "64:ff9b:1::/48", "100::/64", "2001::/23", "2001:db8::/32", "2002::/16", "3fff::/20", "5f00::/16"),
        *("fe80::/10", "fec0::/10", "ff00::/8"),
    )
]


@dataclass(frozen=True, slots=True)
class Rule:
    """A host name with * globs, or a network; and a port, or None for any."""

    host: str | None
    network: IPv4Network | IPv6Network | None
    port: int | None

    def names(self, host: str, port: int) -> bool:
        """Whether it matches the host by its name."""
        return self.host is not None and self.port in (None, port) and fnmatchcase(host, self.host)

    def holds(self, address: Address, port: int) -> bool:
        """Whether the address is in its network."""
        return self.network is not None and self.port in (None, port) and address in self.network


def parse_rule(text: str) -> Rule:
    """A rule from its text: host, *.host, address or network, each with :port if need be ([...] around IPv6 then).

    Raises ValueError, whose message says what is accepted.
    """
    host, port = _split(text.strip().lower())
    if not (port is None or (port.isdecimal() and 0 < int(port) < 65536)):
        raise ValueError(f"{text!r} has the port {port!r}: it takes 1 to 65535")
    number = int(port) if port else None
    try:
        return Rule(None, _plain(ip_network(host, strict=False)), number)
    except ValueError:
        pass
    if not _HOST.fullmatch(host):
        raise ValueError(f"{text!r} is no host (with * for any characters), address or network, with or without :port")
    return Rule(host.rstrip("."), None, number)


def _split(text: str) -> tuple[str, str | None]:
    bracketed = re.fullmatch(r"\[(.*)\](?::(.*))?", text)
    if bracketed:
        return bracketed[1], bracketed[2]
    host, colon, port = text.partition(":")
    # More colons than one: an IPv6 address.
    return (host, port) if colon and ":" not in port else (text, None)


def _plain(network: IPv4Network | IPv6Network) -> IPv4Network | IPv6Network:
    """The network of IPv4 addresses, where it is one in IPv6's notation."""
    if isinstance(network, IPv6Network) and network.subnet_of(_MAPPED):
        return IPv4Network((int(network.network_address) & 0xFFFFFFFF, network.prefixlen - 96))
    return network


@dataclass(frozen=True, slots=True)
class Egress:
    """The rules of one hook. What is denied is denied, whatever is allowed."""

    allow: tuple[Rule, ...]
    deny: tuple[Rule, ...]

    def check_name(self, host: str, port: int) -> None:
        """Raise Forbidden when no address could change the answer: such a name is not even looked up."""
        name = _name(host)
        denied = any(rule.names(name, port) for rule in self.deny)
        if denied or not any(rule.network or rule.names(name, port) for rule in self.allow):
            raise Forbidden(place(host, port))

    def permits(self, host: str, port: int, address: Address) -> bool:
        """Whether a hook may connect to this address, which was found under the name `host`."""
        name = _name(host)
        reached = _reached(address)
        if any(rule.names(name, port) or any(rule.holds(each, port) for each in reached) for rule in self.deny):
            return False
        if any(rule.holds(reached[0], port) for rule in self.allow):
            return True
        reach = max(map(reach_of, reached))
        named = [rule for rule in self.allow if rule.names(name, port)]
        return any(reach is Reach.PUBLIC or (reach is Reach.INTERNAL and rule.host == name) for rule in named)


@lru_cache(maxsize=256)
def egress(allow: tuple[str, ...], deny: tuple[str, ...]) -> Egress:
    """The rules that these texts are. Raises ValueError as parse_rule does."""
    return Egress(tuple(map(parse_rule, allow)), tuple(map(parse_rule, deny)))


def reach_of(address: Address) -> Reach:
    """How far an address is from the public internet."""
    if _in(address, _METADATA) or _in(address, _SPECIAL) or address.is_multicast:
        # ::1 lies in ::/96.
        return Reach.INTERNAL if address.is_loopback else Reach.CLOSED
    if _in(address, _INTERNAL):
        return Reach.INTERNAL
    return Reach.PUBLIC if address.is_global else Reach.CLOSED


def place(host: str, port: int) -> str:
    """Host and port, as they are written in one."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def _in(address: Address, networks: Iterable[IPv4Network | IPv6Network]) -> bool:
    return any(address in network for network in networks)


def _reached(address: Address) -> list[Address]:
    """The address that is connected to, and the one that is reached through it."""
    if isinstance(address, IPv6Address):
        # Without its scope: networks have none.
        address = IPv6Address(int(address))
        if address.ipv4_mapped:
            return [address.ipv4_mapped]
        if address in _NAT64:
            return [address, IPv4Address(int(address) & 0xFFFFFFFF)]
    return [address]


def _name(host: str) -> str:
    return host.lower().rstrip(".")
