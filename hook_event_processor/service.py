"""The composition root: builds the processor, and owns its threads."""

from __future__ import annotations

import gc
import logging
import os
import socket
import threading
import time
from collections.abc import Callable, Mapping
from importlib.metadata import entry_points, version
from typing import Any

from psycopg import Connection
from psycopg.conninfo import conninfo_to_dict

from hook_event_processor import settings as settings_module
from hook_event_processor.errors import SchemaError, SettingsError, StoreUnavailable
from hook_event_processor.event_handlers import EventHandlerRegistry
from hook_event_processor.handover import change
from hook_event_processor.lua.door import Library, Services
from hook_event_processor.lua.memory import MemoryBudget
from hook_event_processor.processor import routing
from hook_event_processor.processor.attempt import Attempts
from hook_event_processor.processor.executor import Executor
from hook_event_processor.processor.hooks import HookRunner
from hook_event_processor.processor.housekeeping import Housekeeping
from hook_event_processor.processor.lane import Lane, Parts
from hook_event_processor.processor.leases import Leases
from hook_event_processor.processor.lookout import Lookout
from hook_event_processor.processor.outage import Outage, reconnect_delay
from hook_event_processor.processor.own_events import OwnEvents
from hook_event_processor.processor.pace import Paces
from hook_event_processor.processor.report import Report
from hook_event_processor.registry import Registry
from hook_event_processor.retry import RetryPolicy
from hook_event_processor.settings import Settings
from hook_event_processor.stop import Stop
from hook_event_processor.store import migrate, processors
from hook_event_processor.store.database import Database
from hook_event_processor.store.watch import LANE_ROLE
from hook_event_processor.telemetry import journal
from hook_event_processor.telemetry.metrics import Metrics
from hook_event_processor.telemetry.runs import RunLog
from hook_event_processor.telemetry.watchdog import Progress, Watchdog

logger = logging.getLogger("HookEventProcessor")

DRAIN_SECONDS = 25.0
METRICS_SECONDS = 60.0
# A part that stands still for longer than this is not fed to the watchdog.
# Connecting may take ten seconds, and a connection that is cut off ten more.
STILL_SECONDS = 25.0
# So many threads that would not end are worth a restart, but not every minute.
MAX_STUCK = 4
MIN_UPTIME_SECONDS = 60.0
EX_TEMPFAIL, EX_CONFIG = 75, 78  # sysexits.h

HANDLERS = "hook_event_processor.handlers"  # entry points: functions that take an EventHandlerRegistry


