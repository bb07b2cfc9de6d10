"""What works in a processor, and how its parts hold together."""

from __future__ import annotations

import logging
import os
import socket
from collections.abc import Callable
from pathlib import Path

from psycopg import Connection

from hook_event_processor import __version__
from hook_event_processor.event_handlers import EventHandlerRegistry
from hook_event_processor.lua.door import Library, Services
from hook_event_processor.lua.memory import MemoryBudget
from hook_event_processor.processor import routing
from hook_event_processor.processor.attempt import Attempts
from hook_event_processor.processor.batch import Sorter
from hook_event_processor.processor.executor import Executor
from hook_event_processor.processor.health import RESTART_SECONDS
from hook_event_processor.processor.health_file import ProcessorFile
from hook_event_processor.processor.hooks import HookRunner
from hook_event_processor.processor.housekeeping import Housekeeping
from hook_event_processor.processor.lane import Lane, Parts
from hook_event_processor.processor.lease_recording import LeaseRecorder
from hook_event_processor.processor.leases import Leases
from hook_event_processor.processor.lookout import Lookout
from hook_event_processor.processor.outage import Outage
from hook_event_processor.processor.own_events import OwnEvents
from hook_event_processor.processor.pace import Paces
from hook_event_processor.processor.quarantine import cell
from hook_event_processor.processor.quarantine.adoption import Adoption
from hook_event_processor.processor.quarantine.confined import GRACE_SECONDS, ConfinedRunner
from hook_event_processor.processor.quarantine.in_flight import InFlight
from hook_event_processor.processor.quarantine.keeper import Keeper
from hook_event_processor.processor.quarantine.quarantine import CELLS, ROOM, Quarantine
from hook_event_processor.processor.report import Report
from hook_event_processor.registry import Pauses, Registry
from hook_event_processor.retry import RetryPolicy
from hook_event_processor.service.condition import Condition
from hook_event_processor.settings import Settings
from hook_event_processor.store.database import Database
from hook_event_processor.store.frontier import Frontier
from hook_event_processor.store.watch import LANE_ROLE
from hook_event_processor.telemetry import journal
from hook_event_processor.telemetry.metrics import Metrics
from hook_event_processor.telemetry.runs import RunLog
from hook_event_processor.telemetry.watchdog import Watchdog

logger = logging.getLogger("HookEventProcessor")

# What a run holds while it waits, unless it reads much: a runtime, and its hook.
_WAITING_BYTES = 256 * 1024


