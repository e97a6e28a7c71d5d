"""What this package does, for somebody who meets it today: one promise for each test, from the outside.

Read it from top to bottom. Everything here is the public interface; `docs/tutorial.md` explains it at length.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

import codomyrmex
from codomyrmex import (
    NotResumable,
    OrchestrationEngine,
    RunFailed,
    ValidationError,
    Workflow,
    action,
    current_task,
)


def double(number: int) -> int:
    return 2 * number


def add_up(numbers: list[int]) -> int:
    return sum(numbers)


def refuse(number: int) -> int:
    raise ValueError(f"{number} is not for me")


# Building and running


def test_a_step_runs_when_what_it_refers_to_is_there(codomyrmex_engine: OrchestrationEngine) -> None:
    workflow = Workflow("chain")
    first = workflow.step(double, number=5)
    workflow.step(double, number=first.output)

    run = codomyrmex_engine.execute_workflow(workflow)

    assert run.success
    assert dict(run.results) == {"double": 10, "double_2": 20}


def test_a_list_becomes_a_task_for_each_item_and_a_list_again(codomyrmex_engine: OrchestrationEngine) -> None:
    workflow = Workflow("fan", parameters={"numbers": {"type": "list"}})
    doubled = workflow.map(double, over=workflow.parameters["numbers"])
    workflow.step(add_up, numbers=doubled.output)

    run = codomyrmex_engine.execute_workflow(workflow, numbers=[3, 1, 2])

    assert list(run.tasks) == ["double", "double[0]", "double[1]", "double[2]", "add_up"]
    assert dict(run.results) == {"double": [6, 2, 4], "add_up": 12}


def test_a_workflow_is_data_that_can_be_saved_and_loaded(
    codomyrmex_engine: OrchestrationEngine, tmp_path: Path
) -> None:
    workflow = Workflow("saved")
    workflow.step("statistics:fmean", data=[1, 2, 6])
    workflow.save(tmp_path / "saved.yaml")

    loaded = Workflow.load(tmp_path / "saved.yaml")

    assert loaded.steps == workflow.steps
    assert codomyrmex_engine.execute_workflow(loaded).results["fmean"] == 3.0


def test_bad_input_is_refused_with_every_fault_before_anything_runs(
    codomyrmex_engine: OrchestrationEngine, tmp_path: Path
) -> None:
    mark = tmp_path / "ran"
    workflow = Workflow("faulty")
    workflow.step(mark.touch).options(name="touch")
    workflow.step(double, nummer=1)
    workflow.step(double, number="${steps.tuch.output}").options(name="third")

    with pytest.raises(ValidationError) as refused:
        codomyrmex_engine.start_workflow(workflow)

    assert {fault.nearest for fault in refused.value.faults} >= {"number", "touch"}
    assert not mark.exists()


# When something fails


def test_a_failed_step_fails_the_run_and_names_the_line(codomyrmex_engine: OrchestrationEngine) -> None:
    workflow = Workflow("refused")
    workflow.step(refuse, number=7)

    run = codomyrmex_engine.execute_workflow(workflow)

    assert not run.success
    assert run.error == "step 'refuse': ValueError: 7 is not for me"
    assert f"{Path(__file__).name}:{refuse.__code__.co_firstlineno + 1}" in run.tasks["refuse"].error["frame"]


def test_branches_that_need_nothing_of_it_go_on(codomyrmex_engine: OrchestrationEngine) -> None:
    workflow = Workflow("branches")
    refused = workflow.step(refuse, number=1)
    workflow.step(double, number=refused.output).options(name="after")
    workflow.step(double, number=1).options(name="beside")

    run = codomyrmex_engine.execute_workflow(workflow)

    assert {name: task.status for name, task in run.tasks.items()} == {
        "refuse": "failed",
        "after": "cancelled",
        "beside": "completed",
    }


def test_a_retry_is_another_attempt_of_the_same_task(codomyrmex_engine: OrchestrationEngine) -> None:
    def third_time() -> int:
        if current_task().attempt < 3:
            raise ConnectionError("not yet")
        return current_task().attempt

    workflow = Workflow("patient")
    workflow.step(third_time).options(
        retry={"max_attempts": 5, "delay_s": 3600}
    )  # this engine's time is virtual

    run = codomyrmex_engine.execute_workflow(workflow)

    assert run.results["third_time"] == 3
    assert run.tasks["third_time"].attempt == 3


def test_a_condition_decides_when_its_references_are_there(codomyrmex_engine: OrchestrationEngine) -> None:
    workflow = Workflow("choice")
    doubled = workflow.step(double, number=4)
    workflow.step(double, number=doubled.output).options(name="large", run_if="steps.double.output > 5")
    workflow.step(double, number=doubled.output).options(name="small", run_if="steps.double.output <= 5")

    run = codomyrmex_engine.execute_workflow(workflow)

    assert (run.tasks["large"].status, run.tasks["small"].status) == ("completed", "skipped")


def test_a_step_that_is_not_required_may_fail(codomyrmex_engine: OrchestrationEngine) -> None:
    workflow = Workflow("optional")
    workflow.step(refuse, number=1).options(required=False)
    workflow.step(add_up, numbers=["${steps.refuse.output ?? 10}", 5]).options(trigger_rule="all_done")

    run = codomyrmex_engine.execute_workflow(workflow)

    assert run.success
    assert run.results["add_up"] == 15


# At once, and apart


def test_never_more_run_at_once_than_was_said(codomyrmex_engine: OrchestrationEngine) -> None:
    inside, most, lock = 0, 0, threading.Lock()
    pair = threading.Barrier(2, timeout=10)

    def enter(number: int) -> None:
        nonlocal inside, most
        with lock:
            inside += 1
            most = max(most, inside)
        pair.wait()  # two do run together, or nobody would pass
        with lock:
            inside -= 1

    workflow = Workflow("bounded")
    workflow.map(enter, over=list(range(6))).options(max_parallel=2, resources={"cpu": 0})

    assert codomyrmex_engine.execute_workflow(workflow).success
    assert most == 2


def test_in_a_process_a_crash_or_an_endless_step_harms_nobody_else(project: Path) -> None:
    workflow = Workflow("apart")
    workflow.step(os.abort).options(isolation="process")
    workflow.step("shell:run", command=["sleep", "60"]).options(name="endless", timeout_s=0.1)
    workflow.step(double, number=1)

    with OrchestrationEngine(state=":memory:") as engine:
        run = engine.execute_workflow(workflow)

        assert run.tasks["abort"].error["kind"] == "crashed"
        assert run.tasks["endless"].error["kind"] == "timed_out"
        assert run.results["double"] == 2


def test_an_action_may_declare_what_its_steps_need(codomyrmex_engine: OrchestrationEngine) -> None:
    @action(resources={"cpu": 10_000}, effects="unsafe")
    def enormous() -> None:
        """Asks for more than there is."""

    workflow = Workflow("declared")
    workflow.step(enormous)

    with pytest.raises(codomyrmex.ResourceRefused, match="asks for 10000 CPUs"):
        codomyrmex_engine.start_workflow(workflow)


# Remembering

KILLED = """
import os, signal
from codomyrmex import Workflow

