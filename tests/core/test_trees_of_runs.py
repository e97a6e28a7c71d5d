"""Child runs at awkward places: at the gate of a concurrency key, under a dead engine, with faults of their own."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from dying_engine import drop

from codomyrmex.logistics.orchestration.project import run_store
from codomyrmex.logistics.orchestration.project.orchestration_engine import OrchestrationEngine
from codomyrmex.logistics.orchestration.project.run_plan import RunPlan
from codomyrmex.logistics.storage.database import Transaction
from waiting import wait_until

LIMIT_S = 20.0
WAIT = {"name": "hold", "wait_for": {"signal": "go"}}
SLEEP = {"name": "nap", "sleep": "10ms"}


def engine(state: Path | str, root: Path) -> OrchestrationEngine:
    return OrchestrationEngine(state=state, root=root, cpu_count=4)


def document(*steps: dict[str, Any], name: str = "top", **more: Any) -> dict[str, Any]:
    return {"codomyrmex": 1, "name": name, "steps": list(steps), **more}


def child_file(folder: Path, *steps: dict[str, Any], **more: Any) -> dict[str, Any]:
    """Writes the workflow `child` and gives the step that starts it."""
    place = folder / "workflows"
    place.mkdir(exist_ok=True)
    (place / "child.json").write_text(json.dumps(document(*steps, name="child", **more)))
    return {"name": "down", "workflow": "child"}


def child_of(first: OrchestrationEngine, run_id: str) -> str:
    wait_until(lambda: first.reader.task(run_id, "down").child is not None, timeout_s=LIMIT_S)
    return str(first.reader.task(run_id, "down").child)


def status(first: OrchestrationEngine, run_id: str) -> str:
    return first.reader.run(run_id).status


def test_a_child_whose_key_cannot_be_worked_out_fails_its_step_and_nothing_else(tmp_path: Path) -> None:
    down = child_file(tmp_path, SLEEP, concurrency={"key": "${env.NO_SUCH_VARIABLE}"})
    with engine(":memory:", tmp_path) as first:
        failed = first.execute_workflow(document(down))
        assert failed.tasks["down"].status == "failed"
        assert "NO_SUCH_VARIABLE" in str(failed.error)
        assert first.execute_workflow(document(SLEEP)).success


def test_items_that_fail_before_they_open_are_counted_by_the_next_engine_too(tmp_path: Path) -> None:
    down = child_file(tmp_path, WAIT, parameters={"n": {"type": "integer"}})
    items = {**down, "foreach": ["bad", 1, 2], "parameters": {"n": "${item}"}}
    first = engine(tmp_path / "state", tmp_path)
    run_id = first.start_workflow(document(items, name="fan")).execution_id
    wait_until(lambda: len(first.reader.runs()[0]) == 3, timeout_s=LIMIT_S)
    drop(first)
    with engine(tmp_path / "state", tmp_path) as second:
        children = [run.execution_id for run in second.reader.runs()[0] if run.parent is not None]
        for child in children:
            second.signal(child, "go")
        assert second.wait(run_id, LIMIT_S)
        assert len(second.reader.runs()[0]) == 3
        states = [second.reader.task(run_id, f"down[{number}]").status for number in range(3)]
    assert states == ["failed", "completed", "completed"]


def test_a_tree_and_a_run_behind_it_with_one_key_do_not_wait_for_each_other(tmp_path: Path) -> None:
    down = child_file(tmp_path, SLEEP, concurrency={"key": "k"})
    with engine(":memory:", tmp_path) as first:
        runs = [
            first.start_workflow(document(SLEEP, {**down, "dependencies": ["nap"]}, concurrency={"key": "k"}))
            for _ in range(3)
        ]
        assert all(run.wait(LIMIT_S) and run.success for run in runs)


@pytest.mark.parametrize("kill", [False, True])
def test_a_cancel_reaches_a_child_that_waits_at_the_gate(tmp_path: Path, kill: bool) -> None:
    down = child_file(tmp_path, SLEEP, concurrency={"key": "k"})
    with engine(":memory:", tmp_path) as first:
        holder = first.start_workflow(document(WAIT, concurrency={"key": "k"}))
        parent = first.start_workflow(document(down))
        child = child_of(first, parent.execution_id)
        first.cancel(parent.execution_id, kill=kill)
        assert parent.wait(LIMIT_S)
        assert (parent.status.value, status(first, child)) == ("cancelled", "cancelled")
        first.cancel(holder.execution_id)
        assert holder.wait(LIMIT_S)


def test_a_run_cancelled_at_the_gate_runs_no_handler(tmp_path: Path) -> None:
    with engine(":memory:", tmp_path) as first:
        holder = first.start_workflow(document(WAIT, concurrency={"key": "k"}))
        second = first.start_workflow(
            document(SLEEP, concurrency={"key": "k"}, **{"finally": [{"name": "sweep", "sleep": 0}]})
        )
        first.cancel(second.execution_id)
        assert second.wait(LIMIT_S)
        assert {name: task.status for name, task in second.tasks.items()} == {"nap": "cancelled"}
        first.signal(holder.execution_id, "go")
        assert holder.wait(LIMIT_S)


def test_a_signal_to_a_run_at_the_gate_is_there_when_it_begins(tmp_path: Path) -> None:
    with engine(":memory:", tmp_path) as first:
        holder = first.start_workflow(document(WAIT, concurrency={"key": "k"}))
        second = first.start_workflow(document(WAIT, concurrency={"key": "k"}))
        first.signal(second.execution_id, "go", 7)
        first.signal(holder.execution_id, "go")
        assert second.wait(LIMIT_S)
        assert dict(second.results) == {"hold": 7}


def test_what_a_parent_asks_reaches_its_child_through_the_death_of_their_engine(tmp_path: Path) -> None:
    down = child_file(tmp_path, WAIT)
    first = engine(tmp_path / "state", tmp_path)
    run_id = first.start_workflow(document(down)).execution_id
    child = child_of(first, run_id)
    first.pause(run_id)
    wait_until(lambda: status(first, child) == "paused", timeout_s=LIMIT_S)
    drop(first)
    with engine(tmp_path / "state", tmp_path) as second:
        second.resume(run_id)
        second.signal(child, "go")
        assert second.wait(run_id, LIMIT_S)
        assert status(second, run_id) == "completed"


def test_a_child_that_is_cancelled_alone_leaves_its_parent_to_go_on(tmp_path: Path) -> None:
    down = {**child_file(tmp_path, WAIT), "required": False}
    first = engine(tmp_path / "state", tmp_path)
    run_id = first.start_workflow(document(down)).execution_id
    child = child_of(first, run_id)
    drop(first)
    with OrchestrationEngine(state=tmp_path / "state", root=tmp_path, recover=False) as second:
        second.cancel(child)
        assert second.wait(run_id, LIMIT_S)
        assert status(second, child) == "cancelled"
        assert second.reader.task(run_id, "down").status == "failed"
        assert status(second, run_id) == "completed"


def test_a_signal_name_is_that_of_the_moment_when_its_step_began(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("STAGE", "one")
    first = engine(tmp_path / "state", tmp_path)
    run_id = first.start_workflow(
        document({"name": "hold", "wait_for": {"signal": "go-${env.STAGE}"}})
    ).execution_id
    wait_until(lambda: first.reader.task(run_id, "hold").reason == "signal", timeout_s=LIMIT_S)
    drop(first)
    monkeypatch.delenv("STAGE")
    with engine(tmp_path / "state", tmp_path) as second:
        second.signal(run_id, "go-one")
        assert second.wait(run_id, LIMIT_S)
        assert status(second, run_id) == "completed"


def test_a_child_that_is_put_aside_fails_the_step_that_waits_for_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = RunPlan.keep_result

    def refuse(plan: RunPlan, *arguments: Any) -> None:
        if plan.run.workflow.name == "child":
            raise ZeroDivisionError("a fault of the engine")
        whole(plan, *arguments)

    down = child_file(tmp_path, SLEEP)
    with engine(":memory:", tmp_path) as first:
        monkeypatch.setattr(RunPlan, "keep_result", refuse)
        run = first.start_workflow(document(down))
        assert run.wait(LIMIT_S)
        assert "ChildFailed" in str(run.error)
        assert first.execute_workflow(document(SLEEP)).success


def test_a_run_whose_adoption_is_refused_is_put_aside_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = engine(tmp_path / "state", tmp_path)
    poison = first.start_workflow(document(WAIT, name="poison")).execution_id
    wait_until(lambda: first.reader.task(poison, "hold").reason == "signal", timeout_s=LIMIT_S)
    drop(first)
    whole, tried = run_store.write_plan, []

    def refuse(tx: Transaction, plan: RunPlan) -> None:
        if plan.run.id == poison:
            tried.append(poison)
            raise run_store.StaleTask("its rows are not as they should be")
        whole(tx, plan)

    monkeypatch.setattr(run_store, "write_plan", refuse)
    with engine(tmp_path / "state", tmp_path) as second:
        assert second.execute_workflow(document(SLEEP)).success
        assert second.execute_workflow(document(SLEEP)).success
        assert len(tried) <= 3
