"""How much work lies ahead of each step: the longest path from its start to the end of the run.

Layer: pure. In seconds where durations are known; where nothing is, every step counts as one, so the number of
steps on the path decides. A path stays within its phase, because the edges of the graph do.
"""

from __future__ import annotations

from array import array
from collections.abc import Collection, Sequence

from codomyrmex.logistics.orchestration.project.workflow_dag import Graph


def tails_of(graph: Graph, durations_s: Sequence[float] | None = None) -> array[float]:
    """Seconds from the start of each step to the end of the longest path behind it, its own included. O(steps + edges).

    `durations_s` has one value for each step; without it every step takes one second.
    """
    size = len(graph)
    if size == 1 or not graph.edge_count:
        return array("d", durations_s) if durations_s is not None else array("d", (1.0,)) * size
    tails = [1.0] * size if durations_s is None else list(durations_s)
    behind = [0.0] * size  # lists: the columns of a graph are small, and slow to read one by one
    offsets, targets = graph.parent_offsets.tolist(), graph.parent_targets.tolist()
    for step in reversed(graph.order()):
        tails[step] = tail = tails[step] + behind[step]
        for parent in targets[offsets[step] : offsets[step + 1]]:
            if tail > behind[parent]:  # noqa: PLR1730 - a call would take longer than all the rest
                behind[parent] = tail
    return array("d", tails)


def longest_path(graph: Graph, durations_s: Sequence[float], steps: Collection[int]) -> list[int]:
    """The steps of the longest path that begins in `steps`, in order; the first found of equals."""
    tails = tails_of(graph, durations_s)
    if not steps:
        return []
    path = [max(steps, key=lambda step: tails[step])]
    while children := graph.children(path[-1]):
        path.append(max(children, key=lambda step: tails[step]))
    while len(path) > 1 and not durations_s[path[-1]]:
        path.pop()  # what takes no time at the end is no part of what is long
    return path
