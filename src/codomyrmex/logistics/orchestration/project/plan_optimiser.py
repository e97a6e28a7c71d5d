"""A shorter order than the admission's, found by a solver: `workflows plan --optimise`, `run --follow-plan`.

Layer: above the pure modules; starts the solver, which is an extra (`pip install 'codomyrmex[plan]'`, OR-Tools
CP-SAT) and is imported only where there is something to find. One interval for each job, one cumulative for each
limit, the last end as small as it gets; it begins from the admission's plan, so the answer is never worse. What
the solver says about time is rounded; its answer is taken as an order, and the times are what a run makes of it.

Source: Perron, Didier, Gay, "The CP-SAT-LP solver", CP 2023; Hartmann, Briskorn, "A survey of variants and extensions
of the resource-constrained project scheduling problem", EJOR 207(1), 2010.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from itertools import pairwise
from math import gcd
from time import monotonic
from types import ModuleType
from typing import Any

from codomyrmex.exceptions import CodomyrmexError
from codomyrmex.logistics.orchestration.project.named_resources import NamedResource
from codomyrmex.logistics.orchestration.project.plan_problem import ROUNDING, Limit, PlanProblem
from codomyrmex.logistics.orchestration.project.plan_search import improved
from codomyrmex.logistics.orchestration.project.problem_making import (
    MICROSECONDS,
    StatedProblem,
    problem_of,
)
from codomyrmex.logistics.orchestration.project.run_state import RunState
from codomyrmex.logistics.orchestration.project.workflow_plan import OPTIMISED, PlannedTask, WorkflowPlan

BUDGET_S = 10.0
MOST_WORKERS = 8
"""The solver's own strategies differ by worker; beyond so many they repeat."""
FINEST = 1_000_000_000
"""Limits are told to the solver in at most so many parts: sums of times and amounts have to stay in 64 bits."""
COARSE = 500
"""So many steps of time suffice to find a good order."""
COARSE_SHARE = 0.6
SEARCH_SHARE = 0.2
"""The part of the time in which the solver's beginning is looked for."""
CHILDREN = (
    "the tasks of runs that steps start go in the usual order; those of the run itself in the one found"
)
_ADVICE = "pip install 'codomyrmex[plan]'"


class SolverMissing(CodomyrmexError):
    """The solver is not installed; `hint` says how it gets here."""

    code = "solver_missing"


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """A schedule, and whether it was proved that none is shorter by more than a thousandth."""

    starts: Sequence[int]
    optimal: bool


def optimise(
    plan: WorkflowPlan,
    run: RunState,
    *,
    named: Iterable[NamedResource] = (),
    budget_s: float = BUDGET_S,
    seed: int = 0,
) -> WorkflowPlan:
    """A plan that is as short as can be found in `budget_s`, and never longer than the one given.

    `plan` is what the admission makes of `run`. Raises `SolverMissing` where there is something to find
    and the solver is not installed.
    """
    stated = problem_of(plan, run, named)
    problem = stated.problem
    found = best_starts(problem, stated.starts, budget_s=budget_s, seed=seed)
    if problem.end(found.starts) >= round(plan.duration_s * MICROSECONDS):
        tasks, duration_s = plan.tasks, plan.duration_s
    else:
        tasks = _planned(plan.tasks, stated, found.starts)
        duration_s = max((task.end_s for task in tasks), default=0.0)
    return replace(
        plan,
        tasks=tasks,
        duration_s=duration_s,
        bounds=tuple(
            replace(bound, used=bound.used * plan.duration_s / duration_s) if bound.used else bound
            for bound in plan.bounds
        ),
        spread=None,
        method=OPTIMISED,
        optimal=_unbeaten(replace(plan, duration_s=duration_s)) or (found.optimal and stated.exact),
        unoptimised_s=plan.duration_s,
    )


