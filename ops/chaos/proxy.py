"""A TCP proxy in front of PostgreSQL that does to connections what networks do to them.

Connections are told apart by the application_name of their startup packet, so
that a fault can hit all of them or only the lookout's, say. Faults:

stall       bytes stop, both connections stay, and both kernels go on answering
delay       each piece arrives later
reset       both sides get a reset, once
black hole  packets are dropped unanswered, as in a cut cable; what was sent is sent again once it is mended
vanish      the server's side is gone, and packets of the client are dropped: it is never told
half-open   what the server says is thrown away; everything else goes on
"""

from __future__ import annotations

import asyncio
import ctypes
import socket
import struct
import threading
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager, suppress
from typing import TypeVar

from psycopg.conninfo import make_conninfo

Match = Callable[[str], bool]
_Result = TypeVar("_Result")

_PIECE = 1 << 18
_SSL, _GSS, _CANCEL = 80877103, 80877104, 80877102  # instead of a protocol version ("Message Formats")
_MAX_STARTUP = 10_000
_RESET = struct.pack("ii", 1, 0)  # struct linger: close() sends RST
_SO_ATTACH_FILTER, _SO_DETACH_FILTER = 26, 27  # socket(7)
_DROP_ALL = ctypes.create_string_buffer(struct.pack("HBBI", 0x06, 0, 0, 0))  # BPF: ret #0
_DROP_PROGRAM = struct.pack("HP", 1, ctypes.addressof(_DROP_ALL))  # struct sock_fprog


def everything(_: str) -> bool:
    """Matches each connection."""
    return True


def named(part: str) -> Match:
    """Matches connections whose application_name holds this text."""
    return lambda name: part in name


class Link:
    """One client's connection, and the one to the server that belongs to it."""

    def __init__(self, client: socket.socket, server: socket.socket) -> None:
        self.client, self.server = client, server
        self.name = ""
        self.open = asyncio.Event()
        self.open.set()
        self.delay = 0.0
        self.half_open = self.vanished = self.reset = False
        self.task = asyncio.current_task()

    def close(self) -> None:
        if self.reset:
            self.client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
            if self.server.family == socket.AF_INET:
                self.server.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
        self.client.close()
        self.server.close()


