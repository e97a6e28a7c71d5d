"""A priority moves a task by a bounded time: nobody is overtaken by what became ready later than that."""

from __future__ import annotations

from random import Random

import pytest

from codomyrmex.logistics.orchestration.project.order_policy import OrderPolicy
from codomyrmex.logistics.orchestration.project.states import OrchestrationMode
from order_courses import crowd, low_under_pressure
from order_laboratory import SECOND, Job, Laboratory, overtaken

TASK_S = 8.0
STRICT = OrderPolicy(mode=OrchestrationMode.PRIORITY)


@pytest.mark.parametrize(("pressure", "bound_s"), [("normal", 1200.0), ("high", 1800.0)])
def test_low_waits_at_most_its_bound_and_one_task_under_constant_pressure(
    pressure: str, bound_s: float
) -> None:
    found = low_under_pressure(pressure, rounds=2, task_s=TASK_S)
    assert (found.lows, found.bound_s, found.overtaken) == (2, bound_s, 0)
    assert bound_s / 2 <= found.longest_wait_s <= bound_s + TASK_S


def test_low_waits_at_most_two_hours_however_much_is_critical() -> None:
    found = low_under_pressure("critical", rounds=1, task_s=64.0)
    assert (found.bound_s, found.overtaken) == (7200.0, 0)
    assert found.longest_wait_s <= 7200.0 + 64.0


def test_where_priority_is_all_that_counts_low_waits_until_nothing_else_comes() -> None:
    found = low_under_pressure("high", rounds=2, task_s=TASK_S, policy=STRICT)
    assert found.longest_wait_s > 2 * 1800
    assert found.overtaken == found.lows


@pytest.mark.parametrize(("seed", "load"), [(1, 0.93), (2, 1.2)])
def test_nobody_is_overtaken_by_what_became_ready_more_than_the_bound_later(seed: int, load: float) -> None:
    lab = crowd(seed, tasks=1500, load=load)
    assert len(lab.went) == 1500
    assert overtaken(lab.went, OrderPolicy()) == []


def test_the_check_finds_who_is_overtaken() -> None:
    assert overtaken(crowd(2, tasks=1500, load=1.2, policy=STRICT).went, OrderPolicy())


def test_what_is_critical_waits_for_a_slot_and_nothing_else_while_others_have_waited_for_hours() -> None:
    chance = Random(5)
    backlog = [
        Job(lasts_us=20 * SECOND, priority=chance.choice(("low", "normal", "high"))) for _ in range(3000)
    ]
    calls = [
        Job(at_us=number * 500 * SECOND, lasts_us=SECOND, priority="critical") for number in range(1, 11)
    ]
    lab = Laboratory().run([*backlog, *calls])
    assert max(lab.waits_s(priority="critical")) <= 20
