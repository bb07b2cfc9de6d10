"""A small SMTP server on a loopback address, for hooks to send mail through."""

from __future__ import annotations

import base64
import socketserver
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from email import message_from_bytes, policy
from email.message import EmailMessage
from typing import Any, cast


@dataclass(frozen=True)
class Mail:
    sender: str
    recipients: list[str]
    raw: bytes
    secure: bool
    login: tuple[str, str] | None

    @property
    def message(self) -> EmailMessage:
        return cast(EmailMessage, message_from_bytes(self.raw, policy=policy.default))


@dataclass
class Post:
    """A running server. `refused` are recipients that it does not take; `greeting` replaces its first line."""

    host: str
    port: int = 0
    tls: ssl.SSLContext | None = None
    implicit: bool = False
    greeting: bytes = b"220 post.example ESMTP\r\n"
    injected: bytes = b""  # said after the answer to STARTTLS, still in the clear
    refused: set[str] = field(default_factory=set)
    commands: list[str] = field(default_factory=list)
    mails: list[Mail] = field(default_factory=list)
    protocols: list[str | None] = field(default_factory=list)  # that TLS has agreed upon


class _Dialogue(socketserver.StreamRequestHandler):
    """One client's session, command by command."""

    def handle(self) -> None:
        self.post: Post = cast(Any, self.server).post
        self.secure, self.login, self.sender, self.recipients = False, cast(Any, None), "", cast(list[str], [])
        if self.post.implicit:
            self._secure()
        self.wfile.write(self.post.greeting)
        while line := self.rfile.readline():
            command = line.decode(errors="replace").strip()
            self.post.commands.append(command)
            answer = self._answer(command)
            if answer is None:
                return
            if answer:
                self.wfile.write(answer.encode() + b"\r\n")

    def _answer(self, command: str) -> str | None:
        verb = command.upper()
        if verb.startswith("EHLO"):
            return self._features()
        if verb.startswith("STARTTLS"):
            self.wfile.write(b"220 go ahead\r\n" + self.post.injected)
            self._secure()
            return ""
        if verb.startswith("AUTH PLAIN "):
            _, user, password = base64.b64decode(command.split()[2]).decode().split("\0")
            self.login = (user, password)
            return "235 welcome" if password == "right" else "535 wrong password"
        if verb.startswith("MAIL FROM:"):
            self.sender = command[10:].split(">")[0].lstrip("<")
            return "250 ok"
        if verb.startswith("RCPT TO:"):
            return self._recipient(command[8:].split(">")[0].lstrip("<"))
        if verb == "DATA":
            return self._data()
        return "221 bye" if verb == "QUIT" else "250 ok"

    def _features(self) -> str:
        offered = ["post.example", "AUTH PLAIN", "8BITMIME"]
        if self.post.tls and not self.secure:
            offered.append("STARTTLS")
        return "\r\n".join(f"250-{each}" for each in offered[:-1]) + f"\r\n250 {offered[-1]}"

    def _recipient(self, address: str) -> str:
        if address in self.post.refused:
            return "550 no such user"
        self.recipients.append(address)
        return "250 ok"

    def _data(self) -> str:
        self.wfile.write(b"354 go on\r\n")
        lines = []
        while (line := self.rfile.readline()) != b".\r\n":
            lines.append(line.removeprefix(b".") if line.startswith(b"..") else line)
        self.post.mails.append(Mail(self.sender, self.recipients, b"".join(lines), self.secure, self.login))
        return "250 taken"

    def _secure(self) -> None:
        assert self.post.tls
        self.connection = self.post.tls.wrap_socket(self.connection, server_side=True)
        self.rfile, self.wfile = self.connection.makefile("rb"), cast(Any, self.connection.makefile("wb", 0))
        self.secure = True
        self.post.protocols.append(self.connection.selected_alpn_protocol())


class _Server(socketserver.ThreadingTCPServer):
    daemon_threads = True
    block_on_close = False
    allow_reuse_address = True
    post: Post

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Clients that break off are what some tests are about."""


@contextmanager
def post_office(host: str = "127.0.0.1", **options: Any) -> Iterator[Post]:
    post = Post(host, **options)
    with _Server((host, 0), _Dialogue) as server:
        server.post = post
        post.port = server.server_address[1]
        thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
        thread.start()
        try:
            yield post
        finally:
            server.shutdown()
            thread.join(5)
