"""Plans of workflows: when each task begins, what no order can beat, and what is said to be taken so."""

from __future__ import annotations

import resource as usage
from collections.abc import Iterable, Sequence
from dataclasses import replace
from random import Random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from planned_runs import Site, quota, resource, step

from codomyrmex.logistics.orchestration.project.expectations import Expectation, Expectations
from codomyrmex.logistics.orchestration.project.plan_store import order_of
from codomyrmex.logistics.orchestration.project.run_state import RunState
from codomyrmex.logistics.orchestration.project.workflow_plan import PlannedTask, WorkflowPlan

ROUNDED_S = 1e-6
Steps = list[dict[str, Any]]
SECONDS = {"a": 1.0, "b": 2.0, "c": 3.0, "d": 4.0}
KID: dict[str, Any] = {"steps": [step("c"), step("d", "c")]}


def site(**more: Any) -> Site:
    return Site(**{"cpu": 2, "durations": SECONDS, **more})


def times(plan: WorkflowPlan) -> dict[str, tuple[float, float]]:
    return {task.task: (task.start_s, task.end_s) for task in plan.tasks}


def least_s(plan: WorkflowPlan) -> dict[str, float]:
    return {bound.name: bound.least_s for bound in plan.bounds}


def critical(plan: WorkflowPlan) -> list[str]:
    return [task.task for task in plan.tasks if task.critical]


# -- when tasks begin ------------------------------------------------------------------------------


def test_steps_that_are_skipped_are_in_no_plan_and_on_no_path() -> None:
    run = site().run(
        [step("a"), step("d", "a", run_if="false"), step("b", "d"), step("c", "b", trigger_rule="all_done")]
    )
    plan = site().plan(run)
    assert times(plan) == {"a": (0.0, 1.0), "c": (1.0, 4.0)}
    assert (plan.critical_path, plan.critical_path_s, plan.complete) == (("a", "c"), 4.0, True)


def test_a_workflow_of_which_nothing_runs_has_an_empty_plan() -> None:
    run = site().run([step("a", run_if="false"), step("b", "a"), step("c", foreach=[])])
    plan = site().plan(run, simulations=3)
    assert (plan.tasks, plan.duration_s, plan.critical_path, plan.complete) == ((), 0.0, (), True)
    assert plan.spread is not None
    assert plan.expected_s == 0.0
    assert not plan.assumptions


def test_what_follows_when_all_went_well_is_planned_and_what_follows_a_failure_is_not() -> None:
    run = site().run([step("a")], on_failure=[step("b")], **{"finally": [step("d"), step("c", "d")]})
    plan = site().plan(run)
    assert times(plan) == {"a": (0.0, 1.0), "d": (1.0, 5.0), "c": (5.0, 8.0)}
    assert plan.critical_path == ("a", "d", "c")
    assert plan.bound is not None
    assert (plan.bound.name, plan.bound.least_s) == ("critical path", 8.0)


def test_tasks_that_take_no_time_begin_where_those_before_them_end() -> None:
    none = site(durations={**SECONDS, "b": 0.0})
    plan = none.plan(none.run([step("a"), step("b", "a"), step("c", "b")]))
    assert times(plan) == {"a": (0.0, 1.0), "b": (1.0, 1.0), "c": (1.0, 4.0)}
    nothing = site(durations={"a": 0.0, "b": 0.0})
    plan = nothing.plan(nothing.run([step("a"), step("b", "a")]), simulations=2)
    assert (plan.duration_s, plan.expected_s, len(plan.tasks)) == (0.0, 0.0, 2)
    assert all(bound.used in (None, 0.0) for bound in plan.bounds)


def test_the_tasks_of_a_plan_stand_in_the_order_in_which_they_begin() -> None:
    plan = site().plan(site().run([step("d", priority="low"), step("a"), step("b"), step("c")]))
    assert [task.start_s for task in plan.tasks] == sorted(task.start_s for task in plan.tasks)
    together = site(cpu=4).plan(
        site().run([step("d", priority="low"), step("a"), step("b", priority="high")])
    )
    assert list(together.order) == ["b", "a", "d"], "of those that begin together the first to go is first"


