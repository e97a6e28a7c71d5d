"""A project as a workflow of ours, and what the engine's own admission makes of it.

One step for each job but source and sink, in the order of the file; it asks for no CPU and for as much of `r1`,
`r2`... as the job demands, which are named resources of the state. One second stands for one unit of time. Nothing
here decides an order: the document goes the way of every workflow (loader, compiler, run) to `plan_run`.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from schedules.project_file import Project

from codomyrmex.logistics.orchestration.project.expectations import Expectations
from codomyrmex.logistics.orchestration.project.named_resources import NamedResource
from codomyrmex.logistics.orchestration.project.order_policy import OrderPolicy
from codomyrmex.logistics.orchestration.project.plan_optimiser import optimise
from codomyrmex.logistics.orchestration.project.resource_request import CPU, UNIT
from codomyrmex.logistics.orchestration.project.run_state import RunOptions, RunState
from codomyrmex.logistics.orchestration.project.states import OrchestrationMode
from codomyrmex.logistics.orchestration.project.workflow_compiler import compile_workflow
from codomyrmex.logistics.orchestration.project.workflow_file import load_text
from codomyrmex.logistics.orchestration.project.workflow_plan import WorkflowPlan
from codomyrmex.logistics.orchestration.project.workflow_planner import plan_run


@dataclass(frozen=True, slots=True, kw_only=True)
class Times:
    """When each job of a project begins and ends, by number; times are those of its file."""

    starts: dict[int, int]
    ends: dict[int, int]

    @property
    def makespan(self) -> int:
        return max(self.ends.values(), default=0)


def document_of(project: Project) -> dict[str, Any]:
    """The workflow of a project, as its file has it."""
    before, ends = project.predecessors(), project.ends
    steps = []
    for job in project.work:
        demand = {f"r{at}": amount for at, amount in enumerate(job.demand, 1) if amount}
        step: dict[str, Any] = {"name": step_name(job.number), "call": "bench_actions:noop"}
        step["resources"] = {"cpu": 0, **demand}
        if needs := [step_name(each) for each in before[job.number] if each not in ends]:
            step["needs"] = needs
        steps.append(step)
    return {"codomyrmex": 1, "name": project.name, "steps": steps}


def step_name(number: int) -> str:
    """The step of a job."""
    return f"j{number}"


def resources_of(project: Project) -> list[NamedResource]:
    """What the state would limit."""
    return [
        NamedResource(id=f"r{at}", name=f"r{at}", type="custom", capacity=capacity * UNIT)
        for at, capacity in enumerate(project.capacities, 1)
    ]


def run_of(project: Project) -> RunState:
    """The run of a project as it would begin."""
    loaded = load_text(json.dumps(document_of(project)), format="json")
    workflow = compile_workflow(loaded.document)
    return RunState(number=0, id=project.name, workflow=workflow, parameters={}, options=RunOptions(root="/"))


def planned(project: Project, mode: OrchestrationMode = OrchestrationMode.RESOURCE_AWARE) -> WorkflowPlan:
    """What the admission does with a project whose jobs take as long as its file says; nothing else is scarce."""
    seconds = {step_name(job.number): float(job.duration) for job in project.work}
    return plan_run(
        run_of(project),
        expectations=Expectations.with_given(seconds),
        machine={CPU: 1000},
        named=resources_of(project),
        workers=max(1, len(project.jobs)),
        policy=OrderPolicy(mode=mode),
    )


def optimised(project: Project, plan: WorkflowPlan, budget_s: float) -> WorkflowPlan:
    """The order that the solver finds in so many seconds, from the admission's plan on."""
    return optimise(plan, run_of(project), named=resources_of(project), budget_s=budget_s)


def times_of(project: Project, plan: WorkflowPlan) -> Times:
    """The times of a plan; source and sink, which are no steps, stand at its two ends."""
    tasks = {task.task: task for task in plan.tasks}
    starts, ends = {}, {}
    for job in project.work:
        task = tasks.get(step_name(job.number))
        if task is not None:
            starts[job.number], ends[job.number] = _whole(task.start_s), _whole(task.end_s)
    last = max(ends.values(), default=0)
    for number in project.ends:
        starts[number] = ends[number] = 0 if project.jobs[number].successors else last
    return Times(starts=starts, ends=ends)


def _whole(seconds: float) -> int:
    """Whole units of time; a plan of whole durations has nothing between them."""
    units = round(seconds)
    if abs(seconds - units) > 1e-5:
        raise ValueError(f"{seconds} s is no whole time, though all durations are whole")
    return units
