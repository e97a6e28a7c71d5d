"""What a workflow made in Python says beside actions: kinds that wait, children, handlers, compensations."""

from __future__ import annotations

from datetime import date
from typing import Any

import pytest

from codomyrmex.exceptions import ValidationError
from codomyrmex.logistics.orchestration.project.workflow import Workflow, WorkflowStep
from codomyrmex.logistics.orchestration.project.workflow_file import load_text, write_text


def charge(order: str) -> dict[str, str]:
    return {"id": order}


def refund(payment: dict[str, str], reason: str = "") -> None:
    return None


def no_parameters() -> None:
    return None


async def tell(text: Any) -> None:
    return None


def faults_of(workflow: Workflow) -> list[str]:
    with pytest.raises(ValidationError) as caught:
        workflow.to_document()
    return [f"{fault.path}: {fault.message}" for fault in caught.value.faults]


def test_each_kind_has_a_builder() -> None:
    workflow = Workflow("release", parameters={"version": {"type": "string"}})
    version = workflow.parameters["version"]
    asked = workflow.approval("ask", f"Ship {version}?", who=["alice"], timeout="2h", default=False)
    workflow.wait_for("ready", timeout=60, default=None).options(needs=asked)
    workflow.wait_for("also", signal=version)
    workflow.sleep("nap", "5m").options(run_if="steps.ask.output.approved")
    workflow.child("notes", version=version, by=asked.output["by"]).options(timeout="1h", retry=1)

    assert workflow.to_document()["steps"] == [
        {
            "name": "ask",
            "approval": {
                "message": "Ship ${parameters.version}?", "who": ["alice"], "timeout_s": 7200.0, "default": False,
            },
        },
        {
            "name": "ready",
            "wait_for": {"signal": "ready", "timeout_s": 60.0, "default": None},
            "dependencies": ["ask"],
        },
        {"name": "also", "wait_for": {"signal": "${parameters.version}"}},
        {"name": "nap", "sleep": 300.0, "run_if": "steps.ask.output.approved"},
        {
            "name": "notes",
            "workflow": "notes",
            "parameters": {"version": "${parameters.version}", "by": "${steps.ask.output.by}"},
            "timeout_s": 3600.0,
            "retry": {"max_attempts": 2},
        },
    ]  # fmt: skip


def test_handlers_refer_to_steps_and_to_each_other() -> None:
    workflow = Workflow("w")
    build = workflow.step(charge, order="7")
    why = workflow.on_failure(charge, order=build.error["message"])
    workflow.on_failure(tell, text=why)
    workflow.finally_(tell, text=[build.status, build.errors[3]])
    workflow.finally_(WorkflowStep("rest", sleep=1))

    document = workflow.to_document()

    assert [step["name"] for step in document["on_failure"]] == ["charge_2", "tell"]
    assert document["on_failure"][0]["parameters"] == {"order": "${steps.charge.error.message}"}
    assert document["on_failure"][1]["parameters"] == {"text": "${steps.charge_2.output}"}
    assert document["finally"][0]["parameters"] == {
        "text": ["${steps.charge.status}", "${steps.charge.errors[3]}"]
    }
    assert document["finally"][1] == {"name": "rest", "sleep": 1.0}
    assert workflow.functions == {"charge": charge, "charge_2": charge, "tell": tell, "tell_2": tell}


def test_a_compensation_is_given_what_it_undoes() -> None:
    workflow = Workflow("w")
    workflow.step(charge, order="7").options(compensate=refund)
    workflow.map(charge, over=["a", "b"]).options(
        name="each",
        compensate=WorkflowStep.of(refund, payment=Workflow.output["id"], reason=Workflow.item).options(
            retry=5, resources={"memory": "1GiB"}
        ),
    )
    workflow.step(charge, order="8").options(compensate={"run": ["undo", "${output.id}"], "timeout": "5s"})
    workflow.step(charge, order="9").options(compensate=no_parameters)

    steps = workflow.to_document()["steps"]

    assert [step["compensate"] for step in steps] == [
        {"module": __name__, "action": "refund", "parameters": {"payment": "${output}"}},
        {
            "module": __name__,
            "action": "refund",
            "parameters": {"payment": "${output.id}", "reason": "${item}"},
            "resources": {"memory": 2**30},
            "retry": {"max_attempts": 6},
        },
        {
            "module": "shell",
            "action": "run",
            "parameters": {"command": ["undo", "${output.id}"]},
            "timeout_s": 5.0,
        },
        {"module": __name__, "action": "no_parameters"},
    ]
    assert workflow.functions["charge.compensate"] is refund
    assert workflow.functions["each.compensate"] is refund
    assert "charge_2.compensate" not in workflow.functions


def test_children_made_in_python_are_kept_by_name() -> None:
    child = Workflow("notes")
    child.step(charge, order="1")
    workflow = Workflow("release")
    workflow.child(child)
    workflow.child(child)
    workflow.child("./flows/other.yaml")
    workflow.finally_(WorkflowStep("last", workflow=child))

    assert [step.name for step in workflow.steps] == ["notes", "notes_2", "other"]
    assert workflow.children == {"notes": child}
    assert [step.get("workflow") for step in workflow.to_document()["steps"]] == [
        "notes", "notes", "./flows/other.yaml",
    ]  # fmt: skip


