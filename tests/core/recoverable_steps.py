"""Steps that other processes find by name, and that leave traces in files."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

from codomyrmex.current_task import current_task
from waiting import wait_until


def note(folder: str, name: str) -> int:
    """One line for each time it ran."""
    with Path(folder, name).open("a") as file:
        file.write("ran\n")
    return current_task().attempt


def wait_for(folder: str, name: str) -> str:
    """Notes that it runs, then waits for a file `name.go`, or to be asked to end."""
    note(folder, name)
    wait_until(lambda: Path(folder, f"{name}.go").exists() or current_task().cancelled, timeout_s=30)
    current_task().check() if hasattr(current_task(), "check") else None
    return "went on"


def fail_first(folder: str, name: str) -> int:
    """Fails in its first run, whatever the attempt's number."""
    number = note(folder, name)
    if Path(folder, name).read_text().count("ran") == 1:
        raise ValueError("the first time")
    return number


def slow(n: Any = 0, pause_s: float = 0.004) -> Any:
    time.sleep(pause_s)
    return n
