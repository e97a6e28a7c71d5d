"""Admission of whole requests: all dimensions or none, never more than there is, and everything can be undone."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from codomyrmex.logistics.orchestration.project.admission import Admission, Claim, Lane
from codomyrmex.logistics.orchestration.project.machine_share import MachineShare
from codomyrmex.logistics.orchestration.project.named_resources import NamedResource, OtherWait
from codomyrmex.logistics.orchestration.project.rate_quota import Rate
from codomyrmex.logistics.orchestration.project.resource_request import CPU, MEMORY, UNIT, Request

MACHINE = {CPU: 4000, MEMORY: 8, "gpu-0": UNIT, "gpu-1": UNIT}
LOCK = ("lock", UNIT)


@dataclass
class Run:
    number: int


def admission(*named: NamedResource, **capacities: int) -> Admission:
    made = Admission(cpu_milli=4000, max_workers=8, share=MachineShare.whole({**MACHINE, **capacities}))
    made.named.load(named, {})
    return made


def semaphore(name: str, units: int, **more: Any) -> NamedResource:
    return NamedResource(id=name, name=name, type="custom", capacity=units * UNIT, **more)


def offer(to: Admission, request: Request, count: int = 1, *, run: int = 1, pool: str | None = None) -> Lane:
    lane = to.lane(Run(run), request=request, quick=False, pool=pool)
    to.offer(lane, 1, 0, count)
    return lane


def admit_all(to: Admission) -> list[tuple[Lane, Claim]]:
    held = []
    while (lane := to.next_lane()) is not None:
        to.take(lane, 1)
        held.append((lane, to.claim(lane)))
    to.note_waits()
    return held


def test_a_request_is_admitted_only_when_all_of_it_fits() -> None:
    to = admission()
    offer(to, Request(cpu_milli=1000, memory_bytes=5), 3)
    assert len(admit_all(to)) == 1  # there is CPU for four, and memory for one
    assert to.share.cpu_milli == 3000


def test_work_that_needs_something_else_flows_past_what_is_blocked() -> None:
    to = admission(semaphore("lock", 1))
    offer(to, Request(named=(LOCK,)), 3)
    offer(to, Request(gpu=2 * UNIT), 2, run=2)
    offer(to, Request(), 1, run=3)
    assert [lane.run.number for lane, _ in admit_all(to)] == [1, 2, 3]


def test_a_lock_is_free_again_when_its_holder_has_ended() -> None:
    to = admission(semaphore("lock", 1))
    offer(to, Request(named=(LOCK,)), 2)
    [(lane, claim)] = admit_all(to)
    assert admit_all(to) == []
    to.release(lane, claim)
    assert len(admit_all(to)) == 1


def test_fractions_of_a_device_never_span_two() -> None:
    to = admission()
    offer(to, Request(cpu_milli=0, gpu=7500), 2)
    offer(to, Request(cpu_milli=0, gpu=5000), 1, run=2)
    held = admit_all(to)
    assert [claim.machine.gpus for _, claim in held if claim.machine] == [("gpu-0",), ("gpu-1",)]


def test_a_quota_says_when_it_lets_the_next_one_through() -> None:
    rate = Rate(capacity=10 * UNIT, per_us=1_000_000, burst=UNIT)
    quota = NamedResource(id="api", name="api", type="api_quota", capacity=rate.capacity, rate=rate)
    to = admission(quota)
    offer(to, Request(cpu_milli=0, named=(("api", UNIT),)), 3)
    to.mark(5_000_000)
    assert len(admit_all(to)) == 1
    assert to.retry_us == 5_100_000
    to.mark(5_099_999)
    assert admit_all(to) == []
    to.mark(5_100_000)
    assert len(admit_all(to)) == 1


def test_a_lane_that_lacks_cpu_too_is_found_waiting_for_its_lock() -> None:
    to = admission(semaphore("lock", 1, used=UNIT))
    offer(to, Request(cpu_milli=4000), 2)
    offer(to, Request(named=(LOCK,)), 1, run=2)
    to.mark(100)
    assert len(admit_all(to)) == 1
    assert to.named.waiting == {"lock": (100, UNIT)}


def test_what_another_engine_has_waited_for_longer_is_left_to_it() -> None:
    lock = semaphore("lock", 1, waits=[OtherWait(epoch=7, amount=UNIT, since_us=50)])
    to = admission(lock)
    offer(to, Request(named=(LOCK,)), 1)
    to.mark(100)
    assert admit_all(to) == []
    assert to.named.waiting == {"lock": (100, UNIT)}
    lock.waits = [OtherWait(epoch=7, amount=UNIT, since_us=150)]  # it was served, and waits again
    to.mark(200)
    assert len(admit_all(to)) == 1
    assert to.named.waiting == {}


def test_a_session_is_served_out_of_what_it_holds() -> None:
    to = admission(semaphore("lock", 2, used=UNIT))
    to.named.pools = {"night": {"lock": UNIT}}
    to.share.set_pools({"night": {CPU: 1000}})
    offer(to, Request(named=(LOCK,)), 3, pool="night")
    held = admit_all(to)
    assert len(held) == 1  # what others have free is not for it
    assert to.share.cpu_milli == 4000
    offer(to, Request(named=(LOCK,)), 2, run=2)
    assert len(admit_all(to)) == 1
    to.release(*held[0])
    assert [lane.pool for lane, _ in admit_all(to)] == ["night"]


def test_a_holding_that_is_given_up_while_it_is_used_frees_nothing_twice() -> None:
    to = admission()
    to.share.set_pools({"night": {CPU: 2000}})
    offer(to, Request(cpu_milli=2000), 1, pool="night")
    [(lane, claim)] = admit_all(to)
    to.share.set_pools({})
    to.release(lane, claim)
    assert to.share.cpu_milli == 4000
    to.share.set_pools({"night": {CPU: 2000}})
    assert to.share.has(CPU, 2000, "night")


REQUESTS = st.builds(
    Request,
    cpu_milli=st.sampled_from([0, 500, 1000, 4000]),
    memory_bytes=st.integers(0, 8),
    gpu=st.sampled_from([0, 0, 2500, 7500, UNIT, 2 * UNIT]),
    named=st.sampled_from([(), (LOCK,), (("pool", 2 * UNIT),), (LOCK, ("pool", UNIT))]),
)
MOVES = st.lists(
    st.tuples(st.sampled_from(["offer", "admit", "release"]), st.integers(0, 9), REQUESTS), max_size=25
)


def picture(of: Admission) -> Any:
    named = {id: row.used for id, row in of.named._by_id.items()}
    waiting = {
        lane.key: sorted(p for *_place, first, end in lane.heap for p in range(first, end))
        for lane in of._filled.values()
    }
    return of.share.free(), of.workers, named, waiting


def play(to: Admission, moves: list[tuple[str, int, Request]], held: list[tuple[Lane, Claim]]) -> None:
    for what, number, request in moves:
        if what == "offer":
            offer(to, request, 1 + number % 3, run=number)
        elif what == "admit" and (lane := to.next_lane()) is not None:
            to.take(lane, 1)
            held.append((lane, to.claim(lane)))
        elif what == "release" and held:
            to.release(*held.pop(number % len(held)))
        used = dict.fromkeys(MACHINE, 0) | {"lock": 0, "pool": 0}
        for lane, claim in held:
            used[CPU] += lane.cpu_milli
            for id, amount in (*(claim.machine.own if claim.machine else ()), *claim.named.held):
                used[id] += amount
        assert all(0 <= used[id] <= most for id, most in MACHINE.items())
        assert used["lock"] <= UNIT
        assert used["pool"] <= 3 * UNIT
        free = to.share.free()
        assert all(free.get(id, 0) == most - used[id] for id, most in MACHINE.items())


@given(before=MOVES, undone=MOVES)
def test_nothing_is_given_out_twice_and_a_rollback_undoes_all(
    before: list[tuple[str, int, Request]], undone: list[tuple[str, int, Request]]
) -> None:
    to = admission(semaphore("lock", 1), semaphore("pool", 3))
    held: list[tuple[Lane, Claim]] = []
    play(to, before, held)
    to.mark()
    wanted = picture(to)
    play(to, undone, list(held))
    to.rollback()
    assert picture(to) == wanted
