"""`WorkflowDAG`: what a user sees of a graph, every fault at once, and its drawings."""

from __future__ import annotations

from dataclasses import dataclass
from graphlib import TopologicalSorter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from codomyrmex.exceptions import CodomyrmexError, TaskNotFound
from codomyrmex.logistics.orchestration.project.workflow_dag import (
    CycleDetectedError,
    DAGValidationError,
    WorkflowDAG,
)

DIAMOND = [
    {"name": "d", "dependencies": ["b", "c"], "module": "m"},
    {"name": "b", "dependencies": ["a"]},
    {"name": "c", "dependencies": ["a"]},
    {"name": "a"},
]


@dataclass(frozen=True, slots=True)
class Frozen:
    name: str
    dependencies: tuple[str, ...] = ()
    id: str = ""


names = st.text(st.characters(codec="utf-8"), min_size=1, max_size=5)


@st.composite
def named_graphs(draw: st.DrawFn) -> list[dict[str, object]]:
    """Acyclic tasks with any names at all, in any order."""
    chosen = draw(st.lists(names, min_size=1, max_size=8, unique=True))
    tasks = []
    for rank, name in enumerate(chosen):
        waits = draw(st.lists(st.sampled_from(chosen[:rank]), max_size=3)) if rank else []
        tasks.append({"name": name, "dependencies": waits})
    return list(draw(st.permutations(tasks)))


def test_levels_hold_names_in_insertion_order() -> None:
    assert WorkflowDAG(DIAMOND).get_execution_order() == [["a"], ["b", "c"], ["d"]]


@given(named_graphs())
def test_any_valid_graph_is_ordered_as_graphlib_orders_it(tasks: list[dict[str, object]]) -> None:
    dag = WorkflowDAG(tasks)
    sorter = TopologicalSorter({task["name"]: task["dependencies"] for task in tasks})  # type: ignore[misc]
    sorter.prepare()
    for level in dag.get_execution_order():
        assert sorted(level) == sorted(sorter.get_ready())
        sorter.done(*level)
    assert dag.validate_dag() == (True, [])
    assert WorkflowDAG(dag.to_dict()["tasks"]).to_dict() == dag.to_dict()


@given(named_graphs())
def test_diagrams_of_any_names_keep_one_line_for_each_edge(tasks: list[dict[str, object]]) -> None:
    dag = WorkflowDAG(tasks)
    edges = dag.to_dict()["edges"]
    mermaid = dag.visualize().split("\n")
    assert mermaid[0] == "graph TD"
    assert sum(" --> " in line for line in mermaid if '"' not in line) == len(edges)
    assert all(line.count('"') in {0, 2} for line in mermaid)


def test_tasks_keep_their_other_keys_and_are_not_changed() -> None:
    given_tasks = [{"name": "a", "module": "m"}, {"name": "b", "dependencies": ()}]
    dag = WorkflowDAG(given_tasks)
    dag.add_dependency("b", "a")
    dag.add_dependency("b", "a")
    assert dag.tasks["a"] is given_tasks[0]
    assert dag.tasks["b"] == {"name": "b", "dependencies": ["a"]}
    assert given_tasks[1] == {"name": "b", "dependencies": ()}
    assert dag.get_execution_order() == [["a"], ["b"]]


def test_objects_with_a_name_and_dependencies_are_tasks_too() -> None:
    first, then = Frozen("first", (), id="7"), Frozen("then", ("7",))
    dag = WorkflowDAG([then, first])
    assert dag.get_execution_order() == [["first"], ["then"]]
    dag.add_task(Frozen("other"))
    dag.add_dependency("first", "other")
    assert dag.get_task_dependencies("then") == ["first", "other"]
    assert first.dependencies == ()


def test_ancestors_and_descendants_are_transitive_and_in_insertion_order() -> None:
    dag = WorkflowDAG(DIAMOND)
    assert dag.get_task_dependencies("d") == ["b", "c", "a"]
    assert dag.get_dependent_tasks("a") == ["d", "b", "c"]
    assert dag.get_dependent_tasks("d") == []
    with pytest.raises(TaskNotFound) as caught:
        WorkflowDAG([{"name": "build"}]).get_task_dependencies("biuld")
    assert caught.value.nearest == "build"


def test_every_fault_is_listed_with_its_place_and_the_nearest_name() -> None:
    dag = WorkflowDAG(
        [
            {"name": "build", "dependencies": ["biuld", "build2"]},
            {"name": "build"},
            {"dependencies": []},
            {"name": "text", "dependencies": "build"},
            {"name": "x", "dependencies": ["y"]},
            {"name": "y", "dependencies": ["x", ["z"]]},
        ]
    )
    valid, faults = dag.validate_dag()
    assert not valid
    assert faults == [
        "tasks[1].name: two tasks are named 'build'",
        "tasks[2].name: a task needs a name, a text that is not empty",
        "build.dependencies: unknown task 'biuld'; did you mean 'build'?",
        "build.dependencies: unknown task 'build2'; did you mean 'build'?",
        "text.dependencies: dependencies must be a list of names",
        "y.dependencies: unknown task ['z']",
        "x.dependencies: tasks wait for each other: x -> y -> x\n    remove one of these dependencies",
    ]
    with pytest.raises(DAGValidationError) as caught:
        dag.get_execution_order()
    assert len(caught.value.faults) == 7


