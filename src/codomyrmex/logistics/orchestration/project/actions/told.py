"""What a worker told of an action, as a description or as the reason why there is none.

Layer: actions; pure. The dicts are those of `executors.worker.describe.describe_actions`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from codomyrmex.exceptions import ActionNotFound
from codomyrmex.logistics.orchestration.project.actions.annotations import json_type
from codomyrmex.logistics.orchestration.project.actions.description import (
    ActionDescription,
    Origin,
    ParameterDescription,
)
from codomyrmex.logistics.orchestration.project.actions.docstrings import parameter_texts, summary_of
from codomyrmex.logistics.orchestration.project.actions.missing import FunctionMissing, ModuleMissing
from codomyrmex.logistics.orchestration.project.actions.named_types import from_told


def described_by_worker(
    told: Mapping[str, Any], module: str, action: str, *, origin: Origin, target: tuple[str, str]
) -> ActionDescription:
    """The description of an action that a worker has loaded."""
    parameters = told.get("parameters")
    kinds = [each.get("kind") for each in parameters or ()]
    doc = str(told.get("doc") or "")
    texts = parameter_texts(doc)
    return ActionDescription(
        module=module,
        action=action,
        origin=origin,
        target=target,
        file=told.get("file"),
        line=told.get("line"),
        summary=summary_of(doc),
        parameters=tuple(
            _parameter(each, texts.get(each["name"], ""))
            for each in parameters or ()
            if not str(each.get("kind", "")).startswith("var_")
        ),
        accepts_any=parameters is None or "var_keyword" in kinds,
        is_known=parameters is not None,
        is_async=bool(told.get("is_async")),
        registered=bool(told.get("registered")),
        effects=told.get("effects") or "idempotent",
        isolation=told.get("isolation"),
        timeout_s=told.get("timeout_s"),
        resources=told.get("resources") or {},
        returns=told.get("returns"),
        is_generator=bool(told.get("is_generator")),
        lookup=from_told(told.get("types") or {}),
    )


def refused_by_worker(
    told: Mapping[str, Any], module: str, action: str, problem: ActionNotFound | None
) -> ActionNotFound:
    """Why a worker could not load an action: what was known before, or what importing it raised."""
    error = told.get("error") or {}
    kind, message = str(error.get("type", "")).rpartition(".")[2], str(error.get("message", "")).strip()
    if kind == "ActionNotFound":
        return problem or FunctionMissing(module, action, message or f"{module!r} has no function {action!r}")
    where = f" at {error['frame']}" if error.get("frame") else ""
    text = f"the module {module!r} cannot be imported: {kind or 'an error'}: {message}{where}"
    hint = "make it importable in the interpreter that runs the steps (`python:` of the step or the workflow)"
    return ModuleMissing(module, action, text, hint=hint)


def _parameter(told: Mapping[str, Any], description: str) -> ParameterDescription:
    default = told.get("default_text")
    if default is None and "default" in told:
        default = repr(told["default"])
    annotation = told.get("annotation")
    return ParameterDescription(
        name=told["name"],
        annotation=annotation,
        json_type=json_type(annotation),
        required=bool(told.get("required")),
        default=default,
        positional_only=told.get("kind") == "positional_only",
        hint=told.get("hint"),
        description=description,
    )
