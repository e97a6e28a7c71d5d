"""Workflows whose steps take as long as a test says, what knows that of them, and the same run twice.

A run in a `Clockwork` is compared with its simulation, line by line of the journal, or with its plan, task by task.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from clockwork_engine import START_US, Clockwork, equal_lines, simulated, step, workflow
from hypothesis import strategies as st

from codomyrmex.logistics.orchestration.project.expectations import Expectations
from codomyrmex.logistics.orchestration.project.resources import Resource
from codomyrmex.logistics.orchestration.project.run_state import RunState
from codomyrmex.logistics.orchestration.project.states import ResourceType
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


PLANNED_TIMES = {name: seconds for name, seconds in TIMES.items() if "[" not in name}


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
    """Steps that each need some of those before; without `children` there are no capped fan-outs of sleeps either."""
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
            if draw(st.booleans()) and (children or "sleep" not in made):
                made["max_parallel"] = draw(st.integers(1, 3))
        found.append(made)
    return found


@st.composite
def random_workflows(draw: st.DrawFn, name: str = "clockwork", *, children: bool = True) -> Document:
    found = workflow(draw(steps(draw(st.integers(1, 9)), children)), name=name)
    if draw(st.booleans()):
        found["max_parallel"] = draw(st.integers(1, 5))
    if draw(st.integers(0, 3)) == 0:
        found["finally"] = [
            {**each, "name": f"f{at}", "needs": []} for at, each in enumerate(draw(steps(2, children)))
        ]
    return found


# Attempts that are known to take less than 2 ms may share a commit, which moves what happens by some milliseconds.
ANY_SECONDS = st.one_of(st.integers(1, 5), st.floats(0.01, 20.0), st.floats(0.01, 900.0))
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
