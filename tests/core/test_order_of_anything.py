"""Whatever comes, in whatever order: nothing is given out twice, all of it ends, and nothing is left of it."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import given, settings
from hypothesis import strategies as st

from codomyrmex.logistics.orchestration.project.admission import Admission
from codomyrmex.logistics.orchestration.project.named_resources import NamedResource
from codomyrmex.logistics.orchestration.project.order_policy import OrderPolicy
from codomyrmex.logistics.orchestration.project.resource_request import CPU, GPU, MEMORY, UNIT
from codomyrmex.logistics.orchestration.project.states import OrchestrationMode
from order_laboratory import GIB, SECOND, Job, Laboratory, Went, most_held

MACHINE = {CPU: 4000, MEMORY: 8 * GIB, "gpu-0": UNIT, "gpu-1": UNIT}
WORKERS = 6
SEATS = 3
MOST = {CPU: 4000, MEMORY: 8 * GIB, GPU: 2 * UNIT, "seats": SEATS * UNIT, "slots": WORKERS}
MODES = {"one": None, "two": OrchestrationMode.SEQUENTIAL, "three": OrchestrationMode.PRIORITY}
AMOUNTS = st.fixed_dictionaries(
    {"cpu": st.sampled_from([0, 0.5, 1, 2, 4])},
    optional={
        "memory": st.sampled_from(["1GiB", "3GiB", "8GiB"]),
        "gpu": st.sampled_from([0.5, 1, 2]),
        "seats": st.integers(1, SEATS),
    },
)
SESSIONS = st.sampled_from([None, *MODES])
JOBS = st.builds(
    Job,
    at_us=st.integers(0, 60).map(lambda second: second * SECOND),
    lasts_us=st.sampled_from([0, 1, SECOND // 2, 3 * SECOND, 20 * SECOND]),
    asks=AMOUNTS.map(lambda amounts: tuple(sorted(amounts.items()))),
    priority=st.sampled_from(["low", "normal", "high", "critical"]),
    items=st.sampled_from([1, 1, 1, 2, 5]),
    weight=st.sampled_from([0.5, 1.0, 3.0]),
    max_parallel=st.sampled_from([None, None, 1, 2]),
    session=SESSIONS,
).map(lambda job: replace(job, mode=MODES.get(job.session or "")))
SOON = OrderPolicy(reserve_after_s=5.0, ageing_s=10.0)


def laboratory() -> Laboratory:
    seats = NamedResource(id="seats", name="seats", type="custom", capacity=SEATS * UNIT)
    return Laboratory(machine=MACHINE, workers=WORKERS, policy=SOON, named=[seats])


def left_in(admission: Admission) -> dict[str, object]:
    """What is still held, waits or is remembered of runs and sessions that have ended."""
    return {
        "cpu": MACHINE[CPU] - admission.share.cpu_milli,
        "machine": {id: most for id, most in MACHINE.items() if admission.share.free().get(id) != most},
        "workers": WORKERS - admission.workers,
        "seats": getattr(admission.named.find("seats"), "used", None),
        "busy": admission._busy,
        "lanes": admission._lanes,
        "filled": admission._filled,
        "shapes": admission._shapes,
        "parked": {why: lanes for why, lanes in admission._parked.items() if lanes},
        "sessions": {id for id, party in admission._parties.items() if party.shape_count} - {""},
        "held": {party.account.held for party in admission._parties.values()} - {0.0},
    }


NOTHING_LEFT = {
    "cpu": 0, "machine": {}, "workers": 0, "seats": 0, "busy": {}, "lanes": {}, "filled": {}, "shapes": {},
    "parked": {}, "sessions": set(), "held": set(),
}  # fmt: skip


def at_once(went: list[Went]) -> int:
    """The most tasks that ran at any instant."""
    return most_held(went).get("slots", 0)


@given(jobs=st.lists(JOBS, max_size=25))
@settings(max_examples=60)
def test_no_more_is_given_out_than_there_is_and_everything_ends(jobs: list[Job]) -> None:
    lab = laboratory().run(jobs)
    assert len(lab.went) == sum(job.items for job in jobs)
    assert all(most <= MOST[id] for id, most in most_held(lab.went).items())
    assert at_once([each for each in lab.went if each.job.session == "two"]) <= 1
    assert left_in(lab.simulation.admission) == NOTHING_LEFT


@given(jobs=st.lists(JOBS, max_size=8))
@settings(max_examples=30)
def test_no_run_has_more_at_once_than_it_may(jobs: list[Job]) -> None:
    jobs = [
        replace(job, at_us=job.at_us + number) for number, job in enumerate(jobs)
    ]  # no two of them are equal
    lab = laboratory().run(jobs)
    for job in jobs:
        own = [each for each in lab.went if each.job == job and each.end_us > each.start_us]
        assert at_once(own) <= (job.max_parallel or WORKERS)


@given(jobs=st.lists(JOBS, max_size=12))
@settings(max_examples=30)
def test_short_tasks_that_share_a_slot_end_too_and_leave_nothing(jobs: list[Job]) -> None:
    quick = [
        replace(
            job,
            lasts_us=min(job.lasts_us, 1000),
            items=job.items * 40,
            isolation="thread",
            session=None,
            asks=asks,
        )
        for job in jobs
        for asks in [tuple(each for each in job.asks if each[0] in ("cpu", "seats"))]
    ]
    lab = laboratory().run(quick)
    assert len(lab.went) == sum(job.items for job in quick)
    assert left_in(lab.simulation.admission) == NOTHING_LEFT


# -- room that is kept --------------------------------------------------------------------------------------

SIZES = st.tuples(st.sampled_from([0, 1, 2, 3]), st.sampled_from([0, 1, 3, 7]))
CROWDS = st.lists(st.tuples(st.integers(0, 40), SIZES, st.integers(1, 15)), min_size=3, max_size=40)


def crowd_of(drawn: list[tuple[int, tuple[int, int], int]]) -> list[Job]:
    """No two of them ask for the same, so that each is known by what it asks for."""
    return [
        Job(
            at_us=at_s * SECOND,
            lasts_us=lasts_s * SECOND,
            asks=(("cpu", cpus + (number + 1) / 1000), ("memory", memory * GIB + number + 1)),
        )
        for number, (at_s, (cpus, memory), lasts_s) in enumerate(drawn)
    ]


@given(drawn=CROWDS)
@settings(max_examples=60)
def test_nobody_for_whom_room_is_kept_is_delayed_by_what_comes_later(
    drawn: list[tuple[int, tuple[int, int], int]],
) -> None:
    """Room is kept at some instant; with nothing that came after it, the task would begin at the same time."""
    jobs = crowd_of(drawn)
    lab = laboratory().run(jobs, until_s=0)
    simulation = lab.simulation
    while simulation._coming and simulation.admission.kept_for is None:
        simulation.run(simulation._coming[0][0])
    if simulation.admission.kept_for is None:
        return
    kept_us, kept = simulation.now_us, jobs[int(simulation.admission.kept_for[0].id)]
    with_all = laboratory().run(jobs)
    without = laboratory().run([job for job in jobs if job.at_us <= kept_us])
    starts_us = [
        next(each.start_us for each in found.went if each.job == kept) for found in (with_all, without)
    ]
    assert starts_us[0] == starts_us[1]
