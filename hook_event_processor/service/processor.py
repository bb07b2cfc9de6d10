"""The processor as a service: its start, its threads, and its main thread until it is told to stop."""

from __future__ import annotations

import gc
import logging
import os
import socket
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from importlib.metadata import entry_points
from pathlib import Path

import psycopg

from hook_event_processor import settings as settings_module
from hook_event_processor import thread_memory
from hook_event_processor.connection_values import secrets_of
from hook_event_processor.errors import SchemaError, SettingsError, StoreUnavailable
from hook_event_processor.event_handlers import EventHandlerRegistry
from hook_event_processor.handover import change
from hook_event_processor.processor import routing
from hook_event_processor.processor.health import MAX_STUCK, RESTART_SECONDS
from hook_event_processor.processor.outage import reconnect_delay
from hook_event_processor.service.cutoff import Cutoff
from hook_event_processor.service.drain import drain
from hook_event_processor.service.machinery import Machinery, run_directory
from hook_event_processor.settings import Settings
from hook_event_processor.stop import Stop
from hook_event_processor.store import migrate
from hook_event_processor.store.database import Database, may_pass, one_line
from hook_event_processor.store.watch import LANE_ROLE
from hook_event_processor.telemetry import journal
from hook_event_processor.telemetry.watchdog import Progress

logger = logging.getLogger("HookEventProcessor")

METRICS_SECONDS = 60.0
# Threads that would not end are worth a restart, but not every minute.
MIN_UPTIME_SECONDS = 60.0
# What was running as a predecessor died is tried apart before anything else begins, if it does not take long.
VERDICT_SECONDS = 1.5
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
        journal.mask(secrets_of(self.database.conninfo))
        self.handler_registry = EventHandlerRegistry()
        for entry_point in entry_points(group=HANDLERS):
            entry_point.load()(self.handler_registry)
        instance = self.settings.instance
        self.node = f"{socket.gethostname()}:{os.getpid()}" + (f"@{instance}" if instance else "")
        self._stop = Stop()
        self._status = 0
        self._reread: Callable[[], Settings] | None = None
        self._machinery = Machinery(self.settings, self.database, self.node, self.handler_registry)
        self._watchdog = self._machinery.watchdog
        self._cutoff = Cutoff(self._machinery)
        logger.info("HookEventProcessor initialized")

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
            try:
                if self._await_database() and self._connect_lookout():
                    self._start_threads()
                    on_ready()
                    self._loop()
                    drain(self._machinery, self._threads, self._cutoff)
            finally:
                self._machinery.condition.file.end()
        return self._status

    def _await_database(self) -> bool:
        """Check the schema and register the handlers; False when told to stop before that."""
        attempt = 0
        while not self._stop.is_set():
            self._tick()
            attempt += 1
            tried_at = time.monotonic()
            try:
                with self.database.session("start") as connection:
                    migrate.check(connection)
                    routing.register(connection, self.handler_registry)
                self._machinery.outage.end(tried_at)
                return True
            except (StoreUnavailable, psycopg.Error) as fault:
                if not may_pass(fault):
                    raise
                self._machinery.outage.begin(one_line(fault))
                self._pause(reconnect_delay(attempt))
        return False

    def _connect_lookout(self) -> bool:
        """Have the hooks read, before any lane starts; False when told to stop before that.

        The lanes need to know from it, too, whether sessions are really ours.
        """
        while not self._stop.is_set():
            self._tick()
            try:
                self._machinery.lookout.connected()
                return True
            except Exception as fault:
                self._pause(self._machinery.lookout.lost(fault))
        return False

    def _pause(self, seconds: float) -> None:
        """Wait, with the watchdog fed."""
        ends = time.monotonic() + seconds
        while (left := ends - time.monotonic()) > 0 and not self._stop.wait(min(left, self._watchdog.interval_seconds)):
            self._tick()

    def _start_threads(self) -> None:
        parts = self._machinery
        quarantine = self._thread("quarantine", parts.quarantine.leases.run)
        self._take_over(quarantine)
        self._threads = [
            self._thread("lookout", parts.lookout.run),
            self._thread("leases", parts.leases.run),
            self._thread("housekeeping", parts.housekeeping.run),
            *(self._thread(f"{LANE_ROLE} {number}", lane.run) for number, lane in enumerate(parts.lanes, 1)),
        ]
        for thread in self._threads:
            thread.start()
        self._threads.append(quarantine)

    def _take_over(self, quarantine: threading.Thread) -> None:
        """Make suspects of what processors were running that died, and wait a little for what comes of them."""
        parts = self._machinery
        parts.in_flight.open(run_directory(self.settings) / "in-flight")
        try:
            with self.database.session("adoption") as connection:
                parts.adoption.prepare(connection)
        except Exception as fault:
            parts.outage.notice(fault, "what died processors were running is not known yet", None, 0)
        parts.housekeeping.adopt = parts.adoption.look
        quarantine.start()
        parts.quarantine.await_verdicts(VERDICT_SECONDS, self._tick)

    def _thread(self, name: str, target: Callable[[Progress], None]) -> threading.Thread:
        # From now on it can stand still, and not before.
        progress = self._watchdog.part(name, RESTART_SECONDS)

        def run() -> None:
            with suppress(OSError):  # where top and gdb show it
                Path(f"/proc/self/task/{threading.get_native_id()}/comm").write_text(name)
            target(progress)
            self._watchdog.remove(progress)

        return threading.Thread(target=run, name=name, daemon=True)

    def _loop(self) -> None:
        """What the main thread does: it feeds the watchdog, and sees to the log."""
        metrics_at = time.monotonic() + METRICS_SECONDS
        started = time.monotonic()
        while not self._stop.wait(self._watchdog.interval_seconds):
            self._tick()
            now = time.monotonic()
            if now >= metrics_at:
                logger.info("%s", self._machinery.metrics.line())
                metrics_at = now + METRICS_SECONDS
            stuck = self._machinery.stuck
            if stuck >= MAX_STUCK and now - started >= MIN_UPTIME_SECONDS:
                logger.error("%d threads are stuck in runs that do not end: draining, to be restarted", stuck)
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
            self._machinery.library.policy = changed.settings.policy
            logging.getLogger().setLevel(changed.settings.log_level)
            logger.info("settings read again; changed: %s", ", ".join(changed.taken) or "nothing")
            if changed.waiting:
                logger.warning("these settings changed, too, but take a restart: %s", ", ".join(changed.waiting))
        self._watchdog.ready()

    def _tick(self) -> None:
        if self._stop.take_reload():
            self._reload_settings()
        self._machinery.main.mark()
        self._cutoff.tick()
        self._watchdog.status(self._machinery.condition.look())
        self._watchdog.tick()
        self._machinery.run_log.summarize()


def serve(
    settings: Settings,
    database: Database,
    on_ready: Callable[[], None] = lambda: None,
    reread: Callable[[], Settings] | None = None,
) -> int:
    """Run a processor until it is told to stop; returns the exit status, EX_CONFIG for a schema it cannot work with."""
    thread_memory.share(settings.lanes + 1)  # as many threads run the hooks of claims
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
