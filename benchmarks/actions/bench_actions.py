"""The actions that the benchmarks call."""

from __future__ import annotations

import time


def noop() -> int:
    """Nothing, and a small result."""
    return 1


def take(x: int) -> int:
    """Its parameter."""
    return x


def pause(seconds: float) -> int:
    """Waits; the time at which it returns, in nanoseconds since 1970."""
    time.sleep(seconds)
    return time.time_ns()
