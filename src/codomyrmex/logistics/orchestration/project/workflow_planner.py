"""When a run would do what: the real admission under virtual time, with the durations that were learned.

Layer: beside the drain; above the simulation. The plan itself takes every duration at its median. For the spread the
same run is simulated again with durations drawn from log-normal distributions through what was learned (the median,
and the time that nine in ten stay below), in the order that the medians give, as the engine would go.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from math import exp, log
from random import Random

from codomyrmex.logistics.orchestration.project.child_definition import ChildDefinition
from codomyrmex.logistics.orchestration.project.compiled_workflow import CompiledWorkflow
from codomyrmex.logistics.orchestration.project.expectations import Expectation, Expectations
from codomyrmex.logistics.orchestration.project.named_resources import NamedResource
from codomyrmex.logistics.orchestration.project.order_policy import OrderPolicy
from codomyrmex.logistics.orchestration.project.plan_assumptions import assume
from codomyrmex.logistics.orchestration.project.plan_bounds import bounds_of, capacities_of
from codomyrmex.logistics.orchestration.project.resource_request import CPU
from codomyrmex.logistics.orchestration.project.run_simulation import Simulation
from codomyrmex.logistics.orchestration.project.run_state import PENDING, RunState
from codomyrmex.logistics.orchestration.project.states import RunPhase, WorkflowStatus
from codomyrmex.logistics.orchestration.project.tails import longest_path
from codomyrmex.logistics.orchestration.project.workflow_plan import PlannedTask, Spread, WorkflowPlan

P90_SIGMAS = 1.2815515655446004
"""The standard normal value that nine in ten stay below."""
SIGMAS_AT_MOST = 3.0
"""What is drawn from the far end of a distribution says more of its form than of the work."""
Draw = Callable[[Expectation], float]


def plan_run(
    run: RunState,
    *,
    expectations: Expectations,
    machine: Mapping[str, int],
    named: Iterable[NamedResource] = (),
    workers: int,
    policy: OrderPolicy | None = None,
    simulations: int = 0,
    seed: int = 0,
) -> WorkflowPlan:
    """The plan of a run that has not begun; `run` itself is left as it is.

    `machine` is what there is by resource id, `named` what the state limits, all of it taken to be free. With
    `simulations` the spread of the end is worked out from so many runs; equal seeds give equal spreads.
    """
    planner = _Planner(run, expectations, dict(machine), [*named], workers, policy)
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
    ) -> None:
        self._template = run
        self._machine, self._named, self._workers, self._policy = machine, named, workers, policy
        self._assumptions: list[str] = []
        self._expected: dict[int, list[Expectation]] = {}
        """By the identity of an assumed workflow, what its steps take."""
        self._expectations = expectations
        self._workflow = self._assumed(run.workflow, "")
        self._children = {
            name: replace(child, workflow=self._assumed(child.workflow, name), children=self._below(child))
            for name, child in run.children.items()
        }

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
        tasks = _Tasks(simulation, self._expected_of).read()
        workflow = self._workflow
        path, path_s = self._critical_path(tasks)
        critical = {workflow.names[step] for step in path}
        planned = [replace(task, critical=task.step.partition("/")[0] in critical) for task in tasks]
        failure = _failure(simulation)
        return WorkflowPlan(
            workflow=workflow.name,
            definition=workflow.hash,
            tasks=tuple(planned),
            duration_s=duration_s,
            critical_path=tuple(workflow.names[step] for step in path),
            critical_path_s=path_s,
            bounds=bounds_of(
                planned,
                critical_path_s=path_s,
                duration_s=duration_s,
                machine=self._machine,
                named=self._named,
                workers=self._workers,
                caps=self._caps(planned),
            ),
            capacities=capacities_of(self._machine, self._named),
            workers=self._workers,
            complete=failure is None,
            assumptions=(*([failure] if failure else ()), *self._limits(duration_s), *self._assumptions),
        )

    def _critical_path(self, tasks: Sequence[PlannedTask]) -> tuple[list[int], float]:
        """The longest path of each phase, one after the other; a step that does not run takes no time."""
        workflow = self._workflow
        lasted: dict[str, float] = {}
        for task in tasks:
            step = task.step.partition("/")[0]
            if "/" not in task.step:
                lasted[step] = max(lasted.get(step, 0.0), task.duration_s)
        durations = [lasted.get(name, 0.0) for name in workflow.names]
        path: list[int] = []
        for phase in RunPhase:
            steps = [step for step in workflow.phase_steps(phase) if workflow.names[step] in lasted]
            path += longest_path(workflow.graph, durations, steps)
        return path, sum(durations[step] for step in path)

    def _limits(self, duration_s: float) -> list[str]:
        """What would end the run before its time, or keep something from it."""
        limits = (self._template.options.timeout_s, self._template.workflow.timeout_s)
        shortest_s = min((limit for limit in limits if limit is not None), default=None)
        found = []
        if shortest_s is not None and shortest_s < duration_s:
            found.append(f"the run would be ended by its timeout after {shortest_s:.3g} s")
        asked = {name for spec in self._workflow.specs for name, _amount in spec.request.named}
        found += [
            f"{each.name} is back in service: it is offline now"
            for each in self._named
            if each.offline and each.name in asked
        ]
        return found

    def _assumed(self, workflow: CompiledWorkflow, child: str) -> CompiledWorkflow:
        found, sentences = assume(workflow, self._expectations, self._least_of)
        expected = self._expectations.of_steps(workflow)
        self._expected[id(found)] = expected
        self._assumptions += [f"in {child}: {each}" if child else each for each in sentences]
        guesses = [
            workflow.names[step]
            for step in range(workflow.main_count)
            if not expected[step].known and step not in workflow.waiting
        ]
        if guesses:
            self._assumptions.append(_guess_sentence(guesses, expected[workflow.index[guesses[0]]], child))
        return found

    def _least_of(self, child: str) -> float:
        """The longest path of a child's workflow, where it is among those of the run."""
        definition = _find(self._template.children, child)
        if definition is None:
            return 0.0
        workflow = definition.workflow
        durations = [each.median_s for each in self._expectations.of_steps(workflow)]
        path = longest_path(workflow.graph, durations, range(workflow.main_count))
        return sum(durations[step] for step in path)

    def _below(self, child: ChildDefinition) -> dict[str, ChildDefinition]:
        return {
            name: replace(each, workflow=self._assumed(each.workflow, name), children=self._below(each))
            for name, each in child.children.items()
        }

    def _fresh(self) -> RunState:
        run = self._template
        return RunState(
            number=0,
            id=run.id,
            workflow=self._workflow,
            parameters=run.parameters,
            options=replace(run.options, timeout_s=None, concurrency=None, follow=None),
            children=self._children,
        )

    def _medians(self, run: RunState) -> Sequence[float]:
        return [each.median_s for each in self._expected[id(run.workflow)]]

    def _expected_of(self, run: RunState, position: int) -> Expectation:
        return self._expected[id(run.workflow)][run.step_of(position)]

    def _caps(self, tasks: Sequence[PlannedTask]) -> list[tuple[str, int, float]]:
        """What `max_parallel` of the run and of its steps allow, and the seconds of work under each."""
        found = []
        most = self._template.options.max_parallel or self._workflow.max_parallel
        if most is not None:
            found.append(("max_parallel", most, sum(task.duration_s for task in tasks if task.slot)))
        for step, name in enumerate(self._workflow.names):
            own = self._workflow.spec(step).max_parallel
            if own is not None and step in self._workflow.fan_outs:
                work_s = sum(task.duration_s for task in tasks if task.step == name and task.slot)
                found.append((f"max_parallel of {name}", own, work_s))
        return found


