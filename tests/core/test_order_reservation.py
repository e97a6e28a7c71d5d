"""Room that is kept: a task that asks for the whole machine begins in time, and small ones lose little by it."""

from __future__ import annotations

from itertools import pairwise

import pytest

from codomyrmex.logistics.orchestration.project.order_policy import OrderPolicy
from order_courses import CPUS, NEVER_S, SMALL_S, WHOLE_MACHINE, big_among_small
from order_laboratory import SECOND, Job, Laboratory

LASTS_S = 2400.0
WITHOUT = OrderPolicy(reserve_after_s=NEVER_S)
IN_TIME_S = OrderPolicy().reserve_after_s + SMALL_S[1]


@pytest.mark.parametrize("seed", [1, 3])
def test_a_whole_machine_task_waits_no_longer_than_it_takes_to_be_reserved_and_one_small_task(
    seed: int,
) -> None:
    found = big_among_small(seed, lasts_s=LASTS_S)
    assert found.bigs == LASTS_S // 200
    assert found.longest_wait_s <= IN_TIME_S
    without = big_among_small(seed, lasts_s=LASTS_S, policy=WITHOUT)
    assert without.longest_wait_s > 2 * IN_TIME_S  # nothing else in the order brings it in time
    assert found.small_work_s > 0.95 * without.small_work_s


def test_it_begins_in_time_also_where_more_small_work_comes_than_the_machine_can_do() -> None:
    found = big_among_small(2, lasts_s=LASTS_S, load=1.1)
    without = big_among_small(2, lasts_s=LASTS_S, load=1.1, policy=WITHOUT)
    assert found.longest_wait_s <= IN_TIME_S
    assert found.small_work_s > 0.95 * without.small_work_s


def test_a_priority_does_not_keep_a_large_task_from_its_room() -> None:
    assert big_among_small(4, lasts_s=LASTS_S, big="low").longest_wait_s <= IN_TIME_S


def test_several_that_have_waited_too_long_go_one_after_the_other() -> None:
    """The second and the third wait for those ahead of them, not for their own time from there on."""
    small = [Job(at_us=max(0, number) * SECOND, lasts_us=8 * SECOND) for number in range(-CPUS, 1000)]
    bigs = [Job(at_us=SECOND, lasts_us=5 * SECOND, asks=WHOLE_MACHINE) for _ in range(3)]
    lab = Laboratory().run([*small, *bigs])
    starts_s = [each.start_us / SECOND for each in lab.went if each.job.asks == WHOLE_MACHINE]
    assert starts_s[0] <= 1 + 300 + 8
    assert max(later - earlier for earlier, later in pairwise(starts_s)) <= 5 + 8


def test_room_is_kept_in_what_is_lacking_and_work_that_needs_something_else_flows_past() -> None:
    """A task waits for memory that others give back slowly; those that only want CPU are not held up."""
    memory = (("cpu", 1), ("memory", "16GiB"))
    holders = [Job(at_us=number * 100 * SECOND, lasts_us=390 * SECOND, asks=memory) for number in range(20)]
    whole = Job(at_us=500 * SECOND, lasts_us=10 * SECOND, asks=(("cpu", 1), ("memory", "64GiB")))
    small = [Job(at_us=number * 4 * SECOND, lasts_us=12 * SECOND) for number in range(500)]
    lab = Laboratory().run([*holders, whole, *small])
    [waited_s] = lab.waits_s(asks=whole.asks)
    assert waited_s <= 300 + 390
    assert max(lab.waits_s(asks=Job().asks)) == 0
    without = Laboratory(policy=WITHOUT).run([*holders, whole, *small])
    assert without.waits_s(asks=whole.asks)[0] > 900


def test_no_room_is_kept_for_what_only_stands_behind_others() -> None:
    """All have waited too long, and each would fit: then the order decides, not who has waited longest."""
    first = Job(lasts_us=10 * SECOND, items=200, asks=(("cpu", 1),))
    urgent = Job(at_us=5 * SECOND, lasts_us=10 * SECOND, items=200, asks=(("cpu", 0.9),), priority="high")
    lab = Laboratory(machine={"sys-compute": 1000}).run([first, urgent])
    assert [each.job.priority for each in lab.went] == ["normal"] + ["high"] * 200 + ["normal"] * 199
