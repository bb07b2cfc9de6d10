"""Sessions that are ended, a lock and a snapshot that are held."""

from __future__ import annotations

from ops.chaos.context import Context
from ops.chaos.postgres import connect
from ops.chaos.scenario import Scenario

_SESSIONS = """
SELECT pid FROM pg_stat_activity
WHERE application_name LIKE 'hook-event-processor %' OR application_name = 'chaos-writer' ORDER BY pid
"""
_LOCK_SECONDS = (3.0, 12.0)  # lock_timeout is five seconds, a lease nine


class Backends(Scenario):
    name = "backends"
    about = "backends of processors and of the writer terminated at random"
    least_seconds = 4.0

    def during(self, context: Context) -> None:
        while context.left > 2:
            with context.database(as_administrator=True) as connection:
                pids = [pid for (pid,) in connection.execute(_SESSIONS).fetchall()]
                victims = context.random.sample(pids, k=min(len(pids), context.random.randint(1, 3)))
                with context.blow(f"{len(victims)} of {len(pids)} backends terminated"):
                    connection.execute("SELECT pg_terminate_backend(pid) FROM unnest(%s::int[]) AS pid", (victims,))
            context.sleep(context.random.uniform(0.5, 2.0))


class Lock(Scenario):
    name = "lock"
    about = "an exclusive lock held on the table, past lock_timeout and past a lease"
    least_seconds = 13.0
    seconds = 30.0

    def during(self, context: Context) -> None:
        while context.left > _LOCK_SECONDS[1]:
            with context.database() as connection:
                with context.blow("LOCK TABLE hook_events"):
                    connection.execute("BEGIN")
                    connection.execute("LOCK TABLE hook_events IN ACCESS EXCLUSIVE MODE")
                context.sleep(context.random.uniform(*_LOCK_SECONDS))
                connection.execute("COMMIT")
            context.mended()
            context.sleep(6.0)


class Snapshot(Scenario):
    name = "snapshot"
    about = "a snapshot held for the whole run, so that nothing can be vacuumed"
    seconds = 40.0
    stays_flat = True

    def prepare(self, context: Context) -> None:
        self._holder = connect(context.server.for_auditor)
        self._holder.execute("BEGIN ISOLATION LEVEL REPEATABLE READ")
        self._holder.execute("SELECT count(*) FROM hook_events")

    def during(self, context: Context) -> None:
        context.sleep(context.seconds)

    def verify(self, context: Context) -> None:
        count = self._holder.execute("SELECT count(*) FROM hook_events").fetchone()
        if count != (0,):
            context.find(f"the snapshot did not last: it sees {count} events")
        self._holder.close()
