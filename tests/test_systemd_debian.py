"""The operations page on a Debian with its own PostgreSQL, command by command, in a box."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from box import INSTALLED, REPOSITORY, Box, machine
from waiting import wait_for

# Outside continuous integration an ordinary user may run the other tests, and another PostgreSQL may do.
pytestmark = [
    pytest.mark.skipif(
        os.geteuid() != 0 and "CI" not in os.environ, reason="booting a systemd in a box needs root: run as root"
    ),
    pytest.mark.skipif(
        not shutil.which("pg_createcluster") and "CI" not in os.environ,
        reason="Debian's PostgreSQL is missing: apt-get install postgresql",
    ),
    pytest.mark.timeout(300),
]

PAGE = (REPOSITORY / "docs/operations.md").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def debian(installation: Path) -> Iterator[Box]:
    """A machine with the product's programs, and a cluster as the package makes it, whatever the host has of it."""
    with machine() as box:
        box.clear()
        box.shell("rm -rf /etc/postgresql /var/lib/postgresql /var/log/postgresql/*")
        box.shell("install -d -o postgres -g postgres /etc/postgresql /var/lib/postgresql")
        version = box.shell("ls /usr/lib/postgresql | sort -n | tail -1").strip()
        # The box has the host's network, where somebody else may have the port; the socket is its own.
        box.run("pg_createcluster", version, "main", "--port=5432", "--", "--no-sync")
        box.shell(f"echo \"listen_addresses = ''\" >> /etc/postgresql/{version}/main/postgresql.conf")
        box.run("systemctl", "daemon-reload")  # its generator starts what has a cluster
        box.run("systemctl", "enable", "--now", "postgresql")
        box.run("systemctl", "start", f"postgresql@{version}-main")
        box.install_product(installation)
        yield box


def block(first: str) -> str:
    """The commands that the page prints together, from the line that starts so to the end of its block."""
    found = re.search(rf"^{re.escape(first)}.*?(?=^```)", PAGE, re.MULTILINE | re.DOTALL)
    assert found, first
    return found[0]


def asked(box: Box, statement: str) -> str:
    """What psql prints for a superuser's statement; nothing while PostgreSQL is not there."""
    return box.finished("su", "-", "postgres", "-c", f'psql -XAtq hep -c "{statement}"').stdout.strip()


def end_what_holds_a_lock(box: Box) -> None:
    """Find a superuser's session that locks the table, and end it, by the commands that the page has for that."""
    lock = "BEGIN; LOCK TABLE hook_events IN SHARE MODE; SELECT pg_sleep(600)"
    box.run("systemd-run", "--quiet", "--collect", "su", "-", "postgres", "-c", f'psql hep -c "{lock}"')
    holder = "SELECT pid FROM pg_locks WHERE relation = 'hook_events'::regclass AND mode = 'ShareLock' AND granted"
    wait_for(lambda: asked(box, holder), 20, "the table is locked")
    pid = asked(box, holder)
    said = box.shell(f"cd {REPOSITORY}\n" + block("# Who has been in a transaction").replace("12345", pid))
    assert re.search(rf"^ *{pid} \| postgres +\| psql ", said, re.MULTILINE), "the session is shown"
    assert re.search(rf"^ *{pid} \| ShareLock +\| t$", said, re.MULTILINE), "the lock is shown"
    wait_for(lambda: asked(box, holder) == "", 20, "the lock is gone")


def test_the_page_leads_from_debians_postgresql_to_roles_a_dump_and_a_reboot(debian: Box) -> None:
    debian.shell(block("su - postgres -c \"psql -c 'CREATE ROLE hep LOGIN'"))
    refused = debian.finished("bash", "-c", block("DATABASE_URL='postgresql:///hep?host=/run/postgresql'"))
    assert (refused.returncode, "hep db migrate" in refused.stderr) == (1, True)
    function = block("hep() {").split("\n}\n")[0] + "\n}\n"
    said = debian.shell(f"{function}hep db migrate; hep db check; {INSTALLED}/bin/hep install")
    assert "processing" in said.splitlines()[-1]
    assert "task.failed" in debian.shell(function + block('hep db psql -c "INSERT'))
    end_what_holds_a_lock(debian)

    debian.run("useradd", "--create-home", "alice")
    debian.shell(function + block("hep db roles --print") + "HEP_AS=alice hep db grant hep --host $(hostname)")
    owner = "SELECT tableowner FROM pg_tables WHERE tablename = 'hook_events'"
    assert asked(debian, owner) == "hook_owner"
    debian.shell(f"systemctl restart hook-event-processor; {INSTALLED}/bin/hep install --watchers cpu")
    seen = "SELECT count(*) FROM hosts WHERE status = 'connected'"
    wait_for(lambda: asked(debian, seen) == "1", 20, "the watchers have their rights, too")

    debian.shell(block("(umask 077").splitlines()[0])
    # Each of them: a target's stop does not wait for the others'.
    debian.shell("systemctl stop 'hook-*'; su - postgres -c 'dropdb hep && createdb --owner hep hep'")
    debian.shell(function + block("su - postgres -c 'pg_restore"))
    assert asked(debian, owner) == "hep"

    asked(debian, "INSERT INTO hook_events (source, action) VALUES ('host', 'restored')")
    debian.reboot()
    processed = "SELECT processed FROM hook_events WHERE action = 'restored'"
    wait_for(lambda: asked(debian, processed) == "t", 30, "the event is processed")
    assert debian.properties("ActiveState", "NRestarts") == ["active", "0"]
