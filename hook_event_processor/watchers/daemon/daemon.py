"""The daemon: what happens on this host becomes events, whether the database is there or not."""

from __future__ import annotations

import logging
import os
import sqlite3
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import UTC, datetime

from hook_event_processor import __version__, handover, thread_memory
from hook_event_processor.amount import counted
from hook_event_processor.connection_values import secrets_of
from hook_event_processor.errors import HookEventProcessorError, SettingsError
from hook_event_processor.settings import Settings
from hook_event_processor.stop import Stop
from hook_event_processor.store.database import Database
from hook_event_processor.telemetry import journal
from hook_event_processor.telemetry.findings import Alarm, in_a_line
from hook_event_processor.telemetry.watchdog import Progress, Watchdog
from hook_event_processor.timestamp import rfc3339
from hook_event_processor.watchers import kinds
from hook_event_processor.watchers.daemon import agent, health
from hook_event_processor.watchers.daemon.envelope import Envelopes
from hook_event_processor.watchers.daemon.health import DaemonFile, Facts
from hook_event_processor.watchers.daemon.local_store import LocalStore
from hook_event_processor.watchers.daemon.locks import TypeLocks
from hook_event_processor.watchers.daemon.looks import Looks
from hook_event_processor.watchers.daemon.sender import Sender
from hook_event_processor.watchers.daemon.spool import Limits, Total
from hook_event_processor.watchers.daemon.watch import EVENT_LOG
from hook_event_processor.watchers.host import programs
from hook_event_processor.watchers.leaving import leave

logger = logging.getLogger("Watchers")

_IDENTIFIER = "hook-watcher"  # in the journal, as the unit says it, too
EX_CONFIG = 78  # sysexits.h
# A server that says nothing for so long is taken for gone. TCP would notice by itself, a socket of this host never.
_SILENT_SECONDS = 15.0
_SEND_SECONDS = 5.0  # at the end
_LOOK_SECONDS = 5.0
_LOCK_SECONDS = 1.0
# What a daemon takes over while it runs.
_AT_ONCE = (
    *("log_level", "watch_batch", "watch_flush", "host_tags", "watch_exec"),
    *("spool_max_events", "spool_max_size", "spool_policy"),
)


