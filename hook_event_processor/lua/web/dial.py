"""Connections that hooks open: to an address that policy permits, and never waiting longer than their run may."""

from __future__ import annotations

import errno
import os
import select
import socket
import ssl
import threading
from collections.abc import Callable
from contextlib import suppress
from ipaddress import ip_address
from queue import Empty, SimpleQueue
from time import perf_counter
from typing import Any

from hook_event_processor.egress import Egress, Forbidden, place

_LOOK_SECONDS = 0.2  # between two looks at whether the run was given up
_MAX_ADDRESSES = 8  # of one name that are tried
_ADDRESS_SECONDS = 5.0  # for each of them, while others are left
# getaddrinfo cannot be interrupted: threads that wait for a resolver stay until it answers.
_MOST_LOOKUPS = 64
_LOOKUPS = threading.BoundedSemaphore(_MOST_LOOKUPS)


def _begin_anew() -> None:
    """In a fork: the threads that looked names up are no more."""
    global _LOOKUPS
    _LOOKUPS = threading.BoundedSemaphore(_MOST_LOOKUPS)


os.register_at_fork(after_in_child=_begin_anew)


class Unreachable(OSError):
    """No connection was made: nothing was sent."""


class Lost(OSError):
    """The connection broke."""


class TimedOut(OSError):
    """The time was over, or the run was given up."""


class Patience:
    """How long one attempt may wait for the network, all its steps together; and what it has come to.

    `ends_at` is by time.perf_counter(). `hold` says whether there is room for
    so many more bytes of a body. `dialled` tells whether a connection was
    opened for it, `received` how many bytes came.
    """

    def __init__(
        self, ends_at: float, cancelled: threading.Event, hold: Callable[[int], bool] = lambda _: True
    ) -> None:
        self.ends_at = ends_at
        self.cancelled = cancelled
        self.hold = hold
        self.dialled = False
        self.received = 0

    def left(self) -> float:
        """Seconds, more than 0; raises TimedOut when there are none."""
        left = self.ends_at - perf_counter()
        if left <= 0 or self.cancelled.is_set():
            raise TimedOut("the time was over")
        return left

    def wait(self, sock: socket.socket, event: int) -> None:
        """Wait for select.POLLIN or POLLOUT; raises TimedOut."""
        poll = select.poll()
        poll.register(sock, event)
        while not poll.poll(min(self.left(), _LOOK_SECONDS) * 1000 + 1):
            pass


class Stream:
    """A connection, in the shape that httpcore gives its streams. `timeout` is a Patience everywhere."""

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock
        self._broken: OSError | None = None

    def read(self, max_bytes: int, timeout: Patience) -> bytes:
        """Some bytes, none at the end. Raises Lost or TimedOut."""
        while True:
            timeout.left()  # however steadily bytes drip in
            try:
                data = self._sock.recv(max_bytes)
            except (BlockingIOError, ssl.SSLWantReadError):
                timeout.wait(self._sock, select.POLLIN)
            except ssl.SSLWantWriteError:
                timeout.wait(self._sock, select.POLLOUT)
            except OSError as fault:
                raise Lost(reason_of(self._broken or fault)) from None
            else:
                timeout.received += len(data)
                return data

    def write(self, buffer: bytes, timeout: Patience) -> None:
        """Send all of it. Raises TimedOut."""
        # A server may answer and close before it has read everything: what it
        # said is read first, and only that tells that the connection is lost.
        view = memoryview(buffer)
        while view and not self._broken:
            timeout.left()
            try:
                view = view[self._sock.send(view) :]
            except (BlockingIOError, ssl.SSLWantWriteError):
                timeout.wait(self._sock, select.POLLOUT)
            except ssl.SSLWantReadError:
                timeout.wait(self._sock, select.POLLIN)
            except OSError as fault:
                self._broken = fault

    def start_tls(self, ssl_context: ssl.SSLContext, server_hostname: str, timeout: Patience) -> Stream:
        """The same connection under TLS, the certificate checked against the name. Raises Unreachable or TimedOut."""
        try:
            sock = ssl_context.wrap_socket(self._sock, server_hostname=server_hostname, do_handshake_on_connect=False)
            self._sock = sock
            _shake_hands(sock, timeout)
        except TimedOut:
            self.close()
            if timeout.cancelled.is_set():
                raise
            raise Unreachable(f"{server_hostname} did not finish the TLS handshake in time") from None
        except (OSError, ValueError) as fault:
            self.close()
            raise Unreachable(f"TLS with {server_hostname} failed: {reason_of(fault)}") from None
        return Stream(sock)

    def close(self) -> None:
        self._sock.close()

    def get_extra_info(self, info: str) -> Any:
        """What httpcore asks for: ssl_object, and is_readable, which tells that an idle connection has ended."""
        if info == "ssl_object":
            return self._sock if isinstance(self._sock, ssl.SSLSocket) else None
        if info == "is_readable":
            poll = select.poll()
            poll.register(self._sock, select.POLLIN)
            return bool(poll.poll(0))
        return None


