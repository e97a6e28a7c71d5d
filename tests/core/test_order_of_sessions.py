"""Sessions that have work get of the machine by their weights, over time, whatever their tasks look like."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pytest

from codomyrmex.logistics.orchestration.project.admission import Admission
from codomyrmex.logistics.orchestration.project.order_policy import OrderPolicy
from codomyrmex.logistics.orchestration.project.resource_request import Request
from codomyrmex.logistics.orchestration.project.states import OrchestrationMode
from order_courses import MIXES, mixed
from order_laboratory import EIGHT_CPUS, SECOND, Job, Laboratory, part_of

HOURS = 20_000
ONE_CPU = Request()
ALWAYS: dict[str, Any] = {"lasts_us": 4 * SECOND, "items": HOURS}


@dataclass
class Run:
    number: int


def parts(lab: Laboratory, began_s: float, until_s: float, *sessions: str) -> list[float]:
    """Of each session, the machine seconds that it had."""
    return [part_of(lab, session, began_s, until_s, EIGHT_CPUS) for session in sessions]


@pytest.mark.parametrize("name", MIXES)
def test_each_gets_what_its_weight_says_within_5_percent(name: str) -> None:
    assert mixed(name) == pytest.approx([1.0] * len(MIXES[name].weights), rel=0.05)


def test_weights_hold_also_between_tasks_that_have_waited_too_long() -> None:
    """All of a fan-out is ready at once, so what is left of it has waited for ever; that keeps no room from others."""
    jobs = [Job(session="a", weight=3.0, **ALWAYS), Job(session="b", **ALWAYS)]
    lab = Laboratory(policy=OrderPolicy(reserve_after_s=10.0)).run(jobs, until_s=1000)
    a, b = parts(lab, 100, 1000, "a", "b")
    assert a / b == pytest.approx(3.0, rel=0.05)


def test_who_had_nothing_to_do_has_nothing_to_its_credit() -> None:
    jobs = [
        Job(session="a", lasts_us=4 * SECOND),
        Job(session="b", **ALWAYS),
        Job(session="a", at_us=500 * SECOND, **ALWAYS),
    ]
    lab = Laboratory().run(jobs, until_s=1000)
    assert parts(lab, 10, 500, "b") == [490.0]
    a, b = parts(lab, 510, 700, "a", "b")
    assert a == pytest.approx(b, rel=0.05)


def test_who_had_the_machine_for_itself_owes_nothing_for_that() -> None:
    jobs = [Job(session="a", **ALWAYS), Job(session="b", at_us=2000 * SECOND, **ALWAYS)]
    lab = Laboratory().run(jobs, until_s=2300)
    a, b = parts(lab, 2010, 2300, "a", "b")
    assert a == pytest.approx(b, rel=0.05)


@pytest.mark.parametrize("comes_s", [1002, 1036], ids=["while others work", "while nobody works"])
def test_a_newcomer_has_no_claim_on_the_past_of_those_who_were_there(comes_s: int) -> None:
    """What belongs to no session has pauses of 8 s; a session that holds next to nothing is there all the time."""
    turns = [Job(at_us=number * 40 * SECOND, lasts_us=4 * SECOND, items=64) for number in range(100)]
    idler = Job(session="c", lasts_us=HOURS * SECOND, asks=(("cpu", 0),))
    newcomer = Job(session="b", at_us=comes_s * SECOND, **ALWAYS)
    lab = Laboratory().run([*turns, idler, newcomer], until_s=2000)
    rest, b = (part_of(lab, session, 1100, 2000, EIGHT_CPUS) for session in (None, "b"))
    assert rest == pytest.approx(b, rel=0.05)


def test_work_that_belongs_to_no_session_is_one_party_among_them() -> None:
    jobs = [Job(session="a", weight=3.0, **ALWAYS), Job(**ALWAYS)]
    lab = Laboratory().run(jobs, until_s=600)
    a, rest = (part_of(lab, session, 10, 600, EIGHT_CPUS) for session in ("a", None))
    assert a / rest == pytest.approx(3.0, rel=0.05)


def test_a_session_gets_all_that_others_do_not_use() -> None:
    jobs = [Job(session="a", weight=100.0, max_parallel=2, **ALWAYS), Job(session="b", **ALWAYS)]
    lab = Laboratory().run(jobs, until_s=400)
    assert parts(lab, 0, 400, "a", "b") == [100.0, 300.0]


def test_a_session_that_came_back_shares_at_once() -> None:
    jobs = [Job(session="a", weight=3.0, **ALWAYS), Job(session="b", **ALWAYS)]
    jobs += [
        Job(session="c", weight=4.0, at_us=at_s * SECOND, lasts_us=4 * SECOND, items=300)
        for at_s in (300, 900)
    ]
    lab = Laboratory().run(jobs, until_s=1300)
    for began_s in (310, 910):
        a, b, c = parts(lab, began_s, began_s + 200, "a", "b", "c")
        assert (a / b, c / b) == pytest.approx((3.0, 4.0), rel=0.05)


def test_the_mode_of_one_session_says_nothing_of_the_other() -> None:
    one: dict[str, Any] = {"mode": OrchestrationMode.SEQUENTIAL, "session": "a"}
    jobs = [Job(**one, **ALWAYS), Job(session="b", **ALWAYS)]
    lab = Laboratory().run(jobs, until_s=400)
    assert parts(lab, 0, 400, "a", "b") == [50.0, 350.0]


@pytest.mark.parametrize("cpus", [1, 8])
def test_a_session_whose_tasks_wait_for_each_other_loses_nothing_by_that(cpus: int) -> None:
    """When one of its tasks ends the next is ready at once: it has never had nothing to do."""
    machine = {"sys-compute": cpus * 1000}
    chains = [Job(session="a", weight=3.0, lasts_us=4 * SECOND, items=300, chained=True)] * cpus
    lab = Laboratory(machine=machine).run([*chains, Job(session="b", **ALWAYS)], until_s=600)
    a, b = (part_of(lab, session, 40, 600, machine) for session in "ab")
    assert a / b == pytest.approx(3.0, rel=0.05)


def test_sessions_that_have_no_work_are_forgotten_in_time() -> None:
    admission = Admission(cpu_milli=1000, max_workers=4)
    for number in range(5000):
        admission.mark(number)
        party = admission.party(f"s{number}")
        lane = admission.lane(Run(number), request=ONE_CPU, quick=False, party=party)
        admission.offer(lane, 1, 0, 1)
        assert admission.next_lane() is lane
        admission.take(lane, 1)
        admission.release(lane, admission.claim(lane))
        admission.forget(number)
    assert len(admission._parties) < 10
