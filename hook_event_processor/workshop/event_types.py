"""Event types, as hooks name them in patterns and dispatch them."""

from __future__ import annotations

from hook_event_processor import catalog

_SIGNS = frozenset("*?[~")
_FREE = "custom."  # types that begin so are everybody's own


def is_literal(pattern: str) -> bool:
    """Whether a pattern stands for one type."""
    return bool(pattern) and not _SIGNS & set(pattern)


def is_custom(event_type: str) -> bool:
    """Whether it is everybody's own: custom.anything."""
    return event_type.startswith(_FREE)


def is_known(event_type: str) -> bool:
    """Whether the catalog explains it; custom types need no explanation."""
    return is_custom(event_type) or event_type.replace("/", ".", 1) in catalog.known(None)


def nearest(event_type: str) -> str | None:
    """The known type that is spelled most like it."""
    return next(iter(catalog.nearest(event_type)), None)
