"""Faults of amounts in a workflow tree, and of keys that stand in two spellings.

Layer: pure. What the schema cannot see: texts that are durations or sizes, but of nothing or of too much.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

from codomyrmex.logistics.orchestration.project.amounts import (
    DURATION_PATTERN,
    MAX_DURATION_S,
    MAX_SIZE_BYTES,
    SIZE_PATTERN,
    read_duration_s,
    read_milli_cpu,
    read_size_bytes,
)
from codomyrmex.logistics.orchestration.project.workflow_faults import Path, Placed, fault

# The same thing in two spellings: only one may stand.
_SPELLINGS = (
    ("needs", "dependencies"),
    ("with", "parameters"),
    ("timeout", "timeout_s"),
    ("retry", "max_retries"),
    ("delay", "delay_s"),
    ("max_delay", "max_delay_s"),
    ("ttl", "ttl_s"),
)


def spelling_faults(path: Path, holder: dict[str, Any], tree: Any) -> list[Placed]:
    """One fault for each pair of keys that say the same."""
    faults: list[Placed] = []
    for short, long in _SPELLINGS:
        if short in holder and long in holder:
            message = f"`{short}` and `{long}` say the same; keep one"
            faults.append(((*path, long), fault((*path, long), tree, message, code="twice")))
    return faults


def resource_faults(path: Path, resources: dict[str, Any], tree: Any) -> list[Placed]:
    """Amounts that no machine has, or that are finer than we count."""
    faults: list[Placed] = []
    for name, read in _AMOUNTS:
        amount = resources.get(name)
        if isinstance(amount, (int, float, str)) and not isinstance(amount, bool):
            faults += _amount_faults((*path, name), amount, read, tree)
    return faults


def _amount_faults(path: Path, amount: float | str, read: Callable[[Any], int], tree: Any) -> list[Placed]:
    if isinstance(amount, str) == (path[-1] == "cpu") or (not isinstance(amount, str) and amount < 0):
        return []  # of the wrong type: the schema has said so
    message = "CPUs are shared in thousandths" if path[-1] == "cpu" else "this is not a whole number of bytes"
    try:
        if read(amount) <= MAX_SIZE_BYTES:
            return []
        message = "this is more than any machine has"
    except ValueError:
        if path[-1] == "memory" and not (
            isinstance(amount, str) and re.match(SIZE_PATTERN, amount, re.ASCII)
        ):
            return []
    return [(path, fault(path, tree, message, value=amount, code="wrong_value"))]


_AMOUNTS: tuple[tuple[str, Callable[[Any], int]], ...] = (
    ("cpu", read_milli_cpu),
    ("memory", read_size_bytes),
)


def duration_faults(path: Path, holder: dict[str, Any], tree: Any) -> list[Placed]:
    """Texts that are durations, but of nothing or of more than ten years; numbers are the schema's."""
    faults: list[Placed] = []
    for key, least in _LEAST_S:
        text = holder.get(key)
        if not isinstance(text, str) or not text or re.match(DURATION_PATTERN, text, re.ASCII) is None:
            continue
        if not least < read_duration_s(text) <= MAX_DURATION_S:
            place = (*path, key)
            message = "a duration is above 0" if read_duration_s(text) <= 0 else "a duration is at most 3650d"
            advice = None if key == "sleep" else "to have no limit, leave it out"
            faults.append((place, fault(place, tree, message, value=text, code="wrong_value", advice=advice)))
    return faults


_LEAST_S = (("timeout", 0.0), ("ttl", 0.0), ("delay", -1.0), ("max_delay", -1.0), ("sleep", -1.0))