def _find(children: Mapping[str, ChildDefinition], name: str) -> ChildDefinition | None:
    """A child by its name, however deep."""
    if name in children:
        return children[name]
    below = (_find(child.children, name) for child in children.values())
    return next((found for found in below if found is not None), None)


def _failure(simulation: Simulation) -> str | None:
    """Why the run would not complete, or None where it would."""
    root = simulation.first
    if root is None or root.status is WorkflowStatus.COMPLETED:
        return None
    for position, error in root.errors.items():
        return f"the run fails: {root.name_of(position)}: {error.get('message')}"
    open_ones = [root.name_of(at) for at in range(len(root)) if root.state[at] == PENDING]
    if open_ones:
        return f"the run never ends: {open_ones[0]} asks for more than there is"
    return f"the run does not complete: it is {root.status.value}"


def _guess_sentence(names: Sequence[str], guess: Expectation, child: str) -> str:
    shown = ", ".join(names[:3]) + (f" and {len(names) - 3:,} more" if len(names) > 3 else "")
    where = f"in {child}: " if child else ""
    return f"{where}nothing is known of {shown}: {guess.median_s:.3g} s each"


class _Tasks:
    """The tasks of a plan, read off the journal of a simulation."""

    def __init__(self, simulation: Simulation, expected: Callable[[RunState, int], Expectation]) -> None:
        self._simulation = simulation
        self._expected = expected
        self._prefixes: dict[int, str] = {}
        """By run number, what stands before the names of its tasks."""

    def read(self) -> list[PlannedTask]:
        """In the order in which they start; steps that are skipped are none."""
        began: dict[tuple[int, int], int] = {}
        found: list[tuple[int, int, PlannedTask]] = []
        for at_us, run, event in self._simulation.journal:
            kind, position = event[0], event[1]
            if position is None or position in run.groups:
                continue
            if kind in ("started", "waiting"):
                began[run.number, position] = at_us
            elif kind == "completed" and (run.number, position) in began:
                start_us = began.pop((run.number, position))
                found.append((start_us, len(found), self._task(run, position, start_us, at_us)))
        return [task for _start, _number, task in sorted(found, key=lambda each: each[:2])]

    def _task(self, run: RunState, position: int, start_us: int, end_us: int) -> PlannedTask:
        step = run.step_of(position)
        waits = step in run.workflow.waiting
        prefix = self._prefix(run)
        ready_us = self._simulation.ready_us.get((run.number, position), start_us)
        return PlannedTask(
            task=prefix + run.name_of(position),
            step=prefix + run.workflow.names[step],
            ready_s=ready_us / 1e6,
            start_s=start_us / 1e6,
            end_s=end_us / 1e6,
            request={} if waits else self._request(run, position),
            slot=not waits,
            known=self._expected(run, position).known,
        )

    def _request(self, run: RunState, position: int) -> dict[str, int]:
        request = run.spec_of(position).request
        most = self._simulation.admission.capacity.cpu_milli
        found = {id: min(amount, most) if id == CPU else amount for id, amount in request.machine()}
        return {**found, **dict(request.named)}

    def _prefix(self, run: RunState) -> str:
        found = self._prefixes.get(run.number)
        if found is None:
            found = ""
            if run.parent is not None:
                above = next(
                    each.run for each in self._simulation.journal if each.run.number == run.parent.run
                )
                found = f"{self._prefix(above)}{above.name_of(run.parent.position)}/"
            self._prefixes[run.number] = found
        return found
