"""Workflows that are planned, optimised and followed under virtual time, for the tests of plans.

A `Site` is a machine with named resources; a workflow on it is a list of steps with the seconds that each takes.
`brute_force` finds the shortest end of a few tasks by trying every order.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import permutations
from typing import Any

from codomyrmex.logistics.orchestration.project.child_definition import ChildDefinition
from codomyrmex.logistics.orchestration.project.expectations import Expectations
from codomyrmex.logistics.orchestration.project.named_resources import NamedResource
from codomyrmex.logistics.orchestration.project.plan_optimiser import as_followed, optimise
from codomyrmex.logistics.orchestration.project.plan_problem import PlanProblem
from codomyrmex.logistics.orchestration.project.plan_store import order_of
from codomyrmex.logistics.orchestration.project.rate_quota import Rate
from codomyrmex.logistics.orchestration.project.resource_request import UNIT
from codomyrmex.logistics.orchestration.project.run_simulation import Simulation
from codomyrmex.logistics.orchestration.project.run_state import RunOptions, RunState
from codomyrmex.logistics.orchestration.project.workflow_compiler import compile_workflow
from codomyrmex.logistics.orchestration.project.workflow_file import load_text
from codomyrmex.logistics.orchestration.project.workflow_plan import WorkflowPlan
from codomyrmex.logistics.orchestration.project.workflow_planner import plan_run


def step(name: str, *parents: str, **more: Any) -> dict[str, Any]:
    """A step that asks for one CPU unless `resources` says otherwise."""
    kinds = ("workflow", "sleep", "approval", "wait_for")
    head = {} if any(kind in more for kind in kinds) else {"call": "actions:act"}
    return {"name": name, **head, "needs": list(parents), **more}


def resource(name: str, count: int) -> NamedResource:
    """So many units of something that the state limits."""
    return NamedResource(id=f"id-{name}", name=name, type="custom", capacity=count * UNIT)


def quota(name: str, count: int, *, per_s: int, burst: int | None = None) -> NamedResource:
    """So many claims in so many seconds."""
    rate = Rate(count * UNIT, per_s * 1_000_000, None if burst is None else burst * UNIT)
    return NamedResource(id=f"id-{name}", name=name, type="api_quota", capacity=count * UNIT, rate=rate)


@dataclass(slots=True, kw_only=True)
class Site:
    """What runs have; see the module."""

    cpu: float = 4
    gpus: int = 0
    named: Sequence[NamedResource] = ()
    workers: int = 64
    durations: Mapping[str, float] = field(default_factory=dict)

    @property
    def machine(self) -> dict[str, int]:
        return {"sys-compute": round(1000 * self.cpu), **{f"gpu-{at}": UNIT for at in range(self.gpus)}}

    def run(self, steps: Sequence[Mapping[str, Any]], **more: Any) -> RunState:
        """A run that has not begun; `children` by name are documents or lists of steps, other words the document's.

        A child document may have `children` of its own. Parameters have their defaults.
        """
        children = {name: _child(name, each) for name, each in more.pop("children", {}).items()}
        return RunState(
            number=0,
            id="planned",
            workflow=compile_workflow(_document("planned", steps, **more)),
            parameters={name: each["default"] for name, each in more.get("parameters", {}).items()},
            options=RunOptions(root="/", roots=()),
            children=children,
        )

    def plan(
        self, run: RunState, *, learned: Expectations | None = None, simulations: int = 0, **more: Any
    ) -> WorkflowPlan:
        """What the admission makes of it; `learned` beside the durations, `follow` and `seed` as for `plan_run`."""
        return plan_run(
            run,
            expectations=Expectations.with_given(self.durations, learned=learned),
            machine=self.machine,
            named=self.named,
            workers=self.workers,
            simulations=simulations,
            **more,
        )

    def optimise(self, run: RunState, *, budget_s: float = 5) -> WorkflowPlan:
        """The plan of a solver."""
        return optimise(self.plan(run), run, named=self.named, budget_s=budget_s)

    def optimise_and_follow(self, run: RunState, *, budget_s: float = 5) -> WorkflowPlan:
        """The plan of a solver with the times of a run that keeps to it: what `workflows plan --optimise` says."""
        plan = self.plan(run)
        found = optimise(plan, run, named=self.named, budget_s=budget_s)
        return as_followed(plan, found, lambda order: self.plan(run, follow=order_of(order)))

    def follow(self, run: RunState, plan: WorkflowPlan) -> tuple[float, dict[str, float]]:
        """When a run that follows a plan ends, and when each task starts."""
        following = RunState(
            number=0,
            id="following",
            workflow=run.workflow,
            parameters={},
            options=replace(run.options, follow=order_of(plan)),
            children=run.children,
        )
        simulation = Simulation(
            machine=self.machine,
            workers=self.workers,
            attempt_s=lambda each, position: self.durations.get(
                each.workflow.names[each.step_of(position)], 1.0
            ),
            named=[replace(each, waits=[], tat_us=0) for each in self.named],
        )
        simulation.submit(following)
        simulation.run()
        begun = {
            each.run.name_of(each.event[1]): each.at_us / 1e6
            for each in simulation.journal
            if each.run is following and each.event[0] == "started"
        }
        return simulation.now_us / 1e6, begun


def _document(name: str, steps: Sequence[Mapping[str, Any]], **more: Any) -> Mapping[str, Any]:
    text = json.dumps({"codomyrmex": 1, "name": name, "steps": [*steps], **more})
    return load_text(text, format="json").document


def _child(name: str, told: Sequence[Mapping[str, Any]] | Mapping[str, Any]) -> ChildDefinition:
    document = dict(told) if isinstance(told, Mapping) else {"steps": told}
    children = {name: _child(name, each) for name, each in document.pop("children", {}).items()}
    loaded = _document(name, **document)
    return ChildDefinition(workflow=compile_workflow(loaded), document=loaded, children=children)


def brute_force(problem: PlanProblem) -> int:
    """The shortest end: every order that keeps what waits for what, each job as early as it fits."""
    jobs = range(len(problem))
    return min(
        problem.end(problem.packed(order))
        for order in permutations(jobs)
        if all(order.index(before) < order.index(job) for job in jobs for before in problem.after[job])
    )


def breaches(problem: PlanProblem, starts: Sequence[int]) -> list[str]:
    """What a schedule does that it may not: looked for by counting, at every start."""
    found = [
        f"{job} begins before {before} ends"
        for job, parents in enumerate(problem.after)
        for before in parents
        if starts[job] < starts[before] + problem.durations[before]
    ]
    for limit in problem.limits:
        for now in starts:
            held = sum(
                use.amount for job, use in limit.uses.items() if starts[job] <= now < starts[job] + use.held
            )
            if held > limit.capacity:
                found.append(f"{held} of {limit.capacity} {limit.name} at {now}")
    return found