# -- runs that steps start --------------------------------------------------------------------------


def test_the_tasks_of_children_of_children_have_their_places_in_their_names() -> None:
    middle = {"steps": [step("a"), step("deep", "a", workflow="kid")], "children": {"kid": KID}}
    run = site().run([step("go", workflow="middle"), step("b", "go")], children={"middle": middle})
    plan = site().plan(run)
    assert times(plan) == {
        "go": (0.0, 8.0),
        "go/a": (0.0, 1.0),
        "go/deep": (1.0, 8.0),
        "go/deep/c": (1.0, 4.0),
        "go/deep/d": (4.0, 8.0),
        "b": (8.0, 10.0),
    }
    assert (plan.critical_path, plan.critical_path_s) == (("go", "b"), 10.0)
    assert set(critical(plan)) == set(times(plan))


def test_waiting_for_a_cpu_in_a_child_run_is_no_part_of_the_critical_path() -> None:
    run = site(cpu=1).run([step("go", workflow="kid")], children={"kid": [step("c"), step("d")]})
    plan = site(cpu=1).plan(run)
    assert (plan.duration_s, plan.critical_path_s, plan.bounds[0].name) == (7.0, 4.0, "sys-compute")
    assert critical(plan) == ["go", "go/d"]


def test_of_a_fan_out_of_child_runs_so_many_are_open_as_the_step_allows() -> None:
    run = site(cpu=8).run(
        [step("a"), step("go", "a", workflow="kid", foreach=[1, 2, 3], max_parallel=2), step("b", "go")],
        children={"kid": KID},
    )
    plan = site(cpu=8).plan(run)
    assert times(plan)["go[2]"] == (8.0, 15.0)
    assert plan.duration_s == 17.0
    assert (plan.critical_path, plan.critical_path_s) == (("a", "go", "b"), 10.0)
    assert least_s(plan)["max_parallel of go"] == 10.5


def test_sixteen_child_runs_are_open_where_the_step_says_nothing() -> None:
    run = site(cpu=64).run([step("go", workflow="kid", foreach=[*range(17)])], children={"kid": [step("a")]})
    plan = site(cpu=64).plan(run)
    assert (plan.duration_s, least_s(plan)["max_parallel of go"]) == (2.0, 17 / 16)


def test_a_child_run_of_which_nobody_knows_the_parameters_lasts_as_long_as_its_path() -> None:
    kid = {"steps": [step("c"), step("on", workflow="low")], "finally": [step("d")], "children": {"low": KID}}
    kid["parameters"] = {"x": {"type": "integer"}}
    go = step("go", "a", workflow="kid", parameters={"x": "${steps.a.output}"})
    plan = site().plan(site().run([step("a"), go], children={"kid": kid}))
    assert times(plan)["go"] == (1.0, 12.0), "the path of `low` is 7 s, then `d` takes 4"
    assert "the run that go starts lasts 11 s, its longest path: its parameters come from results" in (
        plan.assumptions
    )
    known = Expectations(runs={"kid": Expectation(20.0, 30.0)})
    plan = site().plan(site().run([step("a"), go], children={"kid": kid}), learned=known)
    assert times(plan)["go"] == (1.0, 21.0)
    assert any("as before" in sentence for sentence in plan.assumptions)


# -- what no order can beat --------------------------------------------------------------------------


