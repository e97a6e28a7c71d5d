"""A run whose tasks take as long as was planned does what was planned, to the microsecond: `clockwork_engine`."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from random import Random
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from clockwork_engine import START_US, Clockwork, equal_lines, simulated, step, twin, workflow
from hypothesis import given, settings
from hypothesis import strategies as st

from codomyrmex.logistics.orchestration.project.expectations import Expectations
from codomyrmex.logistics.orchestration.project.order_policy import OrderPolicy
from codomyrmex.logistics.orchestration.project.plan_optimiser import _planned as planned_tasks
from codomyrmex.logistics.orchestration.project.plan_optimiser import optimise
from codomyrmex.logistics.orchestration.project.problem_making import problem_of
from codomyrmex.logistics.orchestration.project.resources import Resource
from codomyrmex.logistics.orchestration.project.run_state import RunState
from codomyrmex.logistics.orchestration.project.states import OrchestrationMode, ResourceType
from codomyrmex.logistics.orchestration.project.workflow_plan import WorkflowPlan

GIB = 2**30
Document = dict[str, Any]


def of_step(task: str) -> str:
    return task.partition("[")[0]


class Lasting:
    """How long tasks take, by task, by step, or by `workflow/step`; what is not named takes a second."""

    def __init__(self, seconds: Mapping[str, float]) -> None:
        self.by_name = dict(seconds)

    def __call__(self, name: str, task: str) -> float:
        for key in (task, f"{name}/{of_step(task)}", of_step(task)):
            if key in self.by_name:
                return self.by_name[key]
        return 1.0

    def expectations(self, run: RunState) -> Expectations:
        """What somebody knows who has seen these."""
        known = {
            f"{each.name}/{name}": self(each.name, name)
            for each in workflows_below(run)
            for step, name in enumerate(each.names)
            if step not in each.waiting
        }
        return Expectations.with_given(known)

    def medians(self, run: RunState) -> list[float]:
        return [each.median_s for each in self.expectations(run).of_steps(run.workflow)]


def workflows_below(run: RunState) -> Iterator[Any]:
    def below(children: Mapping[str, Any]) -> Iterator[Any]:
        for child in children.values():
            yield child.workflow
            yield from below(child.children)

    yield run.workflow
    yield from below(run.children)


def clockwork(seconds: Mapping[str, float], **more: Any) -> Clockwork:
    lasting = Lasting(seconds)
    return Clockwork(lasting, durations=lasting.medians, **more)


def goes_as_simulated(
    documents: Document | Sequence[Document],
    seconds: Mapping[str, float],
    *,
    others: Sequence[Document] = (),
    **more: Any,
) -> int:
    """Runs it both ways and compares; returns how many lines the journals have. `others` are known by name."""
    wanted = [documents] if isinstance(documents, dict) else documents
    with clockwork(seconds, **more) as engine:
        make_known(engine, others)
        engine.start_together([(each, {}) for each in wanted])
        engine.finish()
        simulation = engine.simulation()
        simulation.run()
        happened = engine.journal()
        equal_lines(happened, simulated(simulation))
    return sum(map(len, happened.values()))


def make_known(engine: Clockwork, documents: Sequence[Document]) -> None:
    with TemporaryDirectory() as folder:
        for document in documents:
            file = Path(folder) / f"{document['name']}.json"
            file.write_text(json.dumps(document))
            engine.engine.workflows.load_workflow(file)


def licence(capacity: float) -> Resource:
    return Resource(id="licence", name="licence", type=ResourceType.CUSTOM, capacity=capacity)


def quota(per_s: float, capacity: float, burst: float | None = None) -> Resource:
    return Resource(
        id="calls", name="calls", type=ResourceType.API_QUOTA, capacity=capacity, per_s=per_s, burst=burst
    )


DIAMOND = workflow([step("a"), step("b", "a"), step("c", "a"), step("d", "b", "c")])
FAN_OUT = workflow([step("a"), step("b", "a", foreach=list(range(13))), step("c", "b")])
CAPPED = workflow(
    [
        *(step(f"s{at}") for at in range(6)),
        step("narrow", foreach=list(range(7)), max_parallel=2, resources={"cpu": 0.5}),
        step("end", "narrow", "s0"),
    ],
    max_parallel=3,
)
PROCESS = {"isolation": "process"}
MIXED = workflow(
    [
        *(step(f"big{at}", **PROCESS, resources={"cpu": 1, "memory": "3GiB"}) for at in range(4)),
        *(step(f"wide{at}", resources={"cpu": 3}) for at in range(3)),
        *(step(f"device{at}", **PROCESS, resources={"cpu": 1, "gpu": 1}) for at in range(4)),
        *(step(f"half{at}", **PROCESS, resources={"cpu": 0.5, "gpu": 0.5}) for at in range(5)),
        *(step(f"held{at}", f"big{at}", resources={"cpu": 0, "licence": 2}) for at in range(4)),
        step("whole", "wide0", **PROCESS, resources={"cpu": 4, "memory": "8GiB"}),
        step("end", "whole", "held0", "held1", "half4"),
    ]
)
URGENT = workflow(
    [
        step(f"{priority}{at}", priority=priority)
        for at in range(4)
        for priority in ("low", "normal", "high", "critical")
    ]
)
ASLEEP = workflow(
    [
        step("a"),
        {"name": "nap", "sleep": "2s", "needs": ["a"]},
        {"name": "naps", "sleep": "1500ms", "foreach": [1, 2, 3], "max_parallel": 2, "needs": ["a"]},
        *(step(f"b{at}", "a") for at in range(5)),
        step("c", "nap", "b4"),
        step("d", "naps", "c"),
    ]
)
SKIPPING = workflow(
    [
        step("a"),
        step("b", "a", run_if="parameters.wanted"),
        step("c", "b"),
        step("d", "b", trigger_rule="all_done"),
        step("none", "a", foreach=[]),
        step("e", "none", "d"),
    ],
    parameters={"wanted": {"type": "boolean", "default": False}},
)
HANDLED = {
    **workflow([step("a"), step("b", "a")]),
    "finally": [step("tidy"), step("tell", "tidy"), step("sweep", foreach=[1, 2, 3, 4, 5])],
    "on_failure": [step("never")],
}
CHILD = workflow([step("x"), step("y", "x", foreach=[1, 2, 3]), step("z", "y")], name="child", max_parallel=2)
FAMILY = workflow(
    [
        step("a"),
        {"name": "one", "workflow": "child", "needs": ["a"]},
        {"name": "many", "workflow": "child", "foreach": [1, 2, 3], "needs": ["a"]},
        *(step(f"b{at}", "a") for at in range(6)),
        step("end", "one", "many", "b5"),
    ]
)
QUOTA = workflow(
    [*(step(f"ask{at}", resources={"cpu": 0.1, "calls": 2}) for at in range(8)), step("end", "ask7")]
)
CHAIN = workflow([step("s0"), *(step(f"s{at}", f"s{at - 1}") for at in range(1, 20))])
LOPSIDED = workflow(
    [
        *(step(f"short{at}") for at in range(9)),
        step("h0"),
        *(step(f"h{at}", f"h{at - 1}") for at in range(1, 6)),
    ]
)
PASSED = workflow(
    [step("w"), step("long"), step("c3", "w", resources={"cpu": 3}), step("d1", "w"), step("e5", "c3")]
)
TIMES = {
    "w": 3.0, "long": 10.0, "c3": 5.0, "e5": 5.0,
    "a": 1.0, "b": 2.5, "c": 3.75, "d": 0.25, "b[3]": 0.5, "b[7]": 9.0, "narrow": 0.75, "narrow[1]": 2.25, "s3": 4.0,
    "big1": 2.0, "wide1": 3.0, "device2": 0.7, "half": 0.3, "held2": 1.1, "whole": 5.0, "tidy": 0.3, "sweep[2]": 2.0,
    "x": 0.4, "y[1]": 1.7, "z": 0.9, "b4": 2.0, "ask0": 0.1, "ask5": 3.0, "short4": 0.2, "h3": 2.0,
}  # fmt: skip
CASES: dict[str, tuple[Document, dict[str, Any]]] = {
    "a diamond": (DIAMOND, {}),
    "a chain": (CHAIN, {}),
    "a fan-out whose items take different times": (FAN_OUT, {}),
    "caps on a run and on a fan-out": (CAPPED, {}),
    "one worker": (FAN_OUT, {"workers": 1}),
    "requests of every kind": (MIXED, {"memory": 8 * GIB, "gpus": 2, "resources": [licence(3)]}),
    "priorities": (URGENT, {"cpus": 2}),
    "sleeps": (ASLEEP, {"cpus": 2}),
    "steps that are skipped and a fan-out of nothing": (SKIPPING, {}),
    "handlers": (HANDLED, {"cpus": 2}),
    "child runs": (FAMILY, {"cpus": 2, "others": [CHILD]}),
    "a quota that comes evenly": (QUOTA, {"resources": [quota(1.0, 2)]}),
    "a quota with a burst": (QUOTA, {"resources": [quota(10.0, 6, burst=8)]}),
    "a long path beside short tasks": (LOPSIDED, {"cpus": 2}),
    "the first in line needs more than is allotted": (PASSED, {}),
    "all at no time": (workflow([step("q0"), step("q1", "q0"), step("q2", foreach=[1, 2, 3])]), {"cpus": 2}),
}


@pytest.mark.parametrize("name", CASES)
def test_a_run_goes_as_it_was_simulated(name: str) -> None:
    document, more = CASES[name]
    assert goes_as_simulated(document, TIMES, **more) > 5


def test_a_run_goes_as_it_was_simulated_on_a_state_that_is_kept(tmp_path: Path) -> None:
    assert goes_as_simulated(ASLEEP, TIMES, state=tmp_path / "state", cpus=2) > 5


def test_runs_that_begin_together_go_as_they_were_simulated() -> None:
    documents = [
        workflow(
            [*(step(f"s{at}", resources={"cpu": cpu}) for at in range(5)), step("end", "s3")], name=f"w{cpu}"
        )
        for cpu in (1, 2, 4)
    ]
    assert goes_as_simulated(documents, {"s1": 2.0, "w2/s2": 0.5, "s4": 3.0}) > 30


@pytest.mark.parametrize("later_s", [0, 300, 599])
def test_when_a_run_begins_changes_nothing(later_s: int) -> None:
    steps = [
        step("hold", resources={"licence": 1}),
        step("early", resources={"licence": 1}),
        step("gate"),
        step("late", "gate", resources={"licence": 1}),
        step("more", "late"),
    ]
    seconds = {"hold": 700.0, "gate": 500.0, "late": 2.0, "more": 50.0}
    start_us = START_US + later_s * 1_000_000
    goes_as_simulated(workflow(steps), seconds, resources=[licence(1)], start_us=start_us)


PLANNED_TIMES = {name: seconds for name, seconds in TIMES.items() if "[" not in name}


@pytest.mark.parametrize("name", CASES)
def test_every_task_begins_and_ends_when_the_plan_says(name: str) -> None:
    document, more = CASES[name]
    assert_goes_as_planned(document, PLANNED_TIMES, **more)


def assert_goes_as_planned(
    document: Document, seconds: Mapping[str, float], *, others: Sequence[Document] = (), **more: Any
) -> WorkflowPlan:
    with clockwork(seconds, **more) as engine:
        make_known(engine, others)
        run_id = engine.start(document)
        engine.finish()
        plan = engine.plan(run_id, Lasting(seconds).expectations(engine.runs[run_id]))
        times = engine.times()
        groups = {task.task.partition("[")[0] for task in plan.tasks if "[" in task.task.rpartition("/")[2]}
        happened = {name: both for name, both in times.items() if name not in groups}
        assert happened == {task.task: (micro(task.start_s), micro(task.end_s)) for task in plan.tasks}
        assert micro(plan.duration_s) == max(end_us for _begin_us, end_us in times.values())
        return plan


def micro(seconds: float) -> int:
    return round(seconds * 1_000_000)


@st.composite
def requests(draw: st.DrawFn) -> dict[str, Any]:
    """What a step holds, and where it runs."""
    resources: dict[str, Any] = {"cpu": draw(st.sampled_from([0, 0.5, 1, 1, 1, 2, 3, 4]))}
    for name, amounts in (
        ("licence", [1, 2]),
        ("calls", [1, 2]),
        ("memory", ["1GiB", "5GiB"]),
        ("gpu", [0.5, 1]),
    ):
        if draw(st.integers(0, 5)) == 0:
            resources[name] = draw(st.sampled_from(amounts))
    return {"resources": resources, **(PROCESS if {"memory", "gpu"} & resources.keys() else {})}


@st.composite
def steps(draw: st.DrawFn, count: int, children: bool = True) -> list[Document]:
    """Steps that each need some of those before."""
    found: list[Document] = []
    for at in range(count):
        needs = (
            draw(st.lists(st.sampled_from(found), max_size=3, unique_by=lambda each: each["name"]))
            if found
            else []
        )
        made: Document = {"name": f"s{at}", "needs": [each["name"] for each in needs]}
        kind = draw(st.sampled_from(["work"] * 7 + ["sleep", "workflow"]))
        if kind == "sleep":
            made["sleep"] = draw(st.integers(0, 3000)) / 1000
        elif kind == "workflow" and children:
            made["workflow"] = "child"
        else:
            made = step(made["name"], *made["needs"], **draw(requests()))
            made["priority"] = draw(st.sampled_from(["low", "normal", "normal", "high", "critical"]))
        if draw(st.integers(0, 3)) == 0:
            made["foreach"] = list(range(draw(st.integers(0, 5))))
            if draw(st.booleans()):
                made["max_parallel"] = draw(st.integers(1, 3))
        found.append(made)
    return found


@st.composite
def random_workflows(draw: st.DrawFn, name: str = "clockwork") -> Document:
    found = workflow(draw(steps(draw(st.integers(1, 12)))), name=name)
    if draw(st.booleans()):
        found["max_parallel"] = draw(st.integers(1, 5))
    if draw(st.integers(0, 3)) == 0:
        found["finally"] = [{**each, "name": f"f{at}", "needs": []} for at, each in enumerate(draw(steps(2)))]
    return found


ANY_SECONDS = st.one_of(st.integers(0, 5), st.floats(0.0, 20.0), st.floats(0.0, 900.0))
PLENTY: dict[str, Any] = {"memory": 8 * GIB, "gpus": 2, "resources": [licence(3), quota(2.0, 2, burst=4)]}


@st.composite
def worlds(draw: st.DrawFn) -> dict[str, Any]:
    """Durations, a machine, and the moment at which it all begins."""
    names = [f"{kind}{at}" for kind in "sf" for at in range(12)] + ["x", "y", "z", "y[1]"]
    return {
        "seconds": {name: float(draw(ANY_SECONDS)) for name in names},
        "cpus": draw(st.sampled_from([4, 5, 8])),
        "workers": draw(st.sampled_from([None, 2, 3])),
        "start_us": START_US + draw(st.integers(0, 10**9)),
        **PLENTY,
    }


def random_runs_go_as_simulated(
    documents: Sequence[Document], later_us: Sequence[int], world: dict[str, Any]
) -> None:
    with clockwork(**world) as engine:
        make_known(engine, [CHILD])
        at_us = 0
        for document, wait_us in zip(documents, [0, *later_us], strict=False):
            at_us += wait_us
            engine.go_until(at_us / 1_000_000)
            engine.start(document)
        engine.finish()
        simulation = engine.simulation()
        simulation.run()
        equal_lines(engine.journal(), simulated(simulation))


SOME_RUNS = st.integers(1, 3).flatmap(
    lambda count: st.tuples(*(random_workflows(f"run{at}") for at in range(count)))
)
GAPS_US = st.lists(st.integers(1, 5_000_000), min_size=2, max_size=2)


@given(documents=SOME_RUNS, gaps_us=GAPS_US, world=worlds())
@settings(max_examples=60)
def test_random_runs_that_begin_at_any_time_go_as_they_were_simulated(
    documents: tuple[Document, ...], gaps_us: list[int], world: dict[str, Any]
) -> None:
    random_runs_go_as_simulated(documents, gaps_us, world)


@pytest.mark.reliability
@given(documents=SOME_RUNS, gaps_us=GAPS_US, world=worlds())
@settings(max_examples=400)
def test_many_random_runs_go_as_they_were_simulated(
    documents: tuple[Document, ...], gaps_us: list[int], world: dict[str, Any]
) -> None:
    random_runs_go_as_simulated(documents, gaps_us, world)


@pytest.mark.parametrize("mode", list(OrchestrationMode))
def test_a_run_goes_as_it_was_simulated_in_every_mode(mode: OrchestrationMode) -> None:
    more: dict[str, Any] = {
        "policy": OrderPolicy(mode=mode),
        "memory": 8 * GIB,
        "gpus": 2,
        "resources": [licence(3)],
    }
    goes_as_simulated(MIXED, TIMES, **more)
    goes_as_simulated(URGENT, TIMES, cpus=2, policy=OrderPolicy(mode=mode))


def test_sessions_get_their_turns_as_they_were_simulated() -> None:
    document = workflow(
        [step("s", foreach=list(range(24))), step("t", resources={"cpu": 2}, foreach=[1, 2, 3])]
    )
    seconds = {"s": 1.25, "t": 3.0, "s[7]": 4.5}
    wanted = [
        (document, {"session_id": name, "session_weight": weight, "session_mode": mode})
        for name, weight, mode in (("one", 3.0, None), ("two", 1.0, "priority"), ("three", 0.5, "parallel"))
    ]
    with clockwork(seconds, cpus=3) as engine:
        engine.start_together(wanted)
        engine.go_until(7.3)
        engine.start(document, session_id="late", session_weight=2.0)
        engine.finish()
        simulation = engine.simulation()
        simulation.run()
        equal_lines(engine.journal(), simulated(simulation))


def test_room_is_kept_in_a_run_as_it_was_simulated() -> None:
    steps = [
        *(step(f"first{at}", priority="high") for at in range(4)),
        *(step(f"small{at}", f"first{at % 4}", foreach=list(range(20)), priority="high") for at in range(4)),
        step("whole", resources={"cpu": 4}, priority="low"),
    ]
    seconds = {f"small{at}": 7.0 + at for at in range(4)}
    policy = OrderPolicy(reserve_after_s=30.0)
    with clockwork(seconds, policy=policy) as engine:
        run_id = engine.start(workflow(steps))
        engine.finish()
        simulation = engine.simulation()
        simulation.run()
        equal_lines(engine.journal(), simulated(simulation))
        position = engine.runs[run_id].workflow.index["whole"]
        began_s = (
            next(at for at, event in engine.journal()[run_id,] if event[:2] == ["started", position]) / 1e6
        )
        assert 30.0 <= began_s <= 30.0 + 10.0, "the test shows something only where room was kept"


# -- a plan that is followed -----------------------------------------------------------------------


def begins_no_later(engine: Clockwork, plan: WorkflowPlan, *, late_s: float = 0.0) -> None:
    times = engine.times()
    late = {
        task.task: (times[task.task][0] / 1e6, task.start_s)
        for task in plan.tasks
        if times[task.task][0] > micro(task.start_s + late_s)
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


@pytest.mark.parametrize("name", CASES)
def test_a_followed_plan_begins_each_task_no_later_than_planned(name: str) -> None:
    document, more = CASES[name]
    for seed in range(3):
        followed(document, PLANNED_TIMES, Random(seed), **more)


@pytest.mark.parametrize("name", CASES)
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


@given(document=random_workflows(), world=worlds(), chance=st.randoms(use_true_random=False))
@settings(max_examples=25)
def test_random_followed_plans_begin_each_task_no_later_than_planned(
    document: Document, world: dict[str, Any], chance: Random
) -> None:
    followed(document, others=[CHILD], chance=chance, **world)


@pytest.mark.reliability
@given(document=random_workflows(), world=worlds(), chance=st.randoms(use_true_random=False))
@settings(max_examples=300)
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
