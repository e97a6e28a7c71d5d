"""A plan drawn in text: a line for each task, time from left to right.

Pure but for the stream's width, colour and signs. A fan-out is one line unless it is unfolded; of more lines than
can be read at once the critical and the long ones stay. What is on the longest path has a mark in the first column
and a fuller bar, so that no colour is needed.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import NamedTuple

from codomyrmex.cli.figures import count_text, duration_text
from codomyrmex.cli.terminal import Terminal, display_width, one_line, shorten
from codomyrmex.cli.text_lines import folded
from codomyrmex.logistics.orchestration.project.workflow_plan import PlannedTask, WorkflowPlan

MOST_ROWS = 60
WIDTH = 80
"""Of what is no terminal."""
_LEAST_BARS = 10
_LEAST_LABEL, _LABEL_SHARE = 12, 3
_ITEM = re.compile(r"\[\d+\]")
_STEPS_S = (
    *(digit * 10.0**power for power in range(-3, 1) for digit in (1, 2, 5)),
    10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 10800, 21600, 43200,
    *(86400.0 * digit * 10**power for power in range(6) for digit in (1, 2, 5)),
)  # fmt: skip
"""How far apart the marks of the time axis may be."""


_Spans = tuple[tuple[float, float], ...]


class _Signs(NamedTuple):
    critical: str
    bar: str
    idle: str
    short: str
    wait: str
    axis: str
    tick: str
    first: str
    times: str


_UNICODE = _Signs("█", "▒", "─", "▏", "·", "─", "┼", "├", "×")
_ASCII = _Signs("#", "=", "-", "|", ".", "-", "+", "+", "x")


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One line: a task, or the items of a fan-out together.

    `spans` are when any of it runs, `waits` when any is ready and does not yet; both in order.
    """

    name: str
    count: str
    """` ×12` of a fan-out, else nothing."""
    spans: _Spans
    waits: _Spans
    slot: bool
    critical: bool
    known: bool

    @property
    def label(self) -> str:
        return self.name + self.count

    @property
    def start_s(self) -> float:
        return self.spans[0][0]

    @property
    def end_s(self) -> float:
        return self.spans[-1][1]


