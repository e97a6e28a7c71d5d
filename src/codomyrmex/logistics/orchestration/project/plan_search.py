"""A shorter schedule by small changes: shift it to the right, shift it back, stir it a little, again.

Layer: beside `plan_optimiser`, which gives its answer to the solver to begin from: of a few hundred tasks this finds
in a second what the solver needs many for, but can prove nothing. *Justification* packs all jobs against the
end, the last first, then against the beginning; neither makes a schedule longer, and what was wasted in the middle
is often gained. Where units are held for longer than a job runs (quotas) time has one direction, and only stirring
is left.

Source: Valls, Ballestín, Quintanilla, "Justification and RCPSP: a technique that pays", EJOR 165(2), 2005.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from heapq import heapify, heappop, heappush
from random import Random

from codomyrmex.logistics.orchestration.project.plan_problem import PlanProblem

_STIRRED = 0.5
"""The part of the jobs that is moved,"""
_FAR = (0.3, 1.0, 2.0, 4.0)
"""and how far, in mean durations."""
PATIENCE = 300
"""So many changes that gain nothing are enough."""


def improved(
    problem: PlanProblem, starts: Sequence[int], *, seed: int, going: Callable[[], bool]
) -> list[int]:
    """The shortest schedule found from `starts` on, at most as long as `going` says so; never a longer one."""
    shift = _Shift(problem)
    best = shift.settled(starts, going)
    random = Random(seed)
    mean = sum(problem.durations) / max(1, len(problem))
    in_vain = 0
    while problem.end(best) > problem.least and in_vain < PATIENCE and going():
        far = mean * random.choice(_FAR)
        wish = [start + random.gauss(0.0, far) if random.random() < _STIRRED else start for start in best]
        found = shift.settled(problem.packed(by_wish(problem, wish)), going)
        in_vain = 0 if problem.end(found) < problem.end(best) else in_vain + 1
        if problem.end(found) <= problem.end(best):
            best = found
    return best


def by_wish(problem: PlanProblem, wish: Sequence[float]) -> list[int]:
    """The jobs in the order of what each wishes, as far as what waits for what lets them."""
    open_parents = [len(parents) for parents in problem.after]
    ready = [(wish[job], job) for job, count in enumerate(open_parents) if not count]
    heapify(ready)
    order = []
    while ready:
        job = heappop(ready)[1]
        order.append(job)
        for child in problem.graph.children(job):
            open_parents[child] -= 1
            if not open_parents[child]:
                heappush(ready, (wish[child], child))
    return order


class _Shift:
    """Justification of the schedules of one problem."""

    def __init__(self, problem: PlanProblem) -> None:
        self._problem = problem
        self._backwards = problem.backwards() if problem.has_no_direction else None

    def settled(self, starts: Sequence[int], going: Callable[[], bool]) -> list[int]:
        """Shifted to and fro until that gains nothing."""
        problem, backwards = self._problem, self._backwards
        best = problem.packed(problem.order(starts))
        while backwards is not None and going():
            back = backwards.packed(backwards.order(_turned(problem, best)))
            found = problem.packed(problem.order(_turned(problem, back)))
            if problem.end(found) >= problem.end(best):
                break
            best = found
        return best


def _turned(problem: PlanProblem, starts: Sequence[int]) -> list[int]:
    """The same seen from its end."""
    end = problem.end(starts)
    return [end - start - duration for start, duration in zip(starts, problem.durations, strict=True)]
