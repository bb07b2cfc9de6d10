"""Looks that may wait, on threads of their own: some do not come back, and none of the others waits for them."""

from __future__ import annotations

from collections.abc import Callable, Collection
from operator import call
from time import monotonic
from typing import NamedTuple

from hook_event_processor.watchers.daemon.crew import Crew
from hook_event_processor.watchers.daemon.watch import Watch

STUCK_SECONDS = 60.0
CREW = 8  # looks that wait, at a time
LARGEST_CREW = 64  # with threads in place of those that do not come back

_Task = Callable[[], None]


class _UnderWay(NamedTuple):
    """A look that a crew was given; `since` when, by the monotonic clock. It may still wait for a thread."""

    crew: Crew[_Task]
    since: float


class Aside:
    """Owns the threads; all but the looks themselves is called on one thread."""

    def __init__(self) -> None:
        self._crew: Crew[_Task] = Crew(CREW, call)
        # Of their own: many watchers' dead file system is not the trouble of all others that look aside.
        self._far_crew: Crew[_Task] = Crew(CREW, call)
        self._under_way: dict[Watch, _UnderWay] = {}
        self._stuck: set[Watch] = set()

    @property
    def stuck(self) -> int:
        """How many do not come back from looking, or find no thread for it."""
        return len(self._stuck)

    @property
    def busy(self) -> Collection[Watch]:
        """Those that have not come back yet."""
        return self._under_way.keys()

    def begin(self, watch: Watch, look: _Task) -> None:
        """Have a thread look; whoever does so is busy until end()."""
        watch.busy = True
        crew = self._far_crew if watch.far else self._crew
        self._under_way[watch] = _UnderWay(crew, monotonic())
        crew.submit(look)

    def end(self, watch: Watch) -> None:
        """It has come back."""
        watch.busy = False
        crew = self._under_way.pop(watch).crew
        if watch in self._stuck:
            self._stuck.remove(watch)
            crew.resize(-1)

    def see_to_threads(self) -> None:
        """Have looks begin for which the system had no thread; to be called now and then."""
        for crew in (self._crew, self._far_crew):
            crew.see_to_threads()

    def newly_stuck(self, now: float) -> list[Watch]:
        """Those that are known from now on not to come back, or to find no thread: there is one more for each."""
        found = []
        for watch, (crew, since) in self._under_way.items():
            if now - since > STUCK_SECONDS and watch not in self._stuck and crew.size < LARGEST_CREW:
                self._stuck.add(watch)
                crew.resize(1)
                found.append(watch)
        return found

    def let_go(self, watch: Watch) -> None:
        """Have no more of a watch that has ended. One that is looking is to be let go of when it comes back."""
        if watch.busy:
            return
        if watch.far:
            self._far_crew.submit(watch.let_go)
        else:
            watch.let_go()
