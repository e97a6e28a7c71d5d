"""Runs in memory whose attempts end as a test says, for what listens to them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from codomyrmex.logistics.orchestration.project.compiled_workflow import CompiledWorkflow
from codomyrmex.logistics.orchestration.project.executors.attempt import Outcome, OutcomeKind
from codomyrmex.logistics.orchestration.project.run_state import COMPLETED, RunOptions, RunState
from codomyrmex.logistics.orchestration.project.states import WorkflowStatus
from codomyrmex.logistics.orchestration.project.workflow import Workflow
from codomyrmex.logistics.orchestration.project.workflow_compiler import compile_workflow

STEP = {"module": "acts", "action": "act"}


def compiled(*steps: Mapping[str, Any], name: str = "flow", **more: Any) -> CompiledWorkflow:
    """A workflow of these steps, each a step of `acts.act` where it does not say otherwise."""
    waits = {"sleep", "approval", "workflow", "wait_for"}
    listed = [dict(step) if waits & set(step) else {**STEP, **step} for step in steps]
    document = {"codomyrmex": 1, "name": name, "steps": listed, **more}
    return compile_workflow(Workflow.from_document(document).to_document())


def run_of(workflow: CompiledWorkflow, number: int = 1) -> RunState:
    """A run of it that has begun nothing."""
    options = RunOptions(root="/")
    return RunState(number=number, id=f"run-{number}", workflow=workflow, parameters={}, options=options)


def outcome(duration_s: float = 1.0, kind: OutcomeKind = OutcomeKind.COMPLETED, **more: Any) -> Outcome:
    return Outcome(kind=kind, started_us=0, ended_us=0, duration_s=duration_s, **more)


def complete(run: RunState) -> None:
    """Everything of a run that has no result yet is completed, and so is the run."""
    for position in range(len(run)):
        run.move(position, COMPLETED)
    run.status = WorkflowStatus.COMPLETED
