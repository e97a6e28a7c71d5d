"""A small graph drawn as SVG, for notebooks: levels as columns, work flowing from left to right.

Layer: pure. The picture fetches nothing, runs nothing, and takes its colours from the text around it, so it
can be read on light and dark pages. An edge that passes a level gets a place of its own there, as in Sugiyama,
Tagawa and Toda, "Methods for visual understanding of hierarchical system structures" (1981), so that it crosses
no box. A graph too large to be read as a picture has none.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from html import escape

from codomyrmex.logistics.orchestration.project.workflow_dag import Graph

NODES_AT_MOST = 60
LONGEST_NAME = 28
_LETTER, _BOX, _ROW, _GAP, _PASSING = 7.3, 26.0, 38.0, 44.0, 12.0


@dataclass(slots=True, kw_only=True)
class _Place:
    """A box, or (without a node) the place where an edge passes a column."""

    column: int
    node: int | None = None
    before: list[_Place] = field(default_factory=list)
    x: float = 0.0
    y: float = 0.0
    width: float = 0.0

    @property
    def height(self) -> float:
        return _PASSING if self.node is None else _ROW


def graph_svg(names: Sequence[str], parents: Sequence[Sequence[int]]) -> str | None:
    """The picture of a graph, or None where it has a cycle, no edge, or too many nodes."""
    if not any(parents) or len(names) > NODES_AT_MOST:
        return None
    graph = Graph.build(list(names), parents)
    if graph.find_cycle() is not None:
        return None
    columns = _columns(graph)
    width, height = _arrange(columns, names)
    places = [place for column in columns for place in column]
    edges = "".join(_edge(first, then) for then in places for first in then.before)
    boxes = "".join(_box(place, names[place.node]) for place in places if place.node is not None)
    return (
        f'<svg role="img" aria-label="graph of {len(names)} steps" width="{width:.0f}" height="{height:.0f}" '
        f'viewBox="0 0 {width:.0f} {height:.0f}" style="max-width:100%" font-family="ui-monospace,Menlo,monospace" '
        f'font-size="12" fill="none" stroke="currentColor">{edges}{boxes}</svg>'
    )


def _columns(graph: Graph) -> list[list[_Place]]:
    """The places of each level, those with like parents beside each other."""
    levels = graph.levels()
    place_of: dict[int, _Place] = {}
    columns: list[list[_Place]] = [[] for _ in levels]
    for number, level in enumerate(levels):
        for node in level:
            place = place_of[node] = _Place(column=number, node=node)
            columns[number].append(place)
    for first, then in dict.fromkeys(graph.edges()):
        end, last = place_of[then], place_of[first]
        for number in range(last.column + 1, end.column):
            passing = _Place(column=number, before=[last])
            columns[number].append(passing)
            last = passing
        end.before.append(last)
    rank: dict[int, float] = {}
    for column in columns:
        column.sort(key=lambda place: _mean([rank[id(each)] for each in place.before]))
        rank.update((id(place), float(number)) for number, place in enumerate(column))
    return columns


def _arrange(columns: list[list[_Place]], names: Sequence[str]) -> tuple[float, float]:
    """Gives every place its x and y; width and height of the whole."""
    tallest = max(sum(place.height for place in column) for column in columns)
    x = 1.0
    for column in columns:
        labels = [_label(names[place.node]) for place in column if place.node is not None]
        width = max(map(len, labels)) * _LETTER + 20
        y = (tallest - sum(place.height for place in column)) / 2 + 1
        for place in column:
            place.x, place.width = x, width
            place.y = y + place.height / 2
            y += place.height
        x += width + _GAP
    return x - _GAP + 1, tallest + 2


def _edge(first: _Place, then: _Place) -> str:
    start, end = first.x + first.width, then.x
    middle = (start + end) / 2
    lead = (
        f"M{first.x:.1f} {first.y:.1f}H{start:.1f}" if first.node is None else f"M{start:.1f} {first.y:.1f}"
    )
    head = "m-5 -3.5l5 3.5l-5 3.5" if then.node is not None else ""
    curve = f"C{middle:.1f} {first.y:.1f} {middle:.1f} {then.y:.1f} {end:.1f} {then.y:.1f}"
    return f'<path d="{lead}{curve}{head}" stroke-opacity="0.5"/>'


def _box(place: _Place, name: str) -> str:
    return (
        f'<g><title>{escape(name)}</title><rect x="{place.x:.1f}" y="{place.y - _BOX / 2:.1f}" rx="6" '
        f'width="{place.width:.1f}" height="{_BOX}" fill="currentColor" fill-opacity="0.06" stroke-opacity="0.6"/>'
        f'<text x="{place.x + place.width / 2:.1f}" y="{place.y + 4:.1f}" text-anchor="middle" '
        f'fill="currentColor" stroke="none">{escape(_label(name))}</text></g>'
    )


def _label(name: str) -> str:
    return name if len(name) <= LONGEST_NAME else f"{name[: LONGEST_NAME - 1]}…"


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values) if values else 0.0
