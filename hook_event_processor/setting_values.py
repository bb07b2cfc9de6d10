"""What the values of settings may be: parsers, each of which says in its docstring what it accepts."""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

from hook_event_processor.egress import parse_rule

_LOG_LEVELS = ("DEBUG", "INFO", "WARNING", "ERROR")
_LONGEST = timedelta(days=36_500)
_SPOOL_POLICIES = ("drop_oldest", "drop_newest")
_SCHEMA = re.compile(r"[A-Za-z_][A-Za-z0-9_$]{0,62}")


def integer(low: int, high: int) -> Callable[[str], int]:
    def parse(text: str) -> int:
        value = int(text)
        if not low <= value <= high:
            raise ValueError
        return value

    parse.__doc__ = f"a whole number from {low} to {high}"
    return parse


def seconds(low: float, high: float) -> Callable[[str], float]:
    def parse(text: str) -> float:
        value = float(text)
        if not low <= value <= high:  # also refuses nan
            raise ValueError
        return value

    parse.__doc__ = f"a number of seconds from {low:g} to {high:g}"
    return parse


def megabytes(low: int, high: int) -> Callable[[str], int]:
    def parse(text: str) -> int:
        return integer(low, high)(text) * 1024 * 1024

    parse.__doc__ = f"a whole number of megabytes from {low} to {high}"
    return parse


def one_of(*choices: str) -> Callable[[str], str]:
    def parse(text: str) -> str:
        return choices[choices.index(text)]

    parse.__doc__ = f"{', '.join(choices[:-1])} or {choices[-1]}"
    return parse


def names(text: str) -> tuple[str, ...]:
    """names separated by commas; * stands for any characters"""
    return tuple(name.strip() for name in text.split(",") if name.strip())


def programs(text: str) -> bool | tuple[str, ...]:
    """off, on, or programs separated by commas: names or absolute paths"""
    return {"on": True, "off": False}.get(text.lower(), names(text))


def hosts(text: str) -> tuple[str, ...]:
    """hosts (with * for any characters), addresses or networks, separated by commas, each with :port if need be"""
    hosts = names(text)
    for host in hosts:
        parse_rule(host)
    return hosts


def paths(text: str) -> tuple[Path, ...]:
    """absolute paths separated by colons"""
    paths = tuple(Path(path) for path in text.split(":") if path)
    if not all(path.is_absolute() for path in paths) or "\0" in text:
        raise ValueError
    return paths


def path(text: str) -> Path:
    """an absolute path"""
    path = Path(text)
    if not path.is_absolute() or "\0" in text:
        raise ValueError
    return path


def switch(text: str) -> bool:
    """on or off"""
    return {"on": True, "off": False}[text.lower()]


def log_level(text: str) -> str:
    """DEBUG, INFO, WARNING or ERROR"""
    return _LOG_LEVELS[_LOG_LEVELS.index(text.upper())]


def schema(text: str) -> str:
    """the name of a schema: letters, digits, _ and $, at most 63"""
    if text and not _SCHEMA.fullmatch(text):
        raise ValueError
    return text


def instance(text: str) -> str:
    """a name of at most 64 letters, digits and -_.@"""
    if not re.fullmatch(r"[\w.@-]{0,64}", text, re.ASCII):
        raise ValueError
    return text


def host_name(text: str) -> str:
    """a name of at most 253 letters, digits and -_. that begins with a letter or digit"""
    if text and not re.fullmatch(r"[A-Za-z0-9][\w.-]{0,252}", text, re.ASCII):
        raise ValueError
    return text


def tags(text: str) -> tuple[str, ...]:
    """labels separated by commas"""
    return names(text)


def spool_policy(text: str) -> str:
    """drop_oldest or drop_newest"""
    return _SPOOL_POLICIES[_SPOOL_POLICIES.index(text.lower())]


def retention(text: str) -> timedelta | None:
    """a number of hours or days, such as 720h or 30d, up to a hundred years; or off"""
    if text.lower() == "off":
        return None
    if not re.fullmatch(r"\d{1,6}[hd]", text, re.ASCII):
        raise ValueError
    age = timedelta(hours=int(text[:-1]) * (24 if text[-1] == "d" else 1))
    if age > _LONGEST:  # there is no time before the year 1
        raise ValueError
    return age


def archive(text: str) -> str:
    """off, table, or the absolute path of a directory"""
    if text.lower() in ("off", "table"):
        return text.lower()
    if not text.startswith("/"):
        raise ValueError
    return text
