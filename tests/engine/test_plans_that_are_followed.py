"""A run that follows a plan begins each task no later than that says, also one that is resumed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from random import Random
from typing import Any

import pytest
from clockwork_engine import START_US, Clockwork, equal_lines, simulated, step, twin, workflow
from hypothesis import given, settings
from hypothesis import strategies as st
from timed_workflows import (
    CASES,
    CHILD,
    GIB,
    MIXED,
    PASSED,
    PLANNED_TIMES,
    Document,
    Lasting,
    assert_goes_as_planned,
    clockwork,
    licence,
    make_known,
    micro,
    random_workflows,
    worlds,
)

from codomyrmex.logistics.orchestration.project.plan_optimiser import _planned as planned_tasks
from codomyrmex.logistics.orchestration.project.plan_optimiser import optimise
from codomyrmex.logistics.orchestration.project.problem_making import problem_of
from codomyrmex.logistics.orchestration.project.workflow_plan import WorkflowPlan

OF_ONE_RUN = [name for name in CASES if name != "child runs"]
"""A child run has an order of its own: what a plan promises of it, a run that follows the plan need not keep."""
ROUNDED_US = 10
"""By so much a plan may be ahead of a quota, whose calls come at fractions of a microsecond."""


def begins_no_later(engine: Clockwork, plan: WorkflowPlan, *, late_s: float = 0.0) -> None:
    times = engine.times()
    late = {
        task.task: (times[task.task][0] / 1e6, task.start_s)
        for task in plan.tasks
        if times[task.task][0] > micro(task.start_s + late_s) + ROUNDED_US
    }
    assert not late, f"began, planned: {late}"


def in_any_order(engine: Clockwork, run_id: str, plan: WorkflowPlan, chance: Random) -> WorkflowPlan:
    """A plan that nobody would choose: an order drawn by lot, with gaps that later ones fill."""
    stated = problem_of(plan, twin(engine.runs[run_id]), engine.named())
    problem = stated.problem
    draws = [chance.random() for _ in range(len(problem))]
    for job in problem.graph.order():  # what waits for what stays as it is
        draws[job] = max([draws[job], *(draws[each] + 1e-9 for each in problem.after[job])])
    starts = problem.packed(sorted(range(len(problem)), key=draws.__getitem__))
    return replace(plan, tasks=planned_tasks(plan.tasks, stated, starts))


def followed(document: Document, seconds: Mapping[str, float], chance: Random, **more: Any) -> None:
    """Plans a workflow in an order drawn by lot, follows that, and looks when each task began."""
    others = more.pop("others", ())
    with clockwork(seconds, **more) as engine:
        make_known(engine, others)
        run_id = engine.start(document)
        plan = engine.plan(run_id, Lasting(seconds).expectations(engine.runs[run_id]))
        plan = in_any_order(engine, run_id, plan, chance)
    with clockwork(seconds, **more) as engine:
        make_known(engine, others)
        engine.start(document, follow=tuple(plan.order))
        engine.finish()
        begins_no_later(engine, plan)


@pytest.mark.parametrize("name", OF_ONE_RUN)
def test_a_followed_plan_begins_each_task_no_later_than_planned(name: str) -> None:
    document, more = CASES[name]
    for seed in range(3):
        followed(document, PLANNED_TIMES, Random(seed), **more)


@pytest.mark.parametrize("name", OF_ONE_RUN)
def test_a_run_that_follows_the_admissions_own_plan_goes_like_it(name: str) -> None:
    document, more = CASES[name]
    others = more.get("others", ())
    options = {key: value for key, value in more.items() if key != "others"}
    plan = assert_goes_as_planned(document, PLANNED_TIMES, **more)
    with clockwork(PLANNED_TIMES, **options) as engine:
        make_known(engine, others)
        engine.start(document, follow=tuple(plan.order))
        engine.finish()
        begins_no_later(engine, plan)
        simulation = engine.simulation()
        simulation.run()
        equal_lines(engine.journal(), simulated(simulation))


def test_the_tasks_beside_child_runs_begin_in_the_order_of_the_plan() -> None:
    document, more = CASES["child runs"]
    plan = assert_goes_as_planned(document, PLANNED_TIMES, **more)
    with clockwork(PLANNED_TIMES, cpus=2) as engine:
        make_known(engine, [CHILD])
        run_id = engine.start(document, follow=tuple(plan.order))
        engine.finish()
        run = engine.runs[run_id]
        lines = engine.journal()[run_id,]
        order = [run.name_of(event[1]) for _at, event in lines if event[0] == "started"]
        own = [task.task for task in plan.tasks if task.slot and "/" not in task.task]
        assert order == own
        assert len(engine.journal()) == 5, "the run and its four children"


def test_an_optimised_plan_is_kept_to() -> None:
    seconds = {**PLANNED_TIMES, "wide0": 1.0, "wide2": 6.0, "big3": 0.5}
    more: dict[str, Any] = {"memory": 8 * GIB, "gpus": 2, "resources": [licence(3)]}
    with clockwork(seconds, **more) as engine:
        run_id = engine.start(MIXED)
        plan = engine.plan(run_id, Lasting(seconds).expectations(engine.runs[run_id]))
        better = optimise(plan, twin(engine.runs[run_id]), named=engine.named(), budget_s=1.0)
    with clockwork(seconds, **more) as engine:
        engine.start(MIXED, follow=tuple(better.order))
        engine.finish()
        begins_no_later(engine, better)
        assert max(end_us for _began, end_us in engine.times().values()) <= micro(better.duration_s)


@given(document=random_workflows(children=False), world=worlds(), chance=st.randoms(use_true_random=False))
@settings(max_examples=15)
def test_random_followed_plans_begin_each_task_no_later_than_planned(
    document: Document, world: dict[str, Any], chance: Random
) -> None:
    followed(document, others=[CHILD], chance=chance, **world)


@pytest.mark.reliability
@pytest.mark.timeout(600)
@given(document=random_workflows(children=False), world=worlds(), chance=st.randoms(use_true_random=False))
@settings(max_examples=150)
def test_many_random_followed_plans_begin_each_task_no_later_than_planned(
    document: Document, world: dict[str, Any], chance: Random
) -> None:
    followed(document, others=[CHILD], chance=chance, **world)


@pytest.mark.parametrize("died_s", [0.0, 0.5, 3.0, 4.25, 7.0])
def test_a_followed_run_that_is_resumed_keeps_to_its_plan(died_s: float, tmp_path: Path) -> None:
    state = tmp_path / "state"
    names = ("long", "w", "c3", "d1", "e5", "s0", "s1", "s2", "s3", "s4")
    steps = [*PASSED["steps"], *(step(f"s{at}", resources={"cpu": 1 + at % 3}) for at in range(5))]
    document = workflow(steps)
    seconds = {**PLANNED_TIMES, "s1": 3.0, "s4": 2.0}
    with clockwork(seconds) as engine:
        run_id = engine.start(document)
        plan = engine.plan(run_id, Lasting(seconds).expectations(engine.runs[run_id]))
        plan = in_any_order(engine, run_id, plan, Random(5))
    engine = clockwork(seconds, state=state)
    run_id = engine.start(document, follow=tuple(plan.order))
    engine.go_until(died_s)
    before = set(engine.began())
    lost_s = engine.die()
    with clockwork(
        seconds, state=state, recover=True, start_us=engine.clock.now_us(), began_us=START_US
    ) as after:
        after.recover()
        after.finish()
        begins_no_later(after, plan, late_s=lost_s)
        order = [name for name in after.began() if name not in before]
        assert order == [name for name in plan.order if name not in before]
        assert set(names) == set(after.times())
