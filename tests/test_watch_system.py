"""Watchers of processors, memory, swap, load and disks: the machine itself, or a /proc that says what it cannot do."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
from root_shell import as_root, needs_root
from watched import Watched

from hook_event_processor.watchers.check import CheckFailed, WatcherRefused
from hook_event_processor.watchers.host import mounts, proc
from hook_event_processor.watchers.host.mounts import Mount


@pytest.fixture(autouse=True)
def always_read(monkeypatch: pytest.MonkeyPatch) -> None:
    """No check is served what another one read."""
    for reading in (proc.CPU_TIMES, proc.MEMORY, proc.LOAD):
        monkeypatch.setattr(reading, "_fresh", -1.0)


class Proc:
    """A /proc of a machine of which the test says how it is."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._cores = [[0] * 10, [0] * 10]
        self.pass_time(0, 0)
        self.memory(50)
        self.write("loadavg", "1.00 2.00 3.00 1/100 1234\n")

    def write(self, name: str, text: str) -> None:
        path = self._root / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)

    def pass_time(self, *busy: int) -> None:
        """100 ticks, of which each core was busy for so many."""
        for core, ticks in zip(self._cores, busy, strict=True):
            core[0] += ticks
            core[4] += 10
            core[3] += 90 - ticks if ticks < 90 else 0
        rows = [[sum(column) for column in zip(*self._cores, strict=True)], *self._cores]
        names = ["cpu ", "cpu0", "cpu1"]
        lines = [f"{name} {' '.join(map(str, row))}" for name, row in zip(names, rows, strict=True)]
        self.write("stat", "\n".join([*lines, "intr 1 2 3", "btime 1700000000"]))

    def memory(self, used_percent: int, swap_used_percent: int | None = 25) -> None:
        swap = 0 if swap_used_percent is None else 2000
        free = swap * (100 - (swap_used_percent or 0)) // 100
        self.write(
            "meminfo",
            f"MemTotal: 1000 kB\nMemFree: 1 kB\nMemAvailable: {10 * (100 - used_percent)} kB\n"
            f"SwapTotal: {swap} kB\nSwapFree: {free} kB\nHugePages_Total: 0\n",
        )


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Proc:
    monkeypatch.setattr(proc, "ROOT", str(tmp_path))
    return Proc(tmp_path)


@pytest.fixture
def busy_loops() -> Iterator[None]:
    loops = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(os.cpu_count() or 1)]
    yield
    for loop in loops:
        loop.kill()
        loop.wait()


def test_busy_processors(busy_loops: None) -> None:
    watched = Watched("cpu", threshold=60)
    assert watched.look() == []
    time.sleep(0.3)  # for which the processors are measured
    (high,) = watched.until(bool)
    data = high.data
    assert (high.type, high.resource) == ("system.cpu_high", "cpu")
    assert 60 < data["usage_percent"] <= 100
    assert data["current"] == data["usage_percent"]
    assert (data["threshold"], data["cores"]) == (60.0, os.cpu_count())
    assert data["load_average"] == data["load_averages"][0] > 0


def test_processors_are_high_once_and_normal_once(machine: Proc) -> None:
    watched = Watched("cpu", threshold=80)
    told = []
    for busy in (0, 70, 85, 90, 85, 70, 60):
        machine.pass_time(busy, busy)
        told.append(watched.told())
    high, normal = ("system.cpu_high", "cpu"), ("system.cpu_normal", "cpu")
    assert told == [[], [], [high], [], [], [normal], []]


def test_waiting_for_disks_is_not_being_busy(machine: Proc) -> None:
    watched = Watched("cpu", threshold=39)
    watched.look()
    machine.pass_time(30, 50)
    assert watched.one()["usage_percent"] == 40.0


def test_each_core_by_itself(machine: Proc) -> None:
    watched = Watched("cpu", threshold=80, per_core=True)
    watched.look()
    machine.pass_time(10, 90)
    (high,) = watched.look()
    assert (high.data["core"], high.resource, high.data["usage_percent"]) == (1, "cpu1", 90.0)
    machine.pass_time(90, 10)
    assert watched.told() == [("system.cpu_high", "cpu0"), ("system.cpu_normal", "cpu1")]


def test_hysteresis_means_and_rows_of_checks(machine: Proc) -> None:
    watched = Watched("cpu", threshold=80, until_normal="10%", **{"for": 2, "average": 2})
    told = []
    for busy in (0, 90, 60, 90, 90, 75, 75, 60, 60):
        machine.pass_time(busy, busy)
        told += [f"{each.type} {each.data['usage_percent']:g}" for each in watched.look()]
    # Means: 90, 75, 75, 90, 82.5 (the second in a row), 75, 67.5 (ten below).
    assert told == ["system.cpu_high 82.5", "system.cpu_normal 67.5"]


def test_two_looks_at_one_time_say_nothing(machine: Proc) -> None:
    watched = Watched("cpu", threshold=50)
    watched.look()
    assert watched.look() == []
    machine.pass_time(90, 90)
    assert len(watched.look()) == 1


