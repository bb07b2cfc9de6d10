"""Events or jobs a second of this product and of other queues on PostgreSQL, each at its best settings, in one run."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from psycopg import sql
from psycopg.conninfo import conninfo_to_dict

import report
from options import Size, parse, parser
from report import number
from rounds import interleaved
from server import Database, databases
from table import Workload
from throughput import Bench

HERE = Path(__file__).resolve().parent
INSTALLED = HERE.parents[1] / "build" / "peers"
NODE_PACKAGES = ("graphile-worker@0.17.3", "pg@8")
PYTHON_PACKAGES = ("pgqueuer==1.6.0", "asyncpg", "procrastinate==3.10.0")
# As their programs in peer/ have it.
SETTINGS = (
    "graphile-worker: concurrentJobs=24, maxPoolSize=25, localQueue.size=500, completeJobBatchDelay=0;"
    " PgQueuer: batch_size=1000; Procrastinate: concurrency=20, listen_notify=False"
)
_INSTALL_SECONDS = 300
_DRAIN_SECONDS = 600


@dataclass(frozen=True, slots=True)
class Peer:
    """Another queue: the program that fills and drains it, how many of them run, and where its open jobs are."""

    name: str
    command: Sequence[str]
    processes: int
    schema: str
    left: str
    share: float = 1.0  # of the events: a slow one gets fewer

    def run(self, database: Database, *arguments: str) -> list[subprocess.Popen[str]]:
        """Start a program of it."""
        environment = {**os.environ, "DATABASE_URL": _url(database)}
        return [
            subprocess.Popen([*self.command, *arguments], env=environment, stdout=subprocess.PIPE, text=True)
            for _ in range(1 if arguments[0] == "fill" else self.processes)
        ]

    def rate(self, database: Database, events: int) -> float:
        """Jobs a second, from the first job that ran to the last; what comes after the last is not counted."""
        jobs = int(events * self.share) // 1000 * 1000
        connection = database.connection
        connection.execute(sql.SQL("DROP SCHEMA IF EXISTS {} CASCADE").format(sql.Identifier(self.schema)))
        if self.schema == "public":
            connection.execute("CREATE SCHEMA public; GRANT ALL ON SCHEMA public TO hep")
        _finish(self, self.run(database, "fill", str(jobs)))
        connection.execute("VACUUM ANALYZE")
        connection.execute("CHECKPOINT")
        reports = [json.loads(output) for output in _finish(self, self.run(database, "drain"))]
        ran = [found for found in reports if found["jobs"]]
        assert sum(found["jobs"] for found in ran) == jobs, f"{self.name} ran {ran} of {jobs} jobs"
        assert database.one(self.left)[0] == 0, f"{self.name} has left jobs"
        return float(jobs / (max(found["last"] for found in ran) - min(found["first"] for found in ran)))


def _peers() -> list[Peer]:
    python = str(INSTALLED / "python" / "bin" / "python")
    return [
        Peer(
            "graphile-worker 0.17.3, 2 processes",
            ("node", str(INSTALLED / "node" / "graphile.mjs")),
            2,
            "graphile_worker",
            "SELECT count(*) FROM graphile_worker._private_jobs",
        ),
        Peer(
            "PgQueuer 1.6.0, asyncpg, 2 processes",
            (python, str(HERE / "peer" / "pgqueuer_jobs.py")),
            2,
            "public",
            "SELECT count(*) FROM pgqueuer",
            share=0.3,
        ),
        Peer(
            "Procrastinate 3.10.0, 2 processes",
            (python, str(HERE / "peer" / "procrastinate_jobs.py")),
            2,
            "public",
            "SELECT count(*) FROM procrastinate_jobs WHERE status <> 'succeeded'",
            share=0.05,
        ),
    ]


def main() -> None:
    options = parser(
        __doc__, events=Size(60_000, 150_000, "events a run"), rounds=Size(3, 5, "interleaved rounds of all")
    )
    arguments = parse(options)
    _install()
    peers = _peers()
    with databases("own", *(f"peer_{place}" for place in range(len(peers)))) as (own, *others):
        bench = Bench(own, Workload(arguments.events))
        bench.prepare()
        measures = {"raw SQL, 2 clients": lambda: bench.raw(2), "this product, 1 process": bench.product}
        for peer, database in zip(peers, others, strict=True):
            measures[peer.name] = partial(peer.rate, database, arguments.events)
        rounds = interleaved(arguments.rounds, measures)
        ours = "this product, 1 process"
        report.show(
            "peers: events or jobs a second",
            ("system", "per second", "ours is so many times as fast"),
            [(name, number(rounds.median(name)), number(rounds.ratio(ours, name))) for name in measures],
            database=own,
            notes=[
                "A run of each job is counted; only this product and the raw SQL keep a row of every run.",
                SETTINGS,
            ],
            rates={name: rounds.values[name] for name in measures},
        )


def _install() -> None:
    """Install the others below build/peers, unless they are there."""
    node, python = INSTALLED / "node", INSTALLED / "python"
    node.mkdir(parents=True, exist_ok=True)
    if not (node / "node_modules" / "graphile-worker").is_dir():
        _call("npm", "install", "--no-audit", "--no-fund", "--prefix", str(node), *NODE_PACKAGES)
    shutil.copy(HERE / "peer" / "graphile.mjs", node)
    if not (python / "bin" / "procrastinate").exists():
        _call(sys.executable, "-m", "venv", str(python))
        _call(str(python / "bin" / "pip"), "install", "--quiet", *PYTHON_PACKAGES)


def _call(*command: str) -> None:
    if shutil.which(command[0]) is None:
        sys.exit(f"{command[0]} is missing: the peers cannot be installed without it")
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=_INSTALL_SECONDS, check=False)
    except subprocess.TimeoutExpired:
        sys.exit(f"{' '.join(command)} did not end within {_INSTALL_SECONDS} s: is its registry reachable?")
    if done.returncode:
        said = (done.stderr.strip() or done.stdout.strip()).splitlines()
        sys.exit(f"{' '.join(command)} failed, is its registry reachable? {said[-1] if said else ''}")


def _url(database: Database) -> str:
    given = conninfo_to_dict(database.conninfo)
    return f"postgresql://{given['user']}@/{given['dbname']}?host={given['host']}&port={given['port']}"


def _finish(peer: Peer, processes: Sequence[subprocess.Popen[str]]) -> list[str]:
    outputs = []
    for process in processes:
        output, _ = process.communicate(timeout=_DRAIN_SECONDS)
        if process.returncode:
            sys.exit(f"{peer.name} ended with status {process.returncode}; what it said stands above")
        outputs.append(output)
    return outputs


if __name__ == "__main__":
    main()
