"""Cutting off what waits for a server that says nothing: no network notices one that is frozen."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping

from hook_event_processor.service.machinery import Machinery
from hook_event_processor.store.watch import LANE_ROLE

logger = logging.getLogger("HookEventProcessor")

# What the lookout asks never takes long.
LOOKOUT_SECONDS, OTHERS_SECONDS = 9.0, 20.0


class Cutoff:
    """Ends the connections of threads that have stood still for too long: they connect anew."""

    def __init__(self, machinery: Machinery) -> None:
        self._machinery = machinery
        self._silent: set[str] = set()

    def tick(self) -> None:
        """Look whom it has come to; said once each."""
        still = self._machinery.watchdog.still()
        silent = set()
        for name, cut in self._connections().items():
            if still.get(name, 0.0) > (LOOKOUT_SECONDS if name == "lookout" else OTHERS_SECONDS):
                silent.add(name)
                cut()
        for name in sorted(silent - self._silent):
            logger.warning("%s has waited for %.0f s: its connection is cut off", name, still[name])
        self._silent = silent

    def _connections(self) -> Mapping[str, Callable[[], None]]:
        parts = self._machinery
        lanes = {f"{LANE_ROLE} {number}": lane.cut for number, lane in enumerate(parts.lanes, 1)}
        recorders = {"leases": parts.leases.cut, "quarantine": parts.quarantine.leases.cut}
        return {"lookout": parts.lookout.cut, "housekeeping": parts.housekeeping.cut, **recorders, **lanes}
