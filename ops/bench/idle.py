"""What a processor costs while nothing happens: processor time, queries, memory."""

from __future__ import annotations

import re
import time

import psutil

import processor
import report
import table
from options import Size, parse, parser
from report import number
from resident import resident_mb
from server import Database, databases

_SETTLE_SECONDS = 5.0
_STATEMENT = re.compile(r"LOG: +(?:statement|execute [^:]*): ")


def main() -> None:
    arguments = parse(parser(__doc__, seconds=Size(20, 120, "seconds to watch")))
    with databases("bench") as (database,):
        table.add_hooks(database.connection)
        with processor.running(database) as process:
            time.sleep(_SETTLE_SECONDS)
            _log_statements(database, "all")
            before, statements = _cpu(process), _statements(database)
            time.sleep(arguments.seconds)
            core = (_cpu(process) - before) / arguments.seconds
            # Asking the server to log no more is no statement of the processor's.
            queries = (_statements(database) - statements) / arguments.seconds
            memory = resident_mb(process)
            _log_statements(database, "none")
        report.show(
            f"idle: a processor with nothing to do for {arguments.seconds} s",
            ("what", "value"),
            [
                ("of one core, %", number(core * 100)),
                ("queries/s", number(queries)),
                ("memory, MB", number(memory)),
            ],
            database=database,
            core_percent=core * 100,
            queries=queries,
            memory_mb=memory,
        )


def _cpu(process: psutil.Process) -> float:
    times = process.cpu_times()
    return float(times.user + times.system)


def _log_statements(database: Database, which: str) -> None:
    # The role's own sessions have read it already: for all, from the configuration.
    database.connection.execute(f"ALTER SYSTEM SET log_statement = '{which}'")
    database.connection.execute("SELECT pg_reload_conf()")
    time.sleep(1)


def _statements(database: Database) -> int:
    """Statements in the server's log; the benchmark's own session sends none while it watches."""
    logs = (database.home / "postgresql" / "log").glob("*.log")
    return sum(len(_STATEMENT.findall(log.read_text(errors="replace"))) for log in logs)


if __name__ == "__main__":
    main()
