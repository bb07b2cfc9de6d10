"""A cell: a process in which runs that may kill it are done, one after the other."""

from __future__ import annotations

import os
import socket
import threading
from collections.abc import Callable
from importlib import import_module
from pathlib import Path

from hook_event_processor.errors import HookRefused
from hook_event_processor.event import Outcome
from hook_event_processor.event_handlers import EventHandlerRegistry
from hook_event_processor.lua import modules
from hook_event_processor.lua.door import Library, Services
from hook_event_processor.lua.memory import MemoryBudget
from hook_event_processor.processor.hooks import HookRunner
from hook_event_processor.processor.quarantine import wire
from hook_event_processor.processor.quarantine.departure import children
from hook_event_processor.processor.quarantine.wire import Request
from hook_event_processor.registry import Hook
from hook_event_processor.run import ChunkResult
from hook_event_processor.settings import Settings
from hook_event_processor.store.claim import Row
from hook_event_processor.store.database import Database

# What runs leave behind is not waited for, as a Python handler may do that yet, and counts against the cell's limit.
_MOST_CHILDREN = 64


def prepare() -> None:
    """Import what runs import when they first need it: once, before cells are forked."""
    folder = Path(modules.__file__ or "").parent
    for name in sorted(path.stem for path in folder.glob("*.py") if path.stem != "__init__"):
        import_module(f"{modules.__name__}.{name}")


class Cell:
    """What a cell does: the runs that it is asked for, as the processor's threads would do them."""

    def __init__(self, settings: Settings, database: Database, handlers: EventHandlerRegistry) -> None:
        self._settings = settings
        self._database = database
        self._handlers = handlers

    def serve(self, stream: socket.socket) -> None:
        """Run what is asked for until the processor hangs up, or until runs have left too many processes behind."""
        library = Library(Services(self._settings, self._database))
        memory = self._settings.hook_memory
        run = HookRunner(memory, self._settings.max_payload_size, MemoryBudget(2 * memory, memory), library)
        while len(children()) <= _MOST_CHILDREN and (message := wire.receive(stream)) is not None:
            request = wire.unpack_request(message)
            library.policy = request.policy
            stream.sendall(wire.BEGUN)
            wire.send(stream, wire.pack_result(self._run(run, request)))

    def _run(self, run: HookRunner, request: Request) -> ChunkResult:
        row = Row(*request.row)
        owner = os.getpid()
        try:
            hook = Hook(
                request.hook_id,
                request.hook_name,
                request.program or self._handler(request, row),
                version=request.version,
                timeout=request.timeout,
            )
            return run(hook, [row], threading.Event())
        except Exception as fault:
            return ChunkResult.refused(Outcome.FAILED, f"the processor failed: {fault!r}", 1)
        finally:
            if os.getpid() != owner:  # the run has forked, and this is not the one that was asked
                os._exit(0)

    def _handler(self, request: Request, row: Row) -> Callable[..., object]:
        for candidate in self._handlers.candidates(row.source.decode(), row.action.decode()):
            if candidate.name == request.hook_name:
                return candidate.handler
        raise HookRefused(f"there is no handler {request.hook_name}")
