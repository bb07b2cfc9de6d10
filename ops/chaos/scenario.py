"""A scenario: what is set up, and what is done to it while the load runs."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from typing import ClassVar

from ops.chaos import postgres
from ops.chaos.context import Context
from ops.chaos.events import MIXED
from ops.chaos.postgres import Server

_SCENARIOS: dict[str, type[Scenario]] = {}


class Scenario:
    """Subclasses in ops/chaos/scenarios/ are found by their `name`."""

    name: ClassVar[str] = ""
    about: ClassVar[str] = ""  # one line for --list and the table
    processors: ClassVar[int] = 2
    rate: ClassVar[float] = 2000.0  # events a second that the writer inserts
    seconds: ClassVar[float] = 20.0  # how long during() takes
    least_seconds: ClassVar[float] = 9.0  # below which it could deal no blow; --seconds makes it no shorter
    settings: ClassVar[Mapping[str, object]] = {}  # of the processors, beside the defaults
    shares: ClassVar[Mapping[str, int]] = MIXED  # of a hundred events, how many of each kind
    in_all: ClassVar[bool] = True  # whether ops/chaos/all runs it
    stays_flat: ClassVar[bool] = False  # whether it is a finding that the rate at the end is a tenth below that before
    drain_seconds: ClassVar[float] = 90.0  # until all is processed, once the load has stopped
    forgives: ClassVar[frozenset[str]] = frozenset()  # of Account.WRONG, what may be; it is noted

    def missing(self) -> str | None:
        """What it needs and this machine does not have; it is skipped then."""
        return None

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        if cls.name:
            _SCENARIOS[cls.name] = cls

    def server(self, place: Path) -> AbstractContextManager[Server]:
        """The PostgreSQL to use; its files go below `place`, which the server's user can enter."""
        return postgres.running(place / "home")

    def migrate(self, context: Context) -> None:
        """Make the schema; before anything else is in the database."""
        with context.database() as connection:
            from hook_event_processor.store.migrate import migrate

            migrate(connection)

    def prepare(self, context: Context) -> None:
        """After the schema and the hooks are there, and before the processors start."""

    def during(self, context: Context) -> None:
        """Deal blows with context.blow() until context.left is used up."""

    def verify(self, context: Context) -> None:
        """After the load has stopped and all is processed: context.find() what is wrong beside the ledger."""


def scenarios() -> Mapping[str, type[Scenario]]:
    """Every scenario by name, in the order of their modules."""
    from ops.chaos import scenarios as package

    for module in sorted(pkgutil.iter_modules(package.__path__), key=lambda module: module.name):
        importlib.import_module(f"ops.chaos.scenarios.{module.name}")
    return _SCENARIOS
