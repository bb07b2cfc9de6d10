"""One HTTP exchange: a request over a permitted connection, and its response within limits.

httpx describes requests; httpcore beneath it sends them, since only there the
address of a connection can be chosen. No cookies, proxies or .netrc: nothing
but the request itself decides what is sent.
"""

from __future__ import annotations

import logging
import os
import threading
import zlib
from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

from hook_event_processor.egress import Egress
from hook_event_processor.lua.web.connections import Connections
from hook_event_processor.lua.web.dial import Lost, Patience, Stream, dial

if TYPE_CHECKING:  # imported when first used: most processors never send a request
    import httpcore
    import httpx

MAX_BODY = 8 * 1024 * 1024 - 256 * 1024  # with the headers it must pass the door
_MOST_DECOMPRESSED = 1024 * 1024  # at a time
_GZIP = 0x1F  # what each member begins with
_PIECE = 64 * 1024
_MAX_POOLS = 8


class TooLarge(Exception):
    """The response has more bytes than a hook is given."""


class Malformed(Exception):
    """What came is not HTTP, or not what its headers say."""


@dataclass(frozen=True, slots=True)
class Request:
    method: str
    url: httpx.URL
    headers: tuple[tuple[str, bytes], ...]
    body: bytes


@dataclass(frozen=True, slots=True)
class Response:
    """Headers have lower-case names; the body is decompressed."""

    status: int
    reason: bytes
    headers: tuple[tuple[str, bytes], ...]
    body: bytes
    url: httpx.URL

    def header(self, name: str) -> str | None:
        """The first header of that name, in lower case."""
        return next((value.decode("latin-1") for each, value in self.headers if each == name), None)


def exchange(rules: Egress, request: Request, patience: Patience) -> Response:
    """Send the request, once, and read the whole response.

    Raises Forbidden, Unreachable (nothing was sent), Lost, TimedOut, TooLarge
    or Malformed.
    """
    pool = _pool(rules)
    while True:
        patience.dialled, patience.received = False, 0
        try:
            return _once(pool, request, patience)
        except Lost:
            # An idle connection that its server closed just now. Asking anew is safe
            # for every method: what is not idempotent carries an Idempotency-Key.
            if patience.dialled or patience.received:
                raise


def _once(pool: Connections, request: Request, patience: Patience) -> Response:
    import httpcore

    outgoing = _outgoing(request, patience)
    try:
        with pool.connection(outgoing.url.origin) as connection:
            response = connection.handle_request(outgoing)
            try:
                body = _body(response, patience)
                headers = tuple((name.decode("latin-1").lower(), value) for name, value in response.headers)
                reason = cast(bytes, response.extensions.get("reason_phrase", b""))
                return Response(response.status, reason, headers, body, request.url)
            finally:
                response.close()
                if request.method == "HEAD":
                    connection.close()  # a server may send a body nonetheless, and later
    except (httpcore.RemoteProtocolError, httpcore.LocalProtocolError) as fault:
        if not patience.received:
            raise Lost("the server closed the connection without an answer") from None
        raise Malformed(str(fault)) from None


def _outgoing(request: Request, patience: Patience) -> httpcore.Request:
    import httpcore
    import httpx

    # httpx knows what follows from the URL and the body: Host and Content-Length.
    content = request.body if request.body or request.method in {"POST", "PUT", "PATCH"} else None
    headers = [(name.encode(), value) for name, value in request.headers]
    described = httpx.Request(request.method, request.url, headers=headers, content=content)
    # httpcore hands a timeout on to the stream as it is: so each read and write of a
    # connection, idle ones that are used again too, is bounded by this run's patience.
    timeout = {"connect": patience, "read": patience, "write": patience}
    url = described.url
    return httpcore.Request(
        method=described.method,
        url=httpcore.URL(scheme=url.raw_scheme, host=url.raw_host, port=url.port, target=url.raw_path),
        headers=described.headers.raw,
        content=_pieces(request.body),
        extensions={"timeout": timeout},
    )


