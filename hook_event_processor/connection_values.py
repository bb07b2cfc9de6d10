"""Parameters of a connection: which are secrets, and what they may be, where libpq tells of a wrong one too late."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from psycopg.conninfo import conninfo_to_dict

from hook_event_processor.setting_values import one_of

SECRETS = ("password", "sslpassword")


def secrets_of(conninfo: str) -> list[str]:
    """The secrets that stand in a connection string."""
    given = conninfo_to_dict(conninfo)
    return [str(given[name]) for name in SECRETS if given.get(name)]


def wrong(given: Mapping[str, str]) -> dict[str, str]:
    """What those of these parameters that are wrong take, by name. An empty one counts as not given, as for libpq."""
    takes = {}
    for name, parse in _PARSERS.items():
        try:
            if given.get(name):
                parse(given[name])
        except (ValueError, OverflowError):
            takes[name] = parse.__doc__ or ""
    ports = given.get("port", "").count(",")
    hosts = (given.get("hostaddr") or given.get("host") or "").count(",")
    if "port" not in takes and ports not in (0, hosts) and not given.get("service"):  # whose file may name hosts
        takes["port"] = f"one port, or as many as there are hosts ({hosts + 1})"
    return takes


def _ports(text: str) -> None:
    """a number from 1 to 65535, or one for each host, separated by commas"""
    for port in filter(None, text.split(",")):
        if not (port.isascii() and "_" not in port and 1 <= int(port) <= 65_535):
            raise ValueError


def _seconds(text: str) -> None:
    """a number of seconds"""
    int(float(text))


# PostgreSQL manual, "Parameter Key Words" of libpq.
_PARSERS: Mapping[str, Callable[[str], object]] = {
    "port": _ports,
    "connect_timeout": _seconds,
    "sslmode": one_of("disable", "allow", "prefer", "require", "verify-ca", "verify-full"),
    "channel_binding": one_of("disable", "prefer", "require"),
    "gssencmode": one_of("disable", "prefer", "require"),
    "target_session_attrs": one_of("any", "read-write", "read-only", "primary", "standby", "prefer-standby"),
}
