"""Parsers of options that several types of watchers take. All raise ValueError for what is wrong."""

from __future__ import annotations

import os
import re

from hook_event_processor.watchers.check import Option

_SIZE = re.compile(r"(\d+(?:\.\d+)?)\s*([KMGTP]?)(?:i?B)?", re.IGNORECASE)
_POWERS = {"": 0, "K": 1, "M": 2, "G": 3, "T": 4, "P": 5}
_MAX_PATH_BYTES = 4096
_TRUTHS = {"true": True, "yes": True, "1": True, "on": True, "false": False, "no": False, "0": False, "off": False}


def absolute_path(text: str) -> str:
    """An absolute path without what does not matter in it: /var/log/app/ is /var/log/app."""
    if not text.startswith("/") or "\0" in text or len(os.fsencode(text)) > _MAX_PATH_BYTES:
        raise ValueError(text)
    # POSIX lets two slashes at the beginning mean something else; Linux does not.
    return "/" + os.path.normpath(text).lstrip("/")


def size(text: str) -> int:
    """Bytes of a size: 5G, 100MB, 1.5GiB or a plain number. As in units of systemd, 1K is 1,024."""
    found = _SIZE.fullmatch(text.strip())
    if found is None:
        raise ValueError(text)
    value = int(float(found[1]) * 1024 ** _POWERS[found[2].upper()])
    if value >= 1 << 63:
        raise ValueError(text)
    return value


def shown_size(value: int) -> str:
    """Bytes in the largest unit that they are a whole number of: 5G, 1536M."""
    powers = [(letter, 1024**power) for letter, power in _POWERS.items()]
    whole = (power for power in reversed(powers) if value and value % power[1] == 0)
    letter, unit = next(whole, ("", 1))
    return f"{value // unit}{letter or ' bytes'}"


class Percentage(float):
    """A number that was written with a percent sign."""


def margin(text: str) -> float:
    """A number, a percentage, or a size in bytes."""
    return Percentage(text.removesuffix("%")) if text.endswith("%") else float(size(text))


def truth(text: str) -> bool:
    """What a flag's text says."""
    try:
        return _TRUTHS[text.strip().lower()]
    except KeyError:
        raise ValueError(text) from None


def name(text: str) -> str:
    """A name of something: not empty, one line."""
    if not text.strip() or len(text) > 255 or any(ord(character) < 32 for character in text):
        raise ValueError(text)
    return text


def flag(help_text: str) -> Option:
    """An option that takes no value on the command line."""
    return Option(truth, "true or false", help_text, flag=True)
