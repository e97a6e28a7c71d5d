"""The page of memory that a supervisor and its runner share.

Layer: worker. Anonymous shared memory, mapped before the fork. It makes an attempt visible to the supervisor
without a system call: the runner writes a few integers, the supervisor reads them at its ticks.

Who may kill what is settled here. The supervisor announces a kill (`KILLING` = the attempt's sequence), waits
longer than any store takes to become visible, then looks whether that attempt still is active. The runner
ends an attempt by clearing `ACTIVE` and then looking at `KILLING`. So either the supervisor sees that the
attempt ended and takes the kill back, or the runner sees the kill and never reports a result: an attempt
ends in exactly one way, and the attempt after it is never hit.
"""

from __future__ import annotations

import mmap

SEQUENCE, ACTIVE, DEADLINE_NS, GRACE_MS, AWAKE, KILLING, LINKED, STARTED_NS, SPOOL, LOG_SIZE = range(10)
MEMORY_BYTES, IDLE_BYTES = 10, 11
"""What the attempt may use, 0 without a limit; what the runner used before it."""
SETTLE_S = 0.001
_LOG_OFFSET = 128
_SIZE = 8192


class SharedPage:
    """Integers by index (`page.cells[ACTIVE]`), and the log path of the attempt that runs."""

    __slots__ = ("_memory", "cells")

    def __init__(self) -> None:
        self._memory = mmap.mmap(-1, _SIZE)
        self.cells = memoryview(self._memory)[:_LOG_OFFSET].cast("q")

    def set_log_path(self, path: bytes) -> None:
        """Stores the path, nothing when it is too long to fit (the log is then linked at the end only)."""
        if len(path) > _SIZE - _LOG_OFFSET:
            path = b""
        self._memory[_LOG_OFFSET : _LOG_OFFSET + len(path)] = path
        self.cells[LOG_SIZE] = len(path)

    def log_path(self) -> bytes:
        return self._memory[_LOG_OFFSET : _LOG_OFFSET + self.cells[LOG_SIZE]]