class Proxy:
    """Listens on a port of 127.0.0.1 and passes on to `upstream`: a socket's path, or a host and port.

    Every fault lasts until heal(), for the connections of that time and for
    new ones; reset, vanish and half_open strike those of that time alone, and
    for good. All may be called from any thread.
    """

    def __init__(self, upstream: str | tuple[str, int]) -> None:
        self._upstream = upstream
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=128)
        self._listener.setblocking(False)
        self.port = self._listener.getsockname()[1]
        self._links: set[Link] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._fault: Callable[[Link], object] = lambda _: None
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="proxy", daemon=True)

    def conninfo(self, conninfo: str) -> str:
        """The connection string of the server with the proxy in its place."""
        return make_conninfo(conninfo, host="127.0.0.1", port=self.port, sslmode="disable", gssencmode="disable")

    def names(self) -> list[str]:
        """The application_name of each connection."""
        return self._do(lambda: sorted(link.name for link in self._links))

    def stall(self, match: Match = everything) -> int:
        """Pass nothing on; returns how many connections it hit."""
        return self._set(match, lambda link: link.open.clear())

    def delay(self, seconds: float, match: Match = everything) -> int:
        """Pass each piece on later; returns how many connections it hit."""
        return self._set(match, lambda link: setattr(link, "delay", seconds))

    def black_hole(self, match: Match = everything) -> int:
        """Drop packets unanswered, those of new connections too; returns how many connections it hit."""
        if match is everything:
            self._do(lambda: _drop(self._listener))
        return self._set(match, _black_hole)

    def reset(self, match: Match = everything) -> int:
        """Reset connections; returns how many."""
        return self._strike(match, _reset)

    def vanish(self, match: Match = everything) -> int:
        """Let the server's side go, without a word to the client; returns how many connections it hit."""
        return self._strike(match, _vanish)

    def half_open(self, match: Match = everything) -> int:
        """Throw away what the server says; returns how many connections it hit."""
        return self._strike(match, lambda link: setattr(link, "half_open", True))

    def heal(self) -> None:
        """End what lasts."""

        def mend() -> None:
            self._fault = lambda _: None
            _pass(self._listener)
            for link in self._links:
                link.delay = 0.0
                if not link.vanished:
                    _pass(link.client)
                    link.open.set()

        self._do(mend)

    def _set(self, match: Match, strike: Callable[[Link], object]) -> int:
        def set_rule() -> int:
            self._fault = lambda link: strike(link) if match(link.name) else None
            return self._hit(match, strike)

        return self._do(set_rule)

    def _strike(self, match: Match, strike: Callable[[Link], object]) -> int:
        return self._do(lambda: self._hit(match, strike))

    def _hit(self, match: Match, strike: Callable[[Link], object]) -> int:
        hit = [link for link in self._links if match(link.name) and not (link.vanished or link.half_open)]
        for link in hit:
            strike(link)
        return len(hit)

    def _do(self, action: Callable[[], _Result]) -> _Result:
        """Act in the proxy's own thread."""

        async def act() -> _Result:
            return action()

        return asyncio.run_coroutine_threadsafe(act(), self._loop).result(10)

    def start(self) -> None:
        self._thread.start()
        self._do(lambda: self._spawn(self._accept()))

    def stop(self) -> None:
        async def end() -> None:
            for task in self._tasks:
                task.cancel()
            await asyncio.gather(*self._tasks, return_exceptions=True)

        asyncio.run_coroutine_threadsafe(end(), self._loop).result(10)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)
        self._listener.close()
        self._loop.close()

    def _spawn(self, work: Awaitable[None]) -> None:
        task = asyncio.ensure_future(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _accept(self) -> None:
        while True:
            client, _ = await self._loop.sock_accept(self._listener)
            client.setblocking(False)
            client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            # A client that gave up during a black hole is noticed afterwards.
            for option, value in ((socket.TCP_KEEPIDLE, 1), (socket.TCP_KEEPINTVL, 1), (socket.TCP_KEEPCNT, 60)):
                client.setsockopt(socket.IPPROTO_TCP, option, value)
            client.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
            self._spawn(self._serve(client))

    async def _serve(self, client: socket.socket) -> None:
        family = socket.AF_UNIX if isinstance(self._upstream, str) else socket.AF_INET
        server = socket.socket(family)
        server.setblocking(False)
        link = Link(client, server)
        with suppress(OSError, EOFError, ExceptionGroup):
            try:
                await self._loop.sock_connect(server, self._upstream)
                self._links.add(link)
                await self._introduce(link)
                async with asyncio.TaskGroup() as pumps:  # the end of one is the end of the other
                    pumps.create_task(self._pump(link, client, server))
                    pumps.create_task(self._pump(link, server, client))
            finally:
                self._links.discard(link)
                link.close()

    async def _introduce(self, link: Link) -> None:
        """Pass on the first packet, and learn the application_name from it."""
        while True:
            head = await self._exactly(link.client, 8)
            length, code = struct.unpack("!II", head)
            if not 8 <= length <= _MAX_STARTUP:
                raise OSError("this is not PostgreSQL's protocol")
            rest = await self._exactly(link.client, length - 8)
            if code not in (_SSL, _GSS, _CANCEL):
                words = rest.split(b"\0")
                link.name = dict(zip(words[::2], words[1::2], strict=False)).get(b"application_name", b"").decode()
                self._fault(link)
            await link.open.wait()
            await self._loop.sock_sendall(link.server, head + rest)
            if code not in (_SSL, _GSS):
                return
            await self._loop.sock_sendall(link.client, await self._exactly(link.server, 1))

    async def _exactly(self, end: socket.socket, size: int) -> bytes:
        data = b""
        while len(data) < size:
            piece = await self._loop.sock_recv(end, size - len(data))
            if not piece:
                raise EOFError
            data += piece
        return data

    async def _pump(self, link: Link, source: socket.socket, target: socket.socket) -> None:
        while piece := await self._loop.sock_recv(source, _PIECE):
            if link.delay:
                await asyncio.sleep(link.delay)
            await link.open.wait()
            if not (link.half_open and source is link.server):
                await self._loop.sock_sendall(target, piece)
        await link.open.wait()  # the end of a connection does not pass either; if it has vanished, never
        raise EOFError


def _black_hole(link: Link) -> None:
    _drop(link.client)
    link.open.clear()


def _vanish(link: Link) -> None:
    link.vanished = True
    _black_hole(link)
    link.server.shutdown(socket.SHUT_RDWR)


def _reset(link: Link) -> None:
    link.reset = True
    assert link.task is not None
    link.task.cancel()


def _drop(end: socket.socket) -> None:
    """Have the kernel drop what comes in on a socket before TCP sees it: it is not even acknowledged."""
    end.setsockopt(socket.SOL_SOCKET, _SO_ATTACH_FILTER, _DROP_PROGRAM)


def _pass(end: socket.socket) -> None:
    with suppress(OSError):  # nothing is dropped there
        end.setsockopt(socket.SOL_SOCKET, _SO_DETACH_FILTER, 0)


@contextmanager
def proxy(upstream: str | tuple[str, int]) -> Iterator[Proxy]:
    """A running proxy; its connections end with it."""
    running = Proxy(upstream)
    running.start()
    try:
        yield running
    finally:
        running.stop()