def test_the_last_call_of_a_quota_need_not_be_paid_for() -> None:
    calls = site(cpu=9, durations={f"s{at}": 0.1 for at in range(6)}, named=[quota("calls", 3, per_s=10)])
    plan = calls.plan(calls.run([step(f"s{at}", resources={"calls": 1}) for at in range(6)]))
    assert least_s(plan)["calls"] == pytest.approx(5 * 10 / 3)
    assert least_s(plan)["calls"] <= plan.duration_s
    burst = replace(calls, named=[quota("calls", 3, per_s=10, burst=4)])
    plan = burst.plan(burst.run([step(f"s{at}", resources={"calls": 1}) for at in range(6)]))
    assert least_s(plan)["calls"] == pytest.approx(2 * 10 / 3)
    assert least_s(plan)["calls"] <= plan.duration_s


def test_sleeps_of_which_only_some_go_side_by_side_are_a_bound() -> None:
    plan = site().plan(site().run([step("nap", sleep="3s", foreach=[1, 2, 3], max_parallel=2)]))
    assert (plan.duration_s, plan.critical_path_s, least_s(plan)["max_parallel of nap"]) == (6.0, 3.0, 4.5)


def test_a_cap_on_the_run_holds_it_up() -> None:
    plan = site().plan(site().run([step(name) for name in "abcd"], max_parallel=1))
    assert plan.bound is not None
    assert (plan.bound.name, plan.bound.least_s, plan.bound.used, plan.duration_s) == (
        "max_parallel",
        10.0,
        1.0,
        10.0,
    )


def requests() -> st.SearchStrategy[dict[str, Any]]:
    return st.fixed_dictionaries(
        {"cpu": st.sampled_from([0, 0.5, 1, 1, 2, 3])},
        optional={
            "licence": st.sampled_from([1, 2]),
            "calls": st.integers(1, 2),
            "even": st.just(1),
            "gpu": st.sampled_from([0.4, 1, 2]),
        },
    )


@st.composite
def steps(draw: st.DrawFn, letter: str, at_most: int, kinds: list[str]) -> Steps:
    """Steps of every kind that needs no results."""
    found: Steps = []
    for at in range(draw(st.integers(1, at_most))):
        name = f"{letter}{at}"
        parents = draw(st.lists(st.sampled_from([each["name"] for each in found]), max_size=2, unique=True)
                       if found else st.just([]))  # fmt: skip
        kind = draw(st.sampled_from(["work"] * 4 + kinds))
        if kind == "work":
            made = step(name, *parents, resources=draw(requests()))
            made["priority"] = draw(st.sampled_from(["low", "normal", "high"]))
        elif kind == "sleep":
            made = step(name, *parents, sleep=draw(st.sampled_from([0, 0.25, 3])))
        else:
            made = step(name, *parents, workflow=kind)
        made["trigger_rule"] = draw(
            st.sampled_from(["all_success", "all_success", "all_done", "one_success"])
        )
        if draw(st.integers(0, 5)) == 0:
            made["run_if"] = draw(st.sampled_from(["true", "false"]))
        if draw(st.integers(0, 2)) == 0:
            made["foreach"] = [*range(draw(st.integers(0, 5)))]
            if draw(st.booleans()):
                made["max_parallel"] = draw(st.integers(1, 3))
        found.append(made)
    return found


@st.composite
def workflows(draw: st.DrawFn, *, children: bool = True) -> dict[str, Any]:
    """A list of steps and what else a document may say, with children of children."""
    low = {"steps": draw(steps("l", 3, ["sleep"]))}
    kid: dict[str, Any] = {"steps": draw(steps("k", 3, ["sleep", "low"])), "children": {"low": low}}
    found: dict[str, Any] = {
        "steps": draw(steps("s", 8, ["sleep", "kid"] if children else ["sleep"])),
        "children": {"kid": kid, "low": low},
    }
    for document in (found, kid):
        if draw(st.integers(0, 2)) == 0:
            document["max_parallel"] = draw(st.integers(1, 3))
        if draw(st.integers(0, 2)) == 0:
            letter = "f" if document is found else "h"
            document["finally"] = draw(steps(letter, 2, ["sleep"]))
    return found


SOME_SECONDS = st.sampled_from([0.0, 4e-7, 0.001, 0.3, 1.0, 1 / 3, 7.7])


