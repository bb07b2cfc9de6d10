"""What passes between hooks and the Python functions of the library: plain values, checked and bounded."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from importlib import import_module
from time import perf_counter
from typing import Any

from hook_event_processor.lua.room import Room
from hook_event_processor.policy import Grants
from hook_event_processor.settings import Settings
from hook_event_processor.store.database import Database

Value = bytes | int | float | bool | None | tuple["bytes | int | float | bool | None", ...]
MAX_RESULT_BYTES = 8 * 1024 * 1024
_PLAIN = (bytes, int, float, bool, type(None))
# The settings that grant a permission, as refusals name them.
_SETTINGS: Mapping[str, str] = {
    "exec": "HOOK_EXEC",
    "http": "HOOK_HTTP_ALLOW",
    "file": "HOOK_FILE_ROOTS",
    "env": "HOOK_ENV",
    "secret": "HOOK_SECRETS",
}


class Failed(Exception):
    """What a hook asked for did not succeed: it gets nil and this reason."""


class Misused(Exception):
    """What a hook asked for makes no sense, or is not permitted: an error is raised at its line."""


@dataclass(slots=True)
class Call:
    """What a function knows of the chunk of runs that calls it.

    `ends_at` is the end of the current run's time, by time.perf_counter().
    `scratch` lives as long as the chunk, which for effectful hooks is one
    run. `secrets` are the values that were handed out in it, `accessed` their
    names. `event` is the one event of a chunk of one, as the runtime got it.
    """

    hook: str
    stack: str | None
    grants: Grants
    cancelled: threading.Event
    show: Callable[[str], None]  # tells what a dry run would have done
    ends_at: float = 0.0
    scratch: dict[Any, Any] = field(default_factory=dict)
    secrets: set[bytes] = field(default_factory=set)
    accessed: set[str] = field(default_factory=set)
    event: Sequence[Any] | None = None
    room: Room = field(default_factory=Room)
    held: int = 0

    @property
    def left(self) -> float:
        """Seconds until the run's time is over; 0 when it is, or the run was given up."""
        return 0.0 if self.cancelled.is_set() else max(0.0, self.ends_at - perf_counter())

    def hold(self, size: int) -> bool:
        """Whether there is room for so many more bytes of a result: to be asked before they are read.

        What waits for a runtime's turn is in no runtime's memory, and hooks
        could bring much at once. All is given back when the result is handed over.
        """
        if not self.room.take(size):
            return False
        self.held += size
        return True

    def give_back(self) -> None:
        """The result was handed over."""
        if self.held:
            self.room.give(self.held)
            self.held = 0

    def refusal(self, permission: str, what: str) -> Misused:
        """The error for something that policy does not grant: exec, http, file, env or secret, and what was asked."""
        setting = _SETTINGS[permission]
        return Misused(
            f"the hook {self.hook!r} may not use {what}: the permission {permission!r} is not granted for it"
            f" ({setting}, or an entry for the hook or its stack in HOOK_POLICY, grants it)"
        )


@dataclass(frozen=True, slots=True)
class Function:
    """A function of the library: `run(call, *arguments)`.

    One that `waits` may block, on the network or the disk, say: its turn at
    memory is given back meanwhile. A dry run calls `pretend` instead, which
    changes nothing outside and tells through call.show what would have been.
    """

    run: Callable[..., Value]
    waits: bool = False
    pretend: Callable[..., Value] | None = None


@dataclass(frozen=True, slots=True)
class Services:
    """What the library's functions may use. `database` is None where there is none, in a dry run say."""

    settings: Settings
    database: Database | None = None


class Library:
    """The functions of every module, loaded when first called; shared by all runtimes of a process."""

    def __init__(self, services: Services, show: Callable[[str], None] | None = None) -> None:
        """With `show`, runs are dry: nothing is done outside, and `show` gets a line for what would have been."""
        self.policy = services.settings.policy
        self.dry = show is not None
        self.show = show or (lambda _: None)
        self.room = Room()
        self._services = services
        self._functions: dict[bytes, Function] = {}
        self._lock = threading.Lock()

    def function(self, name: bytes) -> Function:
        """The function of that name, written module.function."""
        found = self._functions.get(name)
        return found if found is not None else self._load(name)

    def _load(self, name: bytes) -> Function:
        with self._lock:
            if name not in self._functions:
                module = name.partition(b".")[0].decode()
                functions = import_module(f"hook_event_processor.lua.modules.{module}").functions(self._services)
                self._functions |= {full_name.encode(): function for full_name, function in functions.items()}
            return self._functions[name]


def cross(function: Function, call: Call, dry: bool, arguments: tuple[Any, ...]) -> tuple[Any, ...]:
    """Call the function for a hook; returns its values. Raises Failed or Misused, and nothing else."""
    if not all(isinstance(argument, _PLAIN) for argument in arguments):
        raise Misused("a table or function stands where a string, number or boolean is taken")
    run = function.pretend if dry and function.pretend else function.run
    try:
        value = run(call, *arguments)
    except (Failed, Misused):
        raise
    except Exception as fault:
        raise Misused(f"the library failed: {fault!r}") from fault
    values = value if isinstance(value, tuple) else (value,)
    size = sum(len(item) for item in values if isinstance(item, bytes))
    if size > MAX_RESULT_BYTES:
        raise Failed(f"the result has {size} bytes: at most {MAX_RESULT_BYTES} can be handed to a hook")
    return values
