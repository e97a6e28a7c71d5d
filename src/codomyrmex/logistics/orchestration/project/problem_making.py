"""From the plan of a run to the problem that a solver can work on: which tasks wait for which, what each holds.

Layer: pure. A plan says when tasks begin and what they hold; what waits for what stands in the definition of the
run and in those of the runs that its steps start (`deploy/build` is task `build` of the run of step `deploy`). A step,
or an item, that stands for others of the plan is no job: it spans them. What a step without a slot waits for takes
as long as the plan says. Of waits and runs only some of which may be open at once, one opens where the plan let it:
after the same other.

Quotas are kept as a window: what a claim takes is held for as long as its whole burst needs to come back, which is
never more than the quota allows. Parts of a GPU count as the next part that fills a device.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from heapq import heappop, heappush

from codomyrmex.logistics.orchestration.project.child_definition import ChildDefinition
from codomyrmex.logistics.orchestration.project.child_making import root_cap
from codomyrmex.logistics.orchestration.project.compiled_workflow import CompiledWorkflow
from codomyrmex.logistics.orchestration.project.named_resources import NamedResource
from codomyrmex.logistics.orchestration.project.plan_problem import Limit, PlanProblem, Use
from codomyrmex.logistics.orchestration.project.resource_request import GPU, UNIT
from codomyrmex.logistics.orchestration.project.run_state import RunState
from codomyrmex.logistics.orchestration.project.states import RunPhase
from codomyrmex.logistics.orchestration.project.waiting_spec import CHILDREN_AT_ONCE
from codomyrmex.logistics.orchestration.project.workflow_plan import PlannedTask, WorkflowPlan

MICROSECONDS = 1_000_000
_WORKERS, _MAX_PARALLEL = "(workers)", "(max_parallel)"
"""No resource has such a name."""
_DEVICE = f"{GPU}-"


@dataclass(frozen=True, slots=True, kw_only=True)
class StatedProblem:
    """The problem, which job each task of the plan is, and which tasks each other one spans, by their places."""

    problem: PlanProblem
    jobs: Mapping[int, int]
    spans: Mapping[int, Sequence[int]]
    starts: Sequence[int]
    """When the plan begins each job."""
    exact: bool
    """False where the problem is narrower than the run: then nothing that is proved of it holds for the run."""


def problem_of(plan: WorkflowPlan, run: RunState, named: Iterable[NamedResource] = ()) -> StatedProblem:
    """States a plan as a problem; `named` are the resources of the state, of which quotas need to be known."""
    making = _Making(plan, named)
    cap = root_cap(run)
    if cap is not None:
        making.caps[_MAX_PARALLEL] = cap
    root = (_MAX_PARALLEL,) if cap is not None else ()
    making.add_run(_Scope(workflow=run.workflow, children=run.children, caps=root, root=root), ())
    return making.stated()


@dataclass(frozen=True, slots=True, kw_only=True)
class _Scope:
    """One run of the tree: the task that starts it, none for the top, its definition, and its caps."""

    task: str = ""
    workflow: CompiledWorkflow
    children: Mapping[str, ChildDefinition]
    caps: tuple[str, ...]
    root: tuple[str, ...]
    """Of the caps, that of the whole tree."""

    @property
    def prefix(self) -> str:
        """What stands before the names of its tasks."""
        return f"{self.task}/" if self.task else ""

    def below(self, task: str, child: ChildDefinition) -> _Scope:
        """The run that one of its tasks starts; only the cap of the whole tree holds there too."""
        return _Scope(
            task=task, workflow=child.workflow, children=child.children, caps=self.root, root=self.root
        )


class _Making:
    """The jobs so far."""

    def __init__(self, plan: WorkflowPlan, named: Iterable[NamedResource]) -> None:
        self.plan = plan
        self.supply = _Supply(plan.capacities, named)
        self.tree = _tree_of(plan.tasks)
        self.places = {task.task: place for place, task in enumerate(plan.tasks)}
        self.caps: dict[str, int] = {_WORKERS: plan.workers}
        self.durations: list[int] = []
        self.after: list[Sequence[int]] = []
        self.starts: list[int] = []
        self.uses: dict[str, dict[int, Use]] = {}
        self.jobs: dict[int, int] = {}
        self.exact = True

    def stated(self) -> StatedProblem:
        limits = [
            Limit(name=name, capacity=self.caps.get(name) or self.supply.capacity(name), uses=uses)
            for name, uses in self.uses.items()
        ]
        spans: dict[int, list[int]] = {}
        for place, task in enumerate(self.plan.tasks):
            if place not in self.jobs:
                below = [self.places[name] for name in self.tree.below(task.task) if name in self.places]
                spans[place] = [each for each in below if each in self.jobs]
        return StatedProblem(
            problem=PlanProblem(durations=self.durations, after=self.after, limits=limits),
            jobs=self.jobs,
            spans=spans,
            starts=self.starts,
            exact=self.exact and self.supply.exact,
        )

    # -- what waits for what ------------------------------------------------------------------------

    def add_run(self, scope: _Scope, gate: tuple[int, ...]) -> tuple[int, ...]:
        """Adds the tasks of one run, none of which begins before `gate`; returns what its end waits for."""
        graph = scope.workflow.graph
        done: dict[int, tuple[int, ...]] = {}
        for phase in RunPhase:
            steps = set(scope.workflow.phase_steps(phase))
            ends: set[int] = set()
            for step in (each for each in graph.order() if each in steps):
                waits = tuple(sorted({job for parent in graph.parents(step) for job in done.get(parent, ())}))
                waits = waits or gate
                done[step] = self._add_step(scope, step, waits)
                if done[step] != waits:
                    ends.difference_update(waits)
                ends.update(done[step])
            gate = self._meet(sorted(ends)) or gate
        return gate

    def _add_step(self, scope: _Scope, step: int, waits: tuple[int, ...]) -> tuple[int, ...]:
        """Adds a step with its items, or the runs that it starts; a step that the plan leaves out passes on."""
        workflow = scope.workflow
        spec, wait = workflow.spec(step), workflow.waiting.get(step)
        names = self.tree.pieces(scope.prefix, workflow.names[step])
        starts_runs = wait is not None and bool(wait.child)
        at_once = spec.max_parallel or (CHILDREN_AT_ONCE if starts_runs else None)
        child = scope.children.get(wait.child) if wait is not None else None
        if len(names) > 1:
            waits = self._meet(waits)
        if child is not None and at_once and any(self.tree.has_run(name) for name in names):
            return self._add_runs([scope.below(name, child) for name in names], waits, at_once)
        if wait is not None:
            return self._add_waits([name for name in names if name in self.places], waits, at_once)
        holding = [_WORKERS, *scope.caps]
        if at_once is not None and len(names) > 1:
            holding.append(self._cap(f"{scope.prefix}{workflow.names[step]}", at_once))
        jobs = [self._job(self.places[name], waits, holding) for name in names if name in self.places]
        return self._meet(jobs) or waits

    def _add_waits(
        self, names: Sequence[str], waits: tuple[int, ...], at_once: int | None
    ) -> tuple[int, ...]:
        """Adds what holds no slot: items are opened as the plan does it, each when one before it ends."""
        jobs: list[int] = []
        ends: list[tuple[int, int]] = []
        for name in names:
            begin, gate = 0, waits
            if at_once is not None and len(ends) >= at_once:
                begin, earlier = heappop(ends)
                gate = (earlier,)
            job = self._job(self.places[name], gate, ())
            heappush(ends, (begin + self.durations[job], job))
            jobs.append(job)
        return self._meet(jobs) or waits

    def _add_runs(self, scopes: Sequence[_Scope], waits: tuple[int, ...], at_once: int) -> tuple[int, ...]:
        """Adds the runs that a step starts, in the order in which the plan opens them."""
        spans = {scope.task: self._span_in_plan(scope.task) for scope in scopes}
        ended: list[tuple[float, str]] = []
        ends: dict[str, tuple[int, ...]] = {}
        for scope in sorted(scopes, key=lambda each: spans[each.task]):
            gate = waits
            if len(ends) >= at_once:
                self.exact = False
                earlier = heappop(ended)[1]
                gate = self._meet(sorted({*waits, *ends[earlier]}))
            ends[scope.task] = self._add_child(scope, gate)
            heappush(ended, (spans[scope.task][1], scope.task))
        return self._meet(sorted({job for found in ends.values() for job in found}))

    def _add_child(self, scope: _Scope, gate: tuple[int, ...]) -> tuple[int, ...]:
        """Adds a run that a step starts; where the plan does not look into it, it only takes its time."""
        if not self.tree.has_run(scope.task):
            return (self._job(self.places[scope.task], gate, ()),)
        most = scope.workflow.max_parallel
        own = () if most is None else (self._cap(scope.prefix, most),)
        return self.add_run(replace(scope, caps=(*own, *scope.caps)), gate)

    def _cap(self, name: str, most: int) -> str:
        name = f"(max_parallel of {name})"
        self.caps[name] = most
        return name

    def _span_in_plan(self, name: str) -> tuple[float, float]:
        members = [
            self.plan.tasks[self.places[each]]
            for each in (name, *self.tree.below(name))
            if each in self.places
        ]
        return min(task.ready_s for task in members), max(task.end_s for task in members)

    def _meet(self, jobs: Sequence[int]) -> tuple[int, ...]:
        """One job that stands for the end of all of these."""
        if len(jobs) < 2:
            return tuple(jobs)
        begin = max(self.starts[job] + self.durations[job] for job in jobs)
        return (self._add(0, tuple(jobs), begin),)

    def _job(self, place: int, waits: tuple[int, ...], holding: Iterable[str]) -> int:
        task = self.plan.tasks[place]
        claims = dict.fromkeys(holding, 1)
        for name, amount in task.request.items():
            name = GPU if name.startswith(_DEVICE) else name
            claims[name] = claims.get(name, 0) + amount
        uses = {name: use for name, amount in claims.items() if (use := self._use(name, amount)) is not None}
        # What holds anything holds it for a moment at least: then it is held alone in every reckoning.
        duration = max(round(task.duration_s * MICROSECONDS), 1 if uses else 0)
        job = self.jobs[place] = self._add(duration, waits, round(task.start_s * MICROSECONDS))
        for name, use in uses.items():
            self.uses.setdefault(name, {})[job] = use if use.held else Use(use.amount, duration)
        return job

    def _use(self, name: str, amount: int) -> Use | None:
        if name in self.caps:
            return Use(amount, 0)
        return self.supply.use(name, amount)

    def _add(self, duration: int, after: Sequence[int], start: int) -> int:
        self.durations.append(duration)
        self.after.append(after)
        self.starts.append(start)
        return len(self.durations) - 1


class _Supply:
    """How much there is, and what a claim of it holds."""

    def __init__(self, capacities: Mapping[str, int], named: Iterable[NamedResource]) -> None:
        self.exact = True
        self._capacities = dict(capacities)
        devices = sum(amount for name, amount in capacities.items() if name.startswith(_DEVICE))
        if devices:
            self._capacities.setdefault(GPU, devices)
        self._rates = {}
        for row in named:
            for name in (row.id, row.name):
                self._capacities.setdefault(name, row.capacity)
                if row.rate is not None:
                    self._rates[name] = row.rate
                    self._capacities[name] = row.rate.burst or 1

    def capacity(self, name: str) -> int:
        return self._capacities[name]

    def use(self, name: str, amount: int) -> Use | None:
        """What a claim holds; for 0 it is as long as the task runs. None for what nobody knows a limit of."""
        if not amount or self._capacities.get(name, 0) <= 0:
            return None
        rate = self._rates.get(name)
        if rate is None:
            if name == GPU and amount < UNIT:
                whole = UNIT // (UNIT // amount)
                self.exact, amount = self.exact and whole == amount, whole
            return Use(min(amount, self._capacities[name]), 0)
        self.exact = self.exact and rate.burst is None
        if rate.burst is None:  # nothing passes until the one before is paid for
            return Use(1, max(1, rate.cost_us(amount)))
        return Use(min(amount, rate.burst), max(1, rate.cost_us(rate.burst)))


@dataclass(slots=True)
class _Tree:
    """The names of tasks by where they stand: `{"deploy/": {"build": ["deploy/build[0]", ...]}}`."""

    steps: dict[str, dict[str, list[str]]] = field(default_factory=dict)

    def pieces(self, prefix: str, step: str) -> list[str]:
        """The items of a step where there are any, else the step itself; none where the plan leaves it out."""
        found = self.steps.get(prefix, {}).get(step, [])
        items = [name for name in found if name.endswith("]")]
        return items or found

    def has_run(self, name: str) -> bool:
        """Whether tasks of a run stand below this one."""
        return f"{name}/" in self.steps

    def below(self, name: str) -> list[str]:
        """Everything that a step or an item stands for."""
        found: list[str] = []
        head, slash, step = name.rpartition("/")
        if not name.endswith("]"):
            items = [each for each in self.steps.get(head + slash, {}).get(step, ()) if each != name]
            found += [each for item in items for each in (item, *self.below(item))]
        for names in self.steps.get(f"{name}/", {}).values():
            found += [each for one in names for each in (one, *self.below(one))]
        return list(dict.fromkeys(found))


def _tree_of(tasks: Iterable[PlannedTask]) -> _Tree:
    tree = _Tree()
    known: set[str] = set()
    for task in tasks:
        name = task.task
        while name and name not in known:
            known.add(name)
            head, slash, piece = name.rpartition("/")
            steps = tree.steps.setdefault(head + slash, {})
            steps.setdefault(piece.partition("[")[0], []).append(name)
            name = head
    return tree
