"""What a review of the core found: each with the scenario that shows it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from codomyrmex import OrchestrationEngine, Workflow
from codomyrmex.exceptions import StoreBusy
from codomyrmex.logistics.orchestration.project import intent_store, run_plan, run_store
from codomyrmex.logistics.orchestration.project.admission import Admission
from codomyrmex.logistics.orchestration.project.news import Chunk, Recall
from codomyrmex.logistics.orchestration.project.resource_request import CPU, Request
from codomyrmex.logistics.storage.sqlite import SQLiteDatabase

HERE = Path(__file__).parent


def fail_with_a_surrogate() -> None:
    raise OSError("no such file: 'caf\udce9.txt'")


def answer() -> int:
    return 42


def large() -> str:
    return "x" * 6000


def measure(text: str) -> int:
    return len(text)


@pytest.fixture
def engine() -> Iterator[OrchestrationEngine]:
    with OrchestrationEngine(state=":memory:", root=HERE) as opened:
        yield opened


@pytest.mark.parametrize("isolation", ["thread", "process", "async"])
def test_a_message_that_is_no_utf_8_fails_its_step_and_nothing_else(
    engine: OrchestrationEngine, isolation: str
) -> None:
    workflow = Workflow("surrogate")
    workflow.step(fail_with_a_surrogate).options(isolation=isolation)
    assert "caf\\udce9" in str(engine.execute_workflow(workflow).error)
    workflow = Workflow("after")
    workflow.step(answer).options(isolation=isolation)
    assert engine.execute_workflow(workflow).results["answer"] == 42


def test_a_run_that_cannot_be_planned_is_put_aside_and_the_others_go_on(
    engine: OrchestrationEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = run_plan.RunPlan.complete

    def refuse(plan: run_plan.RunPlan, *arguments: Any, **options: Any) -> None:
        if plan.run.workflow.name == "poison":
            raise ZeroDivisionError("a fault of the engine")
        whole(plan, *arguments, **options)

    monkeypatch.setattr(run_plan.RunPlan, "complete", refuse)
    poison, innocent = Workflow("poison"), Workflow("innocent")
    poison.step(answer)
    innocent.step(answer)
    bad = engine.start_workflow(poison)
    with pytest.raises(Exception, match="put aside"):
        bad.wait(10)
    assert engine.execute_workflow(innocent).success


def test_an_empty_recall_of_a_chunk_that_has_ended_frees_nothing_twice(engine: OrchestrationEngine) -> None:
    workflow = Workflow("one")
    workflow.step(answer)
    engine.execute_workflow(workflow)
    drain = engine._host.orchestrator._drain
    admission: Admission = drain.admission
    run = next(iter(drain.runs.values()), None)
    lane = admission.lane(run or _FakeRun(), request=Request(), quick=True)
    drain.post(Recall(Chunk(lane.run, lane), [], None))
    drain.drain()
    share = admission.share
    assert (share.cpu_milli, admission.workers) == (share.allotted.get(CPU, 0), admission.capacity.workers)


class _FakeRun:
    number = -1


def test_an_output_that_cannot_be_read_just_now_is_read_again(
    engine: OrchestrationEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, calls = run_store.read_result, []

    def busy_once(*arguments: Any) -> bytes | None:
        calls.append(arguments)
        if len(calls) == 1:
            raise StoreBusy("somebody holds the lock")
        return whole(*arguments)

    monkeypatch.setattr(run_store, "read_result", busy_once)
    workflow = Workflow("reading")
    text = workflow.step(large)
    workflow.step(measure, text=text.output)
    execution = engine.execute_workflow(workflow)
    assert (execution.error, execution.results["measure"], len(calls) > 1) == (None, 6000, True)


CHILD = """
import os, signal, sys, threading
from codomyrmex import OrchestrationEngine, Workflow
def first():
    os.write(1, b"began\\n")
    threading.Event().wait(60)
workflow = Workflow("asked")
step = workflow.step(first).options(name="first")
if sys.argv[2] == "closure":
    workflow.step(lambda: None).options(name="danger", needs=["first"])
else:
    workflow.add(type(step.definition)("danger", "shell", "run", {"command": ["touch", sys.argv[3]]}, ["first"]))
engine = OrchestrationEngine(state=sys.argv[1], root=os.path.dirname(sys.argv[1]))
engine.start_workflow(workflow)
threading.Event().wait(60)
"""


@pytest.mark.parametrize("kind", ["shell", "closure"])
def test_a_cancel_that_its_engine_did_not_live_to_read_is_kept(
    kind: str, tmp_path: Path, wait_until: Callable[..., object]
) -> None:
    state, touched = tmp_path / "state", tmp_path / "touched"
    script = tmp_path / "engine.py"
    script.write_text(CHILD)
    command = [sys.executable, str(script), str(state), kind, str(touched)]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as child:
        assert child.stdout is not None
        assert child.stdout.readline() == b"began\n"
        os.kill(child.pid, signal.SIGSTOP)
        database = SQLiteDatabase.open_existing(state / "state.db")
        with database.transaction() as tx:
            intent_store.ask(tx, run=1, kind="cancel", by="somebody", now_us=time.time_ns() // 1000)
        database.close()
        child.kill()
    with OrchestrationEngine(state=state, root=tmp_path) as engine:
        run_id = engine.reader.find("asked")
        wait_until(lambda: engine.reader.run(run_id).final)
        assert engine.reader.run(run_id).status == "cancelled"
        assert engine.reader.tasks(run_id)[1].status == "cancelled"
    assert not touched.exists()


def test_a_shutdown_that_was_interrupted_can_be_repeated(monkeypatch: pytest.MonkeyPatch) -> None:
    engine = OrchestrationEngine(state=":memory:", root=HERE)
    orchestrator = engine._host.orchestrator
    whole = orchestrator._record_rest

    def interrupted(deadline_s: float) -> None:
        monkeypatch.setattr(orchestrator, "_record_rest", whole)
        raise KeyboardInterrupt

    monkeypatch.setattr(orchestrator, "_record_rest", interrupted)
    with pytest.raises(KeyboardInterrupt):
        engine.shutdown()
    engine.shutdown()
    assert orchestrator._drain.stopped
    assert not orchestrator.timekeeper._thread.is_alive()
