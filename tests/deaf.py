"""A proxy in front of PostgreSQL that hands everything on but notifications, while it is deaf.

Queries are answered as ever: only whoever asks for notifications notices. It
can also give the server another version.
"""

from __future__ import annotations

import socket
import struct
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from psycopg.conninfo import conninfo_to_dict, make_conninfo

_NOTIFICATION, _PARAMETER = b"A", b"S"  # PostgreSQL manual, "Message Formats"


class DeafProxy:
    """`deaf` may be set and taken back at any time; `conninfo` leads through it, until cut().

    Who connects is told that the server is of this `version`, unless it is empty.
    """

    def __init__(self, conninfo: str) -> None:
        given = conninfo_to_dict(conninfo)
        self._upstream = f"{given['host']}/.s.PGSQL.{given['port']}"
        self._listener = socket.create_server(("127.0.0.1", 0))
        port = self._listener.getsockname()[1]
        self.conninfo = make_conninfo(conninfo, host="127.0.0.1", port=port, sslmode="disable", gssencmode="disable")
        self.deaf = self._away = self._mute = False
        self.version = ""
        self._ends: list[socket.socket] = []
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        self._listener.close()
        self.cut()

    def cut(self, *, mute: bool = False) -> None:
        """End all connections, and refuse others; or accept them, and say nothing."""
        self._away, self._mute = True, mute
        _end(*self._ends)

    def mend(self) -> None:
        """Let them through again."""
        self._away = False

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                if self._away:
                    self._ends.append(client)
                    if not self._mute:
                        client.close()
                    continue
                server = socket.socket(socket.AF_UNIX)
                server.connect(self._upstream)
                self._ends += [client, server]
                threading.Thread(target=self._hand_on, args=(client, server), daemon=True).start()
                threading.Thread(target=self._filter, args=(server, client), daemon=True).start()

    def _hand_on(self, client: socket.socket, server: socket.socket) -> None:
        with suppress(OSError):
            while data := client.recv(65_536):
                server.sendall(data)
        _end(client, server)

    def _filter(self, server: socket.socket, client: socket.socket) -> None:
        with suppress(OSError), server.makefile("rb") as messages:
            while head := messages.read(5):
                body = messages.read(struct.unpack("!xI", head)[0] - 4)
                if head[:1] == _PARAMETER and self.version and body.startswith(b"server_version\0"):
                    body = f"server_version\0{self.version}\0".encode()
                    head = struct.pack("!cI", _PARAMETER, 4 + len(body))
                if not (self.deaf and head[:1] == _NOTIFICATION):
                    client.sendall(head + body)
        _end(client, server)


def _end(*ends: socket.socket) -> None:
    for end in ends:
        with suppress(OSError):
            end.shutdown(socket.SHUT_RDWR)


@contextmanager
def deaf_proxy(conninfo: str) -> Iterator[DeafProxy]:
    """A proxy in front of the server of a connection string that names a socket in the file system."""
    proxy = DeafProxy(conninfo)
    try:
        yield proxy
    finally:
        proxy.close()
