"""A plan of a workflow for whoever asks: from a definition and its parameters to what `workflow_planner` needs.

Layer: beside `run_starter`, which makes runs of the same; nothing runs, and only an order that a solver found is
stored, where somebody asks for it. Everything is checked as for a run, and what can never be met is refused the same
way. What steps are expected to take comes from the state where there is one, and from whoever asks. The machine and
the resources of the state are taken for idle, or for what a what-if says (`what_if`).
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping
from contextlib import closing, nullcontext
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from codomyrmex.exceptions import Fault, ValidationError
from codomyrmex.logistics.orchestration.project.actions.catalogue import ActionCatalogue
from codomyrmex.logistics.orchestration.project.actions.places import roots
from codomyrmex.logistics.orchestration.project.amount_words import listed
from codomyrmex.logistics.orchestration.project.amounts import MAX_DURATION_S
from codomyrmex.logistics.orchestration.project.child_preparation import ChildPreparation, FindChild
from codomyrmex.logistics.orchestration.project.compiled_workflow import CompiledWorkflow
from codomyrmex.logistics.orchestration.project.expectations import Expectations
from codomyrmex.logistics.orchestration.project.impossible_requests import Supply, asks_for_gpus
from codomyrmex.logistics.orchestration.project.machine import Machine
from codomyrmex.logistics.orchestration.project.named_resources import NamedResource
from codomyrmex.logistics.orchestration.project.order_policy import OrderPolicy
from codomyrmex.logistics.orchestration.project.resource_request import NamedLimit
from codomyrmex.logistics.orchestration.project.run_state import RunOptions, RunState
from codomyrmex.logistics.orchestration.project.secret_names import visible
from codomyrmex.logistics.orchestration.project.what_if import Supplied, supplied
from codomyrmex.logistics.orchestration.project.workflow_faults import nearest
from codomyrmex.logistics.orchestration.project.workflow_plan import WorkflowPlan
from codomyrmex.logistics.orchestration.project.workflow_preparation import (
    Definition,
    Prepared,
    prepare,
    refuse_impossible,
    workflows_of,
)

if TYPE_CHECKING:
    from codomyrmex.logistics.storage.database import Database, Transaction

NAMED_AT_MOST = 3
MOST_SIMULATIONS = 200
_LEAST_SIMULATIONS = 20
"""Fewer say nothing of a spread."""
_SIMULATED_TASKS = 20_000
"""So many tasks are simulated for a spread, over all simulations: about a second."""
_MOST_TASKS = 2_000
"""A larger run is simulated for its spread only when somebody says how often."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PlanSite:
    """Where a plan is made: how workflows and actions are found there, what the machine has, what was learned."""

    root: Path
    caller_dir: Path
    find_child: FindChild
    catalogue: Callable[[Definition], ActionCatalogue]
    machine: Callable[[bool], Machine]
    """The machine; with its GPUs, which take long to look for, only where True is given."""
    database: Database | None
    """The state for reading, or None where there is none yet."""
    max_workers: int | None = None
    policy: OrderPolicy = field(default_factory=OrderPolicy)
    """In what order ready tasks begin."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PlanWish:
    """What somebody asks of a plan besides workflow and parameters."""

    what_if: Mapping[str, Any] = field(default_factory=dict)
    """Amounts as in `resources:` of a step, by the word or the name of what there shall be so much of."""
    max_parallel: int | None = None
    durations: Mapping[str, float] = field(default_factory=dict)
    """Seconds by step, `workflow/step` or `module.action`, in place of what was learned."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PlanRequest:
    """A run as it would begin, what is expected of it, and what it would have; see the module."""

    run: RunState
    prepared: Prepared
    expectations: Expectations
    supply: Supplied
    workers: int
    policy: OrderPolicy
    assumptions: tuple[str, ...] = ()
    """Sentences on what was taken to be so before anything was planned."""

    @property
    def capacities(self) -> dict[str, int]:
        """What the machine has, by resource id."""
        return self.supply.machine.capacities()

    @property
    def named(self) -> tuple[NamedResource, ...]:
        """The resources of the state, and those that are only imagined."""
        return self.supply.named

    def plan(self, *, simulations: int | None = None, seed: int = 0) -> WorkflowPlan:
        """What the real admission makes of it; `simulations` None: as many as are worth the wait."""
        found = self._planned()
        if simulations is None:
            simulations = simulations_for(len(found.tasks)) if self._varies else 0
        if simulations:
            found = self._planned(simulations=simulations, seed=seed)
        return replace(found, assumptions=(*found.assumptions, *self.assumptions))

    def optimise(self, plan: WorkflowPlan, *, budget_s: float) -> WorkflowPlan:
        """The shortest plan that a solver finds in so many seconds; raises `SolverMissing` without one.

        Its times are those of a run that follows it.
        """
        from codomyrmex.logistics.orchestration.project.plan_optimiser import as_followed, optimise
        from codomyrmex.logistics.orchestration.project.plan_store import order_of

        found = optimise(plan, self.run, named=self.named, budget_s=budget_s)
        return as_followed(plan, found, lambda order: self._planned(follow=order_of(order)))

    def keep(self, tx: Transaction, plan: WorkflowPlan, *, now_us: int) -> None:
        """Stores a plan, for runs of this definition with these parameters to follow."""
        from codomyrmex.logistics.orchestration.project import plan_store

        plan_store.insert(tx, plan, parameters=self.prepared.parameters, now_us=now_us)

    @property
    def _varies(self) -> bool:
        """Whether anything that was learned takes now longer, now shorter."""
        learned = self.expectations
        every = (learned.steps, learned.actions, learned.sizes, learned.runs)
        return any(each.p90_s > each.median_s for known in every for each in known.values())

    def _planned(
        self, *, follow: tuple[str, ...] | None = None, simulations: int = 0, seed: int = 0
    ) -> WorkflowPlan:
        from codomyrmex.logistics.orchestration.project.workflow_planner import plan_run

        return plan_run(
            self.run,
            expectations=self.expectations,
            machine=self.capacities,
            named=self.named,
            workers=self.workers,
            policy=self.policy,
            follow=follow,
            simulations=simulations,
            seed=seed,
        )


