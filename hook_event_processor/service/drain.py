"""The end of a processor: nothing more is claimed, runs end and are recorded, the rest is handed back."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Sequence

from hook_event_processor.service.cutoff import Cutoff
from hook_event_processor.service.machinery import Machinery
from hook_event_processor.store.watch import LANE_ROLE

logger = logging.getLogger("HookEventProcessor")

# Both together are less than the 30 seconds that the units allow (TimeoutStopSec=).
DRAIN_SECONDS, GOODBYE_SECONDS = 25.0, 3.0
_JOIN_SECONDS = 1.0


def drain(machinery: Machinery, threads: Sequence[threading.Thread], cutoff: Cutoff) -> None:
    """Let runs end and be recorded, for DRAIN_SECONDS at most; hand back what goes on past that."""
    logger.info("draining: %d leased events are running", machinery.leases.leased)
    machinery.condition.draining = True
    machinery.watchdog.stopping()
    machinery.lookout.stop()
    machinery.leases.stop()
    machinery.quarantine.leases.stop()
    machinery.housekeeping.adopt = lambda _: None
    ends = time.monotonic() + DRAIN_SECONDS
    while time.monotonic() < ends and not _drained(machinery, threads):
        machinery.main.mark()
        machinery.watchdog.status(machinery.condition.look())
        machinery.watchdog.tick()
        cutoff.tick()
        time.sleep(0.02)
    machinery.leases.end()
    machinery.quarantine.leases.end()
    machinery.housekeeping.stop()
    _say_goodbye(machinery, threads)
    machinery.keeper.close()
    machinery.in_flight.close()
    machinery.run_log.close()
    logger.info("%s", machinery.metrics.line())
    logger.info("stopped")


def _drained(machinery: Machinery, threads: Sequence[threading.Thread]) -> bool:
    lanes = [thread for thread in threads if thread.name.startswith(LANE_ROLE)]
    # In this order: the last that a lane does may be to lease.
    return not any(thread.is_alive() for thread in lanes) and machinery.leases.idle and machinery.quarantine.leases.idle


def _say_goodbye(machinery: Machinery, threads: Sequence[threading.Thread]) -> None:
    """Hand back what is leased; without a database that answers, the leases end by themselves."""
    away = machinery.outage.seconds
    if away is not None:
        logger.warning("leaving without a word to the database, which has been away for %.0f s", away)
        return
    # On a thread of its own: nobody would cut off this one.
    goodbye = threading.Thread(target=_hand_back, args=(machinery, threads), name="goodbye", daemon=True)
    goodbye.start()
    goodbye.join(GOODBYE_SECONDS)
    if goodbye.is_alive():
        logger.warning("leaving without a word to the database: it has not answered for %.0f s", GOODBYE_SECONDS)


def _hand_back(machinery: Machinery, threads: Sequence[threading.Thread]) -> None:
    ends = time.monotonic() + _JOIN_SECONDS
    for thread in threads:
        if thread.name in ("leases", "quarantine", "housekeeping"):
            # The one may have something to tell, the other uses its connection.
            thread.join(max(ends - time.monotonic(), 0.0))
    try:
        machinery.leases.release()
        machinery.quarantine.leases.release()
        machinery.housekeeping.write_stopped()
    except Exception as fault:
        logger.warning("leaving without a word to the database: %s", fault)
