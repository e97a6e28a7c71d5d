"""What actions declare about themselves, put into a definition before it runs.

Layer: above actions and definitions. `@action(effects=..., isolation=..., timeout_s=..., resources=...)` on a
function gives defaults to the steps that call it; a step's own keys win. Done once, when a run is prepared,
so that the stored definition says everything and a recovery needs no look-up. A name that stands for another
one (an entry point, `@action(name=...)`) is replaced by what it stands for.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from codomyrmex.exceptions import ActionNotFound, Fault, ValidationError
from codomyrmex.logistics.orchestration.project.actions.catalogue import ActionCatalogue
from codomyrmex.logistics.orchestration.project.step_resources import read_resources
from codomyrmex.logistics.orchestration.project.workflow_amount_check import resource_faults
from codomyrmex.logistics.orchestration.project.workflow_kinds import compensation_name

UNDECLARED = "idempotent"


def with_declarations(
    document: Mapping[str, Any], functions: Mapping[str, Callable[..., Any]], catalogue: ActionCatalogue
) -> Mapping[str, Any]:
    """`document` with the declarations of its actions; the same object where there are none.

    Raises `ValidationError` where an action declares resources that no step could ask for.
    """
    known: dict[tuple[str, str], dict[str, Any]] = {}

    def declared_of(name: str, step: Mapping[str, Any]) -> Mapping[str, Any]:
        function = functions.get(name)
        if function is not None:
            return _of_function(function)
        pair = (step["module"], step["action"])
        if pair not in known:
            known[pair] = _of_action(catalogue, *pair)
        return known[pair]

    changed: dict[str, Any] = {}
    for section in ("steps", "on_failure", "finally"):
        before = document.get(section, ())
        after = [_with_declared(step, declared_of) for step in before]
        if any(new is not old for new, old in zip(after, before, strict=True)):
            changed[section] = after
    return {**document, **changed} if changed else document


def _with_declared(
    step: Mapping[str, Any],
    declared_of: Callable[[str, Mapping[str, Any]], Mapping[str, Any]],
    name: str | None = None,
) -> Mapping[str, Any]:
    """A step, and what undoes it, with what its action declares; the same object where that is nothing."""
    name = name or step["name"]
    if "compensate" in step:
        undoing = _with_declared(step["compensate"], declared_of, compensation_name(name))
        if undoing is not step["compensate"]:
            step = {**step, "compensate": undoing}
    declared = declared_of(name, step) if "module" in step else {}
    if not declared:
        return step
    target = {key: declared[key] for key in ("module", "action") if key in declared}
    return {**declared, **step, **target}


def _of_action(catalogue: ActionCatalogue, module: str, action: str) -> dict[str, Any]:
    try:
        found = catalogue.find(module, action)
    except ActionNotFound:
        return {}  # said among the faults
    declared = _defaults(
        f"{module}:{action}", found.effects, found.isolation, found.timeout_s, found.resources
    )
    if found.target != (module, action):
        declared["module"], declared["action"] = found.target
    return declared


def _of_function(function: Callable[..., Any]) -> dict[str, Any]:
    declared = getattr(function, "__codomyrmex_action__", None)
    if declared is None:
        return {}
    return _defaults(
        f"{function.__module__}:{function.__qualname__}",
        declared["effects"],
        declared["isolation"],
        declared["timeout_s"],
        declared["resources"],
    )


def _defaults(
    action: str,
    effects: str,
    isolation: str | None,
    timeout_s: float | None,
    resources: Mapping[str, Any] | None,
) -> dict[str, Any]:
    found: dict[str, Any] = {}
    if effects != UNDECLARED:
        found["effects"] = effects
    if isolation is not None:
        found["isolation"] = isolation
    if timeout_s is not None:
        found["timeout_s"] = timeout_s
    if resources:
        found["resources"] = _held(action, resources)
    return found


def _held(action: str, resources: Any) -> dict[str, int]:
    """What `@action(resources=...)` declares, as a document holds it; raises `ValidationError`."""
    if isinstance(resources, Mapping):
        wrong = [fault for _, fault in resource_faults(("resources",), resources, {"resources": resources})]
    else:
        wrong = [Fault(message="resources are a mapping like {'cpu': 2}", path="resources")]
    if wrong:
        raise ValidationError(wrong, subject=f"@action of {action}")
    return read_resources(resources)
