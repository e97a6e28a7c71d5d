"""The graph of a workflow: what waits for what, checked, sorted and drawn.

Layer: pure. Two classes. `Graph` is the inside: four integer columns (compressed sparse rows in both
directions), which is what the engine plans with. `WorkflowDAG` is the outside: tasks by name, every
fault as text, diagrams.

Invariants: no method recurses, so depth is bounded by memory alone; every answer is in insertion order
where the graph leaves a choice, so the same input gives the same output; an edge points from the task
that runs first to the one that waits for it, in code, in diagrams and in the text of a cycle.

Sorting is Kahn's (Communications of the ACM 5(11), 1962), a level at a time: O(tasks + edges).
"""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Iterator, Mapping, Sequence
from copy import copy
from itertools import accumulate, islice
from typing import Any, Final

from codomyrmex.exceptions import Fault, TaskNotFound, ValidationError

__all__ = ["CycleDetectedError", "DAGValidationError", "Graph", "WorkflowDAG"]


class DAGValidationError(ValidationError, ValueError):
    """A graph was refused; `faults` lists everything that is wrong with it."""

    code = "invalid_graph"

    def __init__(self, faults: Sequence[Fault]) -> None:
        super().__init__(faults, subject="the graph")


class CycleDetectedError(DAGValidationError):
    """Tasks wait for each other; `cycle` names them in running order, the first one again at the end."""

    code = "cycle"

    def __init__(self, cycle: Sequence[str]) -> None:
        self.cycle = list(cycle)
        super().__init__([_cycle_fault(self.cycle)])


