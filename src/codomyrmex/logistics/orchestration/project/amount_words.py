"""Amounts of resources as people say them, and lists with "and 7 more".

Layer: pure. Amounts come in the smallest unit of their resource (`resource_request`).
"""

from __future__ import annotations

from collections.abc import Sequence

from codomyrmex.logistics.orchestration.project.resource_request import CPU, DISK, GPU, MEMORY, NETWORK, UNIT

LABELS = {CPU: "CPU", MEMORY: "memory", DISK: "disk", NETWORK: "network", GPU: "a GPU"}
"""What a machine has, as one waits for it."""
_UNITS = {CPU: "CPUs", MEMORY: "bytes", DISK: "bytes", NETWORK: "bytes per second", GPU: "GPUs"}

_PERIODS = {1: "second", 60: "minute", 3600: "hour", 86400: "day"}


def natural(resource: str, amount: int) -> int | float:
    """An amount as people count: CPUs, bytes, GPUs, units."""
    scale = 1000 if resource == CPU else 1 if resource in (MEMORY, DISK, NETWORK) else UNIT
    return amount // scale if amount % scale == 0 else amount / scale


def unit_of(resource: str) -> str:
    """What `natural` amounts are counted in: CPUs, bytes, bytes per second, GPUs, units."""
    return _UNITS.get(resource, "units")


def amount_text(resource: str, amount: int) -> str:
    """`2 CPUs`, `512 MiB`, `10 MB/s`, `0.5 GPU`, `3`."""
    if resource in (MEMORY, DISK):
        return size_text(amount)
    if resource == NETWORK:
        return size_text(amount, step=1000, units=("B/s", "KB/s", "MB/s", "GB/s", "TB/s"))
    number = natural(resource, amount)
    text = f"{number:,}" if isinstance(number, int) else f"{number:,.4g}"
    if resource not in (CPU, GPU):
        return text
    return f"{text} {'CPU' if resource == CPU else 'GPU'}{'' if number <= 1 and number else 's'}"


def size_text(
    size: int, *, step: int = 1024, units: Sequence[str] = ("B", "KiB", "MiB", "GiB", "TiB")
) -> str:
    """`512 MiB`, `1.5 GiB`: three digits at most before they would say nothing more."""
    value, number = float(size), 0
    while value >= step and number < len(units) - 1:
        value /= step
        number += 1
    text = f"{value:.3g}" if value < 1000 else f"{value:.0f}"
    return f"{text} {units[number]}"


def listed(names: Sequence[str], more: int, noun: str = "") -> str:
    """`a`, `a and b`, `a, b and 7 more`; with a noun `a and 2 others`."""
    words = list(names)
    if more:
        words.append(f"{more:,} {noun + ('' if more == 1 else 's') if noun else 'more'}")
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} and {words[-1]}" if words else ""


def period_text(seconds: float) -> str:
    """`minute`, `90 s`: what stands behind `60 per`."""
    return _PERIODS.get(int(seconds) if seconds == int(seconds) else -1, f"{seconds:g} s")
