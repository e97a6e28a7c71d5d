"""What the runs of these tests do; imported by workers too."""

from __future__ import annotations

import os
import time
from threading import Event

from codomyrmex import current_task


def hold(seconds: float) -> list[float]:
    """Says when it began and ended; a wait, because the time between two ends is what is looked at."""
    began = time.monotonic()
    Event().wait(seconds)
    return [began, time.monotonic()]


def ask_and_give_back(used: int) -> None:
    current_task().refund("api", 10 - used)


def fill(mebibytes: int) -> int:
    kept = b"x" * (mebibytes << 20)
    Event().wait(1.0)  # long enough to be measured
    return len(kept)


def seen() -> dict[str, str | None]:
    return {name: os.environ.get(name) for name in ("CUDA_VISIBLE_DEVICES", "OMP_NUM_THREADS")}
