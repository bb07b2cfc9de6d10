"""Forking at a moment at which no thread imports anything."""

from __future__ import annotations

import _imp  # the lock that every import takes before it looks for its module's own
import os
import sys
from importlib import _bootstrap
from time import monotonic, sleep

_LONGEST_SECONDS = 10.0
_LOOK_SECONDS = 0.005


def fork_between_imports() -> int:
    """os.fork(), once no other thread is in the middle of an import; after ten seconds all the same.

    In the fork that thread is no more, and its lock on the module would never
    be opened: whoever imported the module there would wait for ever.
    """
    ends = monotonic() + _LONGEST_SECONDS
    while True:
        _imp.acquire_lock()  # no import begins meanwhile
        try:
            if not _importing() or monotonic() > ends:
                return os.fork()
        finally:
            _imp.release_lock()
        sleep(_LOOK_SECONDS)


def _importing() -> bool:
    """Whether a module is being imported, as CPython's importlib knows it."""
    locks = [each() for each in list(getattr(_bootstrap, "_module_locks", {}).values())]
    held = any(getattr(lock, "owner", None) is not None for lock in locks)
    return held or any(getattr(getattr(each, "__spec__", None), "_initializing", False) for each in _modules())


def _modules() -> list[object]:
    return list(sys.modules.values())
