"""Admission: what is given out never exceeds what there is, comes in order, and can be undone."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from codomyrmex.logistics.orchestration.project.admission import Admission, Lane
from codomyrmex.logistics.orchestration.project.resource_request import Request


@dataclass
class Run:
    number: int


REQUESTS: dict[int, Request] = {}
"""Equal requests are one object, as within a workflow."""


def take_all(admission: Admission) -> list[int]:
    """Admits one position at a time, giving each slot back at once."""
    taken = []
    while (lane := admission.next_lane()) is not None:
        taken += range(*admission.take(lane, 1))
    return taken


def lane_of(admission: Admission, run: int = 1, **more: Any) -> Lane:
    step, of_run, of_step = more.get("step", -1), more.pop("run_cap", None), more.pop("step_cap", None)
    caps = [((run, -1), of_run), ((run, step), of_step)]
    more["caps"] = tuple((whose, cap) for whose, cap in caps if cap is not None)
    cpu_milli = more.pop("cpu_milli", 1000)
    request = REQUESTS.setdefault(cpu_milli, Request(cpu_milli=cpu_milli))
    return admission.lane(Run(run), **{"request": request, "quick": False, **more})


def test_higher_priority_goes_first_and_equals_in_the_order_of_arrival() -> None:
    admission = Admission(cpu_milli=4000, max_workers=4)
    one, two = lane_of(admission), lane_of(admission, 2)
    for lane, rank, first in [(one, 1, 0), (two, 1, 10), (one, 3, 1), (two, 0, 11), (one, 1, 2)]:
        admission.offer(lane, rank, first, first + 1)
    assert take_all(admission) == [1, 0, 10, 2, 11]


def test_a_range_is_taken_in_order_and_at_most_as_asked() -> None:
    admission = Admission(cpu_milli=4000, max_workers=4)
    lane = lane_of(admission)
    admission.offer(lane, 1, 5, 12)
    assert admission.waiting_in(lane, 100) == 7
    assert admission.waiting_in(lane, 3) == 3
    assert [admission.take(lane, 3) for _ in range(3)] == [(5, 8), (8, 11), (11, 12)]
    assert admission.next_lane() is None


@pytest.mark.parametrize(
    ("capacity", "cpu_milli", "caps", "at_once"),
    [
        ((4000, 8), 1000, {}, 4),
        ((4000, 3), 1000, {}, 3),
        ((4000, 8), 3000, {}, 1),
        ((4000, 8), 9000, {}, 1),  # more than there is means all there is
        ((4000, 8), 0, {}, 8),
        ((4000, 8), 1000, {"run_cap": 2}, 2),
        ((4000, 8), 1000, {"run_cap": 3, "step": 7, "step_cap": 1}, 1),
    ],
)
def test_what_is_claimed_at_once_is_capped(
    capacity: tuple[int, int], cpu_milli: int, caps: dict[str, int], at_once: int
) -> None:
    admission = Admission(cpu_milli=capacity[0], max_workers=capacity[1])
    lane = lane_of(admission, cpu_milli=cpu_milli, **caps)
    admission.offer(lane, 1, 0, 100)
    claimed = 0
    while admission.next_lane() is not None:
        admission.take(lane, 1)
        admission.claim(lane)
        claimed += 1
    assert claimed == at_once
    admission.release(lane)
    assert admission.next_lane() is lane


def test_a_small_request_passes_a_large_one_that_does_not_fit() -> None:
    admission = Admission(cpu_milli=2000, max_workers=8)
    large, small = lane_of(admission, cpu_milli=2000), lane_of(admission, cpu_milli=500)
    admission.offer(small, 1, 0, 1)
    admission.take(small, 1)
    admission.claim(small)
    admission.offer(large, 3, 1, 2)
    admission.offer(small, 1, 2, 3)
    assert admission.next_lane() is small


WORDS = st.sampled_from(["offer", "take", "release"])
MOVES = st.lists(st.tuples(WORDS, st.integers(0, 3), st.integers(0, 3), st.integers(1, 5)), max_size=30)
Move = tuple[str, int, int, int]


def picture(admission: Admission) -> Any:
    lanes = {key: Counter(p for *_place, first, end in lane.heap for p in range(first, end))
             for key, lane in admission._lanes.items()}  # fmt: skip
    busy = {key: count for key, count in admission._busy.items() if count}
    chunks = {key: lane.chunks for key, lane in admission._lanes.items()}
    waiting = {key for key, lane in admission._lanes.items() if lane.heap}
    assert set(admission._filled) == waiting
    return lanes, busy, chunks, admission.share.cpu_milli, admission.workers


def play(admission: Admission, moves: list[Move], held: list[Lane], place: list[int]) -> None:
    for what, number, rank, count in moves:
        lane = lane_of(admission, number // 2, cpu_milli=500 * (number % 3), run_cap=3)
        if what == "offer":
            admission.offer(lane, rank, place[0], place[0] + count)
            place[0] += count
        elif what == "take" and (best := admission.next_lane()) is not None:
            assert best.heap[0] == min(
                each.heap[0] for each in admission._filled.values()
                if each.cpu_milli <= admission.share.cpu_milli and admission._barred_by(each) is None
            )  # fmt: skip
            admission.take(best, count)
            admission.claim(best)
            held.append(best)
        elif what == "release" and held:
            admission.release(held.pop(rank % len(held)))
        assert 0 <= admission.share.cpu_milli <= 2000
        assert 0 <= admission.workers <= 4


@given(before=MOVES, undone=MOVES)
def test_a_rollback_undoes_everything_since_the_mark(before: list[Move], undone: list[Move]) -> None:
    admission = Admission(cpu_milli=2000, max_workers=4)
    held: list[Lane] = []
    place = [0]
    for number in range(4):
        lane_of(admission, number // 2, cpu_milli=500 * (number % 3), run_cap=3)
    play(admission, before, held, place)
    admission.mark()
    wanted = picture(admission)
    play(admission, undone, list(held), place)
    admission.rollback()
    assert picture(admission) == wanted