@st.composite
def sites(draw: st.DrawFn) -> Site:
    names = [f"{letter}{at}" for letter in "skflh" for at in range(8)]
    return Site(
        cpu=draw(st.sampled_from([3, 4.5, 8])),
        gpus=2,
        named=[resource("licence", 2), quota("calls", 3, per_s=10, burst=4), quota("even", 7, per_s=1)],
        workers=draw(st.sampled_from([1, 3, 64])),
        durations={name: draw(SOME_SECONDS) for name in names},
    )


def most_at_once(tasks: Iterable[tuple[PlannedTask, float]]) -> float:
    """The most that tasks hold at one instant; `tasks` with how much each holds."""
    changes = [(task.end_s, 0, -amount) for task, amount in tasks if task.end_s > task.start_s]
    changes += [(task.start_s, 1, amount) for task, amount in tasks if task.end_s > task.start_s]
    held = most = 0.0
    for _at_s, _kind, amount in sorted(changes):
        held += amount
        most = max(most, held)
    return most


def check(plan: WorkflowPlan, machine: Site) -> None:
    """What is true of every plan."""
    assert plan.complete, plan.assumptions
    for bound in plan.bounds:
        assert bound.least_s <= plan.duration_s + ROUNDED_S, bound
        assert bound.used is None or 0 <= bound.used <= 1
    assert [task.start_s for task in plan.tasks] == sorted(task.start_s for task in plan.tasks)
    for task in plan.tasks:
        assert 0 <= task.ready_s <= task.start_s <= task.end_s <= plan.duration_s, task
    slots = [task for task in plan.tasks if task.slot]
    assert most_at_once([(task, 1.0) for task in slots]) <= machine.workers
    for id, capacity in plan.capacities.items():
        assert most_at_once([(task, task.request.get(id, 0)) for task in slots]) <= capacity, id
    on_path = {task.step for task in plan.tasks if task.critical and "/" not in task.step}
    assert on_path == set(plan.critical_path)


@given(document=workflows(), machine=sites())
@settings(max_examples=60)
def test_no_plan_beats_its_bounds_or_holds_more_than_there_is(
    document: dict[str, Any], machine: Site
) -> None:
    run = machine.run(**document)
    plan = machine.plan(run, simulations=2)
    check(plan, machine)
    assert plan.spread is not None
    assert plan.spread.p10_s <= plan.expected_s <= plan.spread.p90_s
    assert plan.expected_s == plan.duration_s, "nothing varies here"
    assert (run.status.value, len(run)) == ("pending", run.step_count), "the run itself is left as it was"


def order_by_lot(run: RunState, names: Sequence[str], chance: Random) -> list[str]:
    """The tasks in any order in which each stands behind those it depends on."""
    workflow = run.workflow
    wishes = [chance.random() for _ in workflow.names]
    for number in workflow.graph.order():
        wishes[number] = max(
            [wishes[number], *(wishes[each] + 1e-9 for each in workflow.graph.parents(number))]
        )

    def place(name: str) -> tuple[int, float, float]:
        number = workflow.index[name.partition("[")[0]]
        return workflow.phase_of(number), wishes[number], chance.random()

    return sorted(names, key=place)


@given(document=workflows(children=False), machine=sites(), chance=st.randoms(use_true_random=False))
@settings(max_examples=40)
def test_a_run_that_follows_a_plan_begins_each_task_no_later(
    document: dict[str, Any], machine: Site, chance: Random
) -> None:
    run = machine.run(**document)
    plan = machine.plan(run)
    any_plan = machine.plan(run, follow=tuple(order_by_lot(run, order_of(plan), chance)))
    check(any_plan, machine)
    followed = times(machine.plan(run, follow=order_of(any_plan)))
    late = {name: span for name, span in times(any_plan).items() if followed[name] > span}
    assert not late, f"{late} were planned, {followed} is what happens"


