"""`current_task()` means the same in a thread, in a process and in a coroutine of a real run."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from codomyrmex import OrchestrationEngine, Workflow, WorkflowExecution, current_task
from codomyrmex.current_task import NoSecret, action
from codomyrmex.logistics.orchestration.project.executors.attempt import Attempt
from codomyrmex.logistics.orchestration.project.executors.coroutine import AsyncExecutor
from codomyrmex.logistics.orchestration.project.executors.process import ProcessExecutor
from codomyrmex.logistics.orchestration.project.executors.thread import ThreadExecutor
from waiting import wait_until

ISOLATIONS = ("thread", "process", "async")
ACTIONS = """
import asyncio, time
from pathlib import Path
from codomyrmex import action, current_task

def look(fails):
    task = current_task()
    if task.attempt <= fails:
        (task.checkpoint_dir / "seen").write_text(f"by attempt {task.attempt}")
        raise ConnectionError("again")
    task.log.info("attempt %d looks", task.attempt)
    plot = Path(task.working_dir, f"plot-{task.task}.svg")
    plot.write_text("<svg/>")
    kept = task.save_artifact(plot)
    plot.unlink()
    try:
        task.secret("TOKEN")
    except KeyError as error:
        secret = str(error)
    return {
        "run_id": task.run_id, "task_id": task.task_id, "attempt": task.attempt, "key": task.idempotency_key,
        "cancelled": task.cancelled, "checkpoint": (task.checkpoint_dir / "seen").read_text(),
        "artifact": str(kept), "secret": secret,
    }

async def look_async(fails):
    await asyncio.sleep(0)
    return look(fails)

def tell():
    task = current_task()
    task.progress(1, 2, "half")
    task.progress(2, 2)
    task.metric("loss", 0.5)

async def tell_async():
    tell()

def until_cancelled(mark):
    task = current_task()
    Path(mark).touch()
    while not task.cancelled:
        time.sleep(0.002)
    return "stopped in peace"

@action(isolation="process", timeout_s=30, effects="idempotent", name="looks")
def declared():
    import os
    return os.getpid()
"""


@pytest.fixture
def acts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project whose module `current_task_acts` holds the actions above."""
    (tmp_path / "current_task_acts.py").write_text(ACTIONS)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def seen(acts: Path) -> dict[str, Any]:
    """What one run's tasks saw in each isolation, and their logs."""
    workflow = Workflow("looking")
    for isolation in ISOLATIONS:
        name = "look_async" if isolation == "async" else "look"
        step = workflow.step(f"current_task_acts:{name}", fails=1)
        step.options(name=isolation, isolation=isolation, retry=1)
    with OrchestrationEngine(root=acts, state=acts / "state") as engine:
        run = engine.execute_workflow(workflow)
        assert run.success, run.error
        logs = {name: Path(str(task.log_path)).read_text() for name, task in run.tasks.items()}
        return {"run_id": run.execution_id, "logs": logs, **run.results}


@pytest.mark.parametrize("isolation", ISOLATIONS)
def test_an_action_sees_its_attempt_wherever_it_runs(seen: dict[str, Any], isolation: str) -> None:
    found, run_id = seen[isolation], seen["run_id"]
    assert (found["run_id"], found["attempt"], found["cancelled"]) == (run_id, 2, False)
    assert found["task_id"] == found["key"] == f"{run_id}.{isolation}"
    assert found["checkpoint"] == "by attempt 1"
    assert Path(found["artifact"]).read_text() == "<svg/>"
    assert seen["logs"][isolation].endswith("INFO attempt 2 looks\n")
    assert found["secret"] == (
        "no secret 'TOKEN' was given to this task; its step gets what it names: with: {key: ${secrets.TOKEN}}, or env"
    )


def test_a_missing_secret_is_a_key_error_that_reads_as_a_sentence() -> None:
    assert str(NoSecret("A", {"C": "", "B": ""})) == "no secret 'A' was given to this task (given: B, C)"


@pytest.mark.parametrize("isolation", ISOLATIONS)
def test_progress_and_metrics_reach_the_executor(
    acts: Path, isolation: str, make: Callable[..., Attempt], tmp_path: Path
) -> None:
    notes: list[tuple[str, Any]] = []

    def note(token: str, told: Any) -> None:
        notes.append((token, {key: value for key, value in told.items() if key != "message"}))

    executors: dict[str, Callable[[], Any]] = {
        "thread": lambda: ThreadExecutor(on_note=note),
        "async": lambda: AsyncExecutor(on_note=note),
        "process": lambda: ProcessExecutor(
            spool_dir=str(tmp_path / "spool"), engine_token="tells", max_workers=1, on_note=note
        ),
    }
    (acts / "project" / "current_task_tells.py").write_text(ACTIONS)
    name = "tell_async" if isolation == "async" else "tell"
    attempt = make(name, {"module": "current_task_tells"})
    if isolation != "process":
        namespace: dict[str, Any] = {}
        exec(ACTIONS, namespace)
        attempt.function = namespace[name]
    executor = executors[isolation]()
    try:
        outcome = executor.run(attempt)
    finally:
        executor.close()
    assert outcome.error is None
    assert notes == [
        (attempt.token, {"kind": "progress", "done": 1, "total": 2}),
        (attempt.token, {"kind": "progress", "done": 2, "total": 2}),
        (attempt.token, {"kind": "metric", "name": "loss", "value": 0.5}),
    ]


def test_an_action_that_reads_cancelled_ends_in_peace_and_keeps_its_result(acts: Path) -> None:
    workflow = Workflow("stopping")
    step = workflow.step("current_task_acts:until_cancelled", mark=str(acts / "begun"))
    step.options(name="patient", isolation="thread")
    with OrchestrationEngine(root=acts, state=acts / "state") as engine:
        run = engine.start_workflow(workflow)
        wait_until((acts / "begun").exists)
        engine.cancel(run.execution_id)
        assert run.wait(10)
        assert run.results["patient"] == "stopped in peace"


def test_a_coroutine_is_cancelled_where_it_waits(acts: Path) -> None:
    told: list[object] = []

    async def endless() -> None:
        import asyncio

        task = current_task()
        told.append(task.cancelled)
        try:
            await asyncio.sleep(60)
        finally:
            told.append(task.cancelled)

    workflow = Workflow("stopping")
    workflow.step(endless)
    with OrchestrationEngine(root=acts, state=acts / "state") as engine:
        run: WorkflowExecution = engine.start_workflow(workflow)
        wait_until(lambda: told)
        engine.cancel(run.execution_id)
        assert run.wait(10)
        assert run.status.value == "cancelled"
    assert told == [False, True]


def test_what_a_function_declares_is_what_its_steps_say(acts: Path) -> None:
    workflow = Workflow("declared")
    workflow.step("current_task_acts:declared")
    workflow.step(told_here).options(name="here")
    with OrchestrationEngine(root=acts, state=acts / "state") as engine:
        run = engine.execute_workflow(workflow)
        assert run.success, run.error
        assert run.results["declared"] != run.results["here"]


@action(isolation="thread", resources={"cpu": 0})
def told_here() -> int:
    return os.getpid()
