"""Freeze some threads of a process for as long as this program runs: freeze.py PID main|others|NAME (root only).

Unlike SIGSTOP, which stops all of them, ptrace(2) can hold a single thread.
Prints `frozen` when they stand still; ends when the process does.
"""

import ctypes
import os
import sys
from pathlib import Path

SEIZE, INTERRUPT, CONTINUE = 0x4206, 0x4207, 7
STOP_EVENT = 128  # PTRACE_EVENT_STOP
WAIT_ALL = 0x40000000  # __WALL

libc = ctypes.CDLL(None, use_errno=True)
libc.ptrace.argtypes = (ctypes.c_long, ctypes.c_long, ctypes.c_void_p, ctypes.c_void_p)
libc.ptrace.restype = ctypes.c_long


def ptrace(request: int, thread: int, data: int = 0) -> None:
    if libc.ptrace(request, thread, None, data) < 0:
        raise OSError(ctypes.get_errno(), f"ptrace {request:#x} of {thread}")


def freeze(pid: int, which: str) -> None:
    threads = {int(name) for name in os.listdir(f"/proc/{pid}/task")}
    chosen = {"main": {pid}, "others": threads - {pid}}.get(which) or {
        thread for thread in threads if Path(f"/proc/{pid}/task/{thread}/comm").read_text().strip() == which
    }
    for thread in chosen:
        ptrace(SEIZE, thread)
        ptrace(INTERRUPT, thread)
    moving = set(chosen)
    while chosen:
        thread, status = os.waitpid(-1, WAIT_ALL)
        if not os.WIFSTOPPED(status):
            chosen.discard(thread)  # it was killed
        elif status >> 16 == STOP_EVENT and thread in moving:
            moving.discard(thread)
            if not moving:
                print("frozen", flush=True)
        else:  # a signal that ends it may pass
            ptrace(CONTINUE, thread, os.WSTOPSIG(status))


if __name__ == "__main__":
    freeze(int(sys.argv[1]), sys.argv[2])
