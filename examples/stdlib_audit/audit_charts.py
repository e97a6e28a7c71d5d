"""Charts as inline SVG: a bar, a histogram, a ring of modules that import each other. Pure.

Bars and histograms have no viewBox: their widths are percentages and their text is in pixels, so they fit
any column and stay readable on a telephone. Colours come from classes, which `audit_report.css` fills for
light and dark. A chart is labelled with its values, so none needs an axis of ticks.
"""

from __future__ import annotations

import math
from html import escape

from audit_facts import Findings

_HISTOGRAM_HEIGHT = 248
_TOP, _FLOOR = 44, 196  # the highest bar's top and every bar's foot, in pixels from the top
_RING_RADIUS = 84
_LETTER = 7.3  # pixels that one character of a ring's label takes at most

Point = tuple[float, float]


def bar(share: float, second: float = 0.0) -> str:
    """Draw a bar of `share` of the width, and one of `second` after it; its number stands beside it."""
    rects = '<rect class="track" width="100%" height="100%" rx="2"/>'
    if share > 0:
        rects += f'<rect class="first" width="{share * 100:.2f}%" height="100%" rx="2"/>'
    if second > 0:
        start = f"{share * 100:.2f}%"
        rects += f'<rect class="second" x="{start}" width="{second * 100:.2f}%" height="100%" rx="2"/>'
        rects += f'<rect class="gap" x="{start}" width="1.5" height="100%"/>'
    return f'<svg class="bar" aria-hidden="true">{rects}</svg>'


def histogram(groups: list[Findings], *, unit: str, label: str) -> str:
    """Draw the `count` of each group as a column with its share of all; `unit` names what groups measure."""
    highest = max((group["count"] for group in groups), default=0) or 1
    total = sum(group["count"] for group in groups) or 1
    width = 100 / len(groups)
    parts = []
    for index, group in enumerate(groups):
        middle = f"{(index + 0.5) * width:.2f}%"
        height = max((_FLOOR - _TOP) * group["count"] / highest, 1.5) if group["count"] else 0
        top = _FLOOR - height
        parts.append(
            f'<rect class="first" x="{(index + 0.12) * width:.2f}%" y="{top:.1f}" '
            f'width="{0.76 * width:.2f}%" height="{height:.1f}" rx="2"/>'
            f'<text class="value" x="{middle}" y="{top - 22:.1f}">{group["count"]:,}</text>'
            f'<text class="share" x="{middle}" y="{top - 7:.1f}">{percent(group["count"], total)}</text>'
            f'<text class="group" x="{middle}" y="{_FLOOR + 20}">{escape(group["label"])}</text>'
        )
    floor = f'<line class="floor" x1="0" x2="100%" y1="{_FLOOR}" y2="{_FLOOR}"/>'
    axis = f'<text class="unit" x="50%" y="{_HISTOGRAM_HEIGHT - 6}">{escape(unit)}</text>'
    return (
        f'<svg class="histogram" role="img" aria-label="{escape(label)}" height="{_HISTOGRAM_HEIGHT}">'
        f"{''.join(parts)}{floor}{axis}</svg>"
    )


def percent(part: int, whole: int) -> str:
    """Write `part` of `whole` in percent, as HTML; a little is never nothing, and nearly all never all."""
    if not whole or not part:
        return "0%"
    share = 100 * part / whole
    if share < 1:
        return "&lt;1%"
    return f"{min(int(share + 0.5), 99 if part < whole else 100)}%"


def ring(modules: list[str], edges: list[list[str]], cycle: list[str]) -> str:
    """Draw modules on a circle and their imports as arrows, those of `cycle` stressed."""
    at = _places(modules)
    stressed = set(zip(cycle, cycle[1:] + cycle[:1]))  # noqa: B905 - `strict` came with Python 3.10
    plain = sorted((source, target) for source, target in edges if (source, target) not in stressed)
    arrows = [_arrow(at[source], at[target], "edge") for source, target in plain]
    arrows += [_arrow(at[source], at[target], "edge stressed") for source, target in sorted(stressed)]
    nodes = [_node(name, at[name]) for name in modules]
    ends = [end for name in modules for end in _label_box(name, at[name])]
    left, right = min(x for x, _ in ends) - 4, max(x for x, _ in ends) + 4
    top, bottom = min(y for _, y in ends) - 4, max(y for _, y in ends) + 4
    label = f"Imports among {', '.join(modules)}; the shortest cycle is {' → '.join([*cycle, cycle[0]])}"
    return (
        f'<svg class="ring" role="img" aria-label="{escape(label)}" width="{right - left:.0f}" '
        f'height="{bottom - top:.0f}" viewBox="{left:.0f} {top:.0f} {right - left:.0f} {bottom - top:.0f}">'
        f"{''.join(arrows)}{''.join(nodes)}</svg>"
    )


def _places(modules: list[str]) -> dict[str, Point]:
    """Spread the modules over a circle round the origin, with none at the very side, where room is dear."""
    start = 0.5 if len(modules) % 2 == 0 else 0.0
    turns = [2 * math.pi * (index + start) / len(modules) for index in range(len(modules))]
    return {
        name: (_RING_RADIUS * math.sin(turn), -_RING_RADIUS * math.cos(turn))
        for name, turn in zip(modules, turns)  # noqa: B905 - `strict` came with Python 3.10
    }


def _label_box(name: str, place: Point) -> tuple[Point, Point]:
    """Return two corners of a label: beside a node at mid-height, else above or below it, always outward."""
    width = len(name) * _LETTER
    outward = 0.0 if abs(place[0]) < 1 else math.copysign(1, place[0])
    if abs(place[1]) > 0.45 * _RING_RADIUS:
        middle = place[0] + outward * width / 4
        foot = place[1] + (-12 if place[1] < 0 else 22)
    else:
        middle = place[0] + outward * (12 + width / 2)
        foot = place[1] + 4
    return (middle - width / 2, foot - 10), (middle + width / 2, foot + 3)


def _arrow(start: Point, end: Point, style: str) -> str:
    """Draw a bent line with its head before the node; bent, so that there and back are two."""
    across, down = end[0] - start[0], end[1] - start[1]
    length = math.hypot(across, down) or 1
    unit = across / length, down / length
    bend = 0.14 * length
    control = (start[0] + end[0]) / 2 - unit[1] * bend, (start[1] + end[1]) / 2 + unit[0] * bend
    coming = end[0] - control[0], end[1] - control[1]
    reach = math.hypot(*coming) or 1
    along = coming[0] / reach, coming[1] / reach
    tip = end[0] - 9 * along[0], end[1] - 9 * along[1]
    back = tip[0] - 8 * along[0], tip[1] - 8 * along[1]
    wings = [(back[0] + side * 4 * along[1], back[1] - side * 4 * along[0]) for side in (1, -1)]
    corners = " ".join(f"{x:.1f},{y:.1f}" for x, y in (tip, *wings))
    return (
        f'<path class="{style}" d="M{start[0]:.1f} {start[1]:.1f}Q{control[0]:.1f} {control[1]:.1f} '
        f'{back[0]:.1f} {back[1]:.1f}"/><polygon class="{style}" points="{corners}"/>'
    )


def _node(name: str, place: Point) -> str:
    (left, top), (right, _) = _label_box(name, place)
    return (
        f'<circle class="node" cx="{place[0]:.1f}" cy="{place[1]:.1f}" r="6"/>'
        f'<text class="name" x="{(left + right) / 2:.1f}" y="{top + 10:.1f}">{escape(name)}</text>'
    )