class Graph:
    """A directed graph over the indices `0..n-1`, in columns; build it with `Graph.build`.

    The parents of `i` are `parent_targets[parent_offsets[i]:parent_offsets[i + 1]]`, in the order given;
    the children likewise, in ascending order. The columns are for reading only. 4 bytes for each end of
    an edge and 8 for a node, beside the names. An edge given twice counts as two, consistently.
    """

    __slots__ = (
        "_bounds",
        "_order",
        "child_offsets",
        "child_targets",
        "names",
        "parent_offsets",
        "parent_targets",
    )

    def __init__(self, names: list[str], parent_offsets: array[int], parent_targets: array[int]) -> None:
        self.names = names
        self.parent_offsets = parent_offsets
        self.parent_targets = parent_targets
        self.child_offsets, self.child_targets = _reversed(parent_offsets, parent_targets)
        self._order: array[int] | None = None
        self._bounds: array[int] = array("i")

    @classmethod
    def build(cls, names: list[str], parents: Iterable[Sequence[int]]) -> Graph:
        """Makes a graph from one sequence of parent indices for each name; `names` is kept, not copied.

        Raises ValueError when the counts differ or an index is out of range. Cycles are allowed here:
        `find_cycle` tells.
        """
        offsets, targets = array("i", (0,)), array("i")
        append, extend, size = offsets.append, targets.extend, targets.__len__
        for indices in parents:
            extend(indices)
            append(size())
        count = len(names)
        if len(offsets) != count + 1:
            raise ValueError(f"{len(offsets) - 1} lists of parents for {count} names")
        if targets and (min(targets) < 0 or max(targets) >= count):
            raise ValueError(f"a parent's index is not in 0..{count - 1}")
        return cls(names, offsets, targets)

    def __len__(self) -> int:
        return len(self.names)

    @property
    def edge_count(self) -> int:
        """How many edges there are, repeats included."""
        return len(self.parent_targets)

    def parents(self, index: int) -> array[int]:
        """What `index` waits for, in the order given."""
        return self.parent_targets[self.parent_offsets[index] : self.parent_offsets[index + 1]]

    def children(self, index: int) -> array[int]:
        """What waits for `index`, in ascending order."""
        return self.child_targets[self.child_offsets[index] : self.child_offsets[index + 1]]

    def edges(self) -> Iterator[tuple[int, int]]:
        """Every edge as (first, then), by the task that waits, in insertion order."""
        for then in range(len(self.names)):
            for first in self.parents(then):
                yield first, then

    def order(self) -> array[int]:
        """Every index after its parents: level by level, ascending within a level.

        Raises CycleDetectedError. Computed once; treat it as read-only.
        """
        order = self._sorted()
        if len(order) < len(self.names):
            raise CycleDetectedError(self._cycle_names())
        return order

    def levels(self) -> list[array[int]]:
        """The indices by the longest chain that leads to them, each level in ascending order.

        Raises CycleDetectedError.
        """
        order, bounds = self.order(), self._bounds
        return [order[bounds[level] : bounds[level + 1]] for level in range(len(bounds) - 1)]

    def find_cycle(self) -> list[int] | None:
        """One cycle in running order without the repeated end, lowest index first; None if there is none."""
        order = self._sorted()
        if len(order) == len(self.names):
            return None
        # Whatever Kahn left over has a parent that is left over too: walk up until a node comes again.
        unsorted = bytearray(b"\1") * len(self.names)
        for index in order:
            unsorted[index] = 0
        node = unsorted.index(1)
        place: dict[int, int] = {}
        walk: list[int] = []
        while node not in place:
            place[node] = len(walk)
            walk.append(node)
            node = next(parent for parent in self.parents(node) if unsorted[parent])
        cycle = walk[place[node] :][::-1]
        lowest = cycle.index(min(cycle))
        return cycle[lowest:] + cycle[:lowest]

    def tails(self, durations: Sequence[float] | None = None) -> list[float]:
        """For each index the length of the longest path that starts with it, its own duration included.

        Without durations a task counts 1. Raises CycleDetectedError.
        """
        own = [1.0] * len(self.names) if durations is None else list(durations)
        if len(own) != len(self.names):
            raise ValueError(f"{len(own)} durations for {len(self.names)} tasks")
        offsets, targets, at = self.child_offsets, self.child_targets, own.__getitem__
        for index in reversed(self.order()):
            start, stop = offsets[index], offsets[index + 1]
            if start != stop:
                own[index] += max(map(at, targets[start:stop]))
        return own

    def critical_path(self, durations: Sequence[float] | None = None) -> list[int]:
        """The longest path, first task first; of equal ones that with the lowest indices."""
        if not self.names:
            return []
        tails = self.tails(durations)
        at = tails.__getitem__
        path = [max(range(len(tails)), key=at)]
        while following := self.children(path[-1]):
            path.append(max(following, key=at))
        return path

    def reach(self, index: int, *, upwards: bool) -> list[int]:
        """All ancestors (`upwards`) or all descendants of `index`, ascending, without itself.

        On a cycle through `index` it is among them.
        """
        follow = self.parents if upwards else self.children
        found: set[int] = set()
        pending = list(follow(index))
        while pending:
            node = pending.pop()
            if node not in found:
                found.add(node)
                pending.extend(follow(node))
        return sorted(found)

    def _sorted(self) -> array[int]:
        """As `order`, but short by what cycles hold back; also sets the bounds of the levels."""
        if self._order is not None:
            return self._order
        offsets, targets, parents = self.child_offsets, self.child_targets, self.parent_offsets
        missing = [parents[index + 1] - parents[index] for index in range(len(self.names))]
        order, bounds = array("i"), array("i", (0,))
        level = [index for index, count in enumerate(missing) if not count]
        while level:
            order.extend(level)
            bounds.append(len(order))
            following: list[int] = []
            ready = following.append
            for index in level:
                for child in targets[offsets[index] : offsets[index + 1]]:
                    left = missing[child] - 1
                    missing[child] = left
                    if not left:
                        ready(child)
            following.sort()
            level = following
        self._bounds = bounds
        self._order = order
        return order

    def _cycle_names(self) -> list[str]:
        cycle = self.find_cycle() or []
        return [self.names[index] for index in [*cycle, *cycle[:1]]]


def _reversed(offsets: array[int], targets: array[int]) -> tuple[array[int], array[int]]:
    """The same edges by their other end: a counting sort, so each row comes out ascending."""
    count = len(offsets) - 1
    counts = [0] * (count + 1)
    for target in targets:
        counts[target + 1] += 1
    turned = array("i", accumulate(counts))
    cursor = turned.tolist()
    placed = array("i", bytes(len(targets) * targets.itemsize))
    start = 0
    for source in range(count):
        stop = offsets[source + 1]
        for target in targets[start:stop]:
            at = cursor[target]
            placed[at] = source
            cursor[target] = at + 1
        start = stop
    return turned, placed


