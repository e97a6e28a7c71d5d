"""Workloads that put the order of work to the test; each seed is another one. What comes back are figures."""

from __future__ import annotations

from dataclasses import dataclass
from random import Random

from codomyrmex.logistics.orchestration.project.order_policy import OrderPolicy
from codomyrmex.logistics.orchestration.project.resource_request import CPU, MEMORY
from codomyrmex.logistics.orchestration.project.states import TaskPriority
from order_laboratory import GIB, SECOND, Job, Laboratory, overtaken, part_of

CPUS = 8
SMALL_LOAD = 0.93
SMALL_S = (2.0, 10.0)
BIG_S, BIG_EVERY_S = 2.0, 200.0
PRIORITIES = ("low", "normal", "high", "critical")
WHOLE_MACHINE = (("cpu", CPUS),)
NEVER_S = 1e9


# -- a whole machine among small tasks ----------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class BigAmongSmall:
    """How long whole-machine tasks waited at most, and the small work done by the end, of one workload."""

    bigs: int
    longest_wait_s: float
    small_work_s: float
    small_wait_s: float
    """On average."""


def big_among_small(
    seed: int,
    *,
    lasts_s: float,
    load: float = SMALL_LOAD,
    policy: OrderPolicy | None = None,
    big: str = "normal",
) -> BigAmongSmall:
    """8 CPUs busy with small tasks that come at random, and every 200 s or so one that wants all of them."""
    chance = Random(seed)
    rate_per_s = load * CPUS / (sum(SMALL_S) / 2)
    jobs = []
    at_s = 0.0
    while (at_s := at_s + chance.expovariate(rate_per_s)) < lasts_s:
        lasts_us = round(chance.uniform(*SMALL_S) * SECOND)
        jobs.append(Job(at_us=round(at_s * SECOND), lasts_us=lasts_us))
    for number in range(int(lasts_s / BIG_EVERY_S)):
        at_s = (number + chance.uniform(0.1, 0.4)) * BIG_EVERY_S
        lasts_us = round(BIG_S * SECOND)
        jobs.append(Job(at_us=round(at_s * SECOND), lasts_us=lasts_us, asks=WHOLE_MACHINE, priority=big))
    lab = Laboratory(policy=policy or OrderPolicy()).run(jobs, until_s=lasts_s + NEVER_S)
    small = lab.waits_s(asks=Job().asks)
    return BigAmongSmall(
        bigs=len(lab.waits_s(asks=WHOLE_MACHINE)),
        longest_wait_s=max(lab.waits_s(asks=WHOLE_MACHINE)),
        small_work_s=lab.work_s(lasts_s, asks=Job().asks),
        small_wait_s=sum(small) / len(small),
    )


# -- priorities under pressure ------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class UnderPressure:
    """How long tasks of low priority waited, and who was overtaken against the rule."""

    lows: int
    longest_wait_s: float
    bound_s: float
    overtaken: int
    tasks: int


def low_under_pressure(
    pressure: str, *, rounds: int, task_s: float = 8.0, policy: OrderPolicy | None = None
) -> UnderPressure:
    """8 CPUs at exactly 100 % with tasks of one priority, each there before the one ahead has ended, and LOW ones.

    LOW ones are less urgent too. For each of them one of the others is left out after its bound, so the load stays
    what it is.
    """
    policy = policy or OrderPolicy()
    bound_s = policy.most_overtaken_s(TaskPriority.LOW, TaskPriority(pressure))
    step_s = task_s / CPUS
    every = int((bound_s + 100.0) / step_s)
    jobs = []
    for number in range(rounds * every):
        at_us = round(number * step_s * SECOND)
        if number % every == 0:
            jobs.append(Job(at_us=at_us, lasts_us=round(task_s / 2 * SECOND), priority="low"))
        if number % every != every - 1:
            jobs.append(Job(at_us=at_us, lasts_us=round(task_s * SECOND), priority=pressure))
    jobs += [Job(lasts_us=round((number + 1) * step_s * SECOND), priority=pressure) for number in range(CPUS)]
    lab = Laboratory(policy=policy).run(jobs, until_s=rounds * every * step_s + NEVER_S)
    waits_s = lab.waits_s(priority="low")
    return UnderPressure(
        lows=len(waits_s),
        longest_wait_s=max(waits_s),
        bound_s=bound_s,
        overtaken=len(overtaken(lab.went, policy)),
        tasks=len(lab.went),
    )


