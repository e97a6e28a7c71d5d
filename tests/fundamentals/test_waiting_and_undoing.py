"""What runs can do beyond calling functions: wait for people, undo, call each other, remember what they worked out."""

from __future__ import annotations

from pathlib import Path

import pytest

from codomyrmex import OrchestrationEngine, Workflow
from waiting import wait_until


def double(number: int) -> int:
    return 2 * number


def refuse(number: int) -> int:
    raise ValueError(f"{number} is not for me")


@pytest.fixture
def book() -> list[str]:
    return []


def test_an_approval_holds_a_run_until_somebody_answers(codomyrmex_engine: OrchestrationEngine) -> None:
    workflow = Workflow("asking")
    asked = workflow.approval("go_on", "How many?", who="ada", form={"required": ["copies"]})
    workflow.step(double, number=asked.output["data"]["copies"])
    run = codomyrmex_engine.start_workflow(workflow)
    wait_until(lambda: run.tasks["go_on"].reason == "approval")

    codomyrmex_engine.answer(run.execution_id, "go_on", data={"copies": 4}, by="ada")

    assert run.wait(10)
    assert run.results["double"] == 8


def test_a_signal_is_kept_for_whoever_waits_for_it_later(codomyrmex_engine: OrchestrationEngine) -> None:
    workflow = Workflow("listening")
    pause = workflow.sleep("pause", "1h")  # this engine's time is virtual
    heard = workflow.wait_for("number").options(needs=[pause])
    workflow.step(double, number=heard.output)
    run = codomyrmex_engine.start_workflow(workflow)

    codomyrmex_engine.signal(run.execution_id, "number", 21)

    assert run.wait(10)
    assert run.results["double"] == 42


def test_what_was_done_is_undone_in_reverse_when_the_run_fails(
    codomyrmex_engine: OrchestrationEngine, book: list[str]
) -> None:
    def do(what: str) -> str:
        book.append(f"do {what}")
        return what

    def undo(what: str) -> None:
        book.append(f"undo {what}")

    workflow = Workflow("saga")
    first = workflow.step(do, what="first").options(name="first", compensate=undo)
    second = workflow.step(do, what="second").options(name="second", compensate=undo, needs=[first])
    workflow.step(refuse, number=3).options(needs=[second])
    workflow.on_failure(lambda: book.append("failed")).options(name="tell")
    workflow.finally_(lambda: book.append("closed")).options(name="close")

    run = codomyrmex_engine.execute_workflow(workflow)

    assert run.error == "step 'refuse': ValueError: 3 is not for me"
    assert book == ["do first", "do second", "undo second", "undo first", "failed", "closed"]


def test_a_workflow_can_be_a_step_of_another(codomyrmex_engine: OrchestrationEngine) -> None:
    child = Workflow("child", parameters={"number": {"type": "integer"}})
    child.outputs = {"doubled": child.step(double, number=child.parameters["number"]).output}
    parent = Workflow("parent")
    called = parent.child(child, number=4)
    parent.step(double, number=called.output["doubled"])

    assert codomyrmex_engine.execute_workflow(parent).results["double"] == 16


def test_a_cached_step_is_worked_out_once(codomyrmex_engine: OrchestrationEngine, tmp_path: Path) -> None:
    diary = tmp_path / "diary"

    def slow(number: int) -> int:
        with diary.open("a") as page:
            page.write(f"worked out {number}\n")
        return number * number

    workflow = Workflow("lazy", parameters={"number": {"type": "integer"}})
    workflow.step(slow, number=workflow.parameters["number"]).options(cache=True)

    results = [
        codomyrmex_engine.execute_workflow(workflow, number=number).results["slow"] for number in (3, 3, 4)
    ]

    assert results == [9, 9, 16]
    assert diary.read_text().splitlines() == ["worked out 3", "worked out 4"]
