"""A machine under virtual time to which jobs come as they like: what went when, by the admission that engines have.

A job is a run, of one step unless it has several `items`. Nothing here decides an order: `Simulation` plans with the
code of the drain, and what is asked of the outcome (who waited, who held what, who was overtaken) is read off its
journal.
"""

from __future__ import annotations

import json
from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache
from math import inf
from typing import Any

from codomyrmex.logistics.orchestration.project.compiled_workflow import CompiledWorkflow
from codomyrmex.logistics.orchestration.project.named_resources import NamedResource
from codomyrmex.logistics.orchestration.project.order_policy import OrderPolicy
from codomyrmex.logistics.orchestration.project.resource_request import CPU, MEMORY, Request
from codomyrmex.logistics.orchestration.project.run_simulation import Simulation
from codomyrmex.logistics.orchestration.project.run_state import RunOptions, RunState
from codomyrmex.logistics.orchestration.project.states import OrchestrationMode, TaskPriority
from codomyrmex.logistics.orchestration.project.workflow_compiler import compile_workflow
from codomyrmex.logistics.orchestration.project.workflow_file import load_text

SECOND = 1_000_000
GIB = 2**30
EIGHT_CPUS = {CPU: 8000, MEMORY: 64 * GIB}


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """One run: `items` tasks that are ready at `at_us`, each of which takes `lasts_us`."""

    at_us: int = 0
    lasts_us: int = SECOND
    asks: tuple[tuple[str, Any], ...] = (("cpu", 1),)
    """As `resources:` of a step."""
    priority: str = "normal"
    items: int = 1
    chained: bool = False
    """True where each of them waits for the one before."""
    session: str | None = None
    weight: float = 1.0
    mode: OrchestrationMode | None = None
    max_parallel: int | None = None
    isolation: str = "process"
    """In `thread`, what is known to take under 2 ms shares a slot with others of its run."""


@dataclass(slots=True, kw_only=True)
class Went:
    """A task of a job that has begun; instants are microseconds."""

    job: Job
    ready_us: int
    start_us: int
    end_us: int
    request: Request

    @property
    def waited_us(self) -> int:
        return self.start_us - self.ready_us


@dataclass(slots=True, kw_only=True)
class Laboratory:
    """See the module. `run` once; then `went` has every task that began, in the order in which they did."""

    machine: Mapping[str, int] = field(default_factory=lambda: EIGHT_CPUS)
    workers: int = 64
    policy: OrderPolicy = field(default_factory=OrderPolicy)
    named: Iterable[NamedResource] = ()
    went: list[Went] = field(default_factory=list)
    simulation: Simulation = field(init=False)

    def run(self, jobs: Iterable[Job], until_s: float = inf) -> Laboratory:
        """Lets the jobs come; ends when nothing happens any more, or after `until_s`."""
        jobs = tuple(jobs)
        self.simulation = Simulation(
            machine=self.machine,
            workers=self.workers,
            attempt_s=lambda run, position: jobs[int(run.id)].lasts_us / SECOND,
            named=self.named,
            policy=self.policy,
            durations=lambda run: [jobs[int(run.id)].lasts_us / SECOND] * len(run.workflow),
        )
        for number, job in enumerate(jobs):
            self.simulation.submit(_run_of(number, job), job.at_us)
        self.simulation.run(None if until_s == inf else round(until_s * SECOND))
        self.went = [*self._read(jobs)]
        return self

    def waits_s(self, **of: Any) -> list[float]:
        """How long tasks waited whose jobs are such (`priority="low"`), in the order in which they began."""
        return [
            each.waited_us / SECOND
            for each in self.went
            if all(getattr(each.job, name) == value for name, value in of.items())
        ]

    def work_s(self, until_s: float, **of: Any) -> float:
        """CPU seconds that tasks of such jobs had until an instant."""
        until_us = round(until_s * SECOND)
        return sum(
            (min(each.end_us, until_us) - min(each.start_us, until_us))
            / SECOND
            * each.request.cpu_milli
            / 1000
            for each in self.went
            if all(getattr(each.job, name) == value for name, value in of.items())
        )

    def _read(self, jobs: tuple[Job, ...]) -> Iterator[Went]:
        for at_us, run, event in self.simulation.journal:
            kind, position = event[0], event[1]
            if kind != "started" or position is None or position in run.groups:
                continue
            job = jobs[int(run.id)]
            yield Went(
                job=job,
                ready_us=self.simulation.ready_us[run.number, position],
                start_us=at_us,
                end_us=at_us + job.lasts_us,
                request=run.spec_of(position).request,
            )


