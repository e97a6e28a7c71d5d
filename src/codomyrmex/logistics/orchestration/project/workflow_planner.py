"""When a run would do what: the real admission under virtual time, with the durations that were learned.

Layer: beside the drain; above the simulation. The plan itself takes every duration at its median. For the spread the
same run is simulated again with durations drawn from log-normal distributions through what was learned (the median,
and the time that nine in ten stay below), in the order that the medians give, as the engine would go. Tasks that take
longer than their timeout are planned to their end all the same, and it is said.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from math import exp, log
from random import Random

from codomyrmex.logistics.orchestration.project.amount_words import listed
from codomyrmex.logistics.orchestration.project.child_definition import ChildDefinition
from codomyrmex.logistics.orchestration.project.compiled_workflow import CompiledWorkflow
from codomyrmex.logistics.orchestration.project.expectations import Expectation, Expectations
from codomyrmex.logistics.orchestration.project.named_resources import NamedResource
from codomyrmex.logistics.orchestration.project.order_policy import OrderPolicy
from codomyrmex.logistics.orchestration.project.plan_assumptions import assume
from codomyrmex.logistics.orchestration.project.plan_bounds import bounds_of, capacities_of
from codomyrmex.logistics.orchestration.project.plan_paths import Lasting, PlanPaths
from codomyrmex.logistics.orchestration.project.resource_request import CPU
from codomyrmex.logistics.orchestration.project.run_simulation import Simulation
from codomyrmex.logistics.orchestration.project.run_state import PENDING, RunState
from codomyrmex.logistics.orchestration.project.states import RunPhase, StepKind, WorkflowStatus
from codomyrmex.logistics.orchestration.project.tails import longest_path
from codomyrmex.logistics.orchestration.project.waiting_spec import CHILDREN_AT_ONCE
from codomyrmex.logistics.orchestration.project.workflow_plan import PlannedTask, Spread, WorkflowPlan

P90_SIGMAS = 1.2815515655446004
"""The standard normal value that nine in ten stay below."""
SHOWN = 3
"""So many steps are named in sentences about more."""
SIGMAS_AT_MOST = 3.0
"""What is drawn from the far end of a distribution says more of its form than of the work."""
Draw = Callable[[Expectation], float]
Read = tuple[RunState, int, PlannedTask]
"""A task of a plan, and which position of which run it is."""


def plan_run(
    run: RunState,
    *,
    expectations: Expectations,
    machine: Mapping[str, int],
    named: Iterable[NamedResource] = (),
    workers: int,
    policy: OrderPolicy | None = None,
    follow: tuple[str, ...] | None = None,
    simulations: int = 0,
    seed: int = 0,
) -> WorkflowPlan:
    """The plan of a run that has not begun; `run` itself is left as it is.

    `machine` is what there is by resource id, `named` what the state limits, all of it taken to be free. `follow` is
    an order that the run keeps to, as with `run --follow-plan`. With
    `simulations` the spread of the end is worked out from so many runs; equal seeds give equal spreads.
    """
    planner = _Planner(run, expectations, dict(machine), [*named], workers, policy, follow)
    plan = planner.plan()
    if not simulations:
        return plan
    random = Random(seed)
    ends_s = sorted(
        planner.simulate(lambda each: _drawn(each, random)).now_us / 1e6 for _ in range(simulations)
    )
    spread = Spread(
        p10_s=ends_s[(simulations - 1) // 10],
        p50_s=ends_s[simulations // 2],
        p90_s=ends_s[-1 - (simulations - 1) // 10],
        simulations=simulations,
    )
    return replace(plan, spread=spread)


def _drawn(expected: Expectation, random: Random) -> float:
    if expected.median_s <= 0 or expected.p90_s <= expected.median_s:
        return expected.median_s
    sigma = log(expected.p90_s / expected.median_s) / P90_SIGMAS
    return expected.median_s * exp(sigma * max(-SIGMAS_AT_MOST, min(SIGMAS_AT_MOST, random.gauss(0.0, 1.0))))


class _Planner:
    """One run and what it would have."""

    def __init__(
        self,
        run: RunState,
        expectations: Expectations,
        machine: dict[str, int],
        named: list[NamedResource],
        workers: int,
        policy: OrderPolicy | None,
        follow: tuple[str, ...] | None,
    ) -> None:
        self._template, self._follow = run, follow
        self._machine, self._named, self._workers, self._policy = machine, named, workers, policy
        self._assumptions: list[str] = []
        self._guesses: dict[str, dict[str, float]] = {}
        """By the name of a child, of the run itself by none: what its unknown steps are taken to need, in seconds."""
        self._expected: dict[int, list[Expectation]] = {}
        """By the identity of an assumed workflow, what its steps take,"""
        self._limits: dict[int, dict[int, float]] = {}
        """and after how long those that have a timeout are ended."""
        self._guessed: dict[int, frozenset[int]] = {}
        """and which of those without a slot nobody knows anything of."""
        self._expectations = expectations
        self._workflow = self._assumed(run.workflow, "", run.children)
        self._children = self._below(run.children)

    def simulate(self, draw: Draw) -> Simulation:
        """The run under virtual time, each attempt as long as `draw` says."""
        simulation = Simulation(
            machine=self._machine,
            workers=self._workers,
            attempt_s=lambda run, position: draw(self._expected_of(run, position)),
            named=[
                replace(each, waits=[], used=0, used_by_others=0, tat_us=0, offline=False)
                for each in self._named
            ],
            policy=self._policy,
            durations=self._medians,
        )
        simulation.submit(self._fresh())
        simulation.run()
        return simulation

    def plan(self) -> WorkflowPlan:
        """With every duration at its median."""
        simulation = self.simulate(lambda each: each.median_s)
        duration_s = simulation.now_us / 1_000_000
        tasks = _Tasks(simulation, self._is_known)
        read = tasks.read()
        paths = PlanPaths(Lasting(run, at, task.duration_s) for run, at, task in read)
        planned = [
            replace(task, critical=True) if (run.number, at) in paths.critical else task
            for run, at, task in read
        ]
        root = simulation.first
        path, path_s = paths.of(root) if root is not None else ([], 0.0)
        failures = [*_failures(simulation, tasks), *self._ended_early(read, duration_s)]
        return WorkflowPlan(
            workflow=self._workflow.name,
            definition=self._workflow.hash,
            tasks=tuple(planned),
            duration_s=duration_s,
            critical_path=tuple(self._workflow.names[step] for step in path),
            critical_path_s=path_s,
            bounds=bounds_of(
                planned,
                critical_path_s=path_s,
                duration_s=duration_s,
                machine=self._machine,
                named=self._named,
                workers=self._workers,
                caps=self._caps(read, paths),
            ),
            capacities=capacities_of(self._machine, self._named),
            workers=self._workers,
            complete=not failures,
            assumptions=(
                *failures,
                *self._back_in_service(),
                *dict.fromkeys(self._assumptions),
                *_guess_sentences(self._guesses, {task.step.rpartition("/")[2] for task in planned}),
            ),
        )

    def _ended_early(self, tasks: Iterable[Read], duration_s: float) -> list[str]:
        """What would be ended by its timeout before it is done."""
        found = []
        limits = (self._template.options.timeout_s, self._template.workflow.timeout_s)
        shortest_s = min((limit for limit in limits if limit is not None), default=None)
        if shortest_s is not None and shortest_s < duration_s:
            found.append(f"the run would be ended by its timeout after {shortest_s:.3g} s")
        late: dict[str, tuple[float, float]] = {}
        for run, position, task in tasks:
            limit_s = self._limits[id(run.workflow)].get(run.step_of(position))
            if limit_s is not None and limit_s < task.duration_s:
                late[task.step] = max(late.get(task.step, (0.0, 0.0)), (task.duration_s, limit_s))
        for step, (lasts_s, limit_s) in list(late.items())[:SHOWN]:
            found.append(
                f"{step} would be ended by its timeout after {limit_s:.3g} s: it takes {lasts_s:.3g} s"
            )
        if len(late) > SHOWN:
            found.append(f"{len(late) - SHOWN:,} more steps take longer than their timeouts")
        return found

    def _back_in_service(self) -> list[str]:
        """What is said of resources that are out of service and that the run asks for."""
        workflows = [self._workflow, *_workflows_below(self._children)]
        asked = {name for each in workflows for spec in each.specs for name, _amount in spec.request.named}
        return [
            f"{each.name} is back in service: it is offline now"
            for each in self._named
            if each.offline and each.name in asked
        ]

    def _assumed(
        self, workflow: CompiledWorkflow, child: str, children: Mapping[str, ChildDefinition]
    ) -> CompiledWorkflow:
        found, sentences, guessed = assume(
            workflow, self._expectations, lambda name: self._least_of(children.get(name))
        )
        expected = self._expectations.of_steps(workflow)
        self._expected[id(found)] = expected
        self._limits[id(found)] = _limits_of(workflow, children)
        self._guessed[id(found)] = guessed
        self._assumptions += [f"in {child}: {each}" if child else each for each in sentences]
        self._guesses[child] = {
            workflow.names[step]: expected[step].median_s
            for step in range(len(workflow))
            if not expected[step].known and step not in workflow.waiting
        }
        return found

    def _least_of(self, child: ChildDefinition | None) -> float:
        """The longest path of a child's workflow that goes well."""
        if child is None:
            return 0.0
        workflow = child.workflow
        durations = [each.median_s for each in self._expectations.of_steps(workflow)]
        for step, wait in workflow.waiting.items():
            if wait.child and not durations[step]:
                durations[step] = self._least_of(child.children.get(wait.child))
        phases = [workflow.phase_steps(phase) for phase in (RunPhase.MAIN, RunPhase.FINALLY)]
        paths = [longest_path(workflow.graph, durations, steps) for steps in phases]
        return sum(durations[step] for path in paths for step in path)

    def _below(self, children: Mapping[str, ChildDefinition]) -> dict[str, ChildDefinition]:
        return {
            name: replace(
                child,
                workflow=self._assumed(child.workflow, name, child.children),
                children=self._below(child.children),
            )
            for name, child in children.items()
        }

    def _fresh(self) -> RunState:
        run = self._template
        return RunState(
            number=0,
            id=run.id,
            workflow=self._workflow,
            parameters=run.parameters,
            options=replace(run.options, timeout_s=None, concurrency=None, follow=self._follow),
            children=self._children,
        )

    def _medians(self, run: RunState) -> Sequence[float]:
        return [each.median_s for each in self._expected[id(run.workflow)]]

    def _expected_of(self, run: RunState, position: int) -> Expectation:
        return self._expected[id(run.workflow)][run.step_of(position)]

    def _is_known(self, run: RunState, position: int) -> bool:
        """False for what takes a time that was guessed."""
        workflow, step = run.workflow, run.step_of(position)
        if step in workflow.waiting:
            return step not in self._guessed[id(workflow)]
        return self._expected_of(run, position).known

    def _caps(self, tasks: Iterable[Read], paths: PlanPaths) -> list[tuple[str, int, float]]:
        """What `max_parallel` of the run and of its steps allow, and the seconds of work under each."""
        workflow = self._workflow
        slots_s = 0.0
        under: dict[int, float] = {}
        for run, position, task in tasks:
            slots_s += task.duration_s if task.slot else 0.0
            if run.parent is None and position >= run.step_count:
                step = run.step_of(position)
                under[step] = under.get(step, 0.0) + paths.least_s[run.number, position]
        most = self._template.options.max_parallel or workflow.max_parallel
        found = [("max_parallel", most, slots_s)] if most is not None else []
        for step, work_s in under.items():
            spec = workflow.spec(step)
            at_once = CHILDREN_AT_ONCE if spec.kind is StepKind.WORKFLOW else None
            own = spec.max_parallel or at_once
            if own is not None and work_s:
                found.append((f"max_parallel of {workflow.names[step]}", own, work_s))
        return found


