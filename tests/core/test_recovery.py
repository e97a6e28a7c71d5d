"""What an engine finds of a dead one, and how it goes on."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from dying_engine import drop

from codomyrmex.clock import VirtualClock
from codomyrmex.exceptions import CodomyrmexError, Conflict, NotResumable
from codomyrmex.logistics.orchestration.project.orchestration_engine import OrchestrationEngine
from codomyrmex.logistics.orchestration.project.workflow import Workflow
from codomyrmex.testing import FinishedRun
from waiting import wait_until

LIMIT_S = 20.0


def step(name: str, action: str, folder: Path, *parents: str, **more: Any) -> dict[str, Any]:
    parameters = {"folder": str(folder), "name": name, **more.pop("parameters", {})}
    head = {"name": name, "module": "recoverable_steps", "action": action, "dependencies": list(parents)}
    return {**head, "parameters": parameters, **more}


def document(*steps: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {"codomyrmex": 1, "name": "recovered", "isolation": "thread", "steps": list(steps), **more}


def engine(state: Path, **more: Any) -> OrchestrationEngine:
    return OrchestrationEngine(state=state, cpu_count=4, **more)


def ran(folder: Path, name: str) -> int:
    path = folder / name
    return len(path.read_text()) if path.exists() else 0


def die_when(first: OrchestrationEngine, what: dict[str, Any], condition: Any) -> str:
    """Starts a run and lets its engine die once the condition holds for its tasks; the run's id."""
    execution = first.start_workflow(what)
    wait_until(
        lambda: condition({name: task.status for name, task in execution.tasks.items()}), timeout_s=LIMIT_S
    )
    drop(first)
    return execution.execution_id


def finish(state: Path, run_id: str, **more: Any) -> FinishedRun:
    with engine(state, **more) as second:
        assert second.wait(run_id, LIMIT_S)
        return FinishedRun(second.reader, run_id)


def test_what_was_running_runs_again_without_using_a_retry(tmp_path: Path) -> None:
    what = document(
        step("a", "note", tmp_path), step("b", "wait_for_go", tmp_path, "a"), step("c", "note", tmp_path, "b")
    )
    run_id = die_when(
        engine(tmp_path / "state"), what, lambda now: now["b"] == "running" and ran(tmp_path, "b")
    )
    (tmp_path / "b.go").touch()
    run = finish(tmp_path / "state", run_id)
    assert run.statuses() == {"a": "completed", "b": "completed", "c": "completed"}
    assert {name: ran(tmp_path, name) for name in "abc"} == {"a": 1, "b": 2, "c": 1}
    assert (run.attempts("a"), run.attempts("b")) == (1, 2)
    events = [event["event"] for event in run.events if event["task"] in (None, "b")]
    assert events == [
        "run_started",
        "started",
        "returned",
        "run_recovered",
        "started",
        "completed",
        "run_completed",
    ]


def test_a_retry_that_was_waited_for_still_comes(tmp_path: Path) -> None:
    what = document(step("a", "fail_first", tmp_path, retry={"max_attempts": 2, "delay_s": 3000}))
    run_id = die_when(engine(tmp_path / "state"), what, lambda now: now["a"] == "blocked")
    run = finish(tmp_path / "state", run_id, clock=VirtualClock())
    assert run.results == {"a": "went on"}
    assert run.duration is not None
    assert run.duration > 2990


def test_a_fan_out_goes_on_where_it_was(tmp_path: Path) -> None:
    what = document(
        step("a", "wait_for_go", tmp_path, foreach=["0", "1", "2"], parameters={"name": "${item}"}),
        step("b", "note", tmp_path, "a"),
    )
    (tmp_path / "1.go").touch()
    run_id = die_when(
        engine(tmp_path / "state"),
        what,
        lambda now: now.get("a[1]") == "completed" and ran(tmp_path, "0") and ran(tmp_path, "2"),
    )
    for name in "02":
        (tmp_path / f"{name}.go").touch()
    run = finish(tmp_path / "state", run_id)
    assert run.results["a"] == ["went on"] * 3
    assert [ran(tmp_path, name) for name in "012"] == [2, 1, 2]
    assert run.success


def test_the_first_failure_stays_the_first(tmp_path: Path) -> None:
    what = document(
        step("z", "fail_odd", tmp_path, "w", foreach=[3], parameters={"n": "${item}"}),
        step("w", "wait_for_go", tmp_path),
        step("a", "fail_odd", tmp_path, foreach=[1, 0], parameters={"n": "${item}"}),
    )
    run_id = die_when(
        engine(tmp_path / "state"), what, lambda now: now["a"] == "failed" and ran(tmp_path, "w")
    )
    (tmp_path / "w.go").touch()
    run = finish(tmp_path / "state", run_id)
    assert (run.statuses()["a"], run.statuses()["z"], run.status.value) == ("failed", "failed", "failed")
    assert run.view.failed_step == "a[0]"


