"""Where `${secrets.NAME}` may stand in a workflow, and what comes to stand there until a worker has the value."""

from __future__ import annotations

from typing import Any

import pytest

from codomyrmex.logistics.orchestration.project.compiled_workflow import CompiledWorkflow, CompileFaults
from codomyrmex.logistics.orchestration.project.workflow_compiler import compile_workflow
from codomyrmex.logistics.orchestration.project.workflow_file import load_text

SCOPE: Any = None  # a secret needs no look-up


def compiled(text: str) -> CompiledWorkflow:
    return compile_workflow(load_text(f"name: w\n{text}").document)


def secrets(workflow: CompiledWorkflow) -> dict[str, set[str]]:
    """The secrets of each step that has any, by name."""
    return {name: set(found) for name, step in workflow.index.items() if (found := workflow.secrets_of(step))}


def resolved(workflow: CompiledWorkflow, step: str = "a") -> tuple[Any, Any]:
    """The parameters and the environment of a step as they are handed on."""
    number = workflow.index[step]
    template, env = workflow.templates[number], workflow.spec(number).env
    return template and template.resolve(SCOPE), env and env.resolve(SCOPE)


def test_a_secret_in_parameters_and_in_env_is_a_marker_and_its_step_tells_its_name() -> None:
    workflow = compiled("""
steps:
  - {name: a, call: "m:f", with: {key: "${secrets.API}", deep: [{x: "${secrets.DB}"}]}, env: {T: "${secrets.T}"}}
  - {name: b, call: "m:f"}
""")
    assert resolved(workflow) == (
        {"key": {"$secret": "API"}, "deep": [{"x": {"$secret": "DB"}}]},
        {"T": {"$secret": "T"}},
    )
    assert secrets(workflow) == {"a": {"API", "DB", "T"}}
    assert workflow.secrets_of(1) == frozenset()


def test_a_workflow_without_secrets_keeps_nothing_of_them() -> None:
    assert compiled("steps: [{name: a, run: [ls]}]").secrets == {}


def test_a_secret_in_the_environment_of_the_workflow_is_one_of_every_step_that_calls_an_action() -> None:
    workflow = compiled("""
env: {TOKEN: "${secrets.TOKEN}"}
steps:
  - {name: a, run: [ls], compensate: {run: [rm]}}
  - {name: b, run: [ls], env: {TOKEN: none}}
  - {name: c, sleep: 1}
finally:
  - {name: d, call: "m:f"}
""")
    assert secrets(workflow) == {"a": {"TOKEN"}, "a.compensate": {"TOKEN"}, "d": {"TOKEN"}}
    assert resolved(workflow)[1] == {"TOKEN": {"$secret": "TOKEN"}}


def test_a_secret_in_the_text_of_a_command_is_a_variable_of_its_environment() -> None:
    workflow = compiled("""
steps:
  - name: a
    run: 'curl -H "Authorization: Bearer ${secrets.API}" ${secrets.URL} ${secrets.API}'
    with: {env: {A: "${secrets.OTHER}"}}
    compensate: {run: 'echo ${secrets.UNDO}'}
""")
    parameters, _ = resolved(workflow)
    assert parameters == {
        "command": 'curl -H "Authorization: Bearer ${CODOMYRMEX_1}" "${CODOMYRMEX_2}" "${CODOMYRMEX_1}"',
        "shell": True,
        "env": {
            "A": {"$secret": "OTHER"},
            "CODOMYRMEX_1": {"$secret": "API"},
            "CODOMYRMEX_2": {"$secret": "URL"},
        },
    }
    assert secrets(workflow) == {"a": {"API", "URL", "OTHER"}, "a.compensate": {"UNDO"}}


def test_a_secret_may_be_the_stdin_of_a_command() -> None:
    workflow = compiled('steps: [{name: a, run: [login], with: {stdin: "${secrets.PASSWORD}"}}]')
    assert resolved(workflow)[0] == {"command": ["login"], "stdin": {"$secret": "PASSWORD"}}
    assert secrets(workflow) == {"a": {"PASSWORD"}}


STEP = "steps: [{{name: a, {}}}]"
FORBIDDEN = [
    ('outputs: {x: "${secrets.S}"}\nsteps: [{name: a, run: [ls]}]', "outputs are stored and shown"),
    ('labels: {x: "${secrets.S}"}\nsteps: [{name: a, run: [ls]}]', "labels are stored and shown"),
    ('concurrency: "${secrets.S}"\nsteps: [{name: a, run: [ls]}]', "the key is stored and shown"),
    (STEP.format('run: [ls], foreach: ["${secrets.S}"]'), "the items are stored and shown"),
    (STEP.format('run: [ls], working_dir: "${secrets.S}"'), "a folder is stored and shown"),
    (STEP.format('run: [ls], cache: {key: "${secrets.S}"}'), "what a cache keeps is stored and shown"),
    (STEP.format('run: [ls], cache: {also: ["${secrets.S}"]}'), "what a cache keeps is stored and shown"),
    (STEP.format('run: [ls], run_if: "secrets.S == 1"'), "a condition cannot read secrets.S"),
    (STEP.format('approval: "${secrets.S}"'), "the question is stored and shown"),
    (STEP.format('wait_for: "${secrets.S}"'), "the name of a signal is stored and shown"),
    (STEP.format('sleep: "${secrets.S}"'), "a time is stored and shown"),
    (STEP.format('workflow: child, with: {k: "${secrets.S}"}'), "the parameters of a child run are stored"),
    (STEP.format('run: [curl, -H, "${secrets.S}"]'), "can see the arguments of a command"),
    (
        STEP.format('call: python.run, with: {code: "1", args: ["${secrets.S}"]}'),
        "can see the arguments of a command",
    ),
    (STEP.format('call: "m:f", with: {k: "Bearer ${secrets.S}"}'), "may only be the whole of a parameter"),
    (STEP.format('call: "m:f", env: {K: "Bearer ${secrets.S}"}'), "may only be the whole of a parameter"),
    (STEP.format("run: \"echo '${secrets.S}'\""), "inside single quotes"),
]


@pytest.mark.parametrize(("text", "reason"), FORBIDDEN)
def test_a_secret_that_would_be_stored_or_shown_is_refused_with_the_reason(text: str, reason: str) -> None:
    with pytest.raises(CompileFaults) as caught:
        compiled(text)
    ((_, fault),) = caught.value.found
    assert reason in fault.message
    assert fault.advice


def test_a_child_is_told_to_name_its_secret_itself() -> None:
    with pytest.raises(CompileFaults) as caught:
        compiled('steps: [{name: a, workflow: child, with: {k: "${secrets.S}"}}]')
    ((path, fault),) = caught.value.found
    assert path == ("steps", 0, "parameters")
    assert "write ${secrets.S} in that workflow" in str(fault)
