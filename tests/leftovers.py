"""What a test left behind: child processes, threads, and processes that slipped away from their parent.

Children and threads are compared before and after each test, which takes some microseconds. A process that
made itself a session of its own and lost its parent is no child any more, but it still carries the
environment that it was started with: once per test module, everything that carries our mark is looked for.
"""

from __future__ import annotations

import os
import threading
from pathlib import Path

MARK = "CODOMYRMEX_TEST_SESSION"
# Timers of the test tools themselves.
FOREIGN_THREADS = ("pytest_timeout", "pydevd", "ThreadPoolExecutor-hypothesis")


def mark_environment() -> None:
    """From here on every process started, at any depth, carries the mark of this test session."""
    os.environ[MARK] = str(os.getpid())


def children() -> set[int]:
    """The processes whose parent this process is, those that ended and were never waited for included."""
    found: set[int] = set()
    for path in Path("/proc/self/task").glob("*/children"):
        try:
            found.update(map(int, path.read_text().split()))
        except OSError:  # the thread has just ended; its children belong to another one now
            continue
    return found


def threads() -> set[threading.Thread]:
    """The living threads that are not tools of the tests."""
    return {thread for thread in threading.enumerate() if not thread.name.startswith(FOREIGN_THREADS)}


def marked() -> set[int]:
    """Every other process anywhere that carries our mark; empty where there is no `/proc`."""
    wanted = f"{MARK}={os.getpid()}\0".encode()
    found: set[int] = set()
    for path in Path("/proc").glob("[0-9]*/environ"):
        try:
            if wanted in path.read_bytes():
                found.add(int(path.parent.name))
        except OSError:  # somebody else's, or gone
            continue
    return found - {os.getpid()}


def described(pids: set[int]) -> str:
    """Their command lines, for a person."""
    lines = []
    for pid in sorted(pids):
        try:
            command = Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
        except OSError:
            command = ""
        lines.append(f"{pid}: {command.strip() or 'ended, but nobody has waited for it'}")
    return "; ".join(lines)
