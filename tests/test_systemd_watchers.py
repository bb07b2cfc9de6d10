"""Every type of watcher under its shipped unit, against the real thing: the event and the hook's run, through psql.

docs/watchers.md has a table of what is done to the machine, and of what is told of it, which is compared here.
"""

from __future__ import annotations

import hashlib
import os
import re
import socket
import subprocess
import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress

import psutil
import pytest
from box import REPOSITORY, Box
from interfaces import ip, needs_ip
from shop import Host, Told, create, opened, swap
from waiting import wait_for

from hook_event_processor.watchers import kinds
from hook_event_processor.watchers.host import proc

# Outside continuous integration an ordinary user may run the other tests.
pytestmark = [
    pytest.mark.skipif(
        os.geteuid() != 0 and "CI" not in os.environ, reason="booting a systemd in a box needs root: run as root"
    ),
    pytest.mark.timeout(300),
]


@pytest.fixture(scope="module")
def host(box: Box) -> Iterator[Host]:
    with opened(box) as machine:
        yield machine


def documented(type_name: str) -> set[str]:
    """The events of a type that docs/watchers.md says were seen."""
    page = (REPOSITORY / "docs/watchers.md").read_text()
    row = re.search(rf"^\| {type_name} \| [^|]+ \| ([^|]+) \| [^|]+ \|$", page.partition("## Tried")[2], re.MULTILINE)
    assert row, f"docs/watchers.md has no row for {type_name}"
    return set(re.findall(r"[a-z]+\.[a-z_]+", row[1]))


def compare(type_name: str, told: Sequence[Told]) -> None:
    """Show what was told, and compare its types with those that the page has."""
    for row in told:
        print(type_name, row.type, row.resource, {**row.data, "watcher_id": "..."}, sep=" | ")
    assert {row.type for row in told} == documented(type_name)


def test_file(host: Host) -> None:
    path = "/root/tree/a"
    # At once and in place: it is looked at all the time, and would be told of as it is empty for a moment.
    host.box.shell(f"echo one >/root/made; mv /root/made {path}")
    host.await_told("file", 1)
    host.box.shell(f"echo twelve 1<>{path}")
    host.await_told("file", 2)
    host.box.shell(f"mv {path} /root/tree/b")
    host.await_told("file", 3)
    host.box.shell("rm /root/tree/b")
    created, modified, renamed, deleted = told = host.await_told("file", 4)
    compare("file", told)
    assert (created.resource, created.data["size"]) == (path, 4)
    sizes = {key: modified.data[key] for key in ("old_size", "new_size", "old_hash", "new_hash")}
    one, twelve = (hashlib.sha256(text).hexdigest() for text in (b"one\n", b"twelve\n"))
    assert sizes == {"old_size": 4, "new_size": 7, "old_hash": one, "new_hash": twelve}
    assert modified.data["old_mtime"] < modified.data["new_mtime"]
    assert (renamed.data["old_path"], renamed.data["new_path"]) == (path, "/root/tree/b")
    assert deleted.resource == "/root/tree/b"


def test_directory(host: Host) -> None:
    path = "/root/directories/new"
    host.box.shell(f"mkdir {path}")
    host.await_told("directory", 1)
    host.box.shell(f"touch {path}/file")
    host.await_told("directory", 2)
    host.box.shell(f"rm -r {path}")
    _, changed, _ = told = host.await_told("directory", 3)
    compare("directory", told)
    assert [row.resource for row in told] == [path] * 3
    assert (changed.data["old_file_count"], changed.data["new_file_count"]) == (0, 1)


def test_log(host: Host) -> None:
    """Rotated with a line that nobody has read yet, then truncated."""
    log = "/var/log/shop.log"
    host.box.shell(f"echo ERROR 1 >>{log}; echo nothing >>{log}")
    host.await_told("log", 1)
    host.box.shell(f"echo ERROR 2 >>{log}; mv {log} {log}.1; install -m 600 /dev/null {log}; echo ERROR 3 >>{log}")
    host.await_told("log", 3)
    host.box.shell(f"truncate -s 0 {log}; echo ERROR 4 >>{log}")
    told = host.await_told("log", 4)
    compare("log", told)
    assert [row.data["line"] for row in told] == [f"ERROR {number}" for number in (1, 2, 3, 4)]
    assert told[0].data["fields"] == {"code": "1"}
    entries = host.box.journal(f"WATCHER={told[0].data['watcher_id']}")
    fields = ("SYSLOG_IDENTIFIER", "_SYSTEMD_UNIT", "SOURCE", "ACTION")
    written = ("hook-watcher", "hook-watcher.service", "log", "pattern_matched")
    assert [tuple(entry[name] for name in fields) for entry in entries] == [written] * 4
    ids = host.box.psql("SELECT id FROM hook_events WHERE source = 'log' ORDER BY seq").split()
    assert [entry["EVENT_ID"] for entry in entries] == ids


