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


def texts(count: int, length: int) -> list[str]:
    """So many different texts of one length."""
    return [f"{number:08}".ljust(length, ".") for number in range(count)]


def length(text: str) -> int:
    """How long its parameter is."""
    return len(text)


def fail_at(x: int, at: int) -> int:
    """Its parameter, unless that is `at`."""
    if x == at:
        raise ValueError(f"{x} fails, as it was told to")
    return x
