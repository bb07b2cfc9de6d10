"""The HTTP server that hooks talk to: it notes each request in the ledger and takes its time to answer."""

from __future__ import annotations

import asyncio
import random
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from ops.chaos.effects import Effects

# How long an answer takes: long enough for runs to be in flight at any moment.
_SHORTEST, _LONGEST = 0.05, 0.4


class Site:
    """Answers POST /NUMBER/LABEL; the effect has begun when the request is there."""

    def __init__(self, effects: Effects, seed: int) -> None:
        self._effects = effects
        self._random = random.Random(seed)
        self._loop = asyncio.new_event_loop()
        self._ready = threading.Event()
        self.port = 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def run(self) -> None:
        asyncio.set_event_loop(self._loop)
        server = self._loop.run_until_complete(asyncio.start_server(self._serve, "127.0.0.1", 0, backlog=1024))
        self.port = server.sockets[0].getsockname()[1]
        self._ready.set()
        self._loop.run_forever()
        server.close()
        answering = asyncio.all_tasks(self._loop)
        for task in answering:
            task.cancel()
        self._loop.run_until_complete(asyncio.gather(*answering, return_exceptions=True))
        self._loop.close()

    def wait(self) -> None:
        if not self._ready.wait(10):
            raise RuntimeError("the HTTP server of the ledger did not start")

    def stop(self) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(ConnectionError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
            while head := await reader.readuntil(b"\r\n\r\n"):
                await reader.readexactly(_length(head))
                number, label = head.split(b" ", 2)[1].decode("ascii").strip("/").split("/")
                self._effects.begun(int(number), label)
                await asyncio.sleep(self._random.uniform(_SHORTEST, _LONGEST))
                writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
                await writer.drain()
                self._effects.ended(int(number), label)
        writer.close()


def _length(head: bytes) -> int:
    for line in head.lower().split(b"\r\n"):
        if line.startswith(b"content-length:"):
            return int(line.split(b":", 1)[1])
    return 0


@contextmanager
def serving(effects: Effects, seed: int) -> Iterator[Site]:
    """A server on a free port, in a thread of its own."""
    site = Site(effects, seed)
    thread = threading.Thread(target=site.run, name="site", daemon=True)
    thread.start()
    site.wait()
    try:
        yield site
    finally:
        site.stop()
        thread.join(5)
