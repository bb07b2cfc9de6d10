"""The printed upgrade under a real systemd, with runs in flight, a backlog, and a writer that does not stop."""

from __future__ import annotations

import json
import os
import re
import sys
from collections.abc import Iterator

import pytest
from box import INSTALLED, REPOSITORY, SERVICE, WHEELS, Box
from waiting import wait_for

# Outside continuous integration an ordinary user may run the other tests.
pytestmark = [
    pytest.mark.skipif(
        os.geteuid() != 0 and "CI" not in os.environ, reason="booting a systemd in a box needs root: run as root"
    ),
    pytest.mark.timeout(300),
]

HEP = f"{INSTALLED}/bin/hep"
SCHEMA = "upgraded"  # apart from what other tests have in the box's database
EFFECTS = "/var/lib/hook-event-processor/files/effects"
BACKLOG = {"slow": 300, "fast": 20_000}
# Effectful and pure: what the first does outside of the database can be counted there.
HOOKS = {"slow": f'require("time").sleep(1) require("file").append("{EFFECTS}", event.id .. "\\n")', "fast": ""}


# Inserts until it is told that it is enough, and prints how many events of each kind were committed: so that runs are
# in flight whenever the service is stopped.
WRITER = """
import json, os, sys, time, psycopg
with psycopg.connect(sys.argv[1], autocommit=True) as connection:
    count = {"slow": 0, "fast": 0}
    while not os.path.exists("/root/next/enough"):
        for action in count:
            connection.execute("INSERT INTO upgraded.hook_events (source, action) VALUES ('box', %s)", (action,))
            count[action] += 1
        time.sleep(0.03)
    print(json.dumps(count))
"""


def printed(section: str) -> str:
    """The first block of commands below a heading of docs/operations.md, with the function that it counts on."""
    page = (REPOSITORY / "docs/operations.md").read_text()
    function = re.search(r"^hep\(\) \{\n.*?^\}\n", page, re.MULTILINE | re.DOTALL)
    block = re.search(r"^```bash\n(.*?)^```\n", page.partition(f"\n## {section}\n")[2], re.MULTILINE | re.DOTALL)
    assert function
    assert block
    return f"{function[0]}\n{block[1]}"


@pytest.fixture
def working(box: Box) -> Iterator[Box]:
    """The machine with an installation and hooks in a schema of their own, at work."""
    box.clear()
    database = ["env", "-C", "/", f"DATABASE_URL={box.url}", f"DB_SCHEMA={SCHEMA}", HEP]
    box.run(*database, "db", "migrate")
    for name, effect in HOOKS.items():
        text = f'return {{ name = "{name}", event_type = "box.{name}", execute = function(event) {effect} end }}\n'
        box.write(f"/root/{name}.lua", text)
        box.run(*database, "hook", "add", f"/root/{name}.lua")
    box.run(*database, "install")
    yield box
    box.run(HEP, "uninstall", "--purge")
    box.shell(f"{INSTALLED}/bin/pip install --quiet --no-deps --force-reinstall {WHEELS}/*.whl; rm -r /root/next")
    box.psql(f"DROP SCHEMA {SCHEMA} CASCADE")


def query(box: Box, sql: str) -> str:
    return box.psql(f"SET search_path TO {SCHEMA}; {sql}")


def insert(box: Box, action: str, count: int) -> None:
    query(box, f"INSERT INTO hook_events (source, action) SELECT 'box', '{action}' FROM generate_series(1, {count})")


def stops(box: Box) -> list[str]:
    """When the service was told to stop, in seconds since the epoch."""
    told = box.journal("_PID=1", f"UNIT={SERVICE}.service")
    return [str(int(line["__REALTIME_TIMESTAMP"]) / 1e6) for line in told if line["MESSAGE"].startswith("Stopping")]


def test_the_printed_upgrade_loses_nothing_and_repeats_nothing(working: Box) -> None:
    working.shell(
        f"mkdir /root/next; /usr/bin/python3 {REPOSITORY}/tests/next_wheel.py {WHEELS}/*.whl /root/next\n"
        "journalctl --rotate --vacuum-time=1ms"
    )
    for action, count in BACKLOG.items():
        insert(working, action, count)
    busy = "SELECT count(*) >= 50 FROM hook_events WHERE lease_token IS NOT NULL"
    wait_for(lambda: query(working, busy) == "t", 20, "runs are in flight")

    writer = working.popen(sys.executable, "-c", WRITER, working.url)
    said = working.shell(f"cd /root/next\n{printed('Upgrade')}")
    assert "active (running)" in said
    working.shell("touch /root/next/enough")
    written, _ = writer.communicate(timeout=10)

    assert working.run(HEP, "--version") == "hep 0.2.0\n"
    assert working.properties("Description") == ["Next hook event processor"]
    expected = {name: count + json.loads(written)[name] for name, count in BACKLOG.items()}
    counts = "|".join(str(expected[name]) for name in sorted(expected))
    events = "SELECT string_agg(n::text, '|' ORDER BY action) FROM (SELECT action, count(*) AS n FROM hook_events"
    ended = f"{events} WHERE source = 'box' AND processed GROUP BY 1) x"
    wait_for(lambda: query(working, ended) == counts, 60, "all are processed")
    assert query(working, f"{events} WHERE source = 'box' GROUP BY 1) x") == counts
    runs = (
        "SELECT hook_name, count(*), count(DISTINCT event_id), bool_and(success)"
        " FROM event_hook_executions JOIN hook_events e ON e.id = event_id WHERE e.source = 'box'"
    )
    once = [f"{name}|{expected[name]}|{expected[name]}|t" for name in sorted(expected)]
    assert query(working, f"{runs} GROUP BY 1 ORDER BY 1").splitlines() == once
    assert query(working, "SELECT count(*) > 0 FROM hook_events WHERE next_version IS NULL") == "t", "it is migrated"
    effects = working.run("cat", EFFECTS).split()
    assert (len(effects), len(set(effects))) == (expected["slow"], expected["slow"])
    moments = stops(working)
    run = "executed_at AND executed_at + duration_ms * interval '1 ms'"
    spans = [f"to_timestamp({moment}) BETWEEN {run}" for moment in moments]
    under_way = f"SELECT count(*) > 0 FROM event_hook_executions WHERE {' OR '.join(spans)}"
    assert query(working, under_way) == "t", "the upgrade has met runs in flight"
