"""Options of types that reach out to a host: where it is, how long it may take, what is too long."""

from __future__ import annotations

import re
from collections.abc import Mapping

from hook_event_processor.watchers.check import Definition, Option, WatcherRefused, seconds
from hook_event_processor.watchers.kinds.edge import THRESHOLD_OPTIONS

TIMEOUT = 2.0
_NAME = re.compile(r"[0-9A-Za-z._:-]{1,255}")
_WITH_UNIT = re.compile(r".*[a-z]")
_OF_LATENCY = ("above", "below")


def parse_host(text: str) -> str:
    """An address, or a name of a host. Raises ValueError."""
    host = text.removeprefix("[").removesuffix("]")
    if not _NAME.fullmatch(host):
        raise ValueError(text)
    return host


def parse_timeout(text: str) -> float:
    """Seconds that an answer may take. Raises ValueError."""
    value = seconds(text)
    if not 0.01 <= value <= 30:
        raise ValueError(text)
    return value


def parse_milliseconds(text: str) -> float:
    """Milliseconds of a duration with its unit: 200 alone might be seconds. Raises ValueError."""
    value = seconds(text) * 1000
    if not _WITH_UNIT.fullmatch(text) or value <= 0:
        raise ValueError(text)
    return value


OPTIONS: Mapping[str, Option] = {
    "latency": Option(parse_milliseconds, "a duration with its unit, such as 200ms", "how long a connect may take"),
    **THRESHOLD_OPTIONS,
    "until_normal": Option(
        parse_milliseconds,
        "a duration with its unit, such as 50ms",
        "how far below its threshold a latency must come to be normal",
    ),
    "timeout": Option(parse_timeout, "a duration from 10ms to 30s", f"how long to wait (default {TIMEOUT:g}s)"),
}


def shown_latency(definition: Definition) -> str:
    """How a list goes on after where the host is: its latency, if that is watched."""
    latency = definition.options.get("latency")
    return "" if latency is None else f", latency: {latency:g}ms"


def validate(definition: Definition) -> None:
    """Refuse conditions and options of a latency without --latency. Raises WatcherRefused."""
    options = definition.options
    if "latency" not in options:
        for condition in _OF_LATENCY:
            if condition in definition.conditions:
                raise WatcherRefused(f"--when {condition} is about the latency: it needs --latency, such as 200ms")
        for name in ("average", "until_normal"):
            if name in options:
                raise WatcherRefused(f"--{name.replace('_', '-')} is about the latency: it needs --latency")
    elif {*_OF_LATENCY, "changed"}.isdisjoint(definition.conditions):
        raise WatcherRefused("--latency needs --when above or below or changed: no other tells of it")
    elif options.get("until_normal", 0.0) >= options["latency"]:
        raise WatcherRefused("--until-normal takes less than --latency: no latency comes below 0")
    elif options["latency"] >= options.get("timeout", TIMEOUT) * 1000:
        raise WatcherRefused("--latency takes less than --timeout: no connect that succeeds takes longer")
