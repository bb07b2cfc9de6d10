"""What systemd hears: ready, stopping, status, and food for the watchdog only while every part moves."""

import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
from clock import Clock

from hook_event_processor.telemetry.watchdog import Watchdog


class Manager:
    """A stand-in for the service manager's notification socket."""

    def __init__(self, path: Path) -> None:
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.socket.bind(str(path))
        self.socket.setblocking(False)

    def heard(self) -> list[str]:
        messages = []
        try:
            while True:
                messages.append(self.socket.recv(10_000).decode())
        except BlockingIOError:
            return messages


@pytest.fixture
def manager(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Manager]:
    manager = Manager(tmp_path / "notify")
    monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "notify"))
    monkeypatch.setenv("WATCHDOG_USEC", "1500000")
    monkeypatch.setenv("WATCHDOG_PID", str(os.getpid()))
    yield manager
    manager.socket.close()


def test_the_service_says_that_it_is_ready_how_it_is_and_that_it_stops(manager: Manager) -> None:
    watchdog = Watchdog()
    watchdog.ready()
    watchdog.status("waiting for the\ndatabase — é")
    watchdog.status("waiting for the database — é")
    watchdog.stopping()
    assert manager.heard() == ["READY=1", "STATUS=waiting for the database — é", "STOPPING=1"]


def test_a_status_always_arrives(manager: Manager) -> None:
    """systemd ignores a message of more than 4,096 bytes."""
    watchdog = Watchdog()
    watchdog.status("the database is away; " + "é" * 5_000)
    [said] = manager.heard()
    assert said.startswith("STATUS=the database is away; éé")
    assert 1_900 < len(said.encode()) < 2_048


def test_food_comes_while_every_part_moves(manager: Manager, clock: Clock, caplog: pytest.LogCaptureFixture) -> None:
    watchdog = Watchdog(clock)
    lane, leases = watchdog.part("lane 1", 15), watchdog.part("leases", 60)
    clock.now += 14
    assert watchdog.tick()
    assert manager.heard() == ["WATCHDOG=1"]
    clock.now += 14
    assert not watchdog.tick()
    assert not watchdog.tick()
    assert manager.heard() == []
    assert [record.getMessage() for record in caplog.records] == ["lane 1 has stood still for 28 s (at most 15)"]
    lane.mark()
    leases.mark()
    assert watchdog.tick()
    assert manager.heard() == ["WATCHDOG=1"]
    assert caplog.records[-1].getMessage() == "lane 1 moves again"


def test_a_part_that_has_ended_is_not_missed(manager: Manager, clock: Clock) -> None:
    watchdog = Watchdog(clock)
    lane = watchdog.part("lane 1", 15)
    clock.now += 20
    watchdog.remove(lane)
    assert watchdog.tick()


def test_ticks_come_three_times_in_the_watchdogs_time(manager: Manager, monkeypatch: pytest.MonkeyPatch) -> None:
    assert Watchdog().interval_seconds == pytest.approx(0.5)
    monkeypatch.setenv("WATCHDOG_USEC", "30000000")
    assert Watchdog().interval_seconds == 1.0


@pytest.mark.parametrize(("name", "value"), [("WATCHDOG_PID", "1"), ("WATCHDOG_USEC", "0"), ("WATCHDOG_USEC", "soon")])
def test_a_watchdog_that_is_not_ours_is_not_fed(
    manager: Manager, monkeypatch: pytest.MonkeyPatch, name: str, value: str
) -> None:
    monkeypatch.setenv(name, value)
    assert Watchdog().tick()
    assert manager.heard() == []


def test_without_a_manager_nothing_happens(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NOTIFY_SOCKET", raising=False)
    watchdog = Watchdog()
    watchdog.ready()
    watchdog.status("well")
    assert watchdog.tick()
    watchdog.stopping()
