"""A machine in a box with something to watch for every type of watcher, and what its watchers told of it."""

from __future__ import annotations

import json
import os
import re
import shlex
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from box import INSTALLED, Box
from interfaces import HAS_IP, cable
from ports import free_ports
from waiting import wait_for

from hook_event_processor.watchers.host import proc

HEP = f"{INSTALLED}/bin/hep"
ENVIRONMENT = "/etc/hook-event-processor/environment"
SETTINGS = "WATCH_EXEC=/usr/local/bin/hep-level,/usr/local/bin/hep-doors\nWATCH_FLUSH=0.1\n"

# Runs for every event, and says in its row what it was given.
HOOK = """
return {
  name = "witness",
  event_type = "*",
  execute = function(event) return true, event.source .. "." .. event.action .. " " .. event.resource end,
}
"""

# What is watched, before it is: nothing of it is readable for the account of the watchers by its mode.
SCENE = r"""
install -d -m 700 /root/tree /root/directories
install -m 600 /dev/null /var/log/shop.log
install -d /srv/small
cp /usr/bin/sleep /usr/local/bin/hep-worker
printf '#!/bin/sh\nexec cat /srv/level\n' >/usr/local/bin/hep-level
printf '#!/bin/sh\nexec tail -n 0 -f /srv/doors\n' >/usr/local/bin/hep-doors
chmod 755 /usr/local/bin/hep-*
echo 1 >/srv/level
: >/srv/doors
cat >/etc/systemd/system/hep-app.service <<END
[Service]
ExecStart=sleep infinity
Restart=on-failure
RestartSec=100ms
END
cat >/etc/systemd/system/hep-bad.service <<END
[Service]
ExecStart=sh -c "sleep 0.2; exit 3"
END
systemctl daemon-reload
for version in 1.0 2.0; do
  install -d /root/deb/DEBIAN
  printf '%s\n' 'Package: hep-made' "Version: $version" 'Architecture: all' 'Maintainer: Tests <tests@localhost>' \
    'Description: nothing' >/root/deb/DEBIAN/control
  dpkg-deb --build /root/deb /root/hep-made-$version.deb >/dev/null
done
"""


class Told(NamedTuple):
    """An event's row, and what the hook's row says of its run."""

    type: str
    resource: str
    data: dict[str, Any]
    success: bool
    output: str


class Shop(NamedTuple):
    """What the machine has from the host, whose network and memory are the box's, too."""

    tcp: int
    udp: int
    slow: int
    served: int
    cable: tuple[str, str]  # its two ends
    memory_percent: float


@dataclass
class Host:
    """The machine with a watcher of each type, all at work."""

    box: Box
    shop: Shop

    def told(self, watcher: str) -> list[Told]:
        """What a watcher has told of so far, and a hook was run for."""
        rows = self.box.psql(
            "SELECT json_build_array(e.source || '.' || e.action, e.resource, e.payload, x.success, x.output)"
            " FROM hook_events e JOIN event_hook_executions x ON x.event_id = e.id"
            f" WHERE e.payload ->> 'watcher' = '{watcher}' ORDER BY e.seq"
        )
        return [Told(*json.loads(line)) for line in rows.splitlines()]

    def await_told(self, watcher: str, count: int, seconds: float = 40, *, noisy: bool = False) -> list[Told]:
        """Wait for so many events of a watcher, for each of which a hook has run.

        There must be no more of them, unless it is `noisy`: others use the machine, too.
        """
        with suppress(AssertionError):
            wait_for(lambda: len(self.told(watcher)) >= count, seconds, "")
        told = self.told(watcher)[: count if noisy else None]
        assert len(told) == count, f"of {watcher}: {told}; {self.faults()}"
        assert [(row.success, row.output) for row in told] == [(True, f"{row.type} {row.resource}") for row in told]
        return told

    def faults(self) -> str:
        return self.box.psql("SELECT name, last_error FROM watchers WHERE last_error IS NOT NULL")