class HookEventProcessor:
    """The processor: polls hook_events, routes events to hooks and handlers, retries, drains.

    Register Python handlers on `handler_registry` before run().
    """

    def __init__(self, settings: Settings | None = None, database: Database | None = None) -> None:
        """Without arguments, as the environment says. Raises SettingsError."""
        self.settings = settings or settings_module.load()
        self.database = database or _named_database(self.settings)
        journal.set_up(self.settings.log_level)
        journal.mask(_secrets(self.database))
        self.handler_registry = EventHandlerRegistry()
        for entry_point in entry_points(group=HANDLERS):
            entry_point.load()(self.handler_registry)
        instance = self.settings.instance
        self.node = f"{socket.gethostname()}:{os.getpid()}" + (f"@{instance}" if instance else "")
        self._stop = Stop()
        self._status = 0
        self._reread: Callable[[], Settings] | None = None
        self._draining = False
        self._build()
        logger.info("HookEventProcessor initialized")

    def _build(self) -> None:
        settings, database = self.settings, self.database
        policy = RetryPolicy(settings.max_retry_count, settings.retry_delay, settings.retry_max_delay)
        origin = {"host": socket.gethostname(), "instance": settings.instance, "version": _version()}
        self._registry = Registry()
        self._outage = Outage()
        self._watchdog = Watchdog()
        self._metrics = Metrics()
        self._run_log = RunLog(logging.getLogger("HookRun"))
        self._library = Library(Services(settings, database))
        paces = Paces()
        report = Report(self._metrics, self._run_log, paces)
        attempts = Attempts(policy, origin, OwnEvents(origin) if settings.own_events else None)
        # Claims never wait for memory: their threads have theirs set aside.
        threads = settings.lanes + 1
        aside = threads * settings.hook_memory
        for_chunks = MemoryBudget(aside, settings.hook_memory)
        for_slots = MemoryBudget(settings.hook_memory_total - aside, settings.hook_memory)
        self._chunks = Executor("chunk", threads, lambda: self._start_run(for_chunks))
        self._slots = Executor("worker", settings.workers, lambda: self._start_run(for_slots))
        self._lookout = Lookout(
            database,
            self._outage,
            poll_interval=settings.poll_interval,
            may_listen=settings.listen,
            floor=self._floor,
            free_slots=lambda: self._leases.free > 0,
            reload=self._reload,
            full_pass=self._full_pass,
        )
        self._leases = Leases(
            database,
            self.node,
            min(settings.workers, settings.max_in_flight),
            self._slots,
            attempts,
            report,
            self._outage,
            slots_freed=self._lookout.slots_freed,
            due_in=self._lookout.due_in,
            may_prepare=lambda: self._lookout.may_prepare,
        )
        parts = Parts(
            settings,
            database,
            self.node,
            lambda: self._registry,
            self._chunks,
            self._leases,
            self._lookout,
            attempts,
            paces,
            report,
            self._outage,
        )
        self._lanes = [Lane(f"{LANE_ROLE} {number}", parts) for number in range(1, settings.lanes + 1)]
        self._housekeeping = Housekeeping(database, report, self._outage, self._describe, self._floor, settings)

    def _start_run(self, budget: MemoryBudget) -> HookRunner:
        return HookRunner(self.settings.hook_memory, self.settings.max_payload_size, budget, self._library)

    def _reload(self, connection: Connection) -> None:
        self._registry = routing.load(connection, self.handler_registry)
        logger.info("%d Lua hooks are enabled", len(self._registry.hooks))

    def _floor(self) -> int:
        return min(lane.floor for lane in self._lanes)

    def _full_pass(self) -> None:
        for lane in self._lanes:
            lane.full_pass()

    def run(self, on_ready: Callable[[], None] = lambda: None, reread: Callable[[], Settings] | None = None) -> int:
        """Process events until SIGTERM or SIGINT, then drain; returns the exit status.

        A database that is away is waited for. With `reread`, SIGHUP takes over
        what changed in the settings that it returns. Raises SchemaError when
        the database is there and not the one that this program works with.
        """
        self._reread = reread
        with self._stop.at_signals(reloads=reread is not None):
            logger.info("Starting Hook Event Processor Service: %s", self.node)
            if os.geteuid() == 0 and "INVOCATION_ID" in os.environ:  # systemd.exec(5)
                logger.warning("the service runs as root: install the drop-in system.conf, or set User=")
            self._watchdog.ready()
            if self._await_database():
                self._start_threads()
                on_ready()
                self._loop()
                self._drain()
        return self._status

    def _await_database(self) -> bool:
        """Check the schema and register the handlers; False when told to stop before that."""
        attempt = 0
        while not self._stop.is_set():
            self._tick()
            attempt += 1
            try:
                with self.database.session("start") as connection:
                    migrate.check(connection)
                    routing.register(connection, self.handler_registry)
                self._outage.end()
                return True
            except StoreUnavailable as fault:
                self._outage.begin(str(fault))
                self._pause(reconnect_delay(attempt))
        return False

    def _pause(self, seconds: float) -> None:
        """Wait, with the watchdog fed."""
        ends = time.monotonic() + seconds
        while (left := ends - time.monotonic()) > 0 and not self._stop.wait(min(left, self._watchdog.interval_seconds)):
            self._tick()

    def _start_threads(self) -> None:
        """The lookout connects first: the lanes need its registry, and to know whether sessions are really ours."""
        self._connect_lookout()
        self._threads = [
            self._thread("lookout", self._lookout.run),
            self._thread("leases", self._leases.run),
            self._thread("housekeeping", self._housekeeping.run),
            *(self._thread(f"{LANE_ROLE} {number}", lane.run) for number, lane in enumerate(self._lanes, 1)),
        ]
        for thread in self._threads:
            thread.start()

    def _connect_lookout(self) -> None:
        attempt = 0
        while not self._stop.is_set():
            self._tick()
            attempt += 1
            try:
                self._lookout.connected()
                return
            except Exception as fault:
                self._lookout.lost(fault)
                self._pause(reconnect_delay(attempt))

    def _thread(self, name: str, target: Callable[[Progress], None]) -> threading.Thread:
        # From now on it can stand still, and not before.
        progress = self._watchdog.part(name, STILL_SECONDS)
        return threading.Thread(target=target, args=(progress,), name=name, daemon=True)

    def _loop(self) -> None:
        """What the main thread does: it feeds the watchdog, and sees to the log."""
        metrics_at = time.monotonic() + METRICS_SECONDS
        started = time.monotonic()
        while not self._stop.wait(self._watchdog.interval_seconds):
            self._tick()
            if self._stop.take_reload():
                self._reload_settings()
            now = time.monotonic()
            if now >= metrics_at:
                logger.info("%s", self._metrics.line())
                metrics_at = now + METRICS_SECONDS
            if self._stuck >= MAX_STUCK and now - started >= MIN_UPTIME_SECONDS:
                logger.error("%d threads are stuck in runs that do not end: draining, to be restarted", self._stuck)
                self._status = EX_TEMPFAIL
                return

    def _reload_settings(self) -> None:
        """Take over what can change while work goes on, and say what cannot."""
        if self._reread is None:
            return
        self._watchdog.reloading()
        try:
            changed = change(self.settings, self._reread())
        except SettingsError as fault:
            logger.error("the settings stay as they are: %s", fault)
        else:
            self.settings = changed.settings
            self._library.policy = changed.settings.policy
            logging.getLogger().setLevel(changed.settings.log_level)
            logger.info("settings read again; changed: %s", ", ".join(changed.taken) or "nothing")
            if changed.waiting:
                logger.warning("these settings changed, too, but take a restart: %s", ", ".join(changed.waiting))
        self._watchdog.ready()

    def _tick(self) -> None:
        self._watchdog.status(self._status_line())
        self._watchdog.tick()
        self._run_log.summarize()

    def _status_line(self) -> str:
        away = self._outage.seconds
        if away is not None:
            return f"the database has been away for {away:.0f} s, trying again"
        stats = self._metrics.snapshot()
        return (
            f"{'draining' if self._draining else 'processing'}: {stats['rate_1m']:g} events/s,"
            f" {_backlog(self._housekeeping.backlog)}; {stats['processed']} processed, {stats['failed']} failed;"
            f" {self._slots.busy} of {self.settings.workers} workers busy"
        )

    @property
    def _stuck(self) -> int:
        return self._chunks.stuck + self._slots.stuck

    def _describe(self) -> Mapping[str, Any]:
        stats = {**self._metrics.snapshot(), "leased": self._leases.leased}
        return {
            "node": self.node,
            "host": socket.gethostname(),
            "instance": self.settings.instance,
            "pid": os.getpid(),
            "version": _version(),
            "state": "draining" if self._draining else "running",
            "wake": "listen" if self._lookout.listening else "poll",
            "workers": self.settings.workers,
            "busy": self._slots.busy,
            "stuck": self._stuck,
            "stats": stats,
        }

    def _drain(self) -> None:
        """Claim nothing more, let runs end, record them; what goes on past the time is handed back."""
        logger.info("draining: %d leased events are running", self._leases.leased)
        self._draining = True
        self._watchdog.stopping()
        self._lookout.stop()
        self._leases.stop()
        ends = time.monotonic() + DRAIN_SECONDS
        while time.monotonic() < ends and not self._drained():
            self._watchdog.tick()
            time.sleep(0.02)
        self._leases.end()
        self._housekeeping.stop()
        self._say_goodbye()
        self._run_log.close()
        logger.info("%s", self._metrics.line())
        logger.info("stopped")

    def _say_goodbye(self) -> None:
        """Hand back what still runs; the leases end by themselves if the database is away."""
        away = self._outage.seconds
        if away is not None:
            logger.warning("leaving without a word to the database, which has been away for %.0f s", away)
            return
        for thread in self._threads:
            if thread.name in ("leases", "housekeeping"):
                thread.join(1.0)  # the one may have something to tell, the other uses its connection
        try:
            self._leases.release()
            self._housekeeping.write_stopped()
        except Exception as fault:
            logger.warning("leaving without a word to the database: %s", fault)

    def _drained(self) -> bool:
        lanes = [thread for thread in self._threads if thread.name.startswith(LANE_ROLE)]
        return self._leases.idle and not any(thread.is_alive() for thread in lanes)


def serve(
    settings: Settings,
    database: Database,
    on_ready: Callable[[], None] = lambda: None,
    reread: Callable[[], Settings] | None = None,
) -> int:
    """Run a processor until it is told to stop; returns the exit status, EX_CONFIG for a schema it cannot work with."""
    processor = HookEventProcessor(settings, database)
    _spare_the_collector()
    try:
        return processor.run(on_ready, reread)
    except SchemaError as fault:
        logger.error("%s", fault)
        return EX_CONFIG


def _spare_the_collector() -> None:
    """Have Python's garbage collector look less often, and not at what stays: every claim makes thousands of tuples."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 50, 100)


def _named_database(settings: Settings) -> Database:
    if settings.conninfo is None:
        raise StoreUnavailable("no database is named: set DATABASE_URL, PG* or DB_PASSWORD")
    return Database(settings.conninfo, settings.schema)


def _secrets(database: Database) -> list[str]:
    return [str(value) for key, value in conninfo_to_dict(database.conninfo).items() if key == "password" and value]


def _backlog(events: int | None) -> str:
    if events is None:
        return "backlog not counted yet"
    return f"backlog {events:,}" + ("+" if events >= processors.COUNT_LIMIT else "")


def _version() -> str:
    return version("hook-event-processor")
