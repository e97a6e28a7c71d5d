"""What a journal must show of the edges of a graph."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any


def broken_edges(
    edges: Iterable[tuple[str, str]], events: Iterable[Mapping[str, Any]]
) -> list[tuple[str, str]]:
    """The edges whose child started before its parent's result was recorded, in the order of commits."""
    started: dict[str, int] = {}
    completed: dict[str, int] = {}
    for place, event in enumerate(events):
        if event["event"] == "started":
            started.setdefault(event["task"], place)
        elif event["event"] == "completed":
            completed[event["task"]] = place
    return [
        (parent, child)
        for parent, child in edges
        if child not in started or parent not in completed or completed[parent] > started[child]
    ]