def definitions(shop: Shop) -> dict[str, str]:
    """A name -> what `hep watcher create` is told, for a watcher of each type."""
    return {
        "file": "--type file --path /root/tree --recursive --check-hash",
        "directory": "--type directory --path /root/directories --recursive",
        "log": "--type log --path /var/log/shop.log --pattern 'ERROR (?P<code>[0-9]+)'",
        "cpu": "--type cpu --threshold 99 --until-normal 1",
        "memory": f"--type memory --threshold {shop.memory_percent + 5:.1f}",
        "swap": "--type swap --threshold 30",
        "disk": "--type disk --path /srv/small --threshold 87",
        "process": "--type process --name hep-worker",
        "process use": "--type process --match '^hep-hog' --cpu 20 --when above,below",
        "port": f"--type port --port {shop.tcp}",
        "port of UDP": f"--type port --port {shop.udp} --protocol udp",
        "port, slow": f"--type port --port {shop.slow} --latency 200ms --timeout 5s --when above,below",
        "service": "--type service --name hep-app",
        "service, any": "--type service --name 'hep-b*' --when failed",
        "network": f"--type network --interface {shop.cable[0]}",
        "connection": f"--type connection --local-port {shop.served}",
        "user": "--type user --username visitor",
        "package": "--type package --name 'hep-*'",
        "command": "--type command --command hep-level --threshold 10 --when changed,above,normal,failed,recovered",
        "command, refused": "--type command --command id",
        "custom": "--type custom --command hep-doors",
    }


# As `hep` itself starts, but once for all: it takes longer than what it then does.
CREATE = """
import sys
from hook_event_processor.cli import main
for line in sys.stdin:
    status = main(line.rstrip("\\n").split("\\0"))
    assert not status, line
"""


def create(box: Box, watchers: dict[str, str]) -> None:
    """Create these watchers by the command line, and wait until each has looked."""
    lines = []
    for name, arguments in watchers.items():
        label = "--label" if re.search(r"--type (process|service|package)\b", arguments) else "--name"
        command = ["watcher", "create", *shlex.split(arguments), label, name, "--interval", "0.3s"]
        lines.append("\0".join(command))
    python = [f"{INSTALLED}/bin/python", "-I", "-c", CREATE]
    box.run("env", "-C", "/", f"DATABASE_URL={box.url}", *python, text="\n".join(lines))
    query = "SELECT count(*) FROM watchers WHERE last_check IS NULL"
    wait_for(lambda: box.psql(query) == "0", 60, "every watcher has looked")


@contextmanager
def shop() -> Iterator[Shop]:
    """A server, a cable with two ends where the host may have one, and ports that are free."""
    with ExitStack() as stack:
        served = stack.enter_context(socket.create_server(("127.0.0.1", 0)))
        tcp, udp, slow = free_ports(3)
        memory = proc.MEMORY.at(time.monotonic())
        yield Shop(
            tcp, udp, slow, served.getsockname()[1], stack.enter_context(cable()) if HAS_IP else ("lo", ""),
            memory.used_percent,
        )  # fmt: skip


@contextmanager
def swap() -> Iterator[Path | None]:
    """Have a file of 32 MB as swap space, unless there is some, or none can be had: in a container, say."""
    if proc.MEMORY.at(time.monotonic()).swap_total:
        yield None  # nobody knows how much of it others use
        return
    path = Path(f"/var/lib/hep-swap-{os.getpid()}")
    path.touch(0o600)
    path.write_bytes(bytes(32 << 20))
    try:
        subprocess.run(["mkswap", "--quiet", str(path)], check=True)
        yield path if subprocess.run(["swapon", str(path)], check=False).returncode == 0 else None
    finally:
        subprocess.run(["swapoff", str(path)], check=False)
        path.unlink()


@contextmanager
def installed(box: Box, types: str) -> Iterator[None]:
    """The product with watchers of these types, as `hep install` does it, and a hook that sees every event."""
    box.clear()
    box.psql("TRUNCATE hook_events, event_hook_executions")  # of other tests in this box
    box.run("env", f"DATABASE_URL={box.url}", HEP, "install", "--watchers", types)
    box.write(ENVIRONMENT, box.run("cat", ENVIRONMENT) + SETTINGS, 0o600)
    box.write("/root/witness.lua", HOOK)
    box.hep("hook", "add", "/root/witness.lua")
    box.shell("systemctl restart 'hook-watcher*'")
    try:
        yield
    finally:
        box.run(HEP, "uninstall", "--purge")
        box.hep("hook", "remove", "witness")
        box.psql("DELETE FROM watchers")


@contextmanager
def opened(box: Box) -> Iterator[Host]:
    """The product installed, and a watcher of each type at work."""
    with shop() as has, installed(box, "all"):
        box.shell(SCENE)
        box.run("mount", "-t", "tmpfs", "-o", "size=8M", "small", "/srv/small")
        try:
            create(box, definitions(has))
            yield Host(box, has)
        finally:
            box.run("umount", "/srv/small")
