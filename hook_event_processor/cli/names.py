"""Names as users write them. An empty one, mostly a shell variable that is not set, must not stand for all or none."""

from __future__ import annotations

import argparse


def some_name(text: str) -> str:
    """A name; argparse reports an empty one."""
    if not text.strip():
        raise argparse.ArgumentTypeError("an empty name is none: write one, or leave it out")
    return text


def some_names(text: str) -> list[str]:
    """Names separated by commas; argparse reports when there is none."""
    return [part.strip() for part in text.split(",") if part.strip()] or [some_name("")]