# -- what is taken to be so ---------------------------------------------------------------------------


def test_what_reads_results_is_taken_to_go_well_and_that_is_said() -> None:
    run = site().run(
        [
            step("a"),
            step("b", "a", foreach="${steps.a.output}"),
            step("c", "b", run_if="steps.b.output == [3]"),
            step("d", "c", run_if="steps.c.output == 3"),
            step("ok", "d", approval="well?"),
            step("sent", "d", wait_for={"signal": "go"}),
            step("nap", "d", sleep="${steps.a.output}s"),
        ]
    )
    plan = site().plan(run)
    assert plan.complete
    assert times(plan)["d"] == (6.0, 10.0)
    assert plan.assumptions == (
        "the conditions of c and d hold: they read what earlier steps return",
        "b has 1 item, which is a guess: how many is a result of earlier steps",
        "the answer to ok takes no time",
        "the signal for sent takes no time",
        "the sleep nap takes no time: it is worked out from results",
    )
    learned = Expectations(items={("planned", "b"): 4.0}, steps={("planned", "ok"): Expectation(60.0, 90.0)})
    plan = site(cpu=9).plan(run, learned=learned)
    assert len([task for task in plan.tasks if task.step == "b"]) == 4
    assert "b has 4 items, as before: how many is a result of earlier steps" in plan.assumptions
    assert "the answer to ok lasts 60 s, as before" in plan.assumptions
    assert {task.step for task in plan.tasks if not task.known} == {"sent", "nap"}


def test_only_guesses_of_steps_that_run_are_told() -> None:
    some = site(durations={"a": 5.0})
    plan = some.plan(some.run([step("a"), step("b", "a", run_if="false"), step("x", "a")]))
    assert plan.assumptions == ("nothing is known of x: 5 s",)
    assert [task.task for task in plan.tasks if not task.known] == ["x"]


def test_nothing_of_a_sleep_or_a_child_run_is_a_guess() -> None:
    run = site().run(
        [step("nap", sleep="${item}s", foreach=[1, 2]), step("go", workflow="kid")], children={"kid": KID}
    )
    plan = site().plan(run)
    assert all(task.known for task in plan.tasks)
    assert [task.end_s for task in plan.tasks if task.step == "nap"] == [1.0, 2.0]


def test_a_run_that_takes_longer_than_its_timeout_is_planned_to_its_end_and_told() -> None:
    run = site().run([step("a"), step("d", "a")], timeout_s=2)
    plan = site().plan(run)
    assert (plan.duration_s, plan.complete) == (5.0, False)
    assert plan.assumptions[0] == "the run would be ended by its timeout after 2 s"
    assert site().plan(site().run([step("a"), step("d", "a")], timeout_s=9)).complete


def test_tasks_and_child_runs_that_take_longer_than_their_timeouts_are_told_too() -> None:
    kid = {**KID, "timeout_s": 6}
    run = site().run([step("d", timeout_s=3), step("go", workflow="kid")], children={"kid": kid})
    plan = site().plan(run)
    assert not plan.complete
    assert plan.assumptions == (
        "d would be ended by its timeout after 3 s: it takes 4 s",
        "go would be ended by its timeout after 6 s: it takes 7 s",
    ) or plan.assumptions == (
        "go would be ended by its timeout after 6 s: it takes 7 s",
        "d would be ended by its timeout after 3 s: it takes 4 s",
    )
    assert max(task.end_s for task in plan.tasks) == 7.0
    many = site(durations={"many": 4.0}).run([step(f"s{at}", timeout_s=0.5) for at in range(9)])
    assert "6 more steps take longer than their timeouts" in site().plan(many).assumptions


def test_a_resource_that_is_offline_is_taken_to_be_back_and_that_is_said() -> None:
    here = site(named=[replace(resource("licence", 1), offline=True, used=1)])
    run = here.run(
        [step("go", workflow="kid")], children={"kid": [step("a", resources={"licence": 1}), step("b")]}
    )
    plan = here.plan(run)
    assert (plan.complete, plan.duration_s) == (True, 2.0)
    assert plan.assumptions == ("licence is back in service: it is offline now",)


