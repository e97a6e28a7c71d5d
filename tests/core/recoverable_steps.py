"""Steps that any engine finds by name, and that leave traces in files."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

from codomyrmex.current_task import TaskCancelled, current_task


def note(folder: str, name: str) -> int:
    """One more letter in a file for each time it ran."""
    with Path(folder, name).open("a") as file:
        file.write("x")
    return len(Path(folder, name).read_text())


def wait_for_go(folder: str, name: str) -> str:
    """Waits for a file `name.go`; gives up when asked to end."""
    note(folder, name)
    while not Path(folder, f"{name}.go").exists():
        if current_task().cancelled:
            raise TaskCancelled
        time.sleep(0.002)
    return "went on"


def fail_first(folder: str, name: str) -> str:
    """Fails when it runs for the first time."""
    if note(folder, name) == 1:
        raise ValueError("the first time")
    return "went on"


def fail_odd(folder: str, name: str, n: int) -> int:
    """Fails for odd numbers."""
    note(folder, f"{name}{n}")
    if n % 2:
        raise ValueError(f"odd: {n}")
    return n


def slow(n: Any = 0, pause_s: float = 0.004) -> Any:
    """Takes a little while."""
    time.sleep(pause_s)
    return n


def wait_or_fail(folder: str, name: str) -> str:
    """Fails when its name is `bad`, else waits for a file."""
    if name == "bad":
        raise ValueError("bad")
    return wait_for_go(folder, name)


def never_ends(folder: str, name: str) -> None:
    """Takes no notice of being asked to end, until its engine is dead."""
    note(folder, name)
    while not Path(folder, f"{name}.dead").exists():
        time.sleep(0.002)
