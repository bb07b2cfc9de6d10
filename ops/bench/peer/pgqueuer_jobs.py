"""PgQueuer at its best: asyncpg, batches of a thousand. Usage: python pgqueuer_jobs.py fill N | drain"""

from __future__ import annotations

import asyncio
import json
import os
import sys
import time

import asyncpg  # type: ignore[import-not-found]
from pgqueuer import AsyncpgDriver, Queries, QueueManager  # type: ignore[import-not-found]
from pgqueuer.types import QueueExecutionMode  # type: ignore[import-not-found]

BATCH = 1000
PAYLOAD = b'{"tool_name": "Bash", "input": {"command": "ls -la /tmp"}, "n": 1}'


async def fill(queries: Queries, count: int) -> None:
    await queries.install()
    for _ in range(count // BATCH):
        await queries.enqueue(["bench"] * BATCH, [PAYLOAD] * BATCH, [0] * BATCH)


async def drain(queries: Queries) -> None:
    seen: list[float] = []
    manager = QueueManager(queries)

    @manager.entrypoint("bench")
    async def bench(job: object) -> None:
        if json.loads(job.payload)["tool_name"] != "Bash":  # type: ignore[attr-defined]
            raise ValueError("unexpected tool")
        seen.append(time.time())

    await manager.run(batch_size=BATCH, mode=QueueExecutionMode.drain)
    print(json.dumps({"first": min(seen, default=None), "last": max(seen, default=None), "jobs": len(seen)}))


async def main() -> None:
    connection = await asyncpg.connect(os.environ["DATABASE_URL"])
    queries = Queries(AsyncpgDriver(connection))
    await (fill(queries, int(sys.argv[2])) if sys.argv[1] == "fill" else drain(queries))
    await connection.close()


asyncio.run(main())
