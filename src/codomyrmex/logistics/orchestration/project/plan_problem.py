"""The order of a run as a problem of numbers: jobs, what each waits for, what each holds, and how much there is.

Layer: pure. Times are whole numbers, microseconds unless they were `rounded`. A *limit* is anything of which only so
much is held at once: a resource, the workers, a cap, a quota (whose units are held for longer than the job runs).
A job that uses no limit and takes no time is a *junction*: where many jobs wait for many, all meet there, so the
edges stay few.

Two ways make a schedule of an order. `starts_in` is what a run does that follows it (`followed_plan`): no job
begins before the one ahead of it. `packed` lets a job begin earlier where it fits and delays nobody. Of any
schedule that keeps the limits both make one in which no job begins later: what stands ahead began no later, so
whatever it held is free again by then. (Sprecher, Kolisch, Drexl: semi-active and active schedules, 1995.)
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from heapq import heappop, heappush
from math import gcd
from typing import NamedTuple

from codomyrmex.logistics.orchestration.project.workflow_dag import Graph

ROUNDING = 1000
"""Coarser time may stretch the shortest end that is possible by no more than one part in so many."""


class Use(NamedTuple):
    """What a job holds of a limit from its start on, and for how long."""

    amount: int
    held: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Limit:
    """So much may be held at once; `uses` by job."""

    name: str
    capacity: int
    uses: Mapping[int, Use]

    @property
    def binds(self) -> bool:
        """False where there is enough for all jobs side by side."""
        return sum(use.amount for use in self.uses.values()) > self.capacity


class PlanProblem:
    """See the module. Jobs are numbers; no job may ask for more than there is."""

    __slots__ = ("_ranks", "after", "durations", "graph", "heads", "limits", "tails", "uses")

    def __init__(
        self, *, durations: Sequence[int], after: Iterable[Sequence[int]], limits: Iterable[Limit]
    ) -> None:
        """Limits that cannot bind are left out."""
        self.durations = tuple(durations)
        self.after = tuple(tuple(each) for each in after)
        self.limits = tuple(limit for limit in limits if limit.binds)
        self.uses: list[list[tuple[int, Use]]] = [[] for _ in self.durations]
        """Per job, the limits that it uses, by number."""
        for number, limit in enumerate(self.limits):
            for job, use in limit.uses.items():
                self.uses[job].append((number, use))
        self.graph = graph = Graph.build([""] * len(self.durations), self.after)
        self.heads = [0] * len(self.durations)
        """When each job could begin if there were no limits."""
        self._ranks = [0] * len(self.durations)
        for rank, job in enumerate(graph.order()):
            self._ranks[job] = rank
            self.heads[job] = max(
                (self.heads[each] + self.durations[each] for each in self.after[job]), default=0
            )
        self.tails = [round(each) for each in graph.tails(self.durations)]
        """The longest path that begins with each job, its own time included."""

    def __len__(self) -> int:
        return len(self.durations)

    @property
    def least(self) -> int:
        """No schedule ends earlier: the longest path, or the work that the scarcest limit has to carry."""
        found = max(map(int.__add__, self.heads, self.tails), default=0)
        for limit in self.limits:
            if all(use.held == self.durations[job] for job, use in limit.uses.items()):
                work = sum(use.amount * use.held for use in limit.uses.values())
                found = max(found, -(-work // limit.capacity))
        return found

    def end(self, starts: Sequence[int]) -> int:
        """When the last job of a schedule ends."""
        return max(map(int.__add__, starts, self.durations), default=0)

    def order(self, starts: Sequence[int]) -> list[int]:
        """The jobs as they begin; of those that begin together, each after what it waits for."""
        return sorted(range(len(self)), key=lambda job: (starts[job], self._ranks[job]))

    def starts_in(self, order: Iterable[int]) -> list[int]:
        """When each job begins if none may begin before the one ahead of it; the order keeps what waits for what.

        Jobs that use no limit hold nobody up.
        """
        starts, ends = [0] * len(self), [0] * len(self)
        free = [limit.capacity for limit in self.limits]
        held: list[tuple[int, int, int]] = []
        now = 0
        for job in order:
            begin = max((ends[each] for each in self.after[job]), default=0)
            if self.uses[job]:
                begin = now = max(now, begin)
                while held and (
                    held[0][0] <= now or any(use.amount > free[at] for at, use in self.uses[job])
                ):
                    until, at, amount = heappop(held)
                    free[at] += amount
                    begin = now = max(now, until)
                for at, use in self.uses[job]:
                    free[at] -= use.amount
                    heappush(held, (now + use.held, at, use.amount))
            starts[job], ends[job] = begin, begin + self.durations[job]
        return starts

    def packed(self, order: Iterable[int]) -> list[int]:
        """When each job begins if it takes the first gap that the jobs ahead of it leave."""
        starts, ends = [0] * len(self), [0] * len(self)
        levels = [_Level(limit.capacity) for limit in self.limits]
        for job in order:
            begin = max((ends[each] for each in self.after[job]), default=0)
            before = -1
            while before < begin:  # until all limits agree
                before = begin
                for at, use in self.uses[job]:
                    begin = levels[at].first_gap(begin, use)
            for at, use in self.uses[job]:
                levels[at].take(begin, use)
            starts[job], ends[job] = begin, begin + self.durations[job]
        return starts

    @property
    def has_no_direction(self) -> bool:
        """True where everything is held for as long as its job runs, so that time could go backwards too."""
        return all(
            use.held == self.durations[job] for limit in self.limits for job, use in limit.uses.items()
        )

    def backwards(self) -> PlanProblem:
        """The same with time going backwards: what waited is waited for."""
        children = [self.graph.children(job) for job in range(len(self))]
        return PlanProblem(durations=self.durations, after=children, limits=self.limits)

    def exact_unit(self) -> int:
        """The largest unit that all times are multiples of."""
        return gcd(*self.durations, *(use.held for limit in self.limits for use in limit.uses.values())) or 1

    def fine_unit(self) -> int:
        """A unit in which rounding up stretches the shortest end by at most one part in `ROUNDING`."""
        exact = self.exact_unit()
        most = self.least // (ROUNDING * max(1, len(self)))
        return max(exact, most // exact * exact)

    def rounded(self, unit: int) -> PlanProblem:
        """The same with times in `unit`, to the nearest: only the order of its schedules means something here."""
        return self._in_units(lambda time: max(1, (time + unit // 2) // unit) if time else 0)

    def rounded_up(self, unit: int) -> PlanProblem:
        """The same with times in `unit`, rounded up, so that its schedules hold here too."""
        return self._in_units(lambda time: -(-time // unit))

    def _in_units(self, convert: Callable[[int], int]) -> PlanProblem:
        limits = (
            Limit(
                name=limit.name,
                capacity=limit.capacity,
                uses={job: Use(use.amount, convert(use.held)) for job, use in limit.uses.items()},
            )
            for limit in self.limits
        )
        return PlanProblem(
            durations=[convert(each) for each in self.durations], after=self.after, limits=limits
        )

    def alike(self) -> list[list[int]]:
        """Groups of jobs that can stand for each other: as long, waiting and waited for alike, holding the same."""
        groups: dict[object, list[int]] = {}
        for job, uses in enumerate(self.uses):
            children = tuple(self.graph.children(job))
            groups.setdefault((self.durations[job], self.after[job], children, tuple(uses)), []).append(job)
        return [group for group in groups.values() if len(group) > 1 and self.uses[group[0]]]


class _Level:
    """How much of a limit is held at any time: `used[i]` from `times[i]` to the next, nothing from the last on."""

    __slots__ = ("capacity", "times", "used")

    def __init__(self, capacity: int) -> None:
        self.capacity = capacity
        self.times = [0]
        self.used = [0]

    def first_gap(self, begin: int, use: Use) -> int:
        """The first time from `begin` on at which so much is free for so long."""
        times, used = self.times, self.used
        room, held = self.capacity - use.amount, max(1, use.held)
        until = begin + held
        for at in range(bisect_right(times, begin) - 1, len(times)):
            if times[at] >= until:
                break
            if used[at] > room:
                begin = times[at + 1]
                until = begin + held
        return begin

    def take(self, begin: int, use: Use) -> None:
        """Holds it from then on."""
        first, last = self._cut(begin), self._cut(begin + use.held)
        for at in range(first, last):
            self.used[at] += use.amount

    def _cut(self, time: int) -> int:
        at = bisect_left(self.times, time)
        if at == len(self.times) or self.times[at] != time:
            self.times.insert(at, time)
            self.used.insert(at, self.used[at - 1])
        return at