@contextmanager
def running(box: Box, script: str, name: str = "hep-stimulus") -> Iterator[None]:
    """A shell's script at work in a unit of its own while the block lasts."""
    box.run("systemd-run", "--quiet", "--collect", "--unit", name, "sh", "-c", script)
    try:
        yield
    finally:
        box.run("systemctl", "stop", name, check=False)


def loops(count: int) -> str:
    """A script that keeps so many processors busy, and leaves them to whoever else wants them."""
    return f"for one in $(seq {count}); do nice -n 19 sh -c 'while :; do :; done' & done; wait"


def test_cpu(host: Host) -> None:
    cores = os.cpu_count() or 1
    with running(host.box, loops(cores)):
        (high,) = host.await_told("cpu", 1, 60, noisy=True)
    assert high.data["usage_percent"] > 99
    if min(psutil.cpu_percent(1) for _ in range(5)) > 95:
        pytest.skip("others keep the processors of this machine busy: they never come back to normal")
    _, normal = told = host.await_told("cpu", 2, 60, noisy=True)
    compare("cpu", told)
    assert normal.data["usage_percent"] <= 98


def test_load(host: Host) -> None:
    create(host.box, {"load": f"--type load --threshold {os.getloadavg()[0] + 0.1:.2f} --when above"})
    with running(host.box, loops(12)):
        (high,) = told = host.await_told("load", 1, 60, noisy=True)
    compare("load", told)
    assert high.data["load_average"] > high.data["threshold"]


# 20 MB; 21 is MADV_PAGEOUT.
PAGE_OUT = """exec python3 -c "import mmap, time
held = mmap.mmap(-1, 20 << 20); held.write(b'x' * len(held)); held.madvise(21); time.sleep(600)"
"""


def test_swap(host: Host) -> None:
    """Pages are put there that nobody reads; a machine without swap space says so."""
    assert "swap|this machine has no swap space" in host.faults() or proc.MEMORY.at(time.monotonic()).swap_total
    with swap() as file:
        if file is None:
            pytest.skip("this machine lets no swap space be added, or has some that others use, too")
        wait_for(lambda: "swap|" not in host.faults(), 10, "it has been looked at")
        with running(host.box, PAGE_OUT):
            host.await_told("swap", 1, noisy=True)
        # Pages that were being written as their process ended stay until somebody needs the room.
        subprocess.run(["swapoff", file], check=True)
        subprocess.run(["swapon", file], check=True)
        high, normal = told = host.await_told("swap", 2, noisy=True)
    compare("swap", told)
    assert (high.resource, high.data["resource"]) == ("swap", "swap")
    assert high.data["usage_percent"] > 30 >= normal.data["usage_percent"]


HOLD = """exec python3 -c "import time; held = b'x' * {}; time.sleep(600)" """


