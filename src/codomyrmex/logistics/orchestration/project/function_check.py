"""Faults in the parameters of steps that were made from functions in Python.

Layer: above actions and executors. The function is at hand, so its own signature judges: what a call would
refuse when the step runs is refused before anything does.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import replace
from typing import Any

from codomyrmex.exceptions import Fault
from codomyrmex.logistics.orchestration.project.actions.action_steps import action_steps
from codomyrmex.logistics.orchestration.project.actions.description import ActionDescription, Origin
from codomyrmex.logistics.orchestration.project.actions.parameter_check import ParameterCheck
from codomyrmex.logistics.orchestration.project.actions.told import described_by_worker
from codomyrmex.logistics.orchestration.project.executors.worker.describe import describe_function

Faults = list[tuple[tuple[str | int, ...], Fault]]


def check_functions(
    document: Mapping[str, Any],
    functions: Mapping[str, Callable[..., Any]],
    *,
    options: Collection[str],
    warn: Callable[[ActionDescription], None] | None = None,
) -> Faults:
    """Every fault of the parameters of the steps whose function is in `functions`, as (path, Fault).

    `options` are the names that a step has as options: one among the parameters is most likely meant so. `warn` is
    told of each function once, in case its result cannot be kept.
    """
    checks: dict[int, ParameterCheck] = {}
    found: Faults = []
    for name, step, place in action_steps(document):
        function = functions.get(name)
        if function is None:
            continue
        check = checks.get(id(function))
        if check is None:
            check = checks[id(function)] = ParameterCheck(_description(function, step))
            if warn is not None:
                warn(check.described)
        for path, fault in check.faults(step, place):
            given = path[len(place) + 1 :]
            if given and given[0] in options and fault.code == "unknown_parameter":
                advice = f"options of a step are set apart from its parameters: .options({given[0]}=...)"
                fault = replace(fault, nearest=None, advice=advice)
            found.append((path, fault))
    return found


def _description(function: Callable[..., Any], step: Mapping[str, Any]) -> ActionDescription:
    pair = (step["module"], step["action"])
    told = {"found": True, **describe_function(function)}
    return described_by_worker(told, *pair, origin=Origin.PROJECT, target=pair)
