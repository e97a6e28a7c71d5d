"""A thread action runs in the engine's process: there the state's files are closed to it; and what would
happen otherwise."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from run_audit import opened

from codomyrmex.logistics.orchestration.project.orchestration_engine import OrchestrationEngine
from codomyrmex.logistics.orchestration.project.workflow import Workflow

STATE = "state"


def look_in(state: str) -> list[str]:
    import sqlite3

    connection = sqlite3.connect(f"{state}/state.db")
    rows = connection.execute("SELECT id FROM run").fetchall()
    connection.close()
    return [row[0] for row in rows]


def archive(state: str) -> str:
    import tarfile

    with tarfile.open(f"{state}.tar", "w") as tar:
        tar.add(state)
    return f"{state}.tar"


def add_one(value: int) -> int:
    return value + 1


@pytest.mark.parametrize("nosy", [look_in, archive])
def test_a_thread_action_that_opens_the_state_is_refused_and_its_neighbours_are_not(
    nosy: object, tmp_path: Path
) -> None:
    workflow = Workflow("nosy")
    workflow.step(nosy, state=str(tmp_path / STATE)).options(name="nosy")  # type: ignore[arg-type]
    first = workflow.step(add_one, value=1).options(name="first")
    workflow.step(add_one, value=first.output).options(name="second")
    with OrchestrationEngine(state=tmp_path / STATE, root=tmp_path) as engine:
        run = engine.execute_workflow(workflow)
        assert run.status == "failed"
        tasks = {task.name: task for task in engine.reader.tasks(run.execution_id)}
    error = tasks["nosy"].error
    assert error is not None
    assert error["type"].rpartition(".")[2] == "StateFileGuarded"
    assert "this process runs an engine on that state" in error["message"]
    assert "locks are gone and commits are lost" in error["message"]
    with opened(tmp_path / STATE) as (_database, reader):
        assert dict(reader.results(run.execution_id)) == {"first": 2, "second": 3}


ENGINE = """
import os, sys
from contextlib import nullcontext
from codomyrmex.exceptions import StateFileGuarded
from codomyrmex.logistics.orchestration.project.orchestration_engine import OrchestrationEngine
from codomyrmex.logistics.orchestration.project.workflow import Workflow
from codomyrmex.logistics.storage import guard

def look_in(state):
    import sqlite3
    with nullcontext() if sys.argv[2] == "guarded" else guard.permitted():
        try:
            connection = sqlite3.connect(state + "/state.db")
            connection.execute("SELECT * FROM run").fetchall()
            connection.close()
            return "looked in"
        except StateFileGuarded:
            return "refused"

def go_on(said):
    return said + " and went on"

if __name__ == "__main__":
    workflow = Workflow("look")
    first = workflow.step(look_in, state=sys.argv[1]).options(name="first")
    workflow.step(go_on, said=first.output).options(name="second")
    engine = OrchestrationEngine(state=sys.argv[1])
    engine._host.orchestrator._recorder = None  # what it learned is stored after a run, and would meet the damage first
    run = engine.execute_workflow(workflow)
    print(run.status.value, "|", engine.reader.results(run.execution_id)["second"], flush=True)
    os._exit(0)  # as a kill would end it: nothing is tidied up
"""


@pytest.mark.parametrize(
    ("way", "said", "kept"),
    [
        ("guarded", "completed | refused and went on", "completed"),
        ("unguarded", "completed | looked in and went on", "running"),
    ],
)
def test_without_the_guard_a_run_that_completed_is_lost(
    way: str, said: str, kept: str, tmp_path: Path
) -> None:
    script = tmp_path / "engine.py"
    script.write_text(ENGINE)
    done = subprocess.run(
        [sys.executable, str(script), str(tmp_path / STATE), way],
        capture_output=True,
        text=True,
        check=False,
        cwd=tmp_path,
    )
    assert (done.returncode, done.stdout.strip()) == (0, said), done.stderr
    with opened(tmp_path / STATE) as (_database, reader):
        assert [run.status for run in reader.runs()[0]] == [kept]