def test_what_is_never_given_is_told_and_the_rest_is_planned() -> None:
    few = site(named=[resource("licence", 1)])
    plan = few.plan(few.run([step("b", resources={"licence": 2}), step("a"), step("c", "b")]))
    assert (plan.complete, list(plan.order)) == (False, ["a"])
    assert plan.assumptions == ("the run never ends: b asks for more than there is",)


def test_an_expression_that_fails_is_told_with_the_task_that_it_fails() -> None:
    number = {"x": {"type": "integer", "default": 5}}
    bad = step("b", "a", run_if="len(parameters.x) > 0")
    plan = site().plan(site().run([step("a"), bad, step("c", "b")], parameters=number))
    assert (plan.complete, list(plan.order), plan.critical_path) == (False, ["a"], ("a",))
    assert plan.assumptions[0].startswith("the run fails: b: len() wants a list")
    plan = site().plan(site().run([step("a", foreach="${parameters.x}")], parameters=number))
    assert plan.assumptions[0] == "the run fails: a: foreach wants a list, got int"
    kid = {"steps": [step("a"), bad], "parameters": number}
    plan = site().plan(site().run([step("go", workflow="kid", parameters={"x": 5})], children={"kid": kid}))
    assert plan.assumptions[0].startswith("the run fails: go/b: len() wants a list")


def test_a_step_with_a_cache_is_planned_as_if_nothing_were_in_it() -> None:
    plan = site().plan(site().run([step("a", cache=True), step("b", "a")]))
    assert times(plan) == {"a": (0.0, 1.0), "b": (1.0, 3.0)}


def test_a_child_that_two_steps_start_is_told_of_once() -> None:
    inner = [step("x"), step("y", "x", run_if="steps.x.output")]
    run = site().run(
        [step("one", workflow="kid"), step("two", workflow="kid"), step("up", workflow="middle")],
        children={
            "kid": inner,
            "middle": {"steps": [step("in", workflow="kid")], "children": {"kid": inner}},
        },
    )
    sentences = site().plan(run).assumptions
    assert len(set(sentences)) == len(sentences)
    assert "in kid: the condition of y holds: it reads what earlier steps return" in sentences


# -- the spread of the end ----------------------------------------------------------------------------


def uneven(count: int) -> tuple[Steps, Expectations]:
    steps: Steps = [step("each", foreach=[*range(count)])]
    return steps, Expectations(steps={("planned", "each"): Expectation(1.0, 3.0)})


@pytest.mark.parametrize("simulations", [1, 2, 3, 10, 50])
def test_the_expected_end_lies_in_its_spread(simulations: int) -> None:
    steps, learned = uneven(100)
    wide = site(cpu=100, durations={}, workers=100)
    plan = wide.plan(wide.run(steps), learned=learned, simulations=simulations)
    spread = plan.spread
    assert spread is not None
    assert (plan.duration_s, spread.simulations) == (1.0, simulations)
    assert spread.p10_s <= plan.expected_s <= spread.p90_s
    assert plan.expected_s > 2, "of a hundred side by side the slowest counts"
    assert spread.p90_s < 15, "and no draw is beyond what is likely"


def test_equal_seeds_give_equal_spreads() -> None:
    steps, learned = uneven(20)
    plans = [site().plan(site().run(steps), learned=learned, simulations=20, seed=seed) for seed in (1, 1, 2)]
    assert plans[0].spread == plans[1].spread != plans[2].spread


# -- orders that a solver found, as they go in a run ----------------------------------------------------