class WorkflowDAG:
    """Tasks by name and what they wait for: validated, ordered and drawn.

    A task is a mapping with `name`, maybe `dependencies` and any other keys, or an object with these
    attributes (`WorkflowStep`, `Task`; a dependency may be another's `id`). Tasks are kept as given;
    `tasks` is for reading: changes go through `add_task` and `add_dependency`. Not for several threads.
    """

    def __init__(self, tasks: Iterable[Any] | None = None) -> None:
        self.tasks: dict[str, Any] = {}
        self._refused: list[Fault] = []
        self._index: dict[str, int] | None = None
        self._graph = Graph.build([], ())
        self._unmet: list[Fault] = []
        for position, task in enumerate(() if tasks is None else tasks):
            name = task.get("name") if type(task) is dict else _field(task, "name")
            if not isinstance(name, str) or not name or name in self.tasks:
                self._refused.append(self._name_fault(name, position))
            else:
                self.tasks[name] = task

    def __len__(self) -> int:
        return len(self.tasks)

    def __contains__(self, name: object) -> bool:
        return name in self.tasks

    def add_task(self, task: Any) -> None:
        """Adds a task, whose dependencies may come later; DAGValidationError for a name taken or missing."""
        name = _field(task, "name")
        if not isinstance(name, str) or not name or name in self.tasks:
            raise DAGValidationError([self._name_fault(name, len(self.tasks))])
        self.tasks[name] = task
        self._index = None

    def add_dependency(self, task: str, depends_on: str) -> None:
        """Makes `task` wait for `depends_on` too; once is as good as twice. Cycles show in `validate_dag`.

        The task is replaced by a copy, so the object given is not changed. Raises DAGValidationError when
        either name is unknown.
        """
        unknown = [name for name in (task, depends_on) if name not in self.tasks]
        if unknown:
            raise DAGValidationError([self._unknown_fault(name, path="") for name in unknown])
        known = list(_field(self.tasks[task], "dependencies") or ())
        if depends_on not in known:
            self.tasks[task] = _with_dependencies(self.tasks[task], [*known, depends_on])
            self._index = None

    def faults(self) -> list[Fault]:
        """Everything that is wrong with the graph: names first, then unknown dependencies, then a cycle."""
        graph = self._compiled()
        found = [*self._refused, *self._unmet]
        cycle = graph.find_cycle()
        if cycle is not None:
            found.append(_cycle_fault([graph.names[index] for index in [*cycle, cycle[0]]]))
        return found

    def validate_dag(self) -> tuple[bool, list[str]]:
        """Whether the graph can be run, and every fault as text."""
        faults = self.faults()
        return not faults, [str(fault) for fault in faults]

    def get_execution_order(self) -> list[list[str]]:
        """The names in levels: each level waits only for earlier ones, and is in insertion order.

        Raises CycleDetectedError, or DAGValidationError for any other fault.
        """
        graph = self._checked()
        at = graph.names.__getitem__
        return [list(map(at, level)) for level in graph.levels()]

    def get_task(self, name: str) -> Any | None:
        """The task as it was given, or None."""
        return self.tasks.get(name)

    def get_all_tasks(self) -> list[Any]:
        """The tasks in insertion order."""
        return list(self.tasks.values())

    def get_task_dependencies(self, name: str) -> list[str]:
        """All that must end before `name` can start, directly or not, in insertion order; or TaskNotFound."""
        return self._reach(name, upwards=True)

    def get_dependent_tasks(self, name: str) -> list[str]:
        """All that waits for `name`, directly or not, in insertion order; raises TaskNotFound."""
        return self._reach(name, upwards=False)

    def critical_path(self, durations: Mapping[str, float] | None = None) -> list[str]:
        """The names on the longest path, first one first.

        `durations` is in any one unit; a task left out takes no time. Without it each task counts 1.
        """
        graph = self._checked()
        columns = None
        if durations is not None:
            unknown = [name for name in durations if name not in self.tasks]
            if unknown:
                raise DAGValidationError([self._unknown_fault(name, path="durations") for name in unknown])
            columns = [float(durations.get(name, 0.0)) for name in graph.names]
        return [graph.names[index] for index in graph.critical_path(columns)]

    def visualize(self) -> str:
        """A Mermaid diagram, `graph TD`; a name that Mermaid could misread gets an id and a quoted label."""
        from codomyrmex.logistics.orchestration.project.workflow_diagram import mermaid

        return mermaid(self._compiled())

    def to_dot(self) -> str:
        """The graph in the DOT language of Graphviz."""
        from codomyrmex.logistics.orchestration.project.workflow_diagram import dot

        return dot(self._compiled())

    def to_dict(self) -> dict[str, Any]:
        """`{"tasks": [...], "edges": [[first, then], ...]}`; `WorkflowDAG(d["tasks"])` is the same graph."""
        graph = self._compiled()
        edges = [[graph.names[first], graph.names[then]] for first, then in graph.edges()]
        return {"tasks": [_as_mapping(task) for task in self.tasks.values()], "edges": edges}

    def _repr_html_(self) -> str:
        """The picture that a notebook shows."""
        from codomyrmex.logistics.orchestration.project.html_views import graph_html

        return graph_html(self._compiled())

    def _compiled(self) -> Graph:
        """The columns of what is known; edges to unknown tasks are left out and noted as faults."""
        if self._index is not None:
            return self._graph
        self._unmet = []
        index = dict(zip(self.tasks, range(len(self.tasks)), strict=True))
        self._graph = Graph.build(list(self.tasks), self._rows(index))
        self._index = index
        return self._graph

    def _rows(self, index: dict[str, int]) -> Iterable[Sequence[int]]:
        """For each task the indices of what it waits for, each once."""
        at = index.__getitem__
        by_id: dict[str, int] = {}
        for task in self.tasks.values():
            names = task.get("dependencies") if type(task) is dict else _field(task, "dependencies")
            row: Sequence[int] = ()
            if names:
                try:
                    row = list(map(at, names if type(names) is list and len(names) == 1 else _unique(names)))
                except (KeyError, TypeError):
                    by_id = by_id or _by_id(self.tasks.values(), index)
                    row = self._explained(task, names, by_id)
            yield row

    def _explained(self, task: Any, names: Any, by_id: Mapping[str, int]) -> list[int]:
        """The dependencies that exist; each of the others becomes a fault."""
        path = f"{_field(task, 'name')}.dependencies"
        if isinstance(names, str) or not isinstance(names, Iterable):
            self._unmet.append(
                Fault(message="dependencies must be a list of names", path=path, got=repr(names))
            )
            return []
        found: dict[int, None] = {}
        for name in names:
            if isinstance(name, str) and name in by_id:
                found[by_id[name]] = None
            else:
                self._unmet.append(self._unknown_fault(name, path=path))
        return list(found)

    def _checked(self) -> Graph:
        faults = self.faults()
        if not faults:
            return self._graph
        if len(faults) == 1 and faults[0].code == CycleDetectedError.code:
            self._graph.order()  # raises CycleDetectedError, which carries the names
        raise DAGValidationError(faults)

    def _reach(self, name: str, *, upwards: bool) -> list[str]:
        graph = self._compiled()
        index = (self._index or {}).get(name)
        if index is None:
            raise TaskNotFound(name, nearest=_nearest(name, self.tasks))
        return [graph.names[found] for found in graph.reach(index, upwards=upwards)]

    def _name_fault(self, name: object, position: int) -> Fault:
        path = f"tasks[{position}].name"
        if isinstance(name, str) and name:
            return Fault(message=f"two tasks are named {name!r}", path=path, code="duplicate_name", got=name)
        return Fault(message="a task needs a name, a text that is not empty", path=path, got=repr(name))

    def _unknown_fault(self, name: object, *, path: str) -> Fault:
        searched = isinstance(name, str) and len(self._unmet) < _NEAREST_AT_MOST
        nearest = _nearest(str(name), self.tasks) if searched else None
        return Fault(
            message=f"unknown task {name!r}", path=path, code="unknown_task", got=str(name), nearest=nearest
        )