class Daemon:
    """The watchers of one host, of some types or all."""

    def __init__(
        self,
        settings: Settings,
        database: Database,
        types: Sequence[str] | None = None,
        reread: Callable[[], Settings] | None = None,
    ) -> None:
        """`reread` is asked for the settings at SIGHUP."""
        programs.grant(settings.watch_exec)
        self._settings = settings
        self._database = database
        self._types = tuple(types) if types else tuple(kinds.NAMES)
        self._all = not types or set(types) >= set(kinds.NAMES)
        self._reread = reread or handover.Reader().read
        self._version = __version__
        self._started = datetime.now(UTC)
        self._stop = Stop()
        self._watchdog = Watchdog()
        self._folder = settings.home / "watchers"
        self._locks = TypeLocks(self._folder, settings.host)
        self._alarm = Alarm(logger)
        self._health_at = 0.0
        self._total = Total(0, 0, 0)

    def run(self) -> int:
        """Watch until SIGTERM or SIGINT; returns the exit status. Raises HookEventProcessorError without a store."""
        with self._stop.at_signals(reloads=True):
            self._watchdog.ready()
            try:
                if not self._await_locks():
                    return 0
                self._open()
            except (OSError, sqlite3.Error) as fault:
                raise HookEventProcessorError(
                    f"the watchers' store in {self._folder} cannot be opened: {fault}"
                ) from None
            self._start_threads()
            self._say_started()
            self._watchdog.status("; ".join(self._status(self._facts())))
            self._loop()
            self._leave()
        return EX_CONFIG if self._sender.fatal else 0

    def _await_locks(self) -> bool:
        """Wait until no other daemon has one of our types; False when told to stop before that."""
        said = False
        while not self._stop.is_set():
            held = self._locks.take(self._types)
            if held is None:
                return True
            if not said:
                logger.warning("another daemon of %s watches %s: waiting until it ends", self._settings.host, held)
                said = True
            self._watchdog.status(f"waiting: another daemon of {self._settings.host} watches {held}")
            self._watchdog.tick()
            self._stop.wait(min(_LOCK_SECONDS, self._watchdog.interval_seconds))
        return False

    def _open(self) -> None:
        settings = self._settings
        self._store = LocalStore(self._folder / f"{settings.host}.db", self._types, Limits.of(settings))
        self._envelopes = Envelopes(settings.host, self._version, settings.max_payload_size)
        self._looks = Looks(self._store, self._envelopes, lambda: self._sender.spooled(), lambda: self._sender.faulty())
        self._sender = Sender(
            settings,
            self._database,
            self._store,
            self._looks,
            self._envelopes,
            self._types,
            self._version,
            lambda: health.document(self._facts()),
        )
        self._health_file = DaemonFile(self._folder, settings.host, health.name_of(self._types))
        for name in self._store.other_types():
            # Left by a daemon of other types; if there is none any more, they are ours to send.
            if self._locks.take([name]) is None:
                self._store.release(name)
                self._locks.release([name])

    def _start_threads(self) -> None:
        looking = self._watchdog.part("looks", health.RESTART_SECONDS)
        self._sending = self._watchdog.part("sender", health.RESTART_SECONDS)
        self._threads = [_thread("looks", self._looks.run, looking), _thread("sender", self._sender.run, self._sending)]
        for thread in self._threads:
            thread.start()
        self._main = self._watchdog.part("main thread", health.RESTART_SECONDS)
        self._health_file.begin(self._facts())

    def _loop(self) -> None:
        while not self._stop.wait(self._watchdog.interval_seconds) and not self._sender.fatal:
            self._main.mark()
            self._see_to_health()
            self._watchdog.tick()
            EVENT_LOG.summarize()
            if self._sending.still_seconds() > _SILENT_SECONDS:
                self._sender.cut()
            if self._stop.take_reload():
                self._reload()

    def _facts(self) -> Facts:
        """What its health is judged by; of a spool that cannot be read, what was known of it last."""
        limits, unwritable = self._store.limits, self._looks.fault
        try:
            self._total = self._store.total()
        except sqlite3.Error as fault:
            unwritable = str(fault)
        total = self._total
        away, sent = self._sender.away_seconds, self._sender.taken_seconds
        return Facts(
            still={name: round(seconds, 1) for name, seconds in self._watchdog.still().items()},
            away=None if away is None else round(away, 1),
            sent=None if sent is None else round(sent, 1),
            spooled=total.rows,
            spool_limit=limits.rows,
            spool_bytes=total.bytes,
            spool_max_bytes=limits.bytes,
            dropped=total.dropped,
            unwritable=unwritable,
            watchers=self._looks.count,
            failing=self._looks.failing,
            stuck=self._looks.stuck,
        )

    def _see_to_health(self) -> None:
        """Say it to systemd; to the file and the database every few seconds, and at once when it changes."""
        facts = self._facts()
        findings = health.judge(facts)
        changes = self._alarm.changes(findings)
        if changes:
            self._sender.hurry()
        if changes or time.monotonic() >= self._health_at:
            self._health_file.write(facts)
            self._health_at = time.monotonic() + health.WRITE_SECONDS
        told = in_a_line(findings)
        more = "; ".join(part for part in self._status(facts) if part not in told)
        self._watchdog.status(f"{told}; {more}" if told else more)

    def _status(self, facts: Facts) -> tuple[str, ...]:
        """How it is; what is found wrong may say a part of it, in the same words."""
        if self._sender.refused:
            return (f"waiting: another daemon of {self._settings.host} watches {self._sender.refused}",)
        if facts.away is not None:
            why = self._sender.schema_fault or f"the database has been away for {facts.away:.0f} s"
            return why, health.waiting(facts), counted(facts.watchers, "watcher")
        return f"watching: {counted(facts.watchers, 'watcher')}", f"{counted(self._sender.sent, 'event')} sent"

    def _reload(self) -> None:
        """Take over the settings that can change, and say which cannot."""
        self._watchdog.reloading()
        try:
            read = self._reread()
        except SettingsError as fault:
            logger.error("the settings stay as they are: %s", fault)
        else:
            taken = {name: getattr(read, name) for name in _AT_ONCE if getattr(read, name) != self._changing(name)}
            if (read.host, read.home, read.conninfo, read.schema) != self._fixed:
                logger.warning("HOST_NAME, HEP_HOME, DATABASE_URL or DB_SCHEMA has changed: that takes a restart")
            self._settings = replace(self._settings, **taken)
            logging.getLogger().setLevel(self._settings.log_level)
            self._store.limits = Limits.of(self._settings)
            self._sender.reload(self._settings)
            programs.grant(self._settings.watch_exec)
            logger.info("settings read again; changed: %s", ", ".join(taken).upper() or "nothing")
        self._watchdog.ready()

    def _changing(self, name: str) -> object:
        return getattr(self._settings, name)

    @property
    def _fixed(self) -> tuple[object, ...]:
        settings = self._settings
        return settings.host, settings.home, settings.conninfo, settings.schema

    def _say_started(self) -> None:
        started = rfc3339(self._started)
        data = {"version": self._version, "start_time": started, "rebooted": self._rebooted(), **self._which}
        self._spool("system.startup", data)

    def _rebooted(self) -> bool:
        """Whether the host has been started anew since a daemon last was."""
        boot, before = agent.boot_id(), None
        try:
            before = self._store.note("boot_id")
            if boot != before:
                self._store.keep_note("boot_id", boot)
        except sqlite3.Error as fault:
            logger.error("the spool cannot be written: %s", fault)
        return before not in (None, boot)

    def _say_stopped(self) -> None:
        uptime = (datetime.now(UTC) - self._started).total_seconds()
        self._spool(
            "system.shutdown", {"reason": "the watchers were stopped", "uptime": round(uptime, 1), **self._which}
        )

    @property
    def _which(self) -> dict[str, object]:
        return {"component": "watcher", "pid": os.getpid(), **({} if self._all else {"types": list(self._types)})}

    def _spool(self, event_type: str, data: dict[str, object]) -> None:
        try:
            self._store.keep((), [self._envelopes.own(event_type, data, datetime.now(UTC), self._settings.host)])
        except sqlite3.Error as fault:
            logger.error("%s is lost, the spool cannot be written: %s", event_type, fault)
        self._sender.spooled()

    def _leave(self) -> None:
        """Write down what looks have left, and send what can be sent in a few seconds."""
        self._watchdog.stopping()
        looks, sender = self._threads
        self._looks.stop()
        looks.join(_LOOK_SECONDS)
        leave()
        self._say_stopped()
        self._sender.stop(_SEND_SECONDS)
        sender.join(_SEND_SECONDS + 1)
        self._health_file.remove()
        sent = self._sender.sent
        were = "was" if sent == 1 else "were"
        logger.info("stopped; %s %s sent, %s", counted(sent, "event"), were, health.waiting(self._facts()))
        if not looks.is_alive() and not sender.is_alive():
            self._store.close()


def serve(
    settings: Settings,
    database: Database,
    types: Sequence[str] | None = None,
    reread: Callable[[], Settings] | None = None,
) -> int:
    """Watch this host until SIGTERM or SIGINT; returns the exit status, EX_CONFIG for a schema it cannot work with.

    `types` are those of the watchers to run, None for all. A second daemon
    of the same host and type waits until the first has ended. Raises
    HookEventProcessorError when its store cannot be opened.
    """
    thread_memory.share(1)
    journal.set_up(settings.log_level, _IDENTIFIER)
    journal.mask(secrets_of(database.conninfo))
    return Daemon(settings, database, types, reread).run()


def _thread(name: str, target: Callable[[Progress], None], progress: Progress) -> threading.Thread:
    def run() -> None:
        while True:
            try:
                return target(progress)
            except Exception:
                logger.exception("%s failed, and goes on", name)
                time.sleep(1.0)

    return threading.Thread(target=run, name=name, daemon=True)
