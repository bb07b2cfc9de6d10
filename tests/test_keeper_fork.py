"""The keeper of cells is forked from a process whose other threads may be at anything."""

from __future__ import annotations

import importlib
import socket
import sys
import threading
import time
from pathlib import Path

import pytest

from hook_event_processor.lua.web import exchange
from hook_event_processor.processor.quarantine.keeper import Keeper

_SLOW = "import threading, time\nthreading.begun.set()\ntime.sleep(0.5)\nANSWER = b'imported'\n"


def _answer_of(keeper: Keeper) -> bytes:
    """What a new cell says."""
    stream, told = keeper.cell()
    try:
        stream.settimeout(10)
        return stream.recv(100)
    finally:
        stream.close()
        told.close()
        keeper.close()


def test_a_cell_can_import_what_another_thread_was_importing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Found by ops/chaos: every run that asked a web server stuck in its cell, while httpcore was being imported."""
    (tmp_path / "imported_slowly.py").write_text(_SLOW)
    monkeypatch.syspath_prepend(str(tmp_path))
    begun = threading.Event()
    monkeypatch.setattr(threading, "begun", begun, raising=False)

    def serve(stream: socket.socket) -> None:
        stream.sendall(importlib.import_module("imported_slowly").ANSWER)

    importing = threading.Thread(target=importlib.import_module, args=("imported_slowly",))
    importing.start()
    try:
        assert begun.wait(5)
        assert _answer_of(Keeper(lambda: None, serve, lambda: ())) == b"imported"
    finally:
        importing.join()
        sys.modules.pop("imported_slowly", None)


def test_a_cell_waits_for_no_lock_that_a_thread_held_on_connections() -> None:
    def serve(stream: socket.socket) -> None:
        with exchange._pools_lock:
            stream.sendall(b"%d" % len(exchange._pools))

    held, enough = threading.Event(), threading.Event()

    def hold() -> None:
        with exchange._pools_lock:
            held.set()
            enough.wait(20)

    holding = threading.Thread(target=hold)
    holding.start()
    try:
        assert held.wait(5)
        began = time.monotonic()
        assert _answer_of(Keeper(lambda: None, serve, lambda: ())) == b"0"
        assert time.monotonic() - began < 10
    finally:
        enough.set()
        holding.join()