def test_two_children_of_one_name_are_refused() -> None:
    workflow = Workflow("release")
    workflow.child(Workflow("notes"))
    workflow.child(Workflow("notes"))

    with pytest.raises(ValueError, match="two children of 'release' have the name 'notes'"):
        assert workflow.children


def test_a_grid_and_ranges_are_written_as_lists() -> None:
    workflow = Workflow("w")
    sizes = workflow.step(charge, order="1")
    workflow.map(charge, over={"lr": (0.1, 0.2), "seed": range(3), "size": sizes}).options(
        name="grid", on_item_failure="stop"
    )
    workflow.map(charge, over=range(2)).options(name="numbers")

    grid, numbers = workflow.to_document()["steps"][1:]

    assert grid["foreach"] == {"lr": [0.1, 0.2], "seed": [0, 1, 2], "size": "${steps.charge.output}"}
    assert grid["on_item_failure"] == "stop"
    assert numbers["foreach"] == [0, 1]


def test_values_that_are_not_json_keep_their_tags_through_a_file() -> None:
    day = date(2026, 3, 31)
    workflow = Workflow("w", outputs={"day": day})
    workflow.wait_for("news", timeout=60, default={"since": day})
    workflow.map(charge, over=[day]).options(
        cache={"also": [day]}, compensate=WorkflowStep.of(refund, payment=day)
    )
    document = workflow.to_document()
    document.pop("isolation")

    loaded = load_text(write_text(document, "yaml")).document

    tagged = {"$type": "date", "value": "2026-03-31"}
    news, step = loaded["steps"]
    assert news["wait_for"]["default"] == {"since": tagged}
    assert (step["foreach"], step["cache"]["also"]) == ([tagged], [tagged])
    assert step["compensate"]["parameters"] == {"payment": tagged}
    assert loaded["outputs"] == {"day": tagged}
    assert Workflow.from_document(loaded).to_document() == document


def test_a_value_that_cannot_be_kept_is_named_in_a_compensation_too() -> None:
    workflow = Workflow("w")
    workflow.step(charge, order="1").options(compensate=WorkflowStep.of(refund, payment={"a": object()}))

    (found,) = faults_of(workflow)

    assert found.startswith("steps[0] 'charge'.compensate.parameters.payment.a: ")


def test_what_holds_for_a_run_is_given_to_the_workflow() -> None:
    steps = [WorkflowStep("a", "m", "f")]
    workflow = Workflow(
        "w", timeout="2h", concurrency={"key": "x", "policy": "skip"}, labels={"team": "core"}, steps=steps,
        on_failure=[WorkflowStep("b", "m", "f")], finally_=[WorkflowStep("c", "m", "f")],
    )  # fmt: skip

    document = workflow.to_document()

    assert (document["timeout_s"], document["concurrency"]) == (7200.0, {"key": "x", "policy": "skip"})
    assert [step["name"] for step in (*document["on_failure"], *document["finally"])] == ["b", "c"]
    assert [step.name for step in workflow.all_steps] == ["a", "b", "c"]


WRONG: list[tuple[dict[str, Any], str]] = [
    ({}, "a step says what to do"),
    ({"module": "m"}, "`module` without `action`"),
    ({"module": "m", "action": "f", "sleep": 1}, "a step does one thing, this one has `module` and `sleep`"),
    ({"sleep": 1, "approval": "go?"}, "this one has `approval` and `sleep`"),
    ({"sleep": 1, "isolation": "thread"}, "`isolation` means nothing beside `sleep`"),
    ({"approval": "go?", "timeout_s": 5}, "`timeout_s` means nothing beside `approval`"),
    ({"approval": "go?", "parameters": {"a": 1}}, "`parameters` means nothing beside `approval`"),
    ({"workflow": "${parameters.x}"}, "workflow is the name of a workflow"),
    ({"workflow": "child", "resources": {"cpu": 2}}, "`resources` means nothing beside `workflow`"),
    ({"module": "m", "action": "f", "foreach": {"a": 3}}, "each name of a grid has a list of values"),
    ({"module": "m", "action": "f", "foreach": {"$type": [1]}}, "a grid cannot have the name '$type'"),
    ({"module": "m", "action": "f", "on_item_failure": "stop"}, "this step has no `foreach`"),
    ({"module": "m", "action": "f", "compensate": {"name": "x"}}, "unknown key 'name'"),
    ({"module": "m", "action": "f", "compensate": WorkflowStep("x", sleep=1)}, "unknown key 'sleep'"),
]


@pytest.mark.parametrize(("fields", "message"), WRONG)
def test_a_step_that_says_too_much_or_too_little_is_refused(fields: dict[str, Any], message: str) -> None:
    found = faults_of(Workflow("w", steps=[WorkflowStep("a", **fields)]))

    assert any(message in each for each in found), found


def test_a_step_given_whole_takes_no_parameters_beside_it() -> None:
    with pytest.raises(TypeError, match="has its parameters already"):
        Workflow("w").finally_(WorkflowStep("a", "m", "f"), x=1)


def test_a_handler_with_a_compensation_is_refused() -> None:
    workflow = Workflow("w", steps=[WorkflowStep("a", "m", "f")])
    workflow.finally_(charge, order="1").options(compensate=refund)

    assert faults_of(workflow) == ["finally[0] 'charge'.compensate: unknown key 'compensate'"]