def gantt_lines(
    terminal: Terminal, plan: WorkflowPlan, *, unfold: bool = False, most: int | None = MOST_ROWS
) -> list[str]:
    """The axis, a line for each task, what the signs mean; with `unfold` also one for each item of a fan-out."""
    signs = _UNICODE if terminal.unicode else _ASCII
    every = rows_of(plan.tasks, unfold=unfold, times=signs.times)
    rows = _worth_showing(every, most)
    if not rows:
        return []
    took = [("" if row.known else "~") + duration_text(row.end_s - row.start_s) for row in rows]
    width = terminal.width or WIDTH
    label_room = min(max(display_width(row.label) for row in rows), max(_LEAST_LABEL, width // _LABEL_SHARE))
    bars = max(_LEAST_BARS, width - label_room - max(map(len, took)) - 4)
    scale = _Scale(max(plan.duration_s, *(row.end_s for row in rows)), bars, signs)
    indent = " " * (label_room + 3)
    lines = [terminal.paint((indent + text).rstrip(), "dim") for text in scale.axis()]
    for row, text in zip(rows, took, strict=True):
        lines.append(_line(terminal, row, scale, label_room) + f" {text:>{max(map(len, took))}}")
    under: list[str] = []
    if len(every) > len(rows):
        under = folded(_left_out(every, rows), width - 2)
    return [*lines, *(terminal.paint(f"  {text}", "dim") for text in under + _legend(rows, scale, width - 2))]


def rows_of(tasks: Iterable[PlannedTask], *, unfold: bool, times: str = "×") -> list[Row]:
    """The lines of tasks by when each begins, what takes no time first, else in their order.

    Fan-outs are folded, unless `unfold`.
    """
    groups: dict[str, list[PlannedTask]] = {}
    for task in tasks:
        groups.setdefault(task.task if unfold else _ITEM.sub("", task.task), []).append(task)
    rows = [_row(name, group, times) for name, group in groups.items()]
    return sorted(rows, key=lambda row: (row.start_s, row.end_s > row.start_s))


def _row(name: str, group: Sequence[PlannedTask], times: str) -> Row:
    items = [task for task in group if task.task != name]
    shown = items or group
    return Row(
        name=one_line(name),
        count=f" {times}{len(items):,}" if items else "",
        spans=_together((task.start_s, task.end_s) for task in shown),
        waits=_together((task.ready_s, task.start_s) for task in shown if task.ready_s < task.start_s),
        slot=any(task.slot for task in shown),
        critical=any(task.critical for task in group),
        known=all(task.known for task in shown),
    )


def _together(spans: Iterable[tuple[float, float]]) -> _Spans:
    """Spans of time, those that touch as one."""
    found: list[tuple[float, float]] = []
    for start_s, end_s in sorted(spans):
        if found and start_s <= found[-1][1]:
            found[-1] = (found[-1][0], max(end_s, found[-1][1]))
        else:
            found.append((start_s, end_s))
    return tuple(found)


def _worth_showing(rows: list[Row], most: int | None) -> list[Row]:
    """The critical ones, then the longest, in the order they had."""
    if most is None or len(rows) <= most:
        return rows
    ranked = sorted(
        range(len(rows)), key=lambda at: (not rows[at].critical, rows[at].start_s - rows[at].end_s)
    )
    return [rows[at] for at in sorted(ranked[:most])]


def _left_out(every: Sequence[Row], shown: Sequence[Row]) -> str:
    """`and 140 more lines, the longest 12.0 s (-vv shows all)`."""
    kept = {id(row) for row in shown}
    rest = [row for row in every if id(row) not in kept]
    longest = duration_text(max(row.end_s - row.start_s for row in rest))
    critical = sum(row.critical for row in rest)
    told = f", {critical:,} of them critical" if critical else ""
    return f"and {count_text(len(rest), 'more line')}{told}, the longest {longest} (-vv shows all)"


class _Scale:
    """Where a moment lies among `width` columns."""

    def __init__(self, end_s: float, width: int, signs: _Signs) -> None:
        self.width = width
        self.signs = signs
        self._end_s = end_s
        self._per_s = width / end_s if end_s > 0 else 0.0

    def column(self, moment_s: float) -> int:
        """0 to `width`; the end of the plan is `width`."""
        return min(self.width, max(0, round(moment_s * self._per_s)))

    def axis(self) -> list[str]:
        """The labels of the time axis, and the axis."""
        labels, line = [" "] * self.width, [self.signs.axis] * self.width
        free = 0
        for moment_s in self._marks():
            at, text = self.column(moment_s), tick_text(moment_s)
            if at < free or at + len(text) > self.width:
                continue
            labels[at : at + len(text)] = text
            line[at] = self.signs.tick if at else self.signs.first
            free = at + len(text) + 2
        return ["".join(labels).rstrip(), "".join(line)]

    def _marks(self) -> list[float]:
        """The moments that may have a mark: as many as have room for their text."""
        if not self._end_s > 0:
            return [0.0]
        for step_s in _STEPS_S:
            count = int(self._end_s / step_s)
            longest = max(len(tick_text(step_s * number)) for number in (1, count - 1, count) if number >= 0)
            if step_s * self._per_s >= longest + 3:
                return [step_s * number for number in range(count + 1)]
        return [0.0]


def tick_text(moment_s: float) -> str:
    """`0`, `5 s`, `1 min`, `1 min 30 s`, `2 h`: a duration without what is nothing."""
    if moment_s <= 0:
        return "0"
    text = duration_text(moment_s)
    for rest in (" 00 s", " 00 min", " 00 h"):
        text = text.removesuffix(rest)
    return text.replace(".0 s", " s")


def _line(terminal: Terminal, row: Row, scale: _Scale, label_room: int) -> str:
    """`* build  ····████          `."""
    label = shorten(row.name, label_room - len(row.count), unicode=terminal.unicode) + row.count
    fill = " " * (label_room - display_width(label))
    if row.critical:
        label = terminal.paint(label, "bold")
    mark = terminal.paint("*", "bold yellow") if row.critical else " "
    styles = {scale.signs.wait: "dim", " ": ""}
    style = "yellow" if row.critical else "cyan"
    painted = "".join(
        terminal.paint("".join(same), styles.get(sign, style)) for sign, same in groupby(_cells(row, scale))
    )
    return f"{mark} {label}{fill} {painted}"


def _cells(row: Row, scale: _Scale) -> list[str]:
    """A line's sign in every column."""
    signs = scale.signs
    bar = signs.idle if not row.slot else signs.critical if row.critical else signs.bar
    cells = [" "] * scale.width
    for start_s, end_s in row.waits:
        start, end = scale.column(start_s), scale.column(end_s)
        cells[start:end] = signs.wait * (end - start)
    for start_s, end_s in row.spans:
        start, end = scale.column(start_s), scale.column(end_s)
        if start == end:
            cells[min(start, scale.width - 1)] = signs.short
        else:
            cells[start:end] = bar * (end - start)
    return cells


def _legend(rows: Sequence[Row], scale: _Scale, width: int) -> list[str]:
    """What the signs mean, of those that stand there."""
    shown = {sign for row in rows for sign in _cells(row, scale)}
    told = ["* critical path"] if any(row.critical for row in rows) else []
    told += [f"{scale.signs.wait} ready, but waits its turn"] if scale.signs.wait in shown else []
    told += [f"{scale.signs.idle} holds nothing"] if scale.signs.idle in shown else []
    told += ["~ a guess"] if not all(row.known for row in rows) else []
    one = "   ".join(told)
    return told if len(one) > width else [one] if one else []
