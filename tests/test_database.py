"""Sessions: what becomes of one that is accepted and never answered."""

from __future__ import annotations

import socket
import struct
import threading
import time
from collections.abc import Iterator

import pytest

from hook_event_processor.errors import StoreUnavailable
from hook_event_processor.store import database
from hook_event_processor.store.database import Database

# AuthenticationOk and ReadyForQuery, as PostgreSQL's protocol has them.
_LOGGED_IN = struct.pack("!cii", b"R", 8, 0) + struct.pack("!cic", b"Z", 5, b"I")


@pytest.fixture
def port() -> Iterator[int]:
    """A server that lets everybody log in and then says nothing, as a pooler without a free session of its server."""
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve() -> None:
            client, _ = server.accept()
            with client:
                client.recv(1024)
                client.sendall(_LOGGED_IN)
                while client.recv(1024):
                    pass

        threading.Thread(target=serve, daemon=True).start()
        yield server.getsockname()[1]


def test_a_server_that_never_answers_a_session_cannot_be_reached(port: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(database, "_ANSWER_SECONDS", 0.3)
    silent = Database(f"postgresql://someone@127.0.0.1:{port}/none?sslmode=disable&gssencmode=disable")
    began = time.monotonic()
    with pytest.raises(StoreUnavailable, match="the database cannot be reached"):
        silent.connect("tests")
    assert 0.3 <= time.monotonic() - began < 5
