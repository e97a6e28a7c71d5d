"""Why a ready task does not begin although what it asks for is free: the order of the work, explained."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from threading import Event
from typing import Any

import pytest

from codomyrmex.logistics.orchestration.project.orchestration_engine import OrchestrationEngine
from codomyrmex.logistics.orchestration.project.workflow import Workflow
from waiting import wait_until

GO = Event()


def hold() -> None:
    """Keeps what it claimed until the test lets go."""
    GO.wait(20)


def work() -> None:
    """Nothing."""


@pytest.fixture
def engine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[OrchestrationEngine]:
    monkeypatch.setenv("CODOMYRMEX_HOST_DIR", str(tmp_path / "host"))
    monkeypatch.setenv("CODOMYRMEX_ORDER_RESERVE_AFTER_S", "1")
    GO.clear()
    with OrchestrationEngine(state=tmp_path / "state", root=tmp_path, cpu_count=2) as found:
        yield found
        GO.set()


def facts(engine: OrchestrationEngine, run_id: str, task: str) -> list[dict[str, Any]]:
    found = engine.reader.explanation(run_id, task).reasons[0].to_dict(datetime.now(UTC))
    return list(found["reasons"])


def kinds(engine: OrchestrationEngine, run_id: str, task: str) -> list[str]:
    return [each["kind"] for each in facts(engine, run_id, task)]


def test_room_that_is_kept_is_named_to_who_has_it_and_to_who_lets_it_pass(
    engine: OrchestrationEngine,
) -> None:
    workflow = Workflow("w")
    workflow.step(hold).options(name="small")
    workflow.step(work).options(name="zero")
    workflow.step(work).options(name="large", resources={"cpu": 2}, dependencies=["zero"])
    run_id = engine.start_workflow(workflow).execution_id
    large = "large"
    wait_until(lambda: "resource" in kinds(engine, run_id, large), what="the large one to wait")

    def kept() -> bool:
        passing = Workflow("passing")
        passing.step(work)
        engine.wait(
            engine.start_workflow(passing).execution_id, 0.1
        )  # what begins and ends brings about a look
        return "kept_room" in kinds(engine, run_id, large)

    wait_until(kept, what="room to be kept")
    later = Workflow("later")
    later.step(work).options(name="next")
    other = engine.start_workflow(later).execution_id
    wait_until(lambda: kinds(engine, other, "next") == ["kept_room"], what="the other to let it pass")
    mine = facts(engine, run_id, large)[-1]
    assert mine["mine"]
    assert "what becomes free is kept for it" in mine["sentence"]
    [theirs] = facts(engine, other, "next")
    assert (theirs["kind"], theirs["run"], theirs["task"]) == ("kept_room", run_id, large)
    GO.set()
    assert engine.wait(run_id, 10)
    assert engine.wait(other, 10)


def test_a_task_that_is_not_next_in_the_plan_names_who_is(engine: OrchestrationEngine) -> None:
    workflow = Workflow("w")
    workflow.step(hold).options(name="gate")
    workflow.step(work).options(name="first", dependencies=["gate"])
    workflow.step(work).options(name="second")
    run_id = engine.start_workflow(workflow, follow=["gate", "first", "second"]).execution_id
    wait_until(lambda: kinds(engine, run_id, "second") == ["plan_turn"], what="it to wait for its turn")
    [fact] = facts(engine, run_id, "second")
    assert fact["sentence"] == "its run follows a plan, and first begins before it"
    GO.set()
    assert engine.wait(run_id, 10)
    ended = [each.name for each in sorted(engine.reader.tasks(run_id), key=lambda each: each.started_at)]
    assert ended == ["gate", "first", "second"]
