"""The combinations of a job's matrix, as GitHub Actions makes them: axes, `exclude`, then `include`.

Layer: pure. An entry of `include` is added to every combination whose own values it would not change; one
that fits none is a combination of its own. The order is the original's.
"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import product
from typing import Any

from codomyrmex.logistics.orchestration.project.workflow_import.actions_syntax import equal

MAX_COMBINATIONS = 256
Combination = dict[str, Any]


def combinations(matrix: Mapping[str, Any]) -> list[Combination]:
    """Every combination; ValueError where an axis is no list, or there are more than 256."""
    axes: dict[str, list[Any]] = {}
    for name, values in matrix.items():
        if name in ("include", "exclude"):
            continue
        if not isinstance(values, list):
            raise ValueError(f"the axis {name!r} is no list")
        axes[name] = values
    _check_entries(matrix)
    count = 1
    for values in axes.values():
        count *= len(values)
        if count > MAX_COMBINATIONS:
            raise ValueError(f"a matrix has at most {MAX_COMBINATIONS} combinations")
    made = [dict(zip(axes, values, strict=True)) for values in product(*axes.values())] if axes else []
    kept = [each for each in made if not any(_matches(each, out) for out in matrix.get("exclude") or [])]
    return _with_included(kept, matrix.get("include") or [])


def _check_entries(matrix: Mapping[str, Any]) -> None:
    for key in ("include", "exclude"):
        entries = matrix.get(key) or []
        if not isinstance(entries, list) or not all(isinstance(each, dict) for each in entries):
            raise ValueError(f"`{key}` is no list of mappings")


def _matches(combination: Combination, wanted: Mapping[str, Any]) -> bool:
    return all(name in combination and equal(combination[name], value) for name, value in wanted.items())


def _with_included(made: list[Combination], included: list[Mapping[str, Any]]) -> list[Combination]:
    results = [dict(each) for each in made]
    added: list[Combination] = []
    for entry in included:
        fits = [
            number for number, own in enumerate(made)
            if all(name not in own or equal(own[name], value) for name, value in entry.items())
        ]  # fmt: skip
        for number in fits:
            results[number].update(entry)
        if not fits:
            added.append(dict(entry))
    if len(results) + len(added) > MAX_COMBINATIONS:
        raise ValueError(f"a matrix has at most {MAX_COMBINATIONS} combinations")
    return results + added
