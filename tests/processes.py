"""Which processes there are, by what every user may read of them."""

from __future__ import annotations

import os
from pathlib import Path

from hook_event_processor.store.embedded.places import Places


def of_server(home: Path) -> list[int]:
    """The processes of a home's server: the postmaster by its arguments, the others by their titles."""
    places = Places(home.resolve())
    marks = (os.fsencode(places.data) + b"\0", f"postgres: {places.cluster_name}: ".encode())
    return [pid for pid, arguments in _all() if any(mark in arguments for mark in marks)]


def naming(path: Path) -> list[int]:
    """The processes that have a path among their arguments."""
    return [pid for pid, arguments in _all() if os.fsencode(path) in arguments]


def _all() -> list[tuple[int, bytes]]:
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            found.append((int(path.parent.name), path.read_bytes()))
        except OSError:  # it has ended
            continue
    return found