def as_followed(
    plan: WorkflowPlan, found: WorkflowPlan, follow: Callable[[WorkflowPlan], WorkflowPlan]
) -> WorkflowPlan:
    """An order that was `found`, as it goes in a run that keeps to it; that of `plan` where it is no shorter.

    `follow` says what the admission makes of a run with the order of a plan. It knows what the problem leaves out:
    runs that steps start have an order of their own, quotas round their times, and some tasks take no time.
    """
    has_children = any("/" in task.task for task in plan.tasks)
    best = follow(plan) if has_children else plan  # without them it goes as it is
    followed = follow(found)
    if followed.complete and followed.duration_s < best.duration_s:
        best = followed
    own_order = [CHILDREN] if has_children else []
    as_good = found.optimal and best.duration_s <= found.duration_s * (1 + 1 / ROUNDING)
    return replace(
        best,
        assumptions=(*plan.assumptions, *own_order),
        spread=None,
        method=OPTIMISED,
        optimal=as_good or _unbeaten(best),
        unoptimised_s=plan.duration_s,
    )


def _unbeaten(plan: WorkflowPlan) -> bool:
    """Whether a plan is as short as what holds it up most allows."""
    return plan.bound is not None and round((plan.duration_s - plan.bound.least_s) * MICROSECONDS) <= 1


def best_starts(
    problem: PlanProblem, first: Sequence[int], *, budget_s: float, seed: int = 0, workers: int | None = None
) -> Found:
    """The shortest schedule found, in an order that a run can follow; `first` is one to begin with."""
    best = _settled(problem, first)
    if problem.end(best) <= problem.least:
        return Found(starts=best, optimal=True)
    _solver()
    begun_s = monotonic()

    def left_s() -> float:
        return begun_s + budget_s - monotonic()

    searched = improved(problem, best, seed=seed, going=lambda: left_s() > (1 - SEARCH_SHARE) * budget_s)
    best = _shorter(problem, best, searched)
    optimal = problem.end(best) <= problem.least
    for coarse, share in _looks(problem):
        if optimal or left_s() <= 0:
            break
        hint = coarse.packed(coarse.order(best))
        found = _Model(coarse, hint).solve(
            budget_s=left_s() * share, seed=seed, workers=workers or _workers()
        )
        if found is not None:
            best = _shorter(problem, best, found.starts)
            optimal = problem.end(best) <= problem.least or (share == 1 and found.optimal)
    return Found(starts=best, optimal=optimal)


def _shorter(problem: PlanProblem, best: list[int], found: Sequence[int]) -> list[int]:
    settled = _settled(problem, found)
    return settled if problem.end(settled) < problem.end(best) else best


def _looks(problem: PlanProblem) -> Iterator[tuple[PlanProblem, float]]:
    """What the solver is given, one after the other, and which part of the time that is left.

    It is much quicker at the right order where time is coarse; a second look in fine time mends and proves.
    """
    exact = problem.exact_unit()
    if problem.least // exact > COARSE:
        yield problem.rounded(problem.least // COARSE), COARSE_SHARE
    yield problem.rounded_up(problem.fine_unit()), 1


def _settled(problem: PlanProblem, starts: Sequence[int]) -> list[int]:
    """The same order with gaps filled, as a run that follows it has it."""
    packed = problem.packed(problem.order(starts))
    return problem.starts_in(problem.order(packed))


def _planned(
    tasks: Sequence[PlannedTask], stated: StatedProblem, starts: Sequence[int]
) -> tuple[PlannedTask, ...]:
    """The tasks as they begin now; what spans others goes with them."""
    problem = stated.problem
    found: dict[int, PlannedTask] = {}
    for place, job in stated.jobs.items():
        ready = max((starts[each] + problem.durations[each] for each in problem.after[job]), default=0)
        begin_s = starts[job] / MICROSECONDS
        found[place] = replace(
            tasks[place],
            ready_s=ready / MICROSECONDS,
            start_s=begin_s,
            end_s=(starts[job] + problem.durations[job]) / MICROSECONDS,
        )
    for place, members in stated.spans.items():
        inner = [found[each] for each in members if each in found] or [tasks[place]]
        begin_s = min(task.ready_s for task in inner)
        found[place] = replace(
            tasks[place], ready_s=begin_s, start_s=begin_s, end_s=max(task.end_s for task in inner)
        )
    ranks = {job: rank for rank, job in enumerate(problem.order(starts))}
    order = sorted(found, key=lambda place: (found[place].start_s, ranks.get(stated.jobs.get(place, -1), -1)))
    return tuple(found[place] for place in order)


def _workers() -> int:
    """As many as this process may use CPUs."""
    count = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, min(MOST_WORKERS, count))


