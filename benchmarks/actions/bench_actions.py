"""The actions that the benchmarks call."""

from __future__ import annotations


def noop() -> int:
    """Nothing, and a small result."""
    return 1


def take(x: int) -> int:
    """Its parameter."""
    return x
