"""The raw SQL limit: the product's own claim and record statements in pgbench, without hooks."""

from __future__ import annotations

import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager

from psycopg.conninfo import make_conninfo

from hook_event_processor.settings import Settings
from hook_event_processor.store import ack, claim, record
from hook_event_processor.store.database import PLANNED_ONCE

from server import PGBENCH
from table import OUTPUT

BATCH = Settings.batch_size


def script() -> str:
    """One transaction: claim, mark processed, insert executions; as the processor sends them."""
    limits = {"limit": str(BATCH), "most_bytes": str(claim.most_bytes(Settings.max_payload_size))}
    fresh = _with(claim.CLAIM, after=":after::bigint", upto=str(2**63 - 1), unhurried="0", due="0", slots="0", **limits)
    processed = ack.PROCESSED.replace("%b", ":tids::tid[]")
    executions = _with(
        record.BEGAN_WITH_TRANSACTION,
        hook_ids="'{1}'",
        names="'{bench}'::text[]",
        versions="'{1}'",
        node="'raw'",
        events=":ids::uuid[]",
        hooks=":ones",
        codes=":codes",
        outputs=":outputs::text[]",
        errors=":errors::text[]",
        micros=":micros",
        attempts=":ones",
    )
    # MATERIALIZED: every column of the claim is worked out, as the processor has them all sent.
    claimed = (
        f"WITH claimed AS MATERIALIZED ({fresh}) SELECT array_agg(ctid)::text AS tids, array_agg(id)::text AS ids,"
        f" max(seq) AS after, array_agg(1)::text AS ones, array_agg(97)::text AS codes, array_agg(10)::text AS micros,"
        f" array_agg('{OUTPUT}'::text)::text AS outputs, array_agg(NULL::text)::text AS errors FROM claimed \\gset"
    )
    return "\n".join(["BEGIN;", _flat(claimed), f"{_flat(processed)};", f"{_flat(executions)};", "COMMIT;", ""])


def _with(statement: str, **values: str) -> str:
    for name, value in values.items():
        statement = re.sub(rf"%\({name}\)[sb]", lambda _, value=value: value, statement)
    return statement


def _flat(statement: str) -> str:
    return " ".join(statement.split())


def run(conninfo: str, events: int, clients: int) -> None:
    """Drain the table with so many clients, which plan as lanes do; each takes its share of the transactions."""
    options = " ".join(f"-c {name}={value}" for name, value in PLANNED_ONCE.items())
    share = f"--transactions={events // BATCH // clients}"
    pgbench(make_conninfo(conninfo, options=options), script(), clients, "--define=after=0", share)


def pgbench(conninfo: str, script: str, clients: int, *options: str) -> str:
    """Run a script with so many clients; returns what pgbench printed."""
    with _pgbench(conninfo, script, clients, *options) as process:
        printed, faults = process.communicate()
    if process.returncode:
        sys.exit(f"pgbench failed:\n{faults}")
    return printed


@contextmanager
def pgbench_meanwhile(conninfo: str, script: str, clients: int, *options: str) -> Iterator[None]:
    """Run a script with so many clients until what this surrounds is over."""
    with _pgbench(conninfo, script, clients, "--time=86400", *options) as process:
        yield
        if process.poll() is not None:
            sys.exit(f"pgbench failed:\n{process.communicate()[1]}")
        process.terminate()
        process.communicate()


@contextmanager
def _pgbench(conninfo: str, script: str, clients: int, *options: str) -> Iterator[subprocess.Popen[str]]:
    with tempfile.NamedTemporaryFile("w", suffix=".pgbench") as file:
        file.write(script)
        file.flush()
        command = [str(PGBENCH), "--no-vacuum", "--protocol=prepared", f"--file={file.name}"]
        command += [f"--client={clients}", f"--jobs={min(clients, 2)}", *options, conninfo]
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
            try:
                yield process
            finally:
                process.kill()
