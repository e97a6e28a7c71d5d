"""`run --follow-plan`: the order that was found is the order in which tasks begin."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from codomyrmex.logistics.orchestration.project import plan_store
from codomyrmex.logistics.orchestration.project.workflow_manager import WorkflowManager
from codomyrmex.logistics.orchestration.project.workflow_plan import OPTIMISED, PlannedTask, WorkflowPlan

ACTS = """
from pathlib import Path

def note(name):
    with Path("order.txt").open("a") as file:
        file.write(name + "\\n")
"""
FLOW = """
codomyrmex: 1
name: flow
max_parallel: 1
parameters: {count: {type: integer, default: 2}}
steps:
  - {name: a, call: "./acts.py:note", with: {name: a}}
  - {name: each, call: "./acts.py:note", with: {name: "each ${item}"}, foreach: "${range(parameters.count)}"}
  - {name: b, call: "./acts.py:note", with: {name: b}}
"""


@pytest.fixture
def flow(project: Path) -> Path:
    (project / "acts.py").write_text(ACTS)
    (project / "flow.yaml").write_text(FLOW)
    return project


def keep_plan(folder: Path, order: Sequence[str], **parameters: Any) -> None:
    """Keeps a plan for `flow.yaml` whose tasks begin in this order."""
    with WorkflowManager(root=folder, state=folder / ".codomyrmex") as manager:
        definition = manager.definition("flow.yaml", caller_dir=folder)
        run = manager.starter.ready(definition, parameters, caller_dir=folder).run
        tasks = [
            PlannedTask(task=name, step=name, ready_s=0.0, start_s=float(at), end_s=at + 1.0)
            for at, name in enumerate(order)
        ]
        plan = WorkflowPlan(
            workflow="flow",
            definition=run.workflow.hash,
            tasks=tuple(tasks),
            duration_s=float(len(order)),
            critical_path=(),
            critical_path_s=0.0,
            bounds=(),
            capacities={},
            workers=8,
            method=OPTIMISED,
        )
        with manager.host.database.transaction() as tx:
            plan_store.insert(tx, plan, parameters=run.parameters, now_us=1)


@pytest.mark.parametrize("order", [["b", "each[1]", "a", "each[0]"], ["each[0]", "a", "each[1]", "b"]])
def test_tasks_begin_in_the_order_of_the_plan(cli: Callable[..., Any], flow: Path, order: list[str]) -> None:
    keep_plan(flow, order)
    ended = cli("run", "flow.yaml", "--follow-plan")
    assert ended.code == 0, ended.err
    assert "in the order of its plan, which takes 4.0 s" in ended.err
    names = {"each[0]": "each 0", "each[1]": "each 1"}
    assert (flow / "order.txt").read_text().split("\n")[:-1] == [names.get(each, each) for each in order]


def test_parameters_are_the_same_whether_given_or_left_to_their_defaults(
    cli: Callable[..., Any], flow: Path
) -> None:
    keep_plan(flow, ["b", "a", "each[0]", "each[1]"])
    assert cli("run", "flow.yaml", "--follow-plan", "-p", "count=2").code == 0
    assert (flow / "order.txt").read_text().startswith("b\na\n")


def test_without_a_plan_it_says_how_one_is_made_and_runs_nothing(cli: Callable[..., Any], flow: Path) -> None:
    ended = cli("run", "flow.yaml", "--follow-plan", "-p", "count=1")
    assert ended.code == 2
    assert "nothing was ever planned here" in ended.err
    assert "codomyrmex workflows plan flow.yaml -p count=1 --optimise" in ended.err
    assert not (flow / ".codomyrmex").exists()
    keep_plan(flow, ["b"], count=1)
    ended = cli("run", "flow.yaml", "--follow-plan")
    assert ended.code == 2
    assert "planned with other parameters" in ended.err
    (flow / "flow.yaml").write_text(FLOW.replace("max_parallel: 1", "max_parallel: 2"))
    ended = cli("run", "flow.yaml", "--follow-plan", "--json")
    assert ended.document["error"]["code"] == "no_plan"
    assert "changed since it was planned" in ended.document["error"]["message"]
    assert not (flow / "order.txt").exists()


@pytest.mark.parametrize("words", [("--only", "a"), ("--from", "a"), ("--until", "b"), ("--dry-run",)])
def test_a_plan_is_followed_by_whole_runs_alone(
    cli: Callable[..., Any], flow: Path, words: tuple[str, ...]
) -> None:
    ended = cli("run", "flow.yaml", "--follow-plan", *words)
    assert ended.code == 2
    assert "--follow-plan goes with a" in ended.err
