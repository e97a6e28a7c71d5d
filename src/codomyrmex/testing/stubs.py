"""Steps with their actions replaced, and workflows cut short.

Layer: testing; pure but for the attempt number that a stub reads. What is stubbed runs as a function in a
thread of the test; everything else of the step (parameters, retry, conditions, its place in the graph)
stays as it is written.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from codomyrmex.current_task import current_task
from codomyrmex.exceptions import TaskNotFound
from codomyrmex.logistics.orchestration.project.compiled_workflow import compile_workflow
from codomyrmex.logistics.orchestration.project.shell_text import shell_variables
from codomyrmex.logistics.orchestration.project.workflow_preparation import Definition

Document = dict[str, Any]


def stubbed(definition: Definition, stubs: Mapping[str, Any]) -> Definition:
    """The definition with the actions of these steps replaced; `TaskNotFound` for a name it has not."""
    if not stubs:
        return definition
    steps = [
        _stubbed_step(step) if step["name"] in stubs else step
        for step in definition.document.get("steps", ())
    ]
    for name in stubs:
        _check_name(definition, name)
    functions = {**definition.functions, **{name: stub_of(behaviour) for name, behaviour in stubs.items()}}
    return replace(definition, document={**definition.document, "steps": steps}, functions=functions)


def until(definition: Definition, step: str) -> Definition:
    """The definition with only what `step` needs, and itself; its outputs go, they may need more."""
    _check_name(definition, step)
    compiled = compile_workflow(definition.document, functions=definition.functions)
    wanted: set[int] = set()
    open_steps = [compiled.index[step]]
    while open_steps:
        number = open_steps.pop()
        if number not in wanted:
            wanted.add(number)
            open_steps.extend(compiled.graph.parents(number))
    document: Document = {key: value for key, value in definition.document.items() if key != "outputs"}
    document["steps"] = [each for each in document["steps"] if compiled.index[each["name"]] in wanted]
    names = {each["name"] for each in document["steps"]}
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


def _stubbed_step(step: Document) -> Document:
    changed = {key: value for key, value in step.items() if key != "timeout_s"}
    parameters = step.get("parameters", {})
    if step["module"] == "shell" and isinstance(parameters.get("command"), str):
        # What the shell would see: references stand in variables, and its own `${...}` are no references.
        text, variables = shell_variables(parameters["command"])
        env = {**parameters.get("env", {}), **variables}
        changed["parameters"] = {**parameters, "command": text.replace("${", "$${"), "env": env}
    return {**changed, "module": __name__, "action": "stub_of", "isolation": "thread"}


def _check_name(definition: Definition, name: str) -> None:
    names = [step["name"] for step in definition.document.get("steps", ())]
    if name not in names:
        near = difflib.get_close_matches(name, names, n=1)
        raise TaskNotFound(name, nearest=near[0] if near else None)
