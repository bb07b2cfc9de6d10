"""Hooks and handlers that crash the interpreter, hang, fill memory and leave processes behind."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from pathlib import Path
from typing import ClassVar

from ops.chaos import handlers
from ops.chaos.context import Context
from ops.chaos.hooks import add_hook
from ops.chaos.scenario import Scenario
from ops.chaos.supervisor import WATCHDOG_SECONDS

_LOOP = """
function hook.execute(event)
  local n = 0
  while true do n = n + 1 end
end
"""
_FILLS = """
function hook.execute(event)
  local kept = {}
  for i = 1, 1e9 do kept[i] = ("x"):rep(1000) .. i end
end
"""
_LEAVES = """
local exec = require("exec")
function hook.execute(event)
  local result, reason = exec.run({ "sh", "-c", "sleep 86413 & (sleep 86413 &) ; echo left" })
  if result == nil then return false, reason end
  return result.success, result.stdout
end
"""
_STRAY = b"sleep\x0086413"
_HOOK_SECONDS = 2.0  # the timeout of bad hooks; a handler has 30 seconds for each attempt
_SPREAD_SECONDS = 25.0  # bad events are inserted within the first half of so many
_POLL_SECONDS = 0.1
_QUIET_SECONDS = 7.0  # between two events that seize: five until the rate is back, and some to see it


class Misbehaviour(Scenario):
    """`outcome` says of each action of the source bad whether its events end as processed or as dead letters."""

    outcome: ClassVar[Mapping[str, str]] = {}
    hooks: ClassVar[Mapping[str, str]] = {}
    may_end: ClassVar[bool] = False  # whether a processor may end by itself
    settings: ClassVar = {"RETRY_DELAY": 0.2, "HOOK_EXEC": "on"}
    most: ClassVar[int] = 6  # bad events
    seconds = 25.0
    least_seconds = 10.0
    drain_seconds = 240.0

    def prepare(self, context: Context) -> None:
        self._sent: list[str] = []
        handlers.install(context.place / "handlers")
        path = os.pathsep.join(filter(None, (str(context.place / "handlers"), os.environ.get("PYTHONPATH"))))
        for processor in context.processors:
            context.supervisor.watch(processor)
            processor.extra_environment["PYTHONPATH"] = path
        with context.database() as connection:
            for action, body in self.hooks.items():
                add_hook(connection, f"bad_{action}", f"bad.{action}", body, timeout_seconds=_HOOK_SECONDS)

    def during(self, context: Context) -> None:
        spread = min(context.seconds, _SPREAD_SECONDS)
        while context.left > context.seconds - spread / 2 and len(self._sent) < self.most:
            self.insert(context)
            context.sleep(context.random.uniform(spread / 16, spread / 8))
        self.await_end(context)

    def insert(self, context: Context) -> None:
        """The next bad event: whatever it does, it is to cost the others nothing for long."""
        actions = list(self.outcome)
        action = actions[len(self._sent) % len(actions)]
        context.disturb(f"bad.{action}")
        with context.database() as connection:
            connection.execute("INSERT INTO hook_events (source, action) VALUES ('bad', %s)", (action,))
        self._sent.append(action)

    def await_end(self, context: Context) -> None:
        """Let the load go on for as long as there may be something to see."""
        context.sleep(context.left)

    def verify(self, context: Context) -> None:
        with context.database() as connection:
            found = connection.execute(
                "SELECT action, CASE WHEN processed THEN 'processed' WHEN failed_at IS NOT NULL THEN 'dead'"
                " ELSE 'unfinished' END, count(*) FROM hook_events WHERE source = 'bad' GROUP BY 1, 2"
            ).fetchall()
        for action, became, count in found:
            if became != self.outcome[action]:
                context.find(f"{count} of bad.{action} are {became}, not {self.outcome[action]}")
        if sum(count for _, _, count in found) != len(self._sent):
            context.find(f"{len(self._sent)} bad events were inserted, and {found} are there")
        ends = context.supervisor.ends
        context.note(f"{len(self._sent)} bad events; processors ended by themselves: {len(ends)} {ends or ''}")
        if ends and not self.may_end:
            context.find(f"processors ended by themselves: {ends}")
        if self.may_end and len(ends) > len(self._sent):
            context.find(f"{len(self._sent)} bad events ended processors {len(ends)} times, more than once each")


class Crash(Misbehaviour):
    name = "hook-crash"
    about = "handlers that crash the interpreter (abort, segmentation fault): each ends a processor once at most"
    outcome: ClassVar = {"crash": "dead", "segfault": "dead"}
    may_end = True


class Hang(Misbehaviour):
    name = "hook-hang"
    about = "a handler that waits in C and a hook that loops, both past their time"
    outcome: ClassVar = {"hang": "dead", "loop": "dead"}
    hooks: ClassVar = {"loop": _LOOP}
    may_end = True  # past a few stuck threads it drains and leaves restarting to systemd
    seconds = 140.0  # that takes its second attempts, a minute of uptime, and a drain

    def await_end(self, context: Context) -> None:
        _await_ends(context, 1)


class Seize(Misbehaviour):
    name = "hook-seize"
    about = "a handler that never gives the interpreter's lock back: the watchdog ends the processor"
    outcome: ClassVar = {"seize": "dead"}
    may_end = True
    most = 2
    seconds = 48.0
    least_seconds = 24.0  # the watchdog's time, and some to see what follows

    def during(self, context: Context) -> None:
        """One after the other: the processor that is not seized takes over, and two would seize both at once."""
        while context.left > WATCHDOG_SECONDS + _QUIET_SECONDS and len(self._sent) < self.most:
            self.insert(context)
            _await_ends(context, len(self._sent))
            context.sleep(_QUIET_SECONDS)


class Memory(Misbehaviour):
    name = "hook-memory"
    about = "a hook that fills memory"
    outcome: ClassVar = {"fill": "dead"}
    hooks: ClassVar = {"fill": _FILLS}


class Fork(Misbehaviour):
    name = "hook-fork"
    about = "a handler that forks the processor, and a hook whose program leaves processes behind"
    outcome: ClassVar = {"fork": "processed", "leave": "processed"}
    hooks: ClassVar = {"leave": _LEAVES}

    def verify(self, context: Context) -> None:
        super().verify(context)
        left = sum(1 for path in Path("/proc").glob("[0-9]*/cmdline") if _STRAY in _read(path))
        if left:
            context.find(f"{left} processes are left behind")


def _await_ends(context: Context, count: int) -> None:
    """Wait until processors have ended by themselves so many times; no longer than there is time."""
    while len(context.supervisor.ends) < count and context.left > 0:
        time.sleep(_POLL_SECONDS)


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError:
        return b""
