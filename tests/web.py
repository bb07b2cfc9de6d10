"""A real HTTP server on a loopback address, for hooks to talk to; the test says what it answers."""

from __future__ import annotations

import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from email.message import Message
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


@dataclass(frozen=True)
class Received:
    method: str
    path: str
    headers: Message
    body: bytes
    client: tuple[str, int]


@dataclass
class Answer:
    """`write`, if it is there, sends the whole response by itself."""

    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b""
    write: Callable[[socket.socket], object] | None = None


@dataclass
class Site:
    """A running server: what it received, and what it answers to each request."""

    host: str
    port: int
    scheme: str = "http"
    received: list[Received] = field(default_factory=list)
    answer: Callable[[Received], Answer] = lambda _: Answer(body=b"ok")

    @property
    def url(self) -> str:
        return f"{self.scheme}://{self.host}:{self.port}"

    def answers(self, *answers: Answer) -> None:
        """Give these one after the other; the last one for ever."""
        left = list(answers)
        self.answer = lambda _: left.pop(0) if len(left) > 1 else left[0]


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Clients that break off are what some tests are about."""


def _handler(site: Site) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True

        def _serve(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            received = Received(self.command, self.path, self.headers, body, self.client_address)
            site.received.append(received)
            answer = site.answer(received)
            if answer.write:
                self.close_connection = True
                answer.write(self.connection)
                return
            self.send_response(answer.status)
            for name, value in ({"Content-Length": str(len(answer.body))} | answer.headers).items():
                self.send_header(name, value)
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(answer.body)

        def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the base class calls it so
            pass

    for method in ("GET", "POST", "PUT", "PATCH", "DELETE", "HEAD", "OPTIONS"):
        setattr(Handler, f"do_{method}", Handler._serve)
    return Handler


@contextmanager
def serving(host: str = "127.0.0.1", tls: ssl.SSLContext | None = None) -> Iterator[Site]:
    """A server on a free port of that address, over TLS with a context."""
    site = Site(host, 0, "https" if tls else "http")
    with _Server((host, 0), _handler(site)) as server:
        site.port = server.server_address[1]
        if tls:
            server.socket = tls.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
        thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
        thread.start()
        try:
            yield site
        finally:
            server.shutdown()
            thread.join(5)
