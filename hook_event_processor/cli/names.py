"""Names and patterns as users write them; argparse reports what is none.

An empty name, mostly a shell variable that is not set, must not stand for all or none.
"""

from __future__ import annotations

import argparse


def some_name(text: str) -> str:
    """A name that is not empty."""
    if not text.strip():
        raise argparse.ArgumentTypeError("an empty name is none: write one, or leave it out")
    return text


def some_names(text: str) -> list[str]:
    """Names separated by commas, one at least."""
    return [part.strip() for part in text.split(",") if part.strip()] or [some_name("")]


def hook_description(text: str) -> str:
    """A hook's description."""
    return _fitting("description", text)


def hook_stack(text: str) -> str:
    """The stack that a hook is of."""
    return _fitting("stack", some_name(text))


def _fitting(key: str, text: str) -> str:
    from hook_event_processor.lua.loader import fits, longest

    if not fits(key, text):
        raise argparse.ArgumentTypeError(f"it has {len(text)} characters: at most {longest(key)} fit")
    return text


def pattern(text: str) -> str:
    """A pattern of event types."""
    from hook_event_processor.errors import PatternRefused
    from hook_event_processor.registry import parse_pattern

    try:
        return parse_pattern(text).text
    except PatternRefused as refusal:
        raise argparse.ArgumentTypeError(str(refusal)) from None
