"""Orders that a solver finds: as short as they can be, never longer than the admission's, and followed to the event."""

from __future__ import annotations

import os
import signal
import sys
from itertools import pairwise
from random import Random
from threading import Event

import pytest
from planned_runs import Site, breaches, brute_force, quota, resource, step

from codomyrmex.logistics.orchestration.project import plan_optimiser
from codomyrmex.logistics.orchestration.project.plan_optimiser import Found, SolverMissing, best_starts
from codomyrmex.logistics.orchestration.project.plan_problem import Limit, PlanProblem, Use
from codomyrmex.logistics.orchestration.project.plan_search import improved
from codomyrmex.logistics.orchestration.project.problem_making import problem_of

pytest.importorskip("ortools")


def problem_at_random(seed: int, *, jobs: int = 6, longest: int = 9, unit: int = 1) -> PlanProblem:
    random = Random(seed)
    durations = [random.randint(1, longest) * unit + random.randrange(max(1, unit // 3)) for _ in range(jobs)]
    after = [[before for before in range(job) if random.random() < 0.25] for job in range(jobs)]
    limits = [
        Limit(
            name=name,
            capacity=capacity,
            uses={job: Use(random.randint(1, capacity - 1), durations[job]) for job in range(jobs)},
        )
        for name, capacity in (("r1", 4), ("r2", 6))
    ]
    return PlanProblem(durations=durations, after=after, limits=limits)


def one_after_the_other(problem: PlanProblem) -> list[int]:
    return [sum(problem.durations[:job]) for job in range(len(problem))]


@pytest.mark.parametrize("seed", range(6))
def test_the_order_that_is_found_is_as_short_as_any(seed: int) -> None:
    problem = problem_at_random(seed)
    found = best_starts(problem, one_after_the_other(problem), budget_s=10, workers=1)
    assert found.optimal
    assert not breaches(problem, found.starts)
    assert problem.end(found.starts) == brute_force(problem)


@pytest.mark.parametrize("seed", range(6))
def test_the_solver_alone_finds_it_too(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plan_optimiser, "improved", lambda problem, starts, **_: list(starts))
    problem = problem_at_random(seed)
    found = best_starts(problem, one_after_the_other(problem), budget_s=10, workers=1)
    assert (found.optimal, problem.end(found.starts)) == (True, brute_force(problem))


@pytest.mark.parametrize("seed", range(4))
def test_the_search_alone_makes_nothing_longer_and_breaks_nothing(seed: int) -> None:
    problem = problem_at_random(seed, jobs=20)
    looks = iter(range(30))
    found = improved(
        problem, one_after_the_other(problem), seed=seed, going=lambda: next(looks, None) is not None
    )
    assert not breaches(problem, found)
    assert problem.end(found) < sum(problem.durations)


def test_an_answer_of_the_solver_that_is_longer_is_not_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    problem = problem_at_random(1)
    long = Found(starts=[each * 2 for each in one_after_the_other(problem)[::-1]], optimal=False)
    monkeypatch.setattr(plan_optimiser._Model, "solve", lambda model, **_: long)
    best = improved(problem, one_after_the_other(problem), seed=0, going=lambda: True)
    found = best_starts(problem, best, budget_s=10)
    assert problem.end(found.starts) == problem.end(best)


def test_ctrl_c_stops_the_solver_and_goes_on_its_way(monkeypatch: pytest.MonkeyPatch) -> None:
    from ortools.sat.python import cp_model

    stopped = Event()

    def solve(solver: object, model: object) -> int:
        os.kill(os.getpid(), signal.SIGINT)
        assert stopped.wait(10)
        return 0

    monkeypatch.setattr(plan_optimiser, "improved", lambda problem, starts, **_: list(starts))
    monkeypatch.setattr(cp_model.CpSolver, "solve", solve)
    monkeypatch.setattr(cp_model.CpSolver, "stop_search", lambda solver: stopped.set())
    problem = problem_at_random(0)
    with pytest.raises(KeyboardInterrupt):
        best_starts(problem, one_after_the_other(problem), budget_s=10)
    assert stopped.is_set()


def test_after_the_solver_ctrl_c_means_what_it_meant(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plan_optimiser, "improved", lambda problem, starts, **_: list(starts))
    problem = problem_at_random(0)
    best_starts(problem, one_after_the_other(problem), budget_s=10)
    with pytest.raises(KeyboardInterrupt):
        signal.raise_signal(signal.SIGINT)


@pytest.mark.parametrize("seed", range(3))
def test_schedules_in_coarse_time_that_was_rounded_up_hold_in_fine_time(seed: int) -> None:
    problem = problem_at_random(seed, jobs=15, unit=97)
    coarse = problem.rounded_up(50)
    starts = coarse.packed(coarse.order(coarse.heads))
    assert not breaches(problem, [start * 50 for start in starts])


def test_a_limit_binds_where_not_all_fit_side_by_side() -> None:
    uses = {0: Use(2, 5), 1: Use(2, 5)}
    assert not Limit(name="r", capacity=4, uses=uses).binds
    assert Limit(name="r", capacity=3, uses=uses).binds


@pytest.mark.parametrize("seed", range(3))
def test_times_that_have_no_common_unit_are_no_worse_for_the_rounding(seed: int) -> None:
    problem = problem_at_random(seed, unit=999_983)
    found = best_starts(problem, one_after_the_other(problem), budget_s=10, workers=1)
    assert found.optimal
    assert not breaches(problem, found.starts)
    assert problem.end(found.starts) <= brute_force(problem) * 1.001


def test_amounts_and_times_as_large_as_they_come_are_no_trouble() -> None:
    petabyte, month = 2**50 - 1, 30 * 86_400_000_000
    limit = Limit(
        name="disk", capacity=petabyte, uses={job: Use(petabyte // 3 + job, month + job) for job in range(5)}
    )
    problem = PlanProblem(durations=[month + job for job in range(5)], after=[()] * 5, limits=[limit])
    found = best_starts(problem, one_after_the_other(problem), budget_s=0.5, workers=1)
    assert not breaches(problem, found.starts)
    assert problem.end(found.starts) <= 3 * month + 10


@pytest.mark.parametrize("seed", range(8))
def test_filling_gaps_and_following_an_order_delay_nobody(seed: int) -> None:
    problem = problem_at_random(seed, jobs=25, unit=7)
    late = [2 * start + 9 for start in problem.starts_in(problem.order(problem.heads))]
    packed = problem.packed(problem.order(late))
    followed = problem.starts_in(problem.order(packed))
    for each in (late, packed, followed):
        assert not breaches(problem, each)
    assert all(map(int.__le__, packed, late))
    assert all(map(int.__le__, followed, packed))


# -- workflows -------------------------------------------------------------------------------------


def uneven() -> tuple[Site, list[dict[str, object]]]:
    """Five tasks on two CPUs: 6 s where `c` waits for a gap, 7 s by length alone."""
    site = Site(cpu=2, durations={"a": 2.0, "b": 2.0, "c": 2.0, "d": 3.0, "e": 3.0})
    return site, [step(name) for name in "abcde"]


def test_a_plan_says_what_it_gained_and_that_nothing_is_shorter() -> None:
    site, steps = uneven()
    run = site.run(steps)
    before, plan = site.plan(run), site.optimise(run)
    assert (before.duration_s, plan.duration_s) == (7.0, 6.0)
    assert (plan.method, plan.optimal, plan.unoptimised_s) == ("optimised", True, 7.0)
    assert plan.definition == run.workflow.hash
    assert [task.start_s for task in plan.tasks] == sorted(task.start_s for task in plan.tasks)
    assert next(bound.used for bound in plan.bounds if bound.name == "sys-compute") == pytest.approx(1.0)
    assert site.follow(run, plan)[0] == 6.0


def everything(seed: int, *, longer: int = 1) -> tuple[Site, list[dict[str, object]], dict[str, object]]:
    """A workflow at random with all that can hold a task up."""
    random = Random(seed)
    durations = {
        name: longer * random.uniform(0.5, 9) for name in (*(f"s{at}" for at in range(24)), "report", "tidy")
    }
    steps = []
    for number in range(24):
        parents = [f"s{each}" for each in range(max(0, number - 9), number) if random.random() < 0.12]
        more: dict[str, object] = {"resources": {"cpu": random.choice([1, 1, 2])}}
        kind = random.randrange(8)
        if kind == 0:
            more = {"foreach": [*range(random.randint(2, 6))], "max_parallel": 3, **more}
        elif kind == 1:
            more = {"resources": {"gpu": random.choice([1, 1, 2])}}
        elif kind == 2:
            more = {"resources": {"cpu": 0, "licence": random.randint(1, 2)}}
        elif kind == 3:
            more = {"sleep": random.randint(1, 9)}
        elif kind == 4:
            more = {"resources": {"calls": 1}}
        steps.append(step(f"s{number}", *parents, **more))
    site = Site(
        cpu=4,
        gpus=2,
        named=[resource("licence", 2), quota("calls", 1, per_s=3)],
        workers=5,
        durations=durations,
    )
    last = {"finally": [step("report"), step("tidy")], "max_parallel": 4}
    return site, steps, last


@pytest.mark.parametrize("seed", range(4))
def test_the_plan_of_the_admission_keeps_every_limit_that_the_solver_is_told(seed: int) -> None:
    site, steps, last = everything(seed)
    run = site.run(steps, **last)
    stated = problem_of(site.plan(run), run, site.named)
    assert not breaches(stated.problem, stated.starts)


@pytest.mark.parametrize(("seed", "longer"), [(0, 1), (1, 1), (2, 1000), (3, 1000)])
def test_a_run_that_follows_begins_each_task_when_the_plan_says(seed: int, longer: int) -> None:
    site, steps, last = everything(seed, longer=longer)
    run = site.run(steps, **last)
    before, plan = site.plan(run), site.optimise(run, budget_s=0.3)
    assert plan.duration_s <= before.duration_s
    assert {task.task for task in plan.tasks} == {task.task for task in before.tasks}
    end_s, begun = site.follow(run, plan)
    assert end_s == pytest.approx(plan.duration_s, abs=1e-6)
    planned = {task.task: task.start_s for task in plan.tasks if task.slot}
    assert {name: begun[name] for name in planned} == pytest.approx(planned, abs=1e-6)


def test_what_a_run_waits_for_is_in_the_plan_of_a_child_run_too() -> None:
    inner = [step("fetch"), step("build", "fetch", resources={"cpu": 2})]
    site = Site(cpu=2, durations={"fetch": 2.0, "build": 3.0, "first": 1.0, "last": 1.0, "other": 4.0})
    steps = [
        step("first"),
        step("deploy", "first", workflow="child", foreach=[1, 2, 3]),
        step("last", "deploy"),
        step("other"),
    ]
    run = site.run(steps, children={"child": inner})
    before, plan = site.plan(run), site.optimise(run)
    stated = problem_of(before, run)
    assert not breaches(stated.problem, stated.starts)
    ends = {task.task: task.end_s for task in plan.tasks}
    starts = {task.task: task.start_s for task in plan.tasks}
    assert starts["deploy[1]/fetch"] >= ends["first"]
    assert starts["deploy[2]/build"] >= ends["deploy[2]/fetch"]
    assert starts["last"] >= max(ends[f"deploy[{item}]/build"] for item in range(3))
    assert ends["deploy[0]"] == ends["deploy[0]/build"]
    assert plan.duration_s <= before.duration_s


def test_no_more_child_runs_are_open_than_the_step_allows() -> None:
    site = Site(cpu=8, durations={"work": 2.0, "rest": 1.0, "big": 5.0})
    steps = [
        step("each", workflow="child", foreach=[*range(6)], max_parallel=2),
        step("big", resources={"cpu": 7}),
    ]
    run = site.run(steps, children={"child": [step("work", resources={"cpu": 2}), step("rest", "work")]})
    plan = site.optimise(run, budget_s=1)
    spans = [(task.start_s, task.end_s) for task in plan.tasks if task.step == "each"]
    assert len(spans) == 6
    assert all(sum(begin <= start < end for begin, end in spans) <= 2 for start, _ in spans)


def test_a_child_run_has_no_more_tasks_at_once_than_its_definition_allows() -> None:
    site = Site(cpu=8, durations={"a": 2.0, "b": 3.0, "c": 4.0, "big": 5.0})
    child = {"steps": [step(name) for name in "abc"], "max_parallel": 1}
    run = site.run(
        [step("call", workflow="child"), step("big", resources={"cpu": 7})], children={"child": child}
    )
    plan = site.optimise(run, budget_s=1)
    inner = sorted((task.start_s, task.end_s) for task in plan.tasks if "/" in task.task)
    assert all(first[1] <= then[0] for first, then in pairwise(inner))


def test_nothing_is_said_to_be_proved_of_a_problem_that_is_narrower_than_the_run() -> None:
    site = Site(
        cpu=4, named=[quota("calls", 2, per_s=10, burst=3)], durations={f"s{at}": 1.0 + at for at in range(6)}
    )
    run = site.run([step(f"s{at}", resources={"calls": 1, "cpu": 1}) for at in range(6)])
    stated = problem_of(site.plan(run), run, site.named)
    assert not stated.exact
    plan = site.optimise(run, budget_s=0.5)
    assert not plan.optimal
    assert site.follow(run, plan)[0] <= plan.duration_s + 1e-6


def test_equal_items_are_planned_in_the_order_of_their_numbers() -> None:
    site = Site(cpu=3, durations={"each": 2.0, "long": 5.0, "end": 1.0})
    steps = [step("each", foreach=[*range(7)]), step("long"), step("end", "long", resources={"cpu": 3})]
    plan = site.optimise(site.run(steps))
    starts = {task.task: task.start_s for task in plan.tasks}
    items = [starts[f"each[{number}]"] for number in range(7)]
    assert all(first <= then for first, then in pairwise(items))


def test_without_the_solver_the_error_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    site, steps = uneven()
    run = site.run(steps)
    monkeypatch.setitem(sys.modules, "ortools.sat.python", None)
    with pytest.raises(SolverMissing, match="not installed") as caught:
        site.optimise(run)
    assert "pip install 'codomyrmex[plan]'" in str(caught.value.hint)


def test_a_plan_that_cannot_be_shorter_needs_no_solver(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ortools.sat.python", None)
    site = Site(cpu=2, durations={"a": 1.0, "b": 2.0, "c": 2.0})
    run = site.run([step("a"), step("b", "a"), step("c", "b")])
    plan = site.optimise(run)
    assert (plan.duration_s, plan.optimal, plan.unoptimised_s) == (5.0, True, 5.0)


def test_a_solver_that_finds_nothing_in_time_leaves_the_plan_as_it_is() -> None:
    site, steps = uneven()
    run = site.run(steps)
    before, plan = site.plan(run), site.optimise(run, budget_s=0)
    assert plan.duration_s == before.duration_s
    assert not plan.optimal