def test_a_cycle_alone_has_its_own_error() -> None:
    dag = WorkflowDAG(
        [{"name": "a", "dependencies": ["b"]}, {"name": "b", "dependencies": ["a"]}, {"name": "c"}]
    )
    with pytest.raises(CycleDetectedError, match="a -> b -> a") as caught:
        dag.get_execution_order()
    assert isinstance(caught.value, DAGValidationError | CodomyrmexError | ValueError)
    assert dag.validate_dag()[0] is False


def test_a_task_that_waits_for_itself_is_a_cycle() -> None:
    with pytest.raises(CycleDetectedError, match="a -> a"):
        WorkflowDAG([{"name": "a", "dependencies": ["a"]}]).get_execution_order()


def test_a_long_cycle_is_shortened_where_it_is_told() -> None:
    ring = [{"name": f"t{at}", "dependencies": [f"t{(at - 1) % 1000}"]} for at in range(1000)]
    (text,) = WorkflowDAG(ring).validate_dag()[1]
    assert "t0 -> t1" in text
    assert len(text) < 300


def test_tasks_may_come_before_what_they_wait_for() -> None:
    dag = WorkflowDAG()
    dag.add_task({"name": "b", "dependencies": ["a"]})
    assert dag.validate_dag() == (False, ["b.dependencies: unknown task 'a'"])
    dag.add_task({"name": "a"})
    assert dag.validate_dag() == (True, [])
    assert dag.get_all_tasks() == [dag.get_task("b"), dag.get_task("a")]
    assert dag.get_task("c") is None
    assert "a" in dag
    assert len(dag) == 2


@pytest.mark.parametrize("task", [{"name": "a"}, {}, {"name": ""}, {"name": 3}, {"name": ["a"]}])
def test_a_task_without_a_name_of_its_own_is_not_added(task: dict[str, object]) -> None:
    dag = WorkflowDAG([{"name": "a"}])
    with pytest.raises(DAGValidationError):
        dag.add_task(task)
    assert list(dag.tasks) == ["a"]


def test_a_dependency_between_unknown_tasks_names_each() -> None:
    with pytest.raises(DAGValidationError) as caught:
        WorkflowDAG([{"name": "load"}]).add_dependency("lod", "x")
    assert [fault.nearest for fault in caught.value.faults] == ["load", None]


def test_the_critical_path_follows_the_durations() -> None:
    dag = WorkflowDAG(DIAMOND)
    assert dag.critical_path() == ["a", "b", "d"]
    assert dag.critical_path({"c": 5, "a": 1}) == ["a", "c", "d"]
    with pytest.raises(DAGValidationError, match="did you mean"):
        dag.critical_path({"dd": 1})
    assert WorkflowDAG().critical_path() == []


def test_mermaid_draws_plain_names_as_they_are_and_quotes_the_others() -> None:
    dag = WorkflowDAG(
        [
            {"name": "a"},
            {"name": "b", "dependencies": ["a"]},
            {"name": "end", "dependencies": ["a"]},
            {"name": 'say "hi" <b>', "dependencies": ["b"]},
            {"name": "n3"},
            {"name": "build-wheel.v1"},
        ]
    )
    assert dag.visualize() == (
        "graph TD\n"
        '    n_2["end"]\n'
        '    n_3["say #34;hi#34; #60;b#62;"]\n'
        "    n3\n"
        '    n_5["build-wheel.v1"]\n'
        "    a --> b\n"
        "    a --> n_2\n"
        "    b --> n_3\n"
    )


def test_dot_escapes_what_dot_would_read() -> None:
    dag = WorkflowDAG([{"name": 'a"\\'}, {"name": "b\n", "dependencies": ['a"\\']}])
    assert dag.to_dot() == (
        'digraph workflow {\n    "a\\"\\\\";\n    "b\\n";\n    "a\\"\\\\" -> "b\\n";\n}\n'
    )


def test_a_million_deep_names_are_not_searched_for_a_suggestion_without_end() -> None:
    tasks = [{"name": f"task-{at}"} for at in range(20_000)]
    tasks.append({"name": "last", "dependencies": ["nothing like it"]})
    assert WorkflowDAG(tasks).validate_dag()[1] == ["last.dependencies: unknown task 'nothing like it'"]
