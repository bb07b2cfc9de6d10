"""How many of glibc's arenas threads share, as glibc itself says (malloc_info(3))."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

_PROGRAM = """
import ctypes, sys, threading
from hook_event_processor import thread_memory

arenas, path = int(sys.argv[1]), sys.argv[2]
thread_memory.share(arenas)
libc = ctypes.CDLL(None)
libc.malloc.restype = libc.fopen.restype = ctypes.c_void_p
threads = threading.Barrier(9)


def work():
    libc.malloc(10_000)
    threads.wait()


for _ in range(8):
    threading.Thread(target=work).start()
threads.wait()
file = libc.fopen(path.encode(), b"w")
libc.malloc_info(0, ctypes.c_void_p(file))
libc.fclose(ctypes.c_void_p(file))
"""


@pytest.mark.parametrize("arenas", [1, 4])
def test_threads_share_so_many_arenas(tmp_path: Path, arenas: int) -> None:
    told = tmp_path / "malloc.xml"
    subprocess.run([sys.executable, "-c", _PROGRAM, str(arenas), str(told)], check=True, timeout=60)
    assert told.read_text().count("<heap nr=") == arenas
