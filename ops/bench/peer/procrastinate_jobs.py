"""Procrastinate at its best: twenty jobs at once, no notifications. Usage: procrastinate_jobs.py fill N | drain"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import sys
import time
from typing import Any

from procrastinate import App, PsycopgConnector  # type: ignore[import-not-found]

CONCURRENCY = 20
BATCH = 1000
PAYLOAD = {"tool_name": "Bash", "input": {"command": "ls -la /tmp"}, "n": 1}
logging.disable(logging.WARNING)
app = App(connector=PsycopgConnector(conninfo=os.environ["DATABASE_URL"], max_size=CONCURRENCY + 2))
seen: list[float] = []


@app.task(name="bench")
async def bench(**payload: Any) -> None:
    if payload["tool_name"] != "Bash":
        raise ValueError("unexpected tool")
    seen.append(time.time())


async def fill(count: int) -> None:
    await app.schema_manager.apply_schema_async()
    for _ in range(count // BATCH):
        await bench.batch_defer_async(*[PAYLOAD] * BATCH)


async def drain() -> None:
    await app.run_worker_async(wait=False, concurrency=CONCURRENCY, listen_notify=False, install_signal_handlers=False)
    print(json.dumps({"first": min(seen, default=None), "last": max(seen, default=None), "jobs": len(seen)}))


async def main() -> None:
    async with app.open_async():
        await (fill(int(sys.argv[2])) if sys.argv[1] == "fill" else drain())


asyncio.run(main())
