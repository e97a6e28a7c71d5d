"""The clock port: the one way anything above this layer learns the time.

Layer: just above `exceptions`. `SystemClock` is what engines use; `ManualClock` stands still until a
test moves it; `VirtualClock` leaves out the time in which everybody only waits. Instants are integer
microseconds since 1970 UTC (`now_us`), because the store keeps them so; intervals are measured on a clock
that never jumps (`monotonic_s`).
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

    def skip(self, seconds: float) -> bool:
        """Asked when nothing happens for so long: lets that time pass, or says no, like a real clock."""


class SystemClock:
    """The machine's own clocks."""

    def now_us(self) -> int:
        return time.time_ns() // 1000

    def monotonic_s(self) -> float:
        return time.monotonic()

    def skip(self, seconds: float) -> bool:
        return False


class ManualClock:
    """A clock for tests: it moves only when told to."""

    def __init__(self, start_us: int = 1_700_000_000_000_000) -> None:
        self._now_us = start_us

    def now_us(self) -> int:
        return self._now_us

    def monotonic_s(self) -> float:
        return self._now_us / 1_000_000

    def skip(self, seconds: float) -> bool:
        return False

    def advance(self, seconds: float) -> None:
        """Moves both readings forward by `seconds`."""
        self._now_us += round(seconds * 1_000_000)


class VirtualClock:
    """The machine's clocks, set forward over every stretch in which an engine has nothing to do but wait."""

    def __init__(self) -> None:
        self.skipped_s = 0.0
        """How much time was left out so far."""

    def now_us(self) -> int:
        return time.time_ns() // 1000 + round(self.skipped_s * 1_000_000)

    def monotonic_s(self) -> float:
        return time.monotonic() + self.skipped_s

    def skip(self, seconds: float) -> bool:
        self.skipped_s += seconds
        return True


def to_datetime(instant_us: int) -> datetime:
    """An instant of the store as an aware UTC datetime."""
    return _EPOCH + timedelta(microseconds=instant_us)
