"""Steps with their actions replaced, and workflows cut short.

Layer: testing; pure but for the attempt number that a stub reads. What is stubbed runs as a function in a
thread of the test; everything else of the step (parameters, retry, conditions, its place in the graph)
stays as it is written. A child run becomes such a function too; what undoes a step is stubbed by its own
name, `NAME.compensate`. Approvals and signals stay what they are: their stubs are answers (see `answers`).
"""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from typing import Any

from codomyrmex.current_task import current_task
from codomyrmex.exceptions import CodomyrmexError, TaskNotFound
from codomyrmex.logistics.orchestration.project.shell_text import shell_variables
from codomyrmex.logistics.orchestration.project.workflow_compiler import compile_workflow
from codomyrmex.logistics.orchestration.project.workflow_kinds import (
    COMPENSATION,
    STEP_LISTS,
    compensation_name,
    kind_of,
)
from codomyrmex.logistics.orchestration.project.workflow_preparation import Definition

Document = dict[str, Any]
ANSWERED_KINDS = ("approval", "wait_for")
"""The kinds whose stub is what somebody outside would say."""


def stubbed(definition: Definition, stubs: Mapping[str, Any]) -> Definition:
    """The definition with the actions of these steps replaced; `TaskNotFound` for a name it has not."""
    replaced = {name: stub for name, stub in stubs.items() if _is_replaced(definition, name)}
    if not replaced:
        return definition
    document: Document = dict(definition.document)
    for key in STEP_LISTS:
        if key in document:
            document[key] = [_with_stubs(step, replaced) for step in document[key]]
    functions = {**definition.functions, **{name: stub_of(stub) for name, stub in replaced.items()}}
    return replace(definition, document=document, functions=functions)


def answers_in(definition: Definition, stubs: Mapping[str, Any]) -> dict[str, Any]:
    """Those of `stubs` that are answers to approvals and data of signals."""
    kinds = {step["name"]: kind_of(step) for step in steps_of(definition.document)}
    return {name: stub for name, stub in stubs.items() if kinds.get(name) in ANSWERED_KINDS}


def until(definition: Definition, step: str) -> Definition:
    """The definition with only what `step` needs, and itself.

    Its outputs and what runs after the steps (`on_failure`, `finally`) go: they may need more.
    """
    _check_name(step, [each["name"] for each in definition.document.get("steps", ())])
    compiled = compile_workflow(definition.document, functions=definition.functions)
    wanted: set[int] = set()
    open_steps = [compiled.index[step]]
    while open_steps:
        number = open_steps.pop()
        if number not in wanted:
            wanted.add(number)
            open_steps.extend(compiled.graph.parents(number))
    dropped = ("outputs", "on_failure", "finally")
    document: Document = {key: value for key, value in definition.document.items() if key not in dropped}
    document["steps"] = [each for each in document["steps"] if compiled.index[each["name"]] in wanted]
    names = set(_names(document))
    functions = {name: function for name, function in definition.functions.items() if name in names}
    return replace(definition, document=document, functions=functions)


def stub_of(behaviour: Any) -> Callable[..., Any]:
    """The function that does as `behaviour` says: return it, call it, raise it, or one of a list per attempt.

    The last of a list holds for all further attempts. To return a list, give a function.
    """

    def stub(**parameters: Any) -> Any:
        chosen = behaviour
        if isinstance(chosen, list):
            chosen = chosen[min(current_task().attempt, len(chosen)) - 1]
        if isinstance(chosen, BaseException) or (
            isinstance(chosen, type) and issubclass(chosen, BaseException)
        ):
            raise chosen
        return chosen(**parameters) if callable(chosen) else chosen

    return stub


def steps_of(document: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    """The steps of all phases, without those that undo others."""
    for key in STEP_LISTS:
        yield from document.get(key, ())


def _names(document: Mapping[str, Any]) -> Iterator[str]:
    for step in steps_of(document):
        yield step["name"]
        if COMPENSATION in step:
            yield compensation_name(step["name"])


def _is_replaced(definition: Definition, name: str) -> bool:
    """Whether the stub of a step takes the place of an action; raises where there can be no stub."""
    _check_name(name, list(_names(definition.document)))
    kind = next((kind_of(step) for step in steps_of(definition.document) if step["name"] == name), None)
    if kind == "sleep":
        raise CodomyrmexError(
            f"step {name!r} sleeps, and that needs no stub", hint="in virtual time it is over at once"
        )
    return kind not in ANSWERED_KINDS


def _with_stubs(step: Document, stubs: Mapping[str, Any]) -> Document:
    undoing = compensation_name(step["name"])
    if undoing in stubs:
        step = {**step, COMPENSATION: _stubbed(step[COMPENSATION])}
    return _stubbed(step) if step["name"] in stubs else step


def _stubbed(step: Document) -> Document:
    changed = {key: value for key, value in step.items() if key not in ("timeout_s", "cache", "workflow")}
    parameters = step.get("parameters", {})
    if step.get("module") == "shell" and isinstance(parameters.get("command"), str):
        # What the shell would see: references stand in variables, and its own `${...}` are no references.
        text, variables = shell_variables(parameters["command"])
        env = {**parameters.get("env", {}), **variables}
        changed["parameters"] = {**parameters, "command": text.replace("${", "$${"), "env": env}
    if "resources" in step:  # what only a process can be held to means nothing to a stub
        kept = {word: amount for word, amount in step["resources"].items() if word not in ("memory", "gpu")}
        changed["resources"] = kept
    return {**changed, "module": __name__, "action": "stub_of", "isolation": "thread"}


def _check_name(name: str, names: list[str]) -> None:
    if name not in names:
        near = difflib.get_close_matches(name, names, n=1)
        raise TaskNotFound(name, nearest=near[0] if near else None)