def _pieces(body: bytes) -> Iterator[bytes]:
    """The body in parts: what is sent is copied on its way, and a large one must not be twice in memory."""
    return (body[start : start + _PIECE] for start in range(0, len(body), _PIECE))


def _body(response: httpcore.Response, patience: Patience) -> bytes:
    """The whole body, decompressed."""
    body = bytearray()
    for chunk in _decompressed(response):
        if len(body) + len(chunk) > MAX_BODY:
            raise TooLarge(f"the body has more than {MAX_BODY} bytes")
        if not patience.hold(len(chunk)):
            raise TooLarge("hooks are receiving too much at once, there is no room for the body now")
        body += chunk
    return bytes(body)


def _decompressed(response: httpcore.Response) -> Iterator[bytes]:
    """The body in chunks of bounded size, however far they expand."""
    coding = next((value for name, value in response.headers if name.lower() == b"content-encoding"), b"").lower()
    chunks = _counted(response)
    if coding not in {b"gzip", b"x-gzip", b"deflate"}:
        yield from chunks
        return
    decoder = None
    for chunk in chunks:
        decoder = decoder or zlib.decompressobj(_window(coding, chunk))
        while chunk:
            if decoder.eof:
                # A body of gzip may have several members (RFC 1952, 2.2); what else follows the last one is padding.
                if coding == b"deflate" or chunk[0] != _GZIP:
                    return
                decoder = zlib.decompressobj(_window(coding, chunk))
            try:
                yield decoder.decompress(chunk, _MOST_DECOMPRESSED)
            except zlib.error as fault:
                raise Malformed(f"the body is not {coding.decode()}: {fault}") from None
            chunk = decoder.unconsumed_tail or decoder.unused_data
    if decoder is not None and not decoder.eof:
        raise Malformed(f"the {coding.decode()} body ends too early")


def _counted(response: httpcore.Response) -> Iterator[bytes]:
    # Compressed bytes are counted too: they can expand to none.
    size = 0
    for chunk in cast(Any, response.stream):
        size += len(chunk)
        if size > MAX_BODY:
            raise TooLarge(f"the body has more than {MAX_BODY} bytes")
        if chunk:
            yield chunk


def _window(coding: bytes, start: bytes) -> int:
    """zlib's wbits. What is called deflate has zlib's header (RFC 9110, 8.4.1.2), or none, as some servers send it."""
    if coding != b"deflate":
        return 16 + zlib.MAX_WBITS
    return zlib.MAX_WBITS if start[0] & 0x0F == 8 else -zlib.MAX_WBITS


class _Backend:
    """Opens httpcore's connections under one set of rules."""

    def __init__(self, rules: Egress) -> None:
        self._rules = rules

    def connect_tcp(self, host: str, port: int, timeout: Patience, **_: object) -> Stream:
        return dial(self._rules, host, port, timeout)


_pools: OrderedDict[Egress, Connections] = OrderedDict()
_pools_lock = threading.Lock()
_of_the_other_process: list[object] = []


def _begin_anew() -> None:
    """In a fork: the connections are the other process's, and a thread that held the lock is no more."""
    global _pools, _pools_lock
    _of_the_other_process.append(_pools)  # not closed: that would be seen on the wire
    _pools, _pools_lock = OrderedDict(), threading.Lock()


os.register_at_fork(after_in_child=_begin_anew)


def _pool(rules: Egress) -> Connections:
    """The idle connections of all hooks that have these very rules.

    Nobody else's: a connection that one hook may use must not be there for
    another that may not.
    """
    # Its debug lines hold whole headers: a hook's passwords are not for the journal.
    logging.getLogger("httpcore").setLevel(logging.WARNING)
    with _pools_lock:
        pool = _pools.get(rules)
        if pool is None:
            pool = _pools[rules] = Connections(_Backend(rules))
            if len(_pools) > _MAX_POOLS:
                # Its idle connections close when the last request that uses it has ended.
                _pools.popitem(last=False)
        _pools.move_to_end(rules)
        return pool
