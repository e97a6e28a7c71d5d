"""A small workflow with one of everything, and what must come of it whatever happens on the way."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from codomyrmex.clock import VirtualClock
from codomyrmex.logistics.orchestration.project.orchestration_engine import OrchestrationEngine
from codomyrmex.testing import FinishedRun


def step(name: str, script: list[str], *parents: str, **more: Any) -> dict[str, Any]:
    retry = {"max_attempts": 3, "delay_s": 1}
    parameters = {"script": script, **more.pop("parameters", {})}
    head = {"name": name, "module": "scripted_steps", "action": "act", "dependencies": list(parents)}
    return {**head, "parameters": parameters, "retry": retry, **more}


STEPS = [
    step("a", ["ok"]),
    step("b", ["ValueError", "ok"], "a", parameters={"used": "${steps.a.output}"}),
    step("c", ["ok"], "b", foreach=[1, 2, 3], parameters={"item": "${item}"}),
    step("d", ["KeyError"], "b", required=False),
    step("e", ["ok"], "d", trigger_rule="one_failed"),
    step("f", ["ok"], "c", parameters={"used": "${steps.c.output}"}),
    step("g", ["ok"], "a", run_if="steps.a.output > 99"),
]
WORKFLOW = {
    "codomyrmex": 1,
    "name": "small",
    "isolation": "thread",
    "steps": STEPS,
    "outputs": {"f": "${steps.f.output}"},
}
ATTEMPTS = {"a": 1, "b": 2, "c": 3, "d": 3, "e": 1, "f": 1}


def check(run: FinishedRun) -> None:
    assert run.outputs == {"f": 1 + (2 + 3 + 4)}
    assert run.statuses() == {
        "a": "completed", "b": "completed", "c": "completed", "c[0]": "completed", "c[1]": "completed",
        "c[2]": "completed", "d": "failed", "e": "completed", "f": "completed", "g": "skipped",
    }  # fmt: skip


def finish(state: Path) -> FinishedRun:
    """Goes on with what is there, or begins, on a store without faults."""
    with OrchestrationEngine(state=state, clock=VirtualClock()) as engine:
        runs = engine.reader.runs()[0]
        run_id = runs[0].execution_id if runs else engine.start_workflow(WORKFLOW).execution_id
        engine.wait(run_id, 30)
        return FinishedRun(engine.reader, run_id)
