"""Delivering one message over SMTP, through a connection that policy permits and within the run's time."""

from __future__ import annotations

import io
import smtplib
import socket
import ssl
from contextlib import suppress
from dataclasses import dataclass
from email.message import EmailMessage
from typing import Any, cast

from hook_event_processor.egress import Egress
from hook_event_processor.lua.web.dial import Lost, Patience, Stream, dial

_MAX_SAID = 1024 * 1024  # bytes of a server's answers, all together
IMPLICIT_TLS_PORT = 465  # RFC 8314


class Rejected(Exception):
    """The server did not take the message; the reason is what it said."""


@dataclass(frozen=True, slots=True)
class Relay:
    """A server that takes messages. `tls`: always, never, or (None) where it offers STARTTLS; always on port 465."""

    host: str
    port: int
    tls: bool | None
    username: str | None
    password: str | None


def deliver(
    rules: Egress,
    relay: Relay,
    trust: ssl.SSLContext,
    sender: str,
    recipients: list[str],
    message: EmailMessage,
    patience: Patience,
) -> None:
    """Hand the message to the relay for all recipients.

    Raises Forbidden, Unreachable, Lost, TimedOut, or Rejected, for a
    recipient that was refused too.
    """
    stream = dial(rules, relay.host, relay.port, patience)
    wire = _Wire(stream, patience)
    try:
        if relay.port == IMPLICIT_TLS_PORT:
            wire.secure(trust, relay.host)
        session = _Session(wire, relay.host)
        _prepare(session, wire, relay, trust)
        refused = session.send_message(message, sender, recipients)
        with suppress(smtplib.SMTPException):
            # The message has been taken, whatever becomes of the farewell.
            session.docmd("QUIT")
    except smtplib.SMTPServerDisconnected as fault:
        raise (wire.fault or Lost(str(fault))) from None
    except smtplib.SMTPRecipientsRefused as fault:
        raise Rejected(_refusals(fault.recipients)) from None
    except smtplib.SMTPResponseException as fault:
        raise Rejected(f"{fault.smtp_code} {_text(fault.smtp_error)}") from None
    except smtplib.SMTPException as fault:
        raise Rejected(str(fault)) from None
    finally:
        wire.close()
    if refused:
        raise Rejected(_refusals(refused))


def _prepare(session: _Session, wire: _Wire, relay: Relay, trust: ssl.SSLContext) -> None:
    session.ehlo_or_helo_if_needed()
    if not wire.is_secure and relay.tls is not False:
        if session.has_extn("starttls"):
            session.start_tls(trust)
        elif relay.tls or relay.username is not None:
            raise Rejected("the server offers no TLS (STARTTLS), and the message is not sent without")
    if relay.username is not None:
        session.login(relay.username, relay.password or "")


def _refusals(recipients: dict[str, tuple[int, bytes]]) -> str:
    return "; ".join(f"{address}: {code} {_text(said)}" for address, (code, said) in recipients.items())


def _text(said: bytes | str) -> str:
    return said.decode(errors="replace") if isinstance(said, bytes) else said


class _Session(smtplib.SMTP):
    """smtplib's side of the dialogue, over a connection that was made for it."""

    def __init__(self, wire: _Wire, host: str) -> None:
        # A name of its own: looking one up would ask the resolver.
        super().__init__(local_hostname=socket.gethostname())
        self._wire = wire
        self._peer = host
        self.sock = cast(Any, wire)
        code, said = self.getreply()
        if code != 220:
            raise smtplib.SMTPConnectError(code, said)

    def start_tls(self, trust: ssl.SSLContext) -> None:
        code, said = self.docmd("STARTTLS")
        if code != 220:
            raise smtplib.SMTPResponseException(code, said)
        self._wire.secure(trust, self._peer)
        # What was said in the clear counts for nothing (RFC 3207, 4.2); unread bytes neither.
        self.file = None
        self.helo_resp = self.ehlo_resp = None
        self.esmtp_features = {}
        self.does_esmtp = False
        self.ehlo_or_helo_if_needed()


class _Wire:
    """A stream in the shape of the socket that smtplib writes to and reads from.

    smtplib tells of a lost connection in its own words: `fault` is the error behind them.
    """

    def __init__(self, stream: Stream, patience: Patience) -> None:
        self._stream = stream
        self._patience = patience
        self.is_secure = False
        self.fault: OSError | None = None

    def secure(self, trust: ssl.SSLContext, host: str) -> None:
        self._stream = self._stream.start_tls(trust, host, self._patience)
        self.is_secure = True

    def sendall(self, data: bytes) -> None:
        try:
            self._stream.write(data, self._patience)
        except OSError as fault:
            self.fault = fault
            raise

    def receive(self, size: int) -> bytes:
        try:
            if self._patience.received > _MAX_SAID:
                raise Lost(f"the server's answers have more than {_MAX_SAID} bytes")
            return self._stream.read(size, self._patience)
        except OSError as fault:
            self.fault = fault
            raise

    def makefile(self, _: str) -> io.BufferedReader:
        return io.BufferedReader(_Reading(self))

    def close(self) -> None:
        self._stream.close()


class _Reading(io.RawIOBase):
    def __init__(self, wire: _Wire) -> None:
        self._wire = wire

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        data = self._wire.receive(len(buffer))
        buffer[: len(data)] = data
        return len(data)