def _shake_hands(sock: ssl.SSLSocket, patience: Patience) -> None:
    while True:
        try:
            return sock.do_handshake()
        except ssl.SSLWantReadError:
            patience.wait(sock, select.POLLIN)
        except ssl.SSLWantWriteError:
            patience.wait(sock, select.POLLOUT)


def dial(rules: Egress, host: str, port: int, patience: Patience) -> Stream:
    """Connect to the first address of the host that is permitted and answers.

    The name is looked up once, and what was checked is what is connected to:
    a name that points elsewhere a moment later changes nothing. Raises
    Forbidden, Unreachable, or TimedOut when the run was given up.
    """
    patience.dialled = True
    rules.check_name(host, port)
    found = look_up(host, port, patience)
    permitted = [each for each in found if rules.permits(host, port, ip_address(each[4][0]))]
    if not permitted:
        raise Forbidden(f"{place(host, port)} ({', '.join(dict.fromkeys(each[4][0] for each in found))})")
    fault = Unreachable(f"{host} has no address")
    for index, address in enumerate(permitted[:_MAX_ADDRESSES], 1):
        try:
            return _connected(address, patience, last=index == len(permitted))
        except TimedOut:
            if patience.cancelled.is_set():
                raise
            fault = Unreachable(f"{place(host, port)} did not accept a connection in time")
        except OSError as refused:
            fault = Unreachable(f"{place(host, port)}: {reason_of(refused)}")
    raise fault


def _connected(address: Any, patience: Patience, last: bool) -> Stream:
    family, kind, protocol, _, target = address
    sock = socket.socket(family, kind, protocol)
    try:
        sock.setblocking(False)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        status = sock.connect_ex(target)
        if status == errno.EINPROGRESS:
            ends_at = patience.ends_at if last else min(patience.ends_at, perf_counter() + _ADDRESS_SECONDS)
            Patience(ends_at, patience.cancelled).wait(sock, select.POLLOUT)
            status = sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        if status:
            raise OSError(status, errno.errorcode.get(status, "error"))
    except BaseException:
        sock.close()
        raise
    return Stream(sock)


def look_up(host: str, port: int, patience: Patience) -> list[Any]:
    """The host's addresses, as socket.getaddrinfo gives them.

    Raises Unreachable, or TimedOut when the run was given up.
    """
    try:
        # Addresses in every notation that the resolver knows: 127.1, 0x7f000001, 2130706433.
        return socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_NUMERICHOST)
    except (OSError, UnicodeError):
        pass
    answers: SimpleQueue[list[Any] | Exception] = SimpleQueue()
    try:
        while not _LOOKUPS.acquire(timeout=min(patience.left(), _LOOK_SECONDS)):
            pass
        threading.Thread(target=_ask_resolver, args=(host, port, answers), daemon=True).start()
        answer = _awaited(answers, patience)
    except TimedOut:
        if patience.cancelled.is_set():
            raise
        raise Unreachable(f"{host} was not found in time: the resolver did not answer") from None
    if isinstance(answer, Exception):
        raise Unreachable(f"{host} was not found: {reason_of(answer)}")
    return answer


def _awaited(answers: SimpleQueue[list[Any] | Exception], patience: Patience) -> list[Any] | Exception:
    while True:
        with suppress(Empty):
            return answers.get(timeout=min(patience.left(), _LOOK_SECONDS))


def _ask_resolver(host: str, port: int, answers: SimpleQueue[list[Any] | Exception]) -> None:
    try:
        answers.put(socket.getaddrinfo(host, port, type=socket.SOCK_STREAM))
    except (OSError, UnicodeError) as fault:
        answers.put(fault)
    finally:
        _LOOKUPS.release()


def reason_of(fault: Exception) -> str:
    """What an error of the network says, without its number."""
    if isinstance(fault, ssl.SSLCertVerificationError):
        return f"certificate verify failed: {fault.verify_message}"
    if isinstance(fault, OSError) and fault.errno and fault.errno > 0 and not isinstance(fault, ssl.SSLError):
        return os.strerror(fault.errno)
    text = fault.strerror if isinstance(fault, OSError) and fault.strerror else str(fault)
    return text or type(fault).__name__