# A graph of a million names, or of a million faults, must not wait for suggestions.
_NEAREST_AMONG: Final = 10_000
_NEAREST_AT_MOST: Final = 20


def _cycle_fault(cycle: Sequence[str]) -> Fault:
    shown = list(cycle) if len(cycle) <= 12 else [*cycle[:6], f"... {len(cycle) - 12} more ...", *cycle[-6:]]
    return Fault(
        message=f"tasks wait for each other: {' -> '.join(shown)}",
        path=f"{cycle[0]}.dependencies",
        code=CycleDetectedError.code,
        advice="remove one of these dependencies",
    )


def _nearest(name: str, names: Iterable[str]) -> str | None:
    from difflib import get_close_matches

    close = get_close_matches(name, islice(names, _NEAREST_AMONG), n=1)
    return close[0] if close else None


def _field(task: Any, name: str) -> Any:
    return task.get(name) if isinstance(task, Mapping) else getattr(task, name, None)


def _by_id(tasks: Iterable[Any], index: Mapping[str, int]) -> dict[str, int]:
    """Where a task stands, by its name and by its `id`; a name wins over an id."""
    ids = ((_field(task, "id"), place) for place, task in enumerate(tasks))
    return {**{id_: place for id_, place in ids if isinstance(id_, str)}, **index}


def _unique(names: Any) -> Iterable[Any]:
    """The names without repeats; raises TypeError for what is no list of hashable things."""
    if isinstance(names, str):
        raise TypeError
    return dict.fromkeys(names)


def _with_dependencies(task: Any, names: list[str]) -> Any:
    """A copy of the task that waits for `names`."""
    if isinstance(task, Mapping):
        return {**task, "dependencies": names}
    twin = copy(task)
    kept = tuple(names) if isinstance(task.dependencies, tuple) else names
    object.__setattr__(twin, "dependencies", kept)  # a frozen data class refuses anything less
    return twin


def _as_mapping(task: Any) -> dict[str, Any]:
    if isinstance(task, Mapping):
        return dict(task)
    given = task.to_dict() if hasattr(task, "to_dict") else vars(task)
    return dict(given)
