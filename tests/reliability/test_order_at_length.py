"""The order of work under virtual time, at length: whole machines among small tasks, LOW under pressure, shares."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from random import Random
from statistics import mean

import pytest

from codomyrmex.logistics.orchestration.project.order_policy import OrderPolicy
from order_courses import (
    MIXES,
    NEVER_S,
    SMALL_S,
    big_among_small,
    crowd,
    low_under_pressure,
    mixed,
)
from order_laboratory import overtaken

IN_TIME_S = OrderPolicy().reserve_after_s + SMALL_S[1]
WITHOUT = OrderPolicy(reserve_after_s=NEVER_S)
TASK_S = 8.0
Record = Callable[..., None]


@dataclass(frozen=True, kw_only=True)
class Form:
    """How many workloads, and how long each."""

    workloads: int
    lasts_s: float


SHORT = pytest.param(Form(workloads=1, lasts_s=1500.0), id="short")
FULL = pytest.param(Form(workloads=30, lasts_s=6_000.0), id="full", marks=pytest.mark.reliability)


@pytest.mark.timeout(3600)
@pytest.mark.parametrize("form", [SHORT, FULL])
@pytest.mark.parametrize("load", [0.93, 1.1])
def test_whole_machine_tasks_among_small_ones(
    form: Form, load: float, chance: Random, record: Record
) -> None:
    began_s = time.monotonic()
    waits_s, without_s, falls = [], [], []
    for _ in range(form.workloads):
        seed = chance.randrange(10**9)
        found = big_among_small(seed, lasts_s=form.lasts_s, load=load)
        without = big_among_small(seed, lasts_s=form.lasts_s, load=load, policy=WITHOUT)
        assert found.longest_wait_s <= IN_TIME_S, seed
        assert found.small_work_s > 0.95 * without.small_work_s, seed
        waits_s.append(found.longest_wait_s)
        without_s.append(without.longest_wait_s)
        falls.append(1 - found.small_work_s / without.small_work_s)
    record(
        f"tasks that want all of 8 CPUs, among small ones at {load:.0%}: how long they wait, and what small ones lose",
        f"{form.workloads} workloads of {form.lasts_s:,.0f} s",
        f"longest wait {max(waits_s):.1f} s (limit {IN_TIME_S:.0f}), with no room kept {max(without_s):,.0f} s;"
        f" small work less by {mean(falls):.2%} on average, {max(falls):.2%} at most (limit 5 %);"
        f" {time.monotonic() - began_s:.0f} s",
    )


@pytest.mark.timeout(3600)
@pytest.mark.parametrize("form", [SHORT, FULL])
@pytest.mark.parametrize("pressure", ["normal", "high", "critical"])
def test_low_under_constant_pressure(form: Form, pressure: str, record: Record) -> None:
    rounds = 1 if form.workloads == 1 else 20
    task_s = 64.0 if form.workloads == 1 else TASK_S
    found = low_under_pressure(pressure, rounds=rounds, task_s=task_s)
    assert found.longest_wait_s <= found.bound_s + task_s
    assert found.overtaken == 0
    record(
        f"tasks of low priority on 8 CPUs that always have work of {pressure} priority",
        f"{found.lows} among {found.tasks:,}",
        f"longest wait {found.longest_wait_s:,.0f} s (bound {found.bound_s:,.0f} s and one task of {task_s:.0f} s);"
        f" overtaken by what became ready later than the bound: {found.overtaken}",
    )


@pytest.mark.timeout(3600)
@pytest.mark.parametrize("form", [SHORT, FULL])
def test_nobody_is_overtaken_against_the_rule(form: Form, chance: Random, record: Record) -> None:
    tasks, found = 0, 0
    for number in range(form.workloads):
        lab = crowd(
            chance.randrange(10**9), tasks=min(5000, int(form.lasts_s)), load=(0.9, 1.0, 1.2)[number % 3]
        )
        tasks += len(lab.went)
        found += len(overtaken(lab.went, OrderPolicy()))
    assert found == 0
    record(
        "tasks of all priorities and lengths at 90 to 120 % of 8 CPUs: who is overtaken by what came too late for that",
        f"{tasks:,}",
        f"{found} overtaken against the rule, in {form.workloads} workloads",
    )


@pytest.mark.timeout(3600)
@pytest.mark.parametrize("form", [SHORT, FULL])
def test_what_sessions_get_of_the_machine(form: Form, chance: Random, record: Record) -> None:
    worst = {}
    for name in MIXES if form.workloads > 1 else [chance.choice([*MIXES])]:
        seeds = max(1, form.workloads // 15)
        found = [
            mixed(name, seed=chance.randrange(10**9), lasts_s=max(1200.0, form.lasts_s / 4))
            for _ in range(seeds)
        ]
        worst[name] = max(abs(part - 1) for parts in found for part in parts)
        assert worst[name] <= 0.05, name
    record(
        "what sessions of weights 3:1 (and 3:1:2) that always have work get of the machine, beside their part",
        f"{len(worst)} mixes",
        "; ".join(f"{name}: within {most:.1%}" for name, most in worst.items()),
    )
