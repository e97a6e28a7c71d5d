"""Workflows made in Python say the same as their files, and a handle's output makes the dependency."""

from __future__ import annotations

from datetime import date
from pathlib import Path
from typing import Any

import pytest

from codomyrmex.exceptions import ValidationError
from codomyrmex.logistics.orchestration.project.workflow import Workflow, WorkflowStep
from codomyrmex.logistics.orchestration.project.workflow_file import load_path


def list_files(root: str) -> dict[str, Any]:
    return {"files": [root]}


def parse(path: str, strict: bool = False) -> int:
    return len(path) + strict


async def render(rows: list[int], title: str) -> str:
    return f"{title} {rows}"


@pytest.fixture
def workflow() -> Workflow:
    workflow = Workflow("nightly", parameters={"root": {"type": "path", "default": "."}})
    files = workflow.step(list_files, root=workflow.parameters["root"])
    parsed = workflow.map(parse, over=files.output["files"], strict=True).options(name="parse-all", retry=2)
    report = workflow.step(render, rows=parsed, title=f"of {files.output['count']}").options(needs=[files])
    workflow.outputs["report"] = report.output["pages"][0]["a b"]
    return workflow


def test_handles_are_written_as_references(workflow: Workflow) -> None:
    document = workflow.to_document()

    assert document["steps"] == [
        {
            "name": "list_files",
            "module": __name__,
            "action": "list_files",
            "parameters": {"root": "${parameters.root}"},
        },
        {
            "name": "parse-all",
            "module": __name__,
            "action": "parse",
            "parameters": {"path": "${item}", "strict": True},
            "foreach": "${steps.list_files.output.files}",
            "retry": {"max_attempts": 3},
        },
        {
            "name": "render",
            "module": __name__,
            "action": "render",
            "parameters": {
                "rows": "${steps['parse-all'].output}",
                "title": "of ${steps.list_files.output.count}",
            },
            "dependencies": ["list_files"],
            "isolation": "async",
        },
    ]
    assert document["outputs"] == {"report": "${steps.render.output.pages[0]['a b']}"}
    assert document["isolation"] == "thread"


def test_the_functions_stay_beside_the_document(workflow: Workflow) -> None:
    assert workflow.functions == {"list_files": list_files, "parse-all": parse, "render": render}


@pytest.mark.parametrize("name", ["w.yaml", "w.json"])
def test_a_saved_workflow_loads_to_the_same_document(workflow: Workflow, tmp_path: Path, name: str) -> None:
    step = WorkflowStep("sleep", "shell", "run", {"command": "a\nb\n", "shell": True}, env={"A": "b"})
    workflow.add(step.options(resources={"cpu": 0.5, "memory": "1GiB"}, timeout=5, needs=["render"]))
    workflow.step("m:f", when=date(2026, 1, 1), at=Path("/x"))
    document = workflow.to_document()

    workflow.save(tmp_path / name)

    document.pop("isolation")
    assert load_path(tmp_path / name).document == document
    assert Workflow.load(tmp_path / name).to_document() == document


def test_steps_of_one_function_get_numbers(workflow: Workflow) -> None:
    names = [workflow.step(parse, path="x").name for _ in range(3)]

    assert names == ["parse", "parse_2", "parse_3"]


def test_a_step_cannot_be_renamed_once_its_name_stands_in_a_text() -> None:
    workflow = Workflow("w")
    files = workflow.step(list_files, root=".")
    str(files.output)

    with pytest.raises(ValueError, match="cannot be renamed"):
        files.options(name="other")


def test_an_unknown_option_is_named() -> None:
    with pytest.raises(TypeError, match="no option 'retries'"):
        Workflow("w").step(parse, path="x").options(retries=3)


def test_an_item_given_by_name_is_not_given_twice() -> None:
    workflow = Workflow("w")

    step = workflow.map(parse, over=["a", "b"], path=f"x/{Workflow.item}").definition

    assert {**step.parameters} == {"path": "x/${item}"}


def test_an_output_cannot_be_looped_over() -> None:
    with pytest.raises(TypeError, match=r"Workflow\.map"):
        list(Workflow("w").step(list_files, root=".").output)


def build_with_faults() -> None:
    with Workflow("my workflow") as workflow:
        workflow.step(list_files, root=[1, {"a": object()}])
        workflow.step(parse, path="x").options(name="list_files", retry="twice", timeout=-1)


def test_faults_are_raised_when_the_block_ends() -> None:
    with pytest.raises(ValidationError) as caught:
        build_with_faults()

    assert [fault.code for fault in caught.value.faults] == [
        "wrong_value",
        "wrong_value",
        "wrong_type",
        "duplicate_name",
    ]


def test_a_value_that_cannot_be_kept_is_named_by_its_place() -> None:
    with pytest.raises(ValidationError) as caught, Workflow("w") as workflow:
        workflow.step(list_files, root=[1, {"a": object()}])

    assert caught.value.faults[0].path == "steps[0] 'list_files'.parameters.root[1].a"


def test_a_path_in_env_is_refused_with_its_place() -> None:
    workflow = Workflow("w", env={"ROOT": Path("x")})  # type: ignore[dict-item]
    workflow.step(list_files, root=".")

    with pytest.raises(ValidationError, match=r"env\.ROOT: this is written to files as it is"):
        workflow.to_document()


def test_the_old_keywords_of_a_step_are_understood() -> None:
    step = WorkflowStep(name="a", module="m", action="f", timeout=30, max_retries=3)

    assert (step.timeout_s, step.retry) == (30, 3)
    assert step.to_dict() == {"name": "a", "module": "m", "action": "f", "timeout_s": 30, "retry": 3}


def test_lambdas_and_closures_have_names_too() -> None:
    workflow = Workflow("w")

    handle = workflow.step(lambda: 1)

    assert handle.name == "lambda"
    assert handle.definition.action.endswith("<lambda>")
    assert workflow.to_document()["steps"][0]["name"] == "lambda"


def test_what_is_no_function_is_refused() -> None:
    from functools import partial

    with pytest.raises(TypeError, match="made from a function"):
        Workflow("w").step(partial(parse, "x"))