def test_what_is_high_stays_so_over_a_restart(machine: Proc) -> None:
    watched = Watched("memory", threshold=90)
    watched.look()
    machine.memory(95)
    assert watched.told() == [("system.memory_low", "memory")]
    watched.restart()
    assert watched.look() == []
    machine.memory(50)
    watched.restart()
    data = watched.one()
    assert data["seen_late"] is True
    assert data["usage_percent"] == 50.0


def test_trouble_that_was_there_before_is_told_by_the_second_look(machine: Proc) -> None:
    machine.memory(95)
    watched = Watched("memory")
    assert watched.look() == []
    assert watched.told() == [("system.memory_low", "memory")]
    assert watched.look() == []


def test_memory_is_percent_used_and_says_what_is_available(machine: Proc) -> None:
    watched = Watched("memory", "above", threshold=90)
    watched.look()
    machine.memory(91)
    assert watched.one() == {
        "total": 1000 * 1024,
        "available": 90 * 1024,
        "used": 910 * 1024,
        "available_percent": 9.0,
        "swap_total": 2000 * 1024,
        "swap_used": 500 * 1024,
        "swap_usage_percent": 25.0,
        "usage_percent": 91.0,
        "current": 91.0,
        "threshold": 90.0,
        "watcher_id": "watcher-1",
    }
    machine.memory(10)
    assert watched.look() == []  # only what is above was asked for


def test_memory_is_the_machine_s_own() -> None:
    watched = Watched("memory", threshold=0)
    watched.look()
    told, kernel = watched.one(), psutil.virtual_memory()
    assert told["total"] == kernel.total
    # Others take and give memory between the two readings.
    assert told["available"] == pytest.approx(kernel.available, rel=0.2)
    assert told["used"] == told["total"] - told["available"]


def test_swap(machine: Proc) -> None:
    watched = Watched("swap", threshold=50)
    watched.look()
    machine.memory(50, swap_used_percent=60)
    (high,) = watched.look()
    assert (high.type, high.data["resource"], high.data["usage_percent"]) == ("system.resource_high", "swap", 60.0)
    assert high.data["available"] == 800 * 1024
    machine.memory(50)
    assert watched.told() == [("system.resource_normal", "swap")]
    machine.memory(50, swap_used_percent=None)
    with pytest.raises(CheckFailed, match="has no swap space"):
        watched.look()


@pytest.mark.parametrize(
    ("options", "value", "field"),
    [
        ({}, 4.0, "load_average"),
        ({"window": 5}, 8.0, "load_average"),
        ({"window": "15m", "per_cpu": True}, 12.0 / (os.cpu_count() or 1), "load_per_cpu"),
    ],
)
def test_load(machine: Proc, options: dict[str, object], value: float, field: str) -> None:
    watched = Watched("load", threshold=value - 0.1, **options)
    machine.write("loadavg", "0.00 0.00 0.00 1/100 1234\n")
    watched.look()
    machine.write("loadavg", "4.00 8.00 12.00 1/100 1234\n")
    (high,) = watched.look()
    assert (high.type, high.data["resource"]) == ("system.resource_high", "load")
    assert high.data[field] == pytest.approx(value, abs=0.01)


