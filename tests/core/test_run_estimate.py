"""How far a run is and how long it goes on, from what is known of its steps."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from codomyrmex.logistics.orchestration.project.compiled_workflow import CompiledWorkflow
from codomyrmex.logistics.orchestration.project.expectations import Expectation, Expectations
from codomyrmex.logistics.orchestration.project.named_resources import NamedResource
from codomyrmex.logistics.orchestration.project.rate_quota import Rate
from codomyrmex.logistics.orchestration.project.resource_request import CPU, MEMORY, UNIT
from codomyrmex.logistics.orchestration.project.run_estimate import (
    Items,
    Outlook,
    Room,
    RunEstimate,
    Standing,
    UnderWay,
    child_under_way,
    rest_of,
    rest_of_attempt,
)
from codomyrmex.logistics.orchestration.project.states import CODES, RunPhase, TaskStatus
from codomyrmex.logistics.orchestration.project.workflow_compiler import compile_workflow

SIGNS = {
    "b": TaskStatus.BLOCKED,
    "p": TaskStatus.PENDING,
    "r": TaskStatus.RUNNING,
    "c": TaskStatus.COMPLETED,
    "f": TaskStatus.FAILED,
    "s": TaskStatus.SKIPPED,
    "x": TaskStatus.CANCELLED,
}
FOUR_CPUS = Room(workers=8, machine={CPU: 4000, MEMORY: 8 * 2**30})
TEN_S = Expectation(10.0, 10.0)


def compiled(*steps: dict[str, Any], **more: Any) -> CompiledWorkflow:
    return compile_workflow({"codomyrmex": 1, "name": "w", "steps": list(steps), **more})


def step(name: str, *needs: str, **more: Any) -> dict[str, Any]:
    return {"name": name, "module": "m", "action": "a", "dependencies": list(needs), **more}


def states(text: str) -> bytes:
    return bytes(CODES[SIGNS[sign]] for sign in text)


def estimate(
    workflow: CompiledWorkflow,
    text: str,
    *under_way: UnderWay,
    expected: Expectation = TEN_S,
    room: Room = FOUR_CPUS,
    **more: Any,
) -> RunEstimate:
    learned = Expectations(actions={"m.a": expected})
    found = Outlook(workflow, learned, room).estimate(
        Standing(states=states(text), under_way=under_way, **more)
    )
    assert found is not None
    return found


# -- one attempt -------------------------------------------------------------------------------------


def test_an_attempt_that_has_just_begun_takes_what_such_attempts_take() -> None:
    assert rest_of(Expectation(10.0, 25.0), 0.0) == Expectation(10.0, 25.0)


@given(median=st.floats(0.001, 1e5), factor=st.floats(1.0, 1000.0), elapsed=st.floats(0.0, 1e7))
def test_what_has_taken_long_takes_longer_still(median: float, factor: float, elapsed: float) -> None:
    expected = Expectation(median, median * factor)
    now, later = rest_of(expected, elapsed), rest_of(expected, elapsed * 1.5 + 0.001)
    assert 0.0 <= now.median_s <= now.p90_s
    assert elapsed + now.median_s <= (elapsed * 1.5 + 0.001 + later.median_s) * (1 + 1e-9)


def test_half_of_those_that_took_as_long_end_within_the_rest() -> None:
    expected, steepness = Expectation(10.0, 30.0), 2.0  # because 3 squared is 9

    def goes_on_beyond(seconds: float) -> float:
        return float(1.0 / (1.0 + (seconds / 10.0) ** steepness))

    for elapsed_s in (3.0, 10.0, 200.0):
        rest = rest_of(expected, elapsed_s)
        reached = goes_on_beyond(elapsed_s)
        assert goes_on_beyond(elapsed_s + rest.median_s) == pytest.approx(reached / 2)
        assert goes_on_beyond(elapsed_s + rest.p90_s) == pytest.approx(reached / 10)


def test_an_attempt_that_says_how_far_it_is_goes_on_at_the_speed_that_it_had() -> None:
    quarter = UnderWay(step=0, elapsed_s=12.0, fraction=0.25, told_s=2.0)
    assert rest_of_attempt(TEN_S, quarter).median_s == pytest.approx(30.0 - 2.0, rel=0.01)
    assert rest_of_attempt(TEN_S, quarter).known
    assert rest_of_attempt(TEN_S, UnderWay(step=0, elapsed_s=9.0, fraction=1.0)).median_s < 1.0


def test_who_falls_silent_is_not_believed_to_be_done() -> None:
    workflow = compiled(step("a"))
    silent = UnderWay(step=0, elapsed_s=60.0, fraction=0.75, told_s=59.9)
    found = estimate(workflow, "r", silent)
    assert found.percent == pytest.approx(75.0)
    assert found.left_s > 1.0


def test_the_first_words_of_an_attempt_count_less_than_what_others_took() -> None:
    barely = UnderWay(step=0, elapsed_s=1.0, fraction=0.001)
    assert rest_of_attempt(TEN_S, barely).median_s < 10.0
    assert rest_of_attempt(Expectation(1.0, 1.0, known=False), barely).median_s == pytest.approx(
        999.0, rel=1e-3
    )


# -- a whole run -------------------------------------------------------------------------------------


def test_a_chain_takes_the_sum_of_its_steps() -> None:
    workflow = compiled(step("a"), step("b", "a"), step("c", "b"), step("d", "c"))
    assert estimate(workflow, "ccbb") == RunEstimate(50.0, 20.0, 20.0)


def test_an_attempt_under_way_counts_with_the_time_it_has_taken() -> None:
    workflow = compiled(step("a"), step("b", "a"))
    found = estimate(workflow, "cr", UnderWay(step=1, elapsed_s=5.0, fraction=0.5))
    assert found.percent == pytest.approx(75.0, rel=1e-3)
    assert found.left_s == pytest.approx(5.0, rel=1e-3)
    assert found.left_p90_s > found.left_s


def test_independent_work_is_shared_by_the_processors() -> None:
    workflow = compiled(*(step(f"s{number}") for number in range(12)))
    assert estimate(workflow, "p" * 12).left_s == pytest.approx(30.0)
    one_at_a_time = Room(workers=8, machine={CPU: 4000}, max_parallel=1)
    assert estimate(workflow, "p" * 12, room=one_at_a_time).left_s == pytest.approx(120.0)


@pytest.mark.parametrize(
    ("resources", "left_s"),
    [
        ({"cpu": 2000}, 60.0),
        ({"cpu": 0}, 15.0),
        ({"memory": 8 * 2**30}, 120.0),
        ({"cpu": 0, "db": UNIT}, 60.0),
    ],
)
def test_what_is_scarce_decides(resources: dict[str, Any], left_s: float) -> None:
    workflow = compiled(*(step(f"s{number}", resources=resources) for number in range(12)))
    database = NamedResource(id="r1", name="db", type="custom", capacity=2 * UNIT)
    room = Room(workers=8, machine=FOUR_CPUS.machine, named={"db": database})
    assert estimate(workflow, "p" * 12, room=room).left_s == pytest.approx(left_s)


def test_a_quota_lets_so_many_start() -> None:
    workflow = compiled(*(step(f"s{number}", resources={"cpu": 0, "api": 2 * UNIT}) for number in range(12)))
    rate = Rate(capacity=60 * UNIT, per_us=60_000_000)
    api = NamedResource(id="api", name="api", type="api_quota", capacity=60 * UNIT, rate=rate)
    room = Room(workers=64, machine=FOUR_CPUS.machine, named={"api": api})
    assert estimate(workflow, "p" * 12, room=room).left_s == pytest.approx(24.0)


def test_the_longest_path_decides_where_there_is_room_enough() -> None:
    workflow = compiled(step("a"), step("b", "a"), step("c"), step("d"))
    assert estimate(workflow, "pbpp").left_s == pytest.approx(20.0)


def test_what_was_skipped_or_cancelled_is_neither_done_nor_left() -> None:
    workflow = compiled(step("a"), step("b"), step("c"), step("d"))
    assert estimate(workflow, "csxp").percent == pytest.approx(50.0)


@pytest.mark.parametrize(
    ("foreach", "count"), [([1, 2, 3, 4, 5, 6, 7, 8], 8), ({"lr": [1, 2], "seed": [1, 2, 3, 4]}, 8)]
)
def test_a_list_or_grid_in_the_file_says_how_many_items_there_will_be(foreach: Any, count: int) -> None:
    workflow = compiled(step("a"), step("each", "a", foreach=foreach))
    assert tuple(estimate(workflow, "cb")) == pytest.approx((100 / (1 + count), 20.0, 20.0))


def test_the_number_of_items_is_learned_too_and_counts_once_it_is_there() -> None:
    workflow = compiled(step("a"), step("each", "a", foreach="${steps.a.output}"))
    learned = Expectations(actions={"m.a": TEN_S}, items={("w", "each"): 40.0})
    outlook = Outlook(workflow, learned, FOUR_CPUS)
    before = outlook.estimate(Standing(states=states("pb")))
    assert before is not None
    assert before.left_s == pytest.approx(10.0 + 100.0)
    begun = [UnderWay(step=1, elapsed_s=5.0, fraction=0.5) for _ in range(4)]
    items = {1: Items(size=20, ended=8, done=8)}
    now = outlook.estimate(Standing(states=states("cr"), items=items, under_way=begun))
    assert now is not None
    assert now.left_s == pytest.approx((4 * 5.0 + 8 * 10.0) / 4, rel=1e-3)
    assert now.percent == pytest.approx(100 * (10 + 80 + 20) / (10 + 200), rel=1e-3)


def test_items_that_may_only_run_one_at_a_time_take_one_after_the_other() -> None:
    workflow = compiled(step("each", foreach=[1, 2, 3], max_parallel=1), step("b", "each"))
    assert estimate(workflow, "pb").left_s == pytest.approx(40.0)


def test_the_last_phase_always_comes_and_the_one_for_failures_is_not_expected() -> None:
    workflow = compiled(step("a"), on_failure=[step("mail")], **{"finally": [step("clean")]})
    assert estimate(workflow, "pbb").left_s == pytest.approx(20.0)
    failed = estimate(workflow, "fpb", phase=RunPhase.ON_FAILURE)
    assert (failed.percent, failed.left_s) == pytest.approx((100 / 3, 20.0))


def test_only_what_had_completed_is_undone() -> None:
    undo = {"module": "m", "action": "a"}
    workflow = compiled(step("a", compensate=undo), step("b", compensate=undo), step("c", "a", "b"))
    found = estimate(workflow, "cfxbb", phase=RunPhase.COMPENSATING, room=Room(workers=1))
    assert found.left_s == pytest.approx(10.0)


def test_of_a_run_that_stops_only_what_runs_is_left() -> None:
    workflow = compiled(step("a"), step("b"), step("c", "b"))
    at_work = UnderWay(step=1, elapsed_s=4.0, fraction=0.5)
    assert estimate(workflow, "crb", at_work, stopping=True).left_s == pytest.approx(4.0, rel=1e-3)


def test_a_pause_between_two_attempts_and_a_sleep_are_waited_for() -> None:
    workflow = compiled(step("a"), {"name": "night", "sleep": 3600, "dependencies": ["a"]})
    again = UnderWay(step=0, elapsed_s=0.0, starts_in_s=60.0)
    assert estimate(workflow, "bb", again).left_s == pytest.approx(60.0 + 10.0 + 3600.0)
    asleep = UnderWay(step=1, elapsed_s=600.0, rest=Expectation(3000.0, 3000.0))
    assert estimate(workflow, "cb", asleep).left_s == pytest.approx(3000.0)


def test_a_run_that_a_step_started_goes_on_as_it_says_itself() -> None:
    workflow = compiled({"name": "child", "workflow": "other"}, step("b", "child"))
    child = child_under_way(0, RunEstimate(percent=75.0, left_s=30.0, left_p90_s=40.0))
    found = estimate(workflow, "bb", child)
    assert found.left_s == pytest.approx(40.0)
    assert found.percent == pytest.approx(100 * 90 / 130)
    assert found.left_p90_s == pytest.approx(50.0)


def test_nothing_is_said_where_most_of_what_is_left_is_unknown() -> None:
    workflow = compiled(step("a"), {**step("b"), "action": "z"}, {**step("c"), "action": "y"})
    learned = Expectations(actions={"m.a": TEN_S})
    standing = Standing(states=states("ppp"), elapsed_s=30.0)
    assert Outlook(workflow, learned, FOUR_CPUS).estimate(standing) is None
    learned = Expectations(actions={"m.a": TEN_S, "m.z": TEN_S})
    assert Outlook(workflow, learned, FOUR_CPUS).estimate(standing) is not None


def test_how_long_runs_took_is_said_where_the_steps_say_nothing() -> None:
    workflow = compiled(step("a"), step("b", "a"))
    learned = Expectations(runs={"w": Expectation(100.0, 100.0)})
    found = Outlook(workflow, learned, FOUR_CPUS).estimate(
        Standing(states=states("rb"), under_way=[UnderWay(step=0, elapsed_s=30.0)], elapsed_s=30.0)
    )
    assert found is not None
    assert (found.percent, found.left_s) == pytest.approx((30.0, 70.0), rel=0.01)


def test_before_anything_has_begun_it_is_all_to_come() -> None:
    workflow = compiled(step("a"))
    assert estimate(workflow, "p") == RunEstimate(0.0, 10.0, 10.0)
    assert estimate(workflow, "c") == RunEstimate(100.0, 0.0, 0.0)


def test_a_run_that_waits_for_an_answer_at_its_end_has_not_done_everything() -> None:
    workflow = compiled(step("a"), {"name": "b", "approval": {"message": "Fine?"}, "dependencies": ["a"]})
    assert estimate(workflow, "cb") == RunEstimate(99.9, 0.0, 0.0)


@given(st.data())
def test_one_worker_does_exactly_the_work_that_is_left(data: st.DataObject) -> None:
    size = data.draw(st.integers(1, 12))
    times = data.draw(st.lists(st.floats(0.1, 100.0), min_size=size, max_size=size))
    steps = []
    for number in range(size):
        parents = data.draw(st.sets(st.integers(0, number - 1), max_size=3)) if number else set()
        steps.append(step(f"s{number}", *(f"s{parent}" for parent in parents)))
    done = data.draw(st.integers(0, size))
    learned = Expectations(
        steps={("w", f"s{number}"): Expectation(each, 2 * each) for number, each in enumerate(times)}
    )
    found = Outlook(compiled(*steps), learned, Room(workers=1, machine={CPU: 1000})).estimate(
        Standing(states=states("c" * done + "b" * (size - done)))
    )
    assert found is not None
    assert found.left_s == pytest.approx(sum(times[done:]))
    assert found.percent == pytest.approx(100 * sum(times[:done]) / sum(times))
    assert found.left_p90_s >= found.left_s
