"""Waiting for something to become true, with an end: what tests do instead of sleeping."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")


def wait_until(
    condition: Callable[[], T], *, timeout_s: float = 10.0, every_s: float = 0.002, what: str = ""
) -> T:
    """Calls `condition` until its answer is true and returns that answer.

    Raises AssertionError with `what` and the last answer when `timeout_s` have passed. The pause between
    two calls grows to 50 ms, so a long wait costs little.
    """
    deadline = time.monotonic() + timeout_s
    while True:
        answer = condition()
        if answer:
            return answer
        if time.monotonic() >= deadline:
            wanted = what or getattr(condition, "__name__", "it")
            raise AssertionError(f"waited {timeout_s:g} s for {wanted}; the last answer was {answer!r}")
        time.sleep(every_s)
        every_s = min(every_s * 1.5, 0.05)