class _Model:
    """The problem as the solver takes it; the schedule `hint` holds in it and bounds it from above."""

    def __init__(self, problem: PlanProblem, hint: Sequence[int]) -> None:
        self.cp = _solver()
        self.problem = problem
        self.model = model = self.cp.CpModel()
        latest = problem.end(hint)
        self.starts = [
            model.new_int_var(head, latest - tail, "")
            for head, tail in zip(problem.heads, problem.tails, strict=True)
        ]
        self.end = model.new_int_var(problem.least, latest, "")
        self._add_order()
        for limit in problem.limits:
            self._add_limit(limit)
        for variable, start in zip(self.starts, self._sorted_alike(hint), strict=True):
            model.add_hint(variable, start)
        model.add_hint(self.end, latest)
        model.minimize(self.end)

    def solve(self, *, budget_s: float, seed: int, workers: int) -> Found | None:
        """The best that is found in time; None where that is nothing."""
        solver = self.cp.CpSolver()
        solver.parameters.max_time_in_seconds = max(0.0, budget_s)
        solver.parameters.num_workers = workers
        solver.parameters.random_seed = seed
        solver.parameters.catch_sigint_signal = False  # it would never give the handler back
        status = self._status_of(solver)
        if status not in (self.cp.OPTIMAL, self.cp.FEASIBLE):
            return None
        starts = [solver.value(each) for each in self.starts]
        return Found(starts=starts, optimal=status == self.cp.OPTIMAL)

    def _status_of(self, solver: Any) -> Any:
        """Solves in a thread, so that a Ctrl-C is heard here; then the solver is stopped before it goes on its way."""
        with ThreadPoolExecutor(1, thread_name_prefix="codomyrmex-solver") as pool:
            try:
                return pool.submit(solver.solve, self.model).result()
            finally:
                solver.stop_search()

    def _add_order(self) -> None:
        starts, durations = self.starts, self.problem.durations
        for job, parents in enumerate(self.problem.after):
            for parent in parents:
                self.model.add(starts[job] >= starts[parent] + durations[parent])
            if not self.problem.graph.children(job):
                self.model.add(self.end >= starts[job] + durations[job])

    def _add_limit(self, limit: Limit) -> None:
        amounts, capacity = _parts(limit)
        held = [
            self.model.new_fixed_size_interval_var(self.starts[job], use.held, "")
            for job, use in limit.uses.items()
        ]
        self.model.add_cumulative(held, amounts, capacity)

    def _sorted_alike(self, hint: Sequence[int]) -> list[int]:
        """Jobs that can stand for each other begin in the order of their numbers, here and in the hint."""
        found = list(hint)
        for group in self.problem.alike():
            for job, start in zip(group, sorted(hint[job] for job in group), strict=True):
                found[job] = start
            for first, then in pairwise(group):
                self.model.add(self.starts[first] <= self.starts[then])
        return found


def _parts(limit: Limit) -> tuple[list[int], int]:
    """Amounts and capacity in the largest unit that keeps them exact, else rounded to the safe side."""
    amounts = [use.amount for use in limit.uses.values()]
    unit = gcd(*amounts)
    amounts, capacity = [each // unit for each in amounts], limit.capacity // unit
    if capacity > FINEST:
        amounts, capacity = [-(-each * FINEST // capacity) for each in amounts], FINEST
    return amounts, capacity


def _solver() -> ModuleType:
    try:
        from ortools.sat.python import cp_model
    except ImportError as error:
        raise SolverMissing(
            f"optimising a plan needs a solver that is not installed: {error}", hint=f"{_ADVICE} brings it"
        ) from error
    return cp_model