def test_a_fan_out_that_was_half_failed_at_the_death_ends_as_failed(tmp_path: Path) -> None:
    what = document(
        step("a", "wait_or_fail", tmp_path, foreach=["bad", "good"], parameters={"name": "${item}"}),
        step("b", "note", tmp_path, "a", trigger_rule="one_failed"),
    )
    run_id = die_when(
        engine(tmp_path / "state"), what, lambda now: now.get("a[0]") == "failed" and ran(tmp_path, "good")
    )
    (tmp_path / "good.go").touch()
    run = finish(tmp_path / "state", run_id)
    assert run.statuses() == {"a": "failed", "a[0]": "failed", "a[1]": "completed", "b": "completed"}
    assert run.tasks["a"].error is not None
    assert "bad" in run.tasks["a"].error["message"]


def test_a_run_that_was_being_cancelled_is_cancelled_by_the_next_engine(tmp_path: Path) -> None:
    first = engine(tmp_path / "state")
    execution = first.start_workflow(
        document(step("a", "never_ends", tmp_path), step("b", "note", tmp_path, "a"))
    )
    wait_until(lambda: ran(tmp_path, "a"))
    first.cancel(execution.execution_id)
    wait_until(lambda: execution.tasks["b"].status == "cancelled")
    first._host.orchestrator._drain.stop()  # dead before the action ends: nothing of it is recorded any more
    (tmp_path / "a.dead").touch()
    drop(first)
    run = finish(tmp_path / "state", execution.execution_id)
    assert run.statuses() == {"a": "cancelled", "b": "cancelled"}
    assert run.status.value == "cancelled"
    assert ran(tmp_path, "a") == 1


def test_a_shutdown_leaves_what_ran_to_be_resumed(tmp_path: Path) -> None:
    what = document(step("a", "wait_for_go", tmp_path), step("b", "note", tmp_path, "a"))
    with engine(tmp_path / "state") as first:
        run_id = first.start_workflow(what).execution_id
        wait_until(lambda: ran(tmp_path, "a"))
    (tmp_path / "a.go").touch()
    run = finish(tmp_path / "state", run_id)
    assert run.success
    assert run.attempts("a") == 2


def test_a_run_of_a_living_engine_is_not_taken(tmp_path: Path) -> None:
    with engine(tmp_path / "state") as first:
        execution = first.start_workflow(document(step("a", "wait_for_go", tmp_path)))
        wait_until(lambda: ran(tmp_path, "a"))
        with engine(tmp_path / "state") as second:
            assert second.recover() == []
            with pytest.raises(NotResumable, match="belongs to engine"):
                second.resume(execution.execution_id)
        (tmp_path / "a.go").touch()
        assert execution.wait(LIMIT_S)
    assert ran(tmp_path, "a") == 1


def test_another_engine_hands_on_the_wish_to_cancel(tmp_path: Path) -> None:
    with engine(tmp_path / "state") as first, engine(tmp_path / "state") as second:
        execution = first.start_workflow(document(step("a", "wait_for_go", tmp_path)))
        wait_until(lambda: ran(tmp_path, "a"))
        second.cancel(execution.execution_id)
        assert execution.wait(LIMIT_S)
        assert execution.status.value == "cancelled"


def test_a_closure_cannot_be_resumed_and_says_what_to_do(tmp_path: Path) -> None:
    first = engine(tmp_path / "state")
    made = Workflow("closure")
    made.step(lambda: wait_until((tmp_path / "go").exists)).options(name="a")
    execution = first.start_workflow(made)
    wait_until(lambda: execution.tasks["a"].status == "running")
    first._host.orchestrator.give_up(CodomyrmexError("died"))
    (tmp_path / "go").touch()
    drop(first)
    with engine(tmp_path / "state") as second:
        assert second.recover() == []
        with pytest.raises(NotResumable, match="never importable"):
            second.resume(execution.execution_id)


def test_a_run_that_was_put_aside_can_be_taken_up_again(tmp_path: Path) -> None:
    with engine(tmp_path / "state") as first:
        execution = first.start_workflow(
            document(step("a", "wait_for_go", tmp_path), step("b", "note", tmp_path, "a"))
        )
        wait_until(lambda: ran(tmp_path, "a"))
        with first._host.database.transaction() as tx:
            tx.execute("UPDATE task SET attempt = 7")
        (tmp_path / "a.go").touch()
        with pytest.raises(Conflict, match="not in the state"):
            execution.wait(LIMIT_S)
        again = first.resume(execution.execution_id)
        assert again.wait(LIMIT_S)
        assert again.success