def test_a_proc_that_cannot_be_read_is_a_failed_check(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(proc, "ROOT", str(tmp_path))
    for type_name in ("cpu", "memory", "swap", "load", "disk"):
        with pytest.raises(CheckFailed, match="cannot read"):
            Watched(type_name, **({"threshold": 1} if type_name == "load" else {})).look()


def test_checks_of_one_moment_share_what_was_read(machine: Proc, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(proc.MEMORY, "_fresh", 0.05)
    monkeypatch.setattr(proc.MEMORY, "_kept", None)
    first = proc.MEMORY.at(100.0)
    machine.memory(99)
    assert proc.MEMORY.at(100.0) is first
    assert proc.MEMORY.at(101.0).used_percent == 99.0


def test_a_disk_and_what_it_says(tmp_path: Path) -> None:
    watched = Watched("disk", path=tmp_path, threshold=0)
    watched.look()
    (full,) = watched.look()
    data = full.data
    space = os.statvfs(tmp_path)
    assert full.type == "system.disk_full"
    assert full.resource == data["mount_point"]
    # Not os.path.ismount: a bind mount, as a unit's sandbox has them, is on the device of what is around it.
    assert data["mount_point"] in {line.split()[4] for line in Path("/proc/self/mountinfo").read_text().splitlines()}
    assert data["total_bytes"] == space.f_blocks * space.f_frsize
    assert abs(data["available_bytes"] - space.f_bavail * space.f_frsize) < 1 << 30
    shown = subprocess.run(["df", "--output=pcent", tmp_path], capture_output=True, text=True, check=True).stdout
    assert abs(data["usage_percent"] - int(shown.split()[-1].removesuffix("%"))) <= 1.5
    assert 0 <= data["inodes_usage_percent"] <= 100


@pytest.fixture
def small(tmp_path: Path) -> Iterator[Path]:
    """Where a file system of 4 MB and 100 inodes is mounted."""
    as_root(f"mount -t tmpfs -o size=4M,nr_inodes=100,mode=1777 watched {tmp_path}")
    yield tmp_path
    as_root(f"umount {tmp_path}")


@needs_root
def test_a_disk_that_fills_up_and_empties(small: Path) -> None:
    disk = Watched("disk", path=small, threshold=50)
    free = Watched("disk", path=small, free="3M", until_normal="500K")
    inodes = Watched("disk", path=small, inodes=True, threshold=50)

    def told() -> list[list[str]]:
        return [watched.types() for watched in (disk, free, inodes)]

    full, normal = ["system.disk_full"], ["system.disk_normal"]
    assert told() == [[], [], []]
    with (small / "file").open("wb") as file:
        file.write(bytes(2 << 20))
        file.flush()
        assert told() == [[], full, []]
        file.write(bytes(1 << 20))
        file.flush()
        assert told() == [full, [], []]
        file.truncate(1100 << 10)
        assert told() == [normal, [], []]
        file.truncate(0)
        assert told() == [[], normal, []]
    for number in range(60):
        (small / str(number)).touch()
    assert told() == [[], [], full]


_MOUNTINFO = r"""21 27 0:20 / /proc rw,relatime shared:5 - proc proc rw
22 27 0:6 / /dev rw,nosuid shared:2 - devtmpfs udev rw,size=10k
27 1 8:1 / / ro,relatime shared:1 - ext4 /dev/sda1 rw,errors=remount-ro
28 27 8:1 /var/lib/app /srv/app rw,relatime shared:1 - ext4 /dev/sda1 rw
29 27 8:2 / /mnt/with\040space rw,relatime shared:3 - xfs /dev/sda2 rw
30 27 8:2 / /mnt/with\040space/again/and/again rw,relatime shared:3 - xfs /dev/sda2 rw
31 27 7:0 / /snap/core ro,nodev shared:4 - squashfs /dev/loop0 ro
32 27 0:40 / /tank rw,relatime shared:6 - zfs tank rw
33 27 0:41 / /mnt/net rw,relatime shared:7 - nfs4 server:/x rw
34 27 8:5 / /media/cd ro,relatime - ext4 /dev/sdb1 ro
"""


def test_disks_are_file_systems_on_disks_that_can_fill_up(machine: Proc) -> None:
    machine.write("self/mountinfo", _MOUNTINFO)
    machine.write("filesystems", "nodev\tproc\nnodev\tdevtmpfs\nnodev\tnfs4\nnodev\tzfs\n\text4\n\txfs\n\tsquashfs\n")
    assert mounts.real_mounts() == [
        Mount("/", "ext4", "/dev/sda1"),
        Mount("/mnt/with space", "xfs", "/dev/sda2"),
        Mount("/tank", "zfs", "tank"),
    ]
    assert len(mounts.all_mounts()) == 10


def test_without_a_path_all_disks_are_looked_at() -> None:
    watched = Watched("disk", threshold=0)
    watched.look()
    assert {resource for _, resource in watched.told()} == {mount.point for mount in mounts.real_mounts()}


@pytest.mark.parametrize(
    ("type_name", "options", "reason"),
    [
        ("cpu", {"threshold": 101}, "takes a percentage from 0 to 100"),
        ("cpu", {"threshold": 80, "until_normal": 80}, "takes less than the threshold, which is 80"),
        ("disk", {"free": "5G", "until_normal": "10%"}, "--until-normal is 10%: it takes a size such as 500M"),
        ("memory", {"threshold": "nan"}, "takes a percentage"),
        ("load", {}, "needs --threshold"),
        ("load", {"threshold": "200%"}, "--threshold is '200%': a load watcher takes a number"),
        ("load", {"threshold": 2, "until_normal": "10%"}, "--until-normal is '10%': a load watcher takes a number"),
        ("connection", {"threshold": 500, "until_normal": "10%"}, "a connection watcher takes a number"),
        ("load", {"threshold": 1, "window": 2}, "takes 1, 5 or 15"),
        ("cpu", {"threshold": 0, "until_normal": 5}, "takes less than the threshold, which is 0"),
        ("memory", {"threshold": 100}, "--threshold is 100: it takes less than 100"),
        ("disk", {"threshold": "100%"}, "--threshold is 100: it takes less than 100"),
        ("connection", {"threshold": 0, "when": "below"}, "never fewer than 0"),
        ("disk", {"free": "5G", "threshold": 90}, "do not go with it"),
        ("disk", {"free": "-5G"}, "takes a size such as 5G"),
        ("disk", {"path": "home"}, "takes an absolute path"),
        ("disk", {"free": "5G", "when": "below"}, "--when below .* with --free, high tells that less is left"),
        ("disk", {"free": "5G", "when": "normal,above"}, "--when above is about the percentage"),
    ],
)
def test_definitions_that_make_no_sense_are_refused(type_name: str, options: dict[str, object], reason: str) -> None:
    when = str(options.pop("when", "")).replace(",", " ")
    with pytest.raises(WatcherRefused, match=reason):
        Watched(type_name, when, **options)