def _limits_of(workflow: CompiledWorkflow, children: Mapping[str, ChildDefinition]) -> dict[int, float]:
    """By step, the seconds after which an attempt of it, or the run that it starts, is ended."""
    if not workflow.waiting and all(spec.timeout_s is None for spec in workflow.specs):
        return {}
    found = {}
    for step in range(len(workflow)):
        wait = workflow.waiting.get(step)
        limits = [workflow.spec(step).timeout_s]
        if wait is not None:
            child = children.get(wait.child) if wait.kind is StepKind.WORKFLOW else None
            limits = [wait.timeout_s, child.workflow.timeout_s] if child is not None else []
        said = [limit for limit in limits if limit is not None]
        if said:
            found[step] = min(said)
    return found


def _workflows_below(children: Mapping[str, ChildDefinition]) -> Iterator[CompiledWorkflow]:
    for child in children.values():
        yield child.workflow
        yield from _workflows_below(child.children)


def _failures(simulation: Simulation, tasks: _Tasks) -> list[str]:
    """Why the run would not complete; nothing where it would."""
    root = simulation.first
    if root is None or root.status is WorkflowStatus.COMPLETED:
        return []
    for run in reversed(tasks.runs.values()):  # what a run below failed of says more than that it failed
        for position, error in run.errors.items():
            return [f"the run fails: {tasks.prefix(run)}{run.name_of(position)}: {error.get('message')}"]
    open_ones = [root.name_of(at) for at in range(len(root)) if root.state[at] == PENDING]
    if open_ones:
        return [f"the run never ends: {open_ones[0]} asks for more than there is"]
    return [f"the run does not complete: it is {root.status.value}"]


