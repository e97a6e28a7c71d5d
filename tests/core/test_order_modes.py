"""What each `OrchestrationMode` does: under virtual time, and in an engine whose settings or session say so."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest

from codomyrmex import OrchestrationEngine
from codomyrmex.logistics.orchestration.project.order_policy import OrderPolicy
from codomyrmex.logistics.orchestration.project.states import OrchestrationMode
from codomyrmex.testing import FinishedRun
from order_laboratory import SECOND, Job, Laboratory

SEQUENTIAL, PARALLEL, PRIORITY, RESOURCE_AWARE = OrchestrationMode
TWO_CPUS = {"sys-compute": 2000}
BOTH = (("cpu", 2),)


def went(mode: OrchestrationMode, *jobs: Job) -> list[tuple[str, float]]:
    """Priority and start of each task, in the order in which they began on two CPUs."""
    lab = Laboratory(machine=TWO_CPUS, policy=OrderPolicy(mode=mode)).run(jobs)
    return [(each.job.priority, each.start_us / SECOND) for each in lab.went]


# -- under virtual time -------------------------------------------------------------------------------------


def test_sequential_is_one_at_a_time_in_the_order_in_which_they_became_ready() -> None:
    jobs = [
        Job(priority="low"),
        Job(priority="critical"),
        Job(at_us=1, asks=BOTH),
        Job(at_us=1, priority="high"),
    ]
    assert went(SEQUENTIAL, *jobs) == [("low", 0.0), ("critical", 1.0), ("normal", 2.0), ("high", 3.0)]


def test_parallel_is_as_many_as_fit_in_the_order_in_which_they_became_ready() -> None:
    jobs = [Job(priority="low"), Job(asks=BOTH), Job(priority="critical"), Job(priority="high", items=2)]
    found = went(PARALLEL, *jobs)
    assert found == [("low", 0.0), ("critical", 0.0), ("normal", 1.0), ("high", 2.0), ("high", 2.0)]


def test_priority_is_the_highest_first_however_long_others_wait() -> None:
    low, normal = Job(priority="low"), Job(items=2)
    critical = [Job(at_us=(number // 2) * SECOND, priority="critical") for number in range(2000)]
    found = went(PRIORITY, low, normal, *critical)
    assert found[2000:] == [("normal", 1000.0), ("normal", 1000.0), ("low", 1001.0)]


def test_resource_aware_is_the_most_urgent_first_and_large_requests_before_small() -> None:
    short, long, large = (
        Job(items=4),
        Job(lasts_us=3 * SECOND, items=2),
        Job(lasts_us=5 * SECOND // 2, asks=BOTH),
    )
    lab = Laboratory(machine=TWO_CPUS).run([short, long, large])
    first = [each.job for each in lab.went]
    assert first == [large, long, long, short, short, short, short]  # 2.5 s x (1 + 1) before 3 s x (1 + 0.5)


def test_resource_aware_moves_a_task_by_its_priority_for_a_bounded_time() -> None:
    low = Job(priority="low")
    high = [Job(at_us=(number // 2) * SECOND, priority="high") for number in range(4000)]
    found = went(RESOURCE_AWARE, *high[:2], low, *high[2:])
    start_s = next(start_s for priority, start_s in found if priority == "low")
    assert start_s <= OrderPolicy().boosts_s[2] - OrderPolicy().boosts_s[0] + OrderPolicy().ageing_s


# -- in an engine -------------------------------------------------------------------------------------------

AS_READY = ["low", "short", "tail", "high", "more", "end"]
EXPECTED = {
    SEQUENTIAL: AS_READY,
    PARALLEL: AS_READY,
    PRIORITY: ["high", "short", "tail", "more", "end", "low"],
    RESOURCE_AWARE: ["high", "tail", "more", "short", "end", "low"],
}


def step(name: str, *after: str, priority: str = "normal", **more: Any) -> dict[str, Any]:
    return {
        "name": name,
        "module": "scripted_steps",
        "action": "act",
        "parameters": {"script": ["ok"]},
        "priority": priority,
        "dependencies": list(after),
        **more,
    }


def workflow(*steps: Mapping[str, Any]) -> dict[str, Any]:
    return {"codomyrmex": 1, "name": "modes", "defaults": {"isolation": "thread"}, "steps": list(steps)}


WORK = workflow(
    step("low", priority="low"),
    step("short"),
    step("tail"),
    step("high", priority="high"),
    step("more", "tail"),
    step("end", "more"),
)
"""On one CPU: four are ready at once; a priority moves `low` and `high`, and `tail` has the most behind it."""


def run(engine: OrchestrationEngine, **more: Any) -> FinishedRun:
    execution = engine.start_workflow(WORK, **more)
    assert execution.wait(30)
    found = FinishedRun(engine.reader, execution.execution_id)
    assert found.success, found.error
    return found


@pytest.mark.parametrize("mode", OrchestrationMode)
def test_an_engine_orders_what_belongs_to_no_session_as_its_settings_say(
    mode: OrchestrationMode, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CODOMYRMEX_ORDER_MODE", mode.value)
    with OrchestrationEngine(state=":memory:", cpu_count=1) as engine:
        assert run(engine).order == EXPECTED[mode]


@pytest.mark.parametrize("mode", OrchestrationMode)
def test_a_session_is_ordered_as_it_says_itself(
    mode: OrchestrationMode, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = PRIORITY if mode in (SEQUENTIAL, PARALLEL) else PARALLEL
    monkeypatch.setenv("CODOMYRMEX_ORDER_MODE", other.value)
    with OrchestrationEngine(state=":memory:", cpu_count=1) as engine:
        assert run(engine, session_id="mine", session_mode=mode).order == EXPECTED[mode]
        assert run(engine).order == EXPECTED[other]


@pytest.mark.parametrize("mode", OrchestrationMode)
def test_only_sequential_leaves_free_slots_empty(mode: OrchestrationMode) -> None:
    with OrchestrationEngine(state=":memory:", cpu_count=8) as engine:
        events = run(engine, session_id="mine", session_mode=mode).events
    moves = [event["event"] for event in events if event["event"] in ("started", "completed")]
    one_at_a_time = moves == ["started", "completed"] * len(WORK["steps"])
    assert one_at_a_time == (mode is SEQUENTIAL)