def test_an_optimised_plan_with_child_runs_says_what_a_run_that_follows_it_does() -> None:
    pytest.importorskip("ortools")
    narrow = Site(cpu=2, durations={"x": 2.0, "y": 1.0, "z": 3.0, "b": 2.0, "long": 4.0, "end": 3.0})
    kid = [step("x"), step("y", "x"), step("z", "x", resources={"cpu": 2})]
    steps = [
        *(step(f"go{at}", workflow="kid") for at in range(3)),
        step("b", "go0"),
        step("long"),
        step("end", "b"),
    ]
    run = narrow.run(steps, children={"kid": kid})
    before, plan = narrow.plan(run), narrow.optimise_and_follow(run, budget_s=1)
    assert plan.method == "optimised"
    assert plan.duration_s <= before.duration_s
    assert plan.assumptions[-1].startswith("the tasks of runs that steps start go in the usual order")
    again = narrow.plan(run, follow=order_of(plan))
    assert (times(again), again.duration_s) == (times(plan), plan.duration_s)


def test_an_optimised_plan_keeps_to_quotas_and_to_tasks_of_no_time_to_the_microsecond() -> None:
    pytest.importorskip("ortools")
    here = Site(
        cpu=2,
        named=[quota("calls", 3, per_s=10, burst=5)],
        durations={"a": 2.0, "b": 2.0, "c": 2.0, "d": 3.0, "e": 3.0, "none": 0.0, "last": 0.0},
    )
    steps = [
        *(step(name, resources={"cpu": 1, "calls": 1}) for name in "abcde"),
        step("none"),
        step("last", "none"),
    ]
    run = here.run(steps)
    plan = here.optimise_and_follow(run, budget_s=1)
    assert plan.duration_s < here.plan(run).duration_s
    assert all(task.duration_s == 0 for task in plan.tasks if task.step in ("none", "last"))
    assert here.follow(run, plan)[0] == plan.duration_s


def test_the_admissions_plan_stays_where_the_order_that_was_found_gains_nothing_in_a_run() -> None:
    pytest.importorskip("ortools")
    run = site().run([step("a"), step("b", "a"), step("c", "b")])
    plan = site().optimise_and_follow(run)
    assert (plan.method, plan.optimal, plan.unoptimised_s) == ("optimised", True, 6.0)
    assert times(plan) == times(site().plan(run))


# -- large ones --------------------------------------------------------------------------------------


def test_ten_thousand_items_take_no_more_than_their_share_of_memory() -> None:
    before_kib = usage.getrusage(usage.RUSAGE_SELF).ru_maxrss
    wide = Site(cpu=8, durations={"each": 0.01, "end": 1.0})
    plan = wide.plan(wide.run([step("each", foreach=[*range(10_000)]), step("end", "each")]))
    assert (len(plan.tasks), plan.duration_s) == (10_001, pytest.approx(13.5))
    assert usage.getrusage(usage.RUSAGE_SELF).ru_maxrss - before_kib < 60_000


def test_a_run_that_starts_runs_of_runs_by_the_hundred_is_planned() -> None:
    low = [step("c")]
    kid = {"steps": [step("down", workflow="low")], "children": {"low": low}}
    wide = Site(cpu=8, durations={"c": 1.0})
    plan = wide.plan(
        wide.run([step("go", workflow="kid", foreach=[*range(400)], max_parallel=8)], children={"kid": kid})
    )
    assert (len(plan.tasks), plan.duration_s) == (1200, 50.0)


@pytest.mark.reliability
def test_a_workflow_of_a_hundred_thousand_steps_is_planned() -> None:
    count, random = 100_000, Random(1)
    wide = Site(cpu=8, durations={f"s{at}": random.uniform(0, 9) for at in range(count)})
    steps = [
        step(
            f"s{at}",
            *{f"s{random.randrange(max(0, at - 50), at)}" for _ in range(2) if at},
            resources={"cpu": random.choice([1, 1, 2, 4])},
        )
        for at in range(count)
    ]
    plan = wide.plan(wide.run(steps))
    assert len(plan.tasks) == count
    check(plan, wide)
