"""What is to be done when the daemon ends, by modules that it may never have loaded."""

from __future__ import annotations

import logging
from collections.abc import Callable

logger = logging.getLogger("Watchers")

_calls: list[Callable[[], object]] = []


def at_end(call: Callable[[], object]) -> Callable[[], object]:
    """Have this called at the end; it may take a second."""
    _calls.append(call)
    return call


def leave() -> None:
    """Call them all."""
    for call in _calls:
        try:
            call()
        except Exception:
            logger.exception("a watcher cannot be ended well")
