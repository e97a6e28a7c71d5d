"""Ending what a dead engine or worker left behind.

Layer: executors. Every process of an engine carries its token in the environment that it was started with,
however far it has moved away from its parents. A scan of `/proc/*/environ` finds them all; on other systems
`psutil` does the same as well as it can. Processes that were given a clean environment by their own parents
escape; the supervisor's tree has them while it lives.
"""

from __future__ import annotations

import os
import signal
import sys
import time
from typing import Final

from codomyrmex.logistics.orchestration.project.executors.worker.tree import descendants, send_signal

__all__ = [
    "ENGINE_VARIABLE",
    "WORKER_VARIABLE",
    "descendants",
    "find_marked",
    "kill_left_behind",
    "kill_marked",
]

ENGINE_VARIABLE: Final = "CODOMYRMEX_ENGINE"
WORKER_VARIABLE: Final = "CODOMYRMEX_WORKER"
KILL_LIMIT_S: Final = 5.0


def kill_left_behind(engine_token: str) -> list[int]:
    """Kills every process of that engine except this one; returns the pids once none is left."""
    return kill_marked(ENGINE_VARIABLE, engine_token)


def kill_marked(variable: str, value: str) -> list[int]:
    """Kills every process whose environment has `variable=value`, again until none is left (at most 5 s)."""
    killed: dict[int, None] = {}
    deadline = time.monotonic() + KILL_LIMIT_S
    while found := find_marked(variable, value):
        send_signal(found, signal.SIGKILL)
        killed.update(dict.fromkeys(found))
        if time.monotonic() > deadline:
            break  # a process in an uninterruptible wait; the signal is pending
        time.sleep(0.002)
    return list(killed)


def find_marked(variable: str, value: str) -> list[int]:
    """The living processes, without this one, whose environment has `variable=value`."""
    if not sys.platform.startswith("linux"):
        return _find_with_psutil(variable, value)
    mark = f"{variable}={value}".encode()
    own = os.getpid()
    found = []
    for name in os.listdir("/proc"):
        if not name.isdigit() or int(name) == own:
            continue
        try:
            with open(f"/proc/{name}/environ", "rb") as file:
                if mark in file.read().split(b"\0"):
                    found.append(int(name))
        except OSError:
            continue  # ended meanwhile, or another user's
    return found


def _find_with_psutil(variable: str, value: str) -> list[int]:
    import psutil

    found = []
    for process in psutil.process_iter():
        try:
            if process.pid != os.getpid() and process.environ().get(variable) == value:
                found.append(process.pid)
        except (psutil.Error, OSError):
            continue
    return found
