"""The table of built-in actions against the functions themselves."""

from __future__ import annotations

import ast
import importlib
import inspect
from types import ModuleType

import pytest

from codomyrmex.logistics.orchestration.project.actions.built_in import MODULES, built_ins
from codomyrmex.logistics.orchestration.project.step_spec import ENGINE_MODULES, WORKER_MODULES
from codomyrmex.logistics.orchestration.project.workflow_document import BUILT_IN_MODULES

PROJECT = "codomyrmex.logistics.orchestration.project"
HOMES = {
    "shell": f"{PROJECT}.executors.worker.builtins_shell",
    "python": f"{PROJECT}.executors.worker.builtins_python",
    "http": f"{PROJECT}.executors.worker.builtins_http",
    "files": f"{PROJECT}.actions.files",
}
INNER = {("shell", "run_arguments")}
"""Functions that built-ins share and that are no actions."""


def public_functions(module: ModuleType) -> dict[str, object]:
    return {
        name: value
        for name, value in vars(module).items()
        if inspect.isfunction(value) and value.__module__ == module.__name__ and not name.startswith("_")
    }


@pytest.mark.parametrize("module", MODULES)
def test_the_table_has_every_action_of_a_module(module: str) -> None:
    functions = public_functions(importlib.import_module(HOMES[module]))

    assert {name for name in functions if (module, name) not in INNER} == set(built_ins()[module])


@pytest.mark.parametrize(
    ("module", "action"), [(module, action) for module in MODULES for action in built_ins()[module]]
)
def test_the_table_has_the_parameters_and_defaults_of_the_function(module: str, action: str) -> None:
    function = getattr(importlib.import_module(HOMES[module]), action)
    real = [
        (name, None if each.default is inspect.Parameter.empty else each.default)
        for name, each in inspect.signature(function).parameters.items()
    ]

    told = [
        (each.name, None if each.default is None else ast.literal_eval(each.default))
        for each in built_ins()[module][action].parameters
    ]

    assert told == real
    required = [
        name
        for name, each in inspect.signature(function).parameters.items()
        if each.default is inspect.Parameter.empty
    ]
    assert [each.name for each in built_ins()[module][action].parameters if each.required] == required


def test_all_layers_agree_which_modules_are_built_in() -> None:
    assert set(MODULES) == set(BUILT_IN_MODULES) == set(WORKER_MODULES | ENGINE_MODULES)