def first():
    with open("first.txt", "a") as file:
        file.write("x")
    return "kept"

def second(given):
    if not os.path.exists("was_killed"):
        open("was_killed", "w").close()
        os.kill(os.getpid(), signal.SIGKILL)
    return given + " and used"

if __name__ == "__main__":
    workflow = Workflow("killed")
    workflow.step(second, given=workflow.step(first).output)
    workflow.run()
"""


def test_a_killed_engine_loses_nothing_that_was_recorded(project: Path) -> None:
    script = project / "killed.py"
    script.write_text(KILLED)
    killed = subprocess.run([sys.executable, script.name], check=False)
    assert killed.returncode == -signal.SIGKILL

    with OrchestrationEngine(recover=False) as engine:
        [run_id] = engine.recover()
        engine.wait(run_id)
        run = engine.workflows.get_execution_status(run_id)

        assert run.results["second"] == "kept and used"
        assert (project / "first.txt").read_text() == "x"


def test_what_only_one_process_knew_is_not_resumable_by_another(project: Path) -> None:
    lines = KILLED.replace(
        "workflow.step(second, given=", "workflow.step(lambda given: second(given), given="
    )
    (project / "killed.py").write_text(lines)
    subprocess.run([sys.executable, "killed.py"], check=False)

    with OrchestrationEngine(recover=False) as engine, pytest.raises(NotResumable, match="lambda"):
        engine.resume(engine.reader.find("@last"))


def test_the_short_way_keeps_its_runs_in_the_project(project: Path) -> None:
    workflow = Workflow("short", parameters={"number": {"type": "integer"}})
    workflow.step(refuse, number=workflow.parameters["number"]).options(run_if="parameters.number > 3")
    try:
        run = workflow.run(number=1)
        with pytest.raises(RunFailed, match="4 is not for me") as failed:
            workflow.run(number=4)
    finally:
        codomyrmex.close_orchestration_engine()

    with OrchestrationEngine() as engine:
        known = engine.workflows.get_execution_status
        assert known(run.execution_id).status is codomyrmex.WorkflowStatus.COMPLETED
        assert known(failed.value.execution.execution_id).status is codomyrmex.WorkflowStatus.FAILED