def test_memory(host: Host) -> None:
    total = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    with running(host.box, HOLD.format(total * 8 // 100)):
        host.await_told("memory", 1, noisy=True)
    low, normal = told = host.await_told("memory", 2, noisy=True)
    compare("memory", told)
    # What is told is rounded to a hundredth.
    assert low.data["usage_percent"] >= low.data["threshold"] > normal.data["usage_percent"]
    assert low.data["total"] == total
    assert low.data["available"] < normal.data["available"]


def test_disk(host: Host) -> None:
    host.box.shell("head -c 7M /dev/zero >/srv/small/filler")
    host.await_told("disk", 1)
    host.box.shell("rm /srv/small/filler")
    full, normal = told = host.await_told("disk", 2)
    compare("disk", told)
    assert (full.resource, full.data["mount_point"], full.data["usage_percent"]) == ("/srv/small", "/srv/small", 87.5)
    assert (full.data["total_bytes"], normal.data["usage_percent"]) == (8 << 20, 0)


def test_process(host: Host) -> None:
    """Of another user's, told to stop and then killed; another uses too much, and is stopped."""
    with running(host.box, "exec hep-worker 600"):
        host.await_told("process", 1)
    host.await_told("process", 2)
    with running(host.box, "exec hep-worker 600"):
        host.await_told("process", 3)
        host.box.run("pkill", "-SEGV", "hep-worker")
        started, stopped, again, ended, crashed = host.await_told("process", 5)
    with running(host.box, "exec bash -c 'exec -a hep-hog sh -c \"while :; do :; done\"'"):
        host.await_told("process use", 1, noisy=True)
        host.box.run("pkill", "-STOP", "-f", "^hep-hog")
        high, normal = host.await_told("process use", 2, noisy=True)
    compare("process", [started, stopped, again, ended, crashed, high, normal])
    assert (stopped.data["pid"], stopped.data["crash"]) == (started.data["pid"], "no")
    assert {row.data["told_by"] for row in (stopped, crashed)} <= {"kernel", "systemd"}
    assert (stopped.data["signal"], crashed.data["signal"]) == ("SIGTERM", "SIGSEGV")
    assert (crashed.data["pid"], ended.data["crash"]) == (again.data["pid"], "yes")
    assert high.data["cpu_percent"] > 20 > normal.data["cpu_percent"]


def server(port: int, kind: socket.SocketKind = socket.SOCK_STREAM, backlog: int = 8) -> socket.socket:
    listener = socket.socket(type=kind)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.bind(("127.0.0.1", port))
    if kind == socket.SOCK_STREAM:
        listener.listen(backlog)
    return listener


def test_port(host: Host) -> None:
    for name, port, kind in (
        ("port", host.shop.tcp, socket.SOCK_STREAM),
        ("port of UDP", host.shop.udp, socket.SOCK_DGRAM),
    ):
        with server(port, kind):
            host.await_told(name, 1)
        opened, closed = told = host.await_told(name, 2)
        assert [row.type for row in told] == ["port.opened", "port.closed"]
        assert opened.data["port"] == closed.data["port"] == port
    with server(host.shop.slow, backlog=0) as listener:
        # The kernel asks again after a second for a connection that there was no room for.
        with fill(listener):
            wait_for(lambda: waiting(host.shop.slow), 10, "somebody waits for a connection")
        listener.listen(64)
        threading.Thread(target=take, args=(listener,), daemon=True).start()
        slow = host.await_told("port, slow", 2)
        listener.shutdown(socket.SHUT_RDWR)  # under the thread's wait
    compare("port", [opened, closed, *slow])
    assert [row.type for row in slow] == ["port.latency_high", "port.latency_normal"]
    assert slow[0].data["latency_ms"] > 200 > slow[1].data["latency_ms"]


def fill(listener: socket.socket) -> socket.socket:
    """A connection that takes the only place before a listener; a watcher that was faster is let in."""
    while True:
        filler = socket.socket()
        filler.settimeout(0.5)
        try:
            filler.connect(listener.getsockname())
        except TimeoutError:
            filler.close()
            listener.accept()[0].close()
        else:
            return filler


def waiting(port: int) -> bool:
    """Whether somebody's connect to a port goes unanswered: state 2, SYN_SENT, in /proc/net/tcp."""
    with open("/proc/net/tcp") as table:
        return any(fields.split()[2:4] == [f"0100007F:{port:04X}", "02"] for fields in table)


def take(listener: socket.socket) -> None:
    """Take every connection that comes, until the listener is closed."""
    with suppress(OSError):
        while True:
            listener.accept()[0].close()


def test_service(host: Host) -> None:
    box = host.box
    box.run("systemctl", "start", "hep-app")
    host.await_told("service", 1)
    box.run("systemctl", "kill", "--signal=KILL", "hep-app")
    wait_for(lambda: "service.restarted" in [row.type for row in host.told("service")], 20, "it is told")
    box.write("/etc/systemd/system/hep-app.service.d/more.conf", "[Service]\nNice=1\n")
    box.run("systemctl", "daemon-reload")
    wait_for(lambda: "service.unit_changed" in [row.type for row in host.told("service")], 20, "it is told")
    box.run("systemctl", "stop", "hep-app")
    wait_for(lambda: "service.stopped" in [row.type for row in host.told("service")], 20, "it is told")
    told = [row for row in host.told("service") if row.type != "service.failed"]  # before the restart, where it is seen
    _, restarted, changed, _ = told
    box.run("systemctl", "start", "hep-bad")
    (failed,) = host.await_told("service, any", 1)
    compare("service", [*told, failed])
    assert {row.resource for row in told} == {"hep-app.service"}
    assert restarted.data["automatic"] is True
    assert changed.data["paths"] == ["/etc/systemd/system/hep-app.service.d/more.conf"]
    assert (failed.resource, failed.data["exit_code"]) == ("hep-bad.service", 3)


@needs_ip
def test_network(host: Host) -> None:
    cable, other_end = host.shop.cable
    ip(f"link set {other_end} down")
    host.await_told("network", 1)
    ip(f"link set {other_end} up")
    told = host.await_told("network", 2)
    compare("network", told)
    assert [row.type for row in told] == ["network.down", "network.up"]
    assert {row.data["interface"] for row in told} == {cable}


def test_connection(host: Host) -> None:
    with socket.create_connection(("127.0.0.1", host.shop.served)) as client:
        port = client.getsockname()[1]
        host.await_told("connection", 1)
    opened, closed = told = host.await_told("connection", 2)
    compare("connection", told)
    assert (opened.data["remote_address"], opened.data["remote_port"]) == ("127.0.0.1", port)
    assert [opened.type, closed.type] == ["connection.opened", "connection.closed"]


def test_user(host: Host) -> None:
    host.box.run("useradd", "visitor")
    host.await_told("user", 1)
    # A terminal, on which somebody reads until they have been seen, and leaves.
    reads = "until [ -e /srv/seen ]; do sleep 0.1; done\nexit\n"
    with ThreadPoolExecutor(1) as terminal:
        session = terminal.submit(host.box.run, "script", "-qec", "login -f visitor", "/dev/null", text=reads)
        try:
            host.await_told("user", 2)
        finally:
            host.box.run("touch", "/srv/seen")
        session.result()
    created, login, logout = host.await_told("user", 3)
    host.box.run("loginctl", "terminate-user", "visitor")  # else their manager goes on for ten seconds
    wait_for(lambda: host.box.status("userdel", "visitor") == 0, 30, "nothing of them runs any more")
    told = host.await_told("user", 4)
    compare("user", told)
    assert [row.type for row in told] == [
        *("user.created", "security.login_success", "security.logout", "user.deleted"),
    ]
    assert login.data["terminal"] == logout.data["terminal"]
    assert created.resource == login.resource == "visitor"


def test_package(host: Host) -> None:
    for count, command in enumerate(("-i /root/hep-made-1.0.deb", "-i /root/hep-made-2.0.deb", "-r hep-made", ""), 1):
        if command:
            host.box.run("dpkg", *command.split())
            host.await_told("package", count)
    told = host.await_told("package", 3)
    compare("package", told)
    assert [row.data["version"] for row in told[:2]] == ["1.0", "2.0"]
    assert [row.type for row in told] == ["package.installed", "package.upgraded", "package.removed"]


def test_command(host: Host) -> None:
    """Only what the host has given leave to."""
    host.box.shell("echo 11 >/srv/next; mv /srv/next /srv/level")
    host.await_told("command", 2)
    host.box.shell("echo 1 >/srv/next; mv /srv/next /srv/level")
    host.await_told("command", 4)
    host.box.shell("mv /srv/level /srv/gone")
    wait_for(lambda: "command.failed" in [row.type for row in host.told("command")], 20, "it is told")
    host.box.shell("mv /srv/gone /srv/level")
    wait_for(lambda: "command.recovered" in [row.type for row in host.told("command")], 20, "it is told")
    told = host.told("command")
    compare("command", told)
    high = next(row for row in told if row.type == "command.value_high")
    assert (high.data["value"], high.data["threshold"]) == (11, 10)
    assert "command, refused|id is not granted to watchers" in host.faults()


def test_custom(host: Host) -> None:
    line = '{"type": "door.opened", "data": {"door": 3}, "resource": "door-3"}'
    host.box.shell(f"echo '{{\"door\": 2}}' >>/srv/doors; echo '{line}' >>/srv/doors")
    host.await_told("custom", 2)
    host.box.shell("pkill -f 'tail -n 0 -f /srv/doors'")
    told = host.await_told("custom", 3)
    compare("custom", told)
    assert (told[0].data["door"], told[1].resource, told[1].data["door"]) == (2, "door-3", 3)


def test_every_type_has_been_tried() -> None:
    assert {name.removeprefix("test_") for name in globals() if name.startswith("test_")} >= set(kinds.NAMES)
