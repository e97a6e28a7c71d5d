"""The clock port: the one way anything above this layer learns the time.

Layer: just above `exceptions`. `SystemClock` is what engines use; `ManualClock` stands still until a
test moves it. Instants are integer microseconds since 1970 UTC (`now_us`), because the store keeps them
so; intervals are measured on a clock that never jumps (`monotonic_s`).
"""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta
from typing import Protocol

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class Clock(Protocol):
    """What the engine asks of time."""

    def now_us(self) -> int:
        """Wall time, in microseconds since 1970 UTC."""

    def monotonic_s(self) -> float:
        """Seconds on a clock that never goes back; only differences mean anything."""


class SystemClock:
    """The machine's own clocks."""

    def now_us(self) -> int:
        return time.time_ns() // 1000

    def monotonic_s(self) -> float:
        return time.monotonic()


class ManualClock:
    """A clock for tests: it moves only when told to."""

    def __init__(self, start_us: int = 1_700_000_000_000_000) -> None:
        self._now_us = start_us

    def now_us(self) -> int:
        return self._now_us

    def monotonic_s(self) -> float:
        return self._now_us / 1_000_000

    def advance(self, seconds: float) -> None:
        """Moves both readings forward by `seconds`."""
        self._now_us += round(seconds * 1_000_000)


def to_datetime(instant_us: int) -> datetime:
    """An instant of the store as an aware UTC datetime."""
    return _EPOCH + timedelta(microseconds=instant_us)