def _guess_sentences(guesses: Mapping[str, Mapping[str, float]], ran: Collection[str]) -> Iterator[str]:
    """For each workflow, by its name as a child, the steps that run and of which nothing is known."""
    for child, by_step in guesses.items():
        names = [name for name in by_step if name in ran]
        if names:
            where = f"in {child}: " if child else ""
            each = " each" if len(names) > 1 else ""
            shown = listed(names[:3], max(0, len(names) - 3))
            yield f"{where}nothing is known of {shown}: {by_step[names[0]]:.3g} s{each}"


class _Tasks:
    """The tasks of a plan, read off the journal of a simulation."""

    def __init__(self, simulation: Simulation, is_known: Callable[[RunState, int], bool]) -> None:
        self._simulation = simulation
        self._is_known = is_known
        self.runs: dict[int, RunState] = {}
        """By number, in the order in which something first happened in them."""
        self._prefixes: dict[int, str] = {}
        """By run number, what stands before the names of its tasks."""

    def read(self) -> list[Read]:
        """In the order in which they start; steps that are skipped are none."""
        began: dict[tuple[int, int], tuple[int, int]] = {}
        found: list[tuple[int, int, Read]] = []
        for line, (at_us, run, event) in enumerate(self._simulation.journal):
            self.runs[run.number] = run
            kind, position = event[0], event[1]
            if position is None or position in run.groups:
                continue
            if kind in ("started", "waiting"):
                began[run.number, position] = (at_us, line)
            elif kind == "completed" and (run.number, position) in began:
                start_us, start_line = began.pop((run.number, position))
                task = self._task(run, position, start_us, at_us)
                found.append((start_us, start_line, (run, position, task)))
        return [each for _start, _line, each in sorted(found, key=lambda each: each[:2])]

    def _task(self, run: RunState, position: int, start_us: int, end_us: int) -> PlannedTask:
        step = run.step_of(position)
        waits = step in run.workflow.waiting
        prefix = self.prefix(run)
        ready_us = self._simulation.ready_us.get((run.number, position), start_us)
        return PlannedTask(
            task=prefix + run.name_of(position),
            step=prefix + run.workflow.names[step],
            ready_s=ready_us / 1e6,
            start_s=start_us / 1e6,
            end_s=end_us / 1e6,
            request={} if waits else self._request(run, position),
            slot=not waits,
            known=self._is_known(run, position),
        )

    def _request(self, run: RunState, position: int) -> dict[str, int]:
        request = run.spec_of(position).request
        most = self._simulation.admission.capacity.cpu_milli
        found = {id: min(amount, most) if id == CPU else amount for id, amount in request.machine()}
        return {**found, **dict(request.named)}

    def prefix(self, run: RunState) -> str:
        """What stands before the names of the tasks of a run: `deploy/` for that of step `deploy`."""
        found = self._prefixes.get(run.number)
        if found is None:
            found = ""
            if run.parent is not None:
                above = self.runs[run.parent.run]
                found = f"{self.prefix(above)}{above.name_of(run.parent.position)}/"
            self._prefixes[run.number] = found
        return found