class Machinery:
    """Everything but the threads and the signals. `node` names the processor; it uses the handlers of `handlers`."""

    def __init__(self, settings: Settings, database: Database, node: str, handlers: EventHandlerRegistry) -> None:
        self._settings = settings
        self._database = database
        self._node = node
        self._handlers = handlers
        # Until the hooks are read nothing may be claimed: it would be acknowledged without them.
        self._registry = Registry(pauses=Pauses(everything=True))
        self._frontier = Frontier()
        self.outage = Outage()
        self.watchdog = Watchdog()
        self.main = self.watchdog.part("main thread", RESTART_SECONDS)
        self.metrics = Metrics()
        self.run_log = RunLog(logging.getLogger("HookRun"))
        self.library = Library(Services(settings, database))
        self.in_flight = InFlight(database, node, chunks=settings.lanes + 1, workers=settings.workers, apart=CELLS)
        cells = cell.Cell(settings, database, handlers)
        self.keeper = Keeper(cell.prepare, cells.serve, journal.descriptors)
        origin = {"host": socket.gethostname(), "instance": settings.instance, "version": __version__}
        policy = RetryPolicy(settings.max_retry_count, settings.retry_delay, settings.retry_max_delay)
        self._attempts = Attempts(policy, origin, OwnEvents(origin) if settings.own_events else None)
        self._paces = Paces()
        self._report = Report(self.metrics, self.run_log, self._paces)
        self._make_executors()
        self._make_lookout()
        self.leases = self._leases(self._slots_with_room(), self.slots, self.lookout.slots_freed)
        self._make_quarantine()
        self._make_lanes()
        told = ProcessorFile(run_directory(settings), database, node, settings.instance)
        self.condition = Condition(self, settings, node, told)
        self.housekeeping = Housekeeping(
            database, self._report, self.outage, self.condition.describe, self._frontier, settings
        )

    def _make_executors(self) -> None:
        settings = self._settings
        # Claims never wait for memory: their threads have theirs set aside.
        threads = settings.lanes + 1
        aside = threads * settings.hook_memory
        for_chunks = MemoryBudget(aside, settings.hook_memory)
        for_slots = MemoryBudget(settings.hook_memory_total - aside, settings.hook_memory)
        self.chunks = Executor("chunk", threads, lambda: self._start_run(for_chunks), self.in_flight.chunks)
        self.slots = Executor("worker", settings.workers, lambda: self._start_run(for_slots), self.in_flight.workers)
        self.cells = Executor("cell", CELLS, self._start_confined, self.in_flight.apart, GRACE_SECONDS)

    def _make_lookout(self) -> None:
        self.lookout = Lookout(
            self._database,
            self.outage,
            lanes=self._settings.lanes,
            poll_interval=self._settings.poll_interval,
            may_listen=self._settings.listen,
            frontier=self._frontier,
            free_slots=lambda: self.leases.free > 0,
            reload=self._reload,
            paused=lambda: self._registry.pauses.everything,
        )

    def _leases(
        self, slots: int, executor: Executor, slots_freed: Callable[[], None], recorder: LeaseRecorder | None = None
    ) -> Leases:
        return Leases(
            self._database,
            self._node,
            slots,
            executor,
            self._attempts,
            self._report,
            self.outage,
            slots_freed=slots_freed,
            due_in=self.lookout.due_in,
            may_prepare=lambda: self.lookout.may_prepare,
            recorder=recorder,
        )

    def _make_quarantine(self) -> None:
        settings = self._settings
        self.quarantine = Quarantine(self._node, self._attempts)
        self.quarantine.leases = self._leases(ROOM, self.cells, lambda: None, self.quarantine.recorder)
        self.adoption = Adoption(
            run_directory(settings) / "in-flight",
            self._database,
            self.quarantine,
            self.keeper,
            settings.max_payload_size,
            self._sorter,
        )

    def _sorter(self) -> Sorter | None:
        """What sorts an adopted event; None while everything is paused."""
        if self._registry.pauses.everything:
            return None
        return Sorter(self._registry, self._paces, self.leases.slots)

    def _make_lanes(self) -> None:
        parts = Parts(
            settings=self._settings,
            database=self._database,
            node=self._node,
            registry=lambda: self._registry,
            executor=self.chunks,
            leases=self.leases,
            quarantine=self.quarantine,
            lookout=self.lookout,
            attempts=self._attempts,
            paces=self._paces,
            report=self._report,
            outage=self.outage,
            frontier=self._frontier,
        )
        self.lanes = [Lane(f"{LANE_ROLE} {number}", parts) for number in range(1, self._settings.lanes + 1)]

    def _start_confined(self) -> ConfinedRunner:
        return ConfinedRunner(
            self.keeper, self._settings.hook_memory, lambda: self.library.policy, self.quarantine.spent
        )

    def _slots_with_room(self) -> int:
        """As many slots as are wanted, but no more than can wait at once with an ordinary run's memory."""
        settings = self._settings
        wanted = min(settings.workers, settings.max_in_flight)
        # One turn is always left: whoever has it computes.
        taken = (settings.lanes + 2) * settings.hook_memory
        room = max((settings.hook_memory_total - taken) // _WAITING_BYTES, 1)
        if room < wanted:
            needed = -(-(taken + wanted * _WAITING_BYTES) >> 20)
            logger.warning(
                "HOOK_MEMORY_TOTAL_MB=%d leaves room for %d hooks that wait at once: for %d set it to %d",
                *(settings.hook_memory_total >> 20, room, wanted, needed),
            )
        return min(wanted, room)

    def _start_run(self, budget: MemoryBudget) -> HookRunner:
        return HookRunner(self._settings.hook_memory, self._settings.max_payload_size, budget, self.library)

    def _reload(self, connection: Connection) -> None:
        self._registry = routing.load(connection, self._handlers)
        self.housekeeping.resumption.set(self._registry.pauses)
        self.housekeeping.firing.news()
        logger.info("%d Lua hooks are enabled", len(self._registry.hooks))

    @property
    def pauses(self) -> Pauses:
        """What is paused."""
        return self._registry.pauses

    @property
    def stuck(self) -> int:
        """Threads that do not come back from a run that was given up."""
        return self.chunks.stuck + self.slots.stuck


def run_directory(settings: Settings) -> Path:
    """Where files lie that need not outlive the host's next start: systemd's for this unit, or the home."""
    given = os.environ.get("RUNTIME_DIRECTORY")
    return Path(given.split(":")[0]) if given else settings.home