def _run_of(number: int, job: Job) -> RunState:
    mode = None if job.mode is None else job.mode.value
    return RunState(
        number=0,
        id=str(number),
        workflow=_workflow(job.asks, job.priority, job.items, job.chained, job.max_parallel, job.isolation),
        parameters={},
        options=RunOptions(root="/", session=job.session, weight=job.weight, mode=mode),
    )


@cache
def _workflow(
    asks: tuple[tuple[str, Any], ...],
    priority: str,
    items: int,
    chained: bool,
    max_parallel: int | None,
    isolation: str,
) -> CompiledWorkflow:
    step: dict[str, Any] = {
        "name": "task",
        "module": "jobs",
        "action": "work",
        "priority": priority,
        "resources": dict(asks),
    }
    steps: list[dict[str, Any]] = [step]
    if chained:
        links = [[f"task-{number - 1}"] if number else [] for number in range(items)]
        steps = [
            {**step, "name": f"task-{number}", "dependencies": link} for number, link in enumerate(links)
        ]
    elif items > 1:
        step["foreach"] = [None] * items
    document: dict[str, Any] = {
        "codomyrmex": 1,
        "name": "job",
        "steps": steps,
        "defaults": {"isolation": isolation},
    }
    if max_parallel is not None:
        document["max_parallel"] = max_parallel
    return compile_workflow(load_text(json.dumps(document)).document)


# -- what is asked of the outcome ---------------------------------------------------------------------------


def most_held(went: Iterable[Went]) -> dict[str, int]:
    """By resource (and `slots`), the most that was held at any instant."""
    changes: list[tuple[int, int, dict[str, int]]] = []
    for each in went:
        held = {"slots": 1, **dict(each.request.machine()), **dict(each.request.named)}
        if each.end_us > each.start_us:
            changes += [(each.end_us, 0, held), (each.start_us, 1, held)]
    now: dict[str, int] = {}
    most: dict[str, int] = {}
    for _at_us, begins, held in sorted(changes, key=lambda change: change[:2]):
        for id, amount in held.items():
            now[id] = now.get(id, 0) + (amount if begins else -amount)
            most[id] = max(most.get(id, 0), now[id])
    return most


def overtaken(went: Iterable[Went], policy: OrderPolicy) -> list[tuple[Went, Went]]:
    """Who was overtaken by what became ready too late for that, and by what; tasks of equal requests."""
    by_priority: dict[str, list[Went]] = {}
    for each in went:
        by_priority.setdefault(each.job.priority, []).append(each)
    found = []
    for other, others in by_priority.items():
        others = sorted(others, key=lambda each: each.start_us)
        starts = [each.start_us for each in others]
        for priority, tasks in by_priority.items():
            most_us = policy.most_overtaken_s(TaskPriority(priority), TaskPriority(other)) * SECOND
            for task in tasks:
                for passed in others[
                    bisect_right(starts, task.ready_us) : bisect_left(starts, task.start_us)
                ]:
                    if passed.ready_us - task.ready_us >= most_us:
                        found.append((task, passed))
                        break
    return found


def part_of(
    lab: Laboratory, session: str | None, began_s: float, until_s: float, capacity: Mapping[str, int]
) -> float:
    """What a session had of the machine over a time: seconds times the largest share of anything."""
    found = 0.0
    for each in lab.went:
        if each.job.session == session:
            lasted_us = min(each.end_us, until_s * SECOND) - max(each.start_us, began_s * SECOND)
            shares = [amount / capacity[id] for id, amount in each.request.machine() if id in capacity]
            found += max(0.0, lasted_us) / SECOND * max(shares, default=0.0)
    return found