def crowd(seed: int, *, tasks: int, load: float, policy: OrderPolicy | None = None) -> Laboratory:
    """8 CPUs and single-CPU tasks of all priorities and any length that come at random."""
    chance = Random(seed)
    at_s = 0.0
    jobs = []
    for _ in range(tasks):
        lasts_s = chance.choice((1.0, 10.0, 100.0, chance.uniform(1, 300)))
        at_s += chance.expovariate(load * CPUS / 65.4)
        priority = chance.choices(PRIORITIES, (2, 4, 2, 1))[0]
        jobs.append(Job(at_us=round(at_s * SECOND), lasts_us=round(lasts_s * SECOND), priority=priority))
    return Laboratory(policy=policy or OrderPolicy()).run(jobs)


# -- shares of sessions -------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Mix:
    """Sessions that always have work: by weight, what their tasks ask for and how long these take at least and most."""

    machine_cpus: int
    weights: tuple[float, ...]
    asks: tuple[tuple[tuple[str, object], ...], ...]
    lasts_s: tuple[tuple[float, float], ...]
    workers: int = 64


ONE, HALF_MEMORY, ALL = (("cpu", 1),), (("cpu", 1), ("memory", "16GiB")), (("cpu", 8),)
MIXES = {
    "equal tasks, 8 CPUs": Mix(machine_cpus=8, weights=(3, 1), asks=(ONE, ONE), lasts_s=((4, 4), (4, 4))),
    "equal tasks, 1 CPU": Mix(machine_cpus=1, weights=(3, 1), asks=(ONE, ONE), lasts_s=((4, 4), (4, 4))),
    "short beside long": Mix(machine_cpus=8, weights=(3, 1), asks=(ONE, ONE), lasts_s=((1, 1), (30, 30))),
    "long beside short": Mix(machine_cpus=8, weights=(3, 1), asks=(ONE, ONE), lasts_s=((30, 30), (1, 1))),
    "long beside short, 1 CPU": Mix(machine_cpus=1, weights=(3, 1), asks=(ONE, ONE), lasts_s=((20, 20), (1, 1))),
    "any length": Mix(machine_cpus=8, weights=(3, 1), asks=(ONE, ONE), lasts_s=((1, 40), (1, 40))),
    "memory beside CPU": Mix(
        machine_cpus=8, weights=(3, 1), asks=(HALF_MEMORY, (("cpu", 2), ("memory", "8GiB"))), lasts_s=((5, 5), (5, 5))
    ),
    "the whole machine beside one CPU": Mix(
        machine_cpus=8, weights=(3, 1), asks=(ALL, ONE), lasts_s=((5, 5), (5, 5))
    ),
    "one CPU beside the whole machine": Mix(
        machine_cpus=8, weights=(3, 1), asks=(ONE, ALL), lasts_s=((5, 5), (5, 5))
    ),
    "three sessions": Mix(
        machine_cpus=8, weights=(3, 1, 2), asks=(ONE, ONE, ONE), lasts_s=((1, 9), (4, 4), (1, 20))
    ),
}  # fmt: skip


def mixed(name: str, *, seed: int = 1, lasts_s: float = 1200.0, begins_s: float = 100.0) -> tuple[float, ...]:
    """What each session had of the machine beside what its weight gives it: 1.0 is its part exactly."""
    mix, chance = MIXES[name], Random(seed)
    capacity = {CPU: mix.machine_cpus * 1000, MEMORY: 64 * GIB}
    jobs: list[Job] = []
    for session, (weight, asks, (least_s, most_s)) in enumerate(
        zip(mix.weights, mix.asks, mix.lasts_s, strict=True)
    ):
        same = least_s == most_s
        count = int(lasts_s * mix.machine_cpus * 2 / (least_s + most_s)) + 64
        for _ in range(1 if same else count):
            jobs.append(
                Job(
                    lasts_us=round(chance.uniform(least_s, most_s) * SECOND),
                    asks=asks,
                    items=count if same else 1,
                    session=str(session),
                    weight=weight,
                )
            )
    lab = Laboratory(machine=capacity, workers=mix.workers).run(jobs, until_s=lasts_s)
    had = [part_of(lab, str(session), begins_s, lasts_s, capacity) for session in range(len(mix.weights))]
    whole, weights = sum(had), sum(mix.weights)
    return tuple(each / whole * weights / weight for each, weight in zip(had, mix.weights, strict=True))
