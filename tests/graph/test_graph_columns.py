"""`Graph`: the columns that the engine plans with, against graphlib and by their own laws."""

from __future__ import annotations

from graphlib import CycleError, TopologicalSorter
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from codomyrmex.logistics.orchestration.project.workflow_dag import CycleDetectedError, Graph


def built(parents: list[list[int]]) -> Graph:
    return Graph.build([f"t{index}" for index in range(len(parents))], parents)


@st.composite
def edges_anywhere(draw: st.DrawFn) -> list[list[int]]:
    """Any graph, cycles and self-loops included; each parent once."""
    count = draw(st.integers(0, 12))
    rows = st.lists(st.integers(0, max(count - 1, 0)), max_size=4, unique=True)
    return [draw(rows) for _ in range(count)]


@st.composite
def acyclic(draw: st.DrawFn) -> list[list[int]]:
    """A graph without a cycle whose insertion order has nothing to do with its running order."""
    count = draw(st.integers(1, 14))
    place = draw(st.permutations(range(count)))
    rows: list[list[int]] = [[] for _ in range(count)]
    for rank in range(1, count):
        earlier = draw(st.lists(st.integers(0, rank - 1), max_size=4, unique=True))
        rows[place[rank]] = [place[other] for other in earlier]
    return rows


def graphlib_levels(parents: list[list[int]]) -> list[list[int]]:
    sorter = TopologicalSorter(dict(enumerate(parents)))
    sorter.prepare()
    levels = []
    while sorter.is_active():
        level = sorted(sorter.get_ready())
        levels.append(level)
        sorter.done(*level)
    return levels


@given(edges_anywhere())
def test_levels_and_the_existence_of_a_cycle_agree_with_graphlib(parents: list[list[int]]) -> None:
    graph = built(parents)
    try:
        expected = graphlib_levels(parents)
    except CycleError:
        assert graph.find_cycle() is not None
        with pytest.raises(CycleDetectedError):
            graph.levels()
    else:
        assert graph.find_cycle() is None
        assert [list(level) for level in graph.levels()] == expected


@given(edges_anywhere())
def test_a_cycle_found_is_one_in_running_order_from_its_lowest_index(parents: list[list[int]]) -> None:
    cycle = built(parents).find_cycle()
    if cycle is not None:
        assert cycle[0] == min(cycle)
        assert len(set(cycle)) == len(cycle)
        assert all(first in parents[then] for first, then in pairwise([*cycle, cycle[0]]))


@given(edges_anywhere())
def test_children_are_the_parents_read_backwards_in_ascending_order(parents: list[list[int]]) -> None:
    graph = built(parents)
    assert [list(graph.parents(index)) for index in range(len(graph))] == parents
    for index in range(len(graph)):
        expected = [other for other in range(len(graph)) if index in parents[other]]
        assert list(graph.children(index)) == expected


@given(acyclic())
def test_the_order_puts_every_parent_first(parents: list[list[int]]) -> None:
    place = {index: at for at, index in enumerate(built(parents).order())}
    assert len(place) == len(parents)
    assert all(place[parent] < place[index] for index, row in enumerate(parents) for parent in row)


@given(acyclic(), st.data())
def test_tails_are_the_longest_of_all_paths(parents: list[list[int]], data: st.DataObject) -> None:
    durations = data.draw(st.lists(st.integers(0, 9), min_size=len(parents), max_size=len(parents)))
    graph = built(parents)
    tails = graph.tails(durations)
    for index in range(len(parents)):
        assert tails[index] == durations[index] + max(
            (tails[child] for child in graph.children(index)), default=0
        )
    path = graph.critical_path(durations)
    assert sum(durations[index] for index in path) == max(tails)
    assert all(first in parents[then] for first, then in pairwise(path))


@given(edges_anywhere(), st.data())
def test_reach_is_the_transitive_closure(parents: list[list[int]], data: st.DataObject) -> None:
    if not parents:
        return
    start = data.draw(st.integers(0, len(parents) - 1))
    expected = set(parents[start])
    for _ in parents:
        expected |= {grand for parent in expected for grand in parents[parent]}
    assert built(parents).reach(start, upwards=True) == sorted(expected)


def test_an_edge_given_twice_does_not_hold_its_task_back() -> None:
    graph = built([[], [0, 0]])
    assert [list(level) for level in graph.levels()] == [[0], [1]]
    assert graph.edge_count == 2


def test_an_empty_graph_has_no_levels_no_cycle_and_no_path() -> None:
    graph = built([])
    assert (graph.levels(), graph.find_cycle(), graph.critical_path(), len(graph)) == ([], None, [], 0)


@pytest.mark.parametrize("parents", [[[1]], [[-1]], [[], [5]]])
def test_an_index_out_of_range_is_refused(parents: list[list[int]]) -> None:
    with pytest.raises(ValueError, match="index"):
        built(parents)


def test_as_many_rows_as_names_are_wanted() -> None:
    with pytest.raises(ValueError, match="1 lists of parents for 2 names"):
        Graph.build(["a", "b"], [[]])


def test_as_many_durations_as_tasks_are_wanted() -> None:
    with pytest.raises(ValueError, match="2 durations for 1 tasks"):
        built([[]]).tails([1.0, 2.0])


def test_a_cycle_names_itself_from_the_graph() -> None:
    with pytest.raises(CycleDetectedError) as caught:
        Graph.build(["a", "b"], [[1], [0]]).order()
    assert caught.value.cycle == ["a", "b", "a"]
    assert "a -> b -> a" in str(caught.value)
    assert caught.value.exit_code == 2


def test_a_chain_of_100_000_needs_no_recursion() -> None:
    count = 100_000
    chain = Graph.build([""] * count, ([index - 1] if index else [] for index in range(count)))
    assert len(chain.levels()) == count
    assert chain.tails()[0] == count
    assert len(chain.critical_path()) == count
    assert len(chain.reach(0, upwards=False)) == count - 1
    ring = Graph.build([""] * count, ([index - 1 if index else count - 1] for index in range(count)))
    assert ring.find_cycle() == list(range(count))