def request_plan(
    site: PlanSite, definition: Definition, given: Mapping[str, Any], wish: PlanWish
) -> PlanRequest:
    """Checks everything; raises `ValidationError` with every fault, or `ResourceRefused`."""
    prepared = prepare(
        definition, given, root=site.root, caller_dir=site.caller_dir, catalogue=site.catalogue(definition)
    )
    nursery = ChildPreparation(root=site.root, find=site.find_child, catalogue=site.catalogue)
    children = nursery.prepare(prepared.definition, prepared.workflow)
    workflows = workflows_of(prepared, children)
    _check_durations(wish.durations, workflows)
    machine = site.machine(asks_for_gpus(workflows) and "gpu" not in wish.what_if)
    supply = supplied(
        wish.what_if, machine=machine, named=_named(site.database), asked=_asked_names(workflows)
    )
    capacities = supply.machine.capacities()
    refuse_impossible(prepared, children, Supply(capacities=capacities, named=_limits(supply.named)))
    options = RunOptions(
        root=str(site.root),
        roots=roots(site.root, definition.file),
        file=str(definition.file) if definition.file is not None else None,
        max_parallel=wish.max_parallel,
        environment=visible(os.environ),
    )
    run = RunState(
        number=0,
        id="plan",
        workflow=prepared.workflow,
        parameters=prepared.parameters,
        options=options,
        children=children,
    )
    return PlanRequest(
        run=run,
        prepared=prepared,
        expectations=_expectations(site.database, workflows, wish.durations),
        supply=supply,
        workers=workers_of(supply.machine, site.max_workers),
        policy=site.policy,
        assumptions=(*supply.assumptions, *_of_caches(workflows)),
    )


def simulations_for(tasks: int) -> int:
    """How often a run of so many tasks is worth simulating; 0 where that would take too long."""
    if tasks > _MOST_TASKS:
        return 0
    return max(_LEAST_SIMULATIONS, min(MOST_SIMULATIONS, _SIMULATED_TASKS // max(1, tasks)))


def workers_of(machine: Machine, max_workers: int | None) -> int:
    """How many attempts an engine on this machine runs at once."""
    return max_workers or machine.default_workers


def _named(database: Database | None) -> list[NamedResource]:
    """The resources of the state; one that is still to be made has its own quota."""
    from codomyrmex.clock import SystemClock
    from codomyrmex.logistics.orchestration.project.resource_store import read_named
    from codomyrmex.logistics.storage.sqlite import SQLiteDatabase

    with closing(SQLiteDatabase.open(":memory:")) if database is None else nullcontext(database) as known:
        return read_named(known, now_us=SystemClock().now_us(), epoch=-1)


def _asked_names(workflows: Iterable[CompiledWorkflow]) -> set[str]:
    return {name for workflow in workflows for spec in workflow.specs for name, _ in spec.request.named}


def _limits(named: Iterable[NamedResource]) -> dict[str, NamedLimit]:
    """The most that can ever be asked of each, by name and by id."""
    found = {}
    for row in named:
        burst = row.rate.burst if row.rate is not None else None
        found[row.name] = found[row.id] = NamedLimit(type=row.type, capacity=row.capacity, burst=burst)
    return found


def _expectations(
    database: Database | None, workflows: Iterable[CompiledWorkflow], durations: Mapping[str, float]
) -> Expectations:
    """What was learned of these workflows and of the actions they call; what was given comes first."""
    learned = None
    if database is not None:
        from codomyrmex.logistics.orchestration.project.profile_store import (
            actions_of,
            expectations_of,
        )

        names = [workflow.name for workflow in workflows]
        actions = {name for workflow in workflows for name in actions_of(workflow)}
        learned = expectations_of(database, names, sorted(actions))
    return Expectations.with_given(durations, learned=learned)


def _of_caches(workflows: Iterable[CompiledWorkflow]) -> list[str]:
    """What is said of steps whose results may be kept from earlier runs."""
    names = [workflow.names[step] for workflow in workflows for step in workflow.caches]
    if not names:
        return []
    return [
        f"nothing is taken from the cache: {listed(names[:NAMED_AT_MOST], max(0, len(names) - NAMED_AT_MOST))}"
    ]


def _check_durations(durations: Mapping[str, float], workflows: Iterable[CompiledWorkflow]) -> None:
    """Raises `ValidationError` for a name that no step or called action has, and for what is no duration."""
    if not durations:
        return
    known: dict[str, None] = {}
    for workflow in workflows:
        known.update(dict.fromkeys(workflow.names))
        known.update((f"{workflow.name}/{name}", None) for name in workflow.names)
        known.update((f"{spec.module}.{spec.action}", None) for spec in workflow.specs if spec.module)
    faults = [
        Fault(
            message="no step has this name, and none calls such an action",
            path=name,
            code="unknown_step",
            got=name,
            nearest=nearest(name, known),
        )
        for name in durations
        if name not in known
    ]
    faults += [
        Fault(
            message="a duration is seconds, at most ten years",
            path=name,
            code="wrong_value",
            got=str(seconds),
        )
        for name, seconds in durations.items()
        if not 0 <= seconds <= MAX_DURATION_S
    ]
    if faults:
        raise ValidationError(faults, subject="the list of durations")
