"""Hooks and handlers that crash the interpreter, hang, fill memory and leave processes behind."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import ClassVar

from ops.chaos import handlers
from ops.chaos.context import Context
from ops.chaos.hooks import add_hook
from ops.chaos.scenario import Scenario

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


class Misbehaviour(Scenario):
    """`outcome` says of each action of the source bad whether its events end as processed or as dead letters."""

    outcome: ClassVar[Mapping[str, str]] = {}
    hooks: ClassVar[Mapping[str, str]] = {}
    may_end: ClassVar[bool] = False  # whether a processor may end by itself
    settings: ClassVar = {"HOOK_TIMEOUT": 2, "RETRY_DELAY": 0.2, "HOOK_EXEC": "on"}
    most: ClassVar[int] = 6  # bad events
    seconds = 25.0
    least_seconds = 10.0
    drain_seconds = 240.0  # a handler has 30 seconds for each attempt

    def prepare(self, context: Context) -> None:
        self._sent: list[str] = []
        handlers.install(context.place / "handlers")
        path = os.pathsep.join(filter(None, (str(context.place / "handlers"), os.environ.get("PYTHONPATH"))))
        for processor in context.processors:
            context.supervisor.watch(processor)
            processor.extra_environment["PYTHONPATH"] = path
        with context.database() as connection:
            for action, body in self.hooks.items():
                add_hook(connection, f"bad_{action}", f"bad.{action}", body)

    def during(self, context: Context) -> None:
        actions = list(self.outcome)
        while context.left > context.seconds / 2 and len(self._sent) < self.most:
            action = actions[len(self._sent) % len(actions)]
            with context.database() as connection:
                connection.execute("INSERT INTO hook_events (source, action) VALUES ('bad', %s)", (action,))
            self._sent.append(action)
            context.sleep(context.random.uniform(context.seconds / 16, context.seconds / 8))
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


class Seize(Misbehaviour):
    name = "hook-seize"
    about = "a handler that never gives the interpreter's lock back: the watchdog ends the processor"
    outcome: ClassVar = {"seize": "dead"}
    may_end = True
    most = 2
    seconds = 40.0
    least_seconds = 30.0  # the watchdog's time, and some to see what follows


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


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError:
        return b""
