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
    tails = array("d", durations_s) if durations_s is not None else array("d", (1.0,)) * size
    if size == 1 or not graph.edge_count:
        return tails
    offsets, targets = graph.child_offsets, graph.child_targets
    for step in reversed(graph.order()):
        first, end = offsets[step], offsets[step + 1]
        if end - first == 1:
            tails[step] += tails[targets[first]]
        elif end > first:
            tails[step] += max([tails[child] for child in targets[first:end]])
    return tails


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
