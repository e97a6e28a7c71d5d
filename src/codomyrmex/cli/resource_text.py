"""Resources and their holders as text: lists, bars, one resource in full.

Pure but for the streams' width and colour: views come in, lines go out, `now` is an argument.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from textwrap import wrap

from codomyrmex.cli.figures import count_text, instant_text
from codomyrmex.cli.terminal import Terminal, one_line
from codomyrmex.cli.text_table import Cell, Column, Row, table_lines
from codomyrmex.logistics.orchestration.project import amount_words
from codomyrmex.logistics.orchestration.project.resource_request import CPU, DISK, GPU, MEMORY, NETWORK, UNIT
from codomyrmex.logistics.orchestration.project.resource_views import HOST, HolderView, ResourceView

_IDS = {"cpu": CPU, "memory": MEMORY, "disk": DISK, "network": NETWORK, "gpu": GPU}
_SMALLEST = {"cpu": 1000, "memory": 1, "disk": 1, "network": 1}
_STYLES = {"available": "green", "allocated": "", "exhausted": "yellow", "offline": "dim"}
_BAR = 10
_BAR_FROM_COLUMNS = 94
_UNKNOWN = "-"
_UNLIMITED = 1_000_000


def amount_text(kind: str, amount: int | None, parts: int = UNIT) -> str:
    """`2 CPUs`, `512 MiB`, `0.5 GPU`, `3`; a dash for what cannot be told."""
    if amount is None:
        return _UNKNOWN
    # What a state counts itself is in ten-thousandths of bytes and cores too, but never finer than those.
    return amount_words.amount_text(_IDS.get(kind, kind), amount * _SMALLEST.get(kind, UNIT) // parts)


def capacity_text(view: ResourceView) -> str:
    """The amount; of a quota `60 per minute`."""
    text = amount_text(view.type, view.capacity, view.parts)
    return f"{text} per {amount_words.period_text(view.per_s)}" if view.per_s else text


def list_lines(terminal: Terminal, views: Sequence[ResourceView]) -> list[str]:
    """A table, one line for each resource."""
    columns = [
        Column("RESOURCE", shrink_to=12),
        Column("TYPE"),
        Column("CAPACITY", right=True),
        Column("FREE", right=True),
        Column("STATUS"),
        Column("OF"),
        Column("ABOUT", shrink_to=8),
    ]
    rows: list[Row] = [
        [
            view.name,
            view.type,
            capacity_text(view),
            amount_text(view.type, view.available, view.parts),
            Cell(view.status, _STYLES[view.status]),
            Cell(_owner(view), "dim"),
            Cell(view.description, "dim"),
        ]
        for view in views
    ]
    return table_lines(terminal, columns, rows)


def usage_lines(terminal: Terminal, views: Sequence[ResourceView]) -> list[str]:
    """A table of what is in use; with bars where the terminal is wide enough."""
    wide = terminal.width is not None and terminal.width >= _BAR_FROM_COLUMNS
    columns = [
        Column("RESOURCE", shrink_to=8),
        Column(""),
        Column("USED", right=True),
        Column("HELD", right=True),
        Column("FREE", right=True),
        Column("CAPACITY", right=True),
        Column("PEAK", right=True),
        Column("HOLDERS", right=True),
        Column("WAITING", right=True),
    ]
    return table_lines(terminal, columns, [_usage_row(terminal, view, bar=wide) for view in views])


def holder_lines(terminal: Terminal, holders: Sequence[HolderView], now: datetime) -> list[str]:
    """A table, one line for each holding."""
    columns = [
        Column("RESOURCE", shrink_to=6),
        Column("AMOUNT", right=True),
        Column("HOLDER", shrink_to=10),
        Column("SINCE"),
        Column("EXPIRES"),
        Column("PID"),
        Column("OF", shrink_to=8),
    ]
    rows: list[Row] = [
        [
            each.resource,
            amount_text(each.type, each.amount, each.parts),
            each.holder,
            instant_text(each.since, now),
            instant_text(each.expires_at, now),
            _pid_cell(each),
            Cell(each.pool or each.project or "", "dim"),
        ]
        for each in holders
    ]
    return table_lines(terminal, columns, rows)


def resource_lines(
    terminal: Terminal, view: ResourceView, holders: Sequence[HolderView], now: datetime
) -> list[str]:
    """One resource for reading, and who holds some of it."""
    whose = "of the machine" if view.scope == HOST else "of this project"
    facts = [
        ("id", view.id if view.id != view.name else ""),
        ("status", view.status),
        ("capacity", capacity_text(view) + _spacing(view)),
        ("used" if view.per_s else "held", _held_text(view)),
        ("free", _free_text(view, now)),
        ("peak", "" if view.per_s else amount_text(view.type, view.peak, view.parts)),
        ("waiting", count_text(view.waiting, "engine") if view.waiting else ""),
        ("about", one_line(view.description)),
    ]
    lines = [f"{terminal.paint(view.name, 'bold')}  {view.type} {whose}"]
    for name, text in facts:
        parts = wrap(text, (terminal.width or _UNLIMITED) - 12)
        lines += [
            f"  {terminal.paint(('' if number else name).ljust(9), 'dim')} {part}"
            for number, part in enumerate(parts)
        ]
    if holders:
        lines += ["", *holder_lines(terminal, holders, now)]
    return lines


def _usage_row(terminal: Terminal, view: ResourceView, *, bar: bool) -> Row:
    percent = view.percent
    style = "dim" if view.offline else "yellow" if percent is not None and percent >= 100 else ""
    amounts = (view.allocated, view.available, view.at_once, None if view.per_s else view.peak)
    return [
        view.name,
        Cell(_bar(percent, unicode=terminal.unicode) if bar and percent is not None else "", style),
        Cell(_UNKNOWN if percent is None else f"{percent:.0f}%", style),
        *(amount_text(view.type, amount, view.parts) for amount in amounts),
        _UNKNOWN if view.holders is None else f"{view.holders:,}",
        f"{view.waiting:,}",
    ]


def _pid_cell(holder: HolderView) -> Cell:
    if holder.pid is None:
        return Cell("")
    return Cell(f"{holder.pid} gone", "yellow") if holder.gone else Cell(str(holder.pid))


def _bar(percent: float, *, unicode: bool) -> str:
    # Something in use shows as something, and only what is full looks full.
    filled = min(_BAR, max(round(percent / 100 * _BAR), 1 if percent > 0 else 0))
    if filled == _BAR and percent < 100:
        filled -= 1
    full, empty = ("█", "░") if unicode else ("#", "-")
    return full * filled + empty * (_BAR - filled)


def _owner(view: ResourceView) -> str:
    return "machine" if view.scope == HOST else "project"


def _held_text(view: ResourceView) -> str:
    if view.allocated is None:
        return _UNKNOWN
    text = amount_text(view.type, view.allocated, view.parts)
    return f"{text} by {count_text(view.holders or 0, 'holder')}" if view.holders else text


def _free_text(view: ResourceView, now: datetime) -> str:
    if view.free_at is not None:
        return f"nothing until {instant_text(view.free_at, now)}"
    return amount_text(view.type, view.available, view.parts) if view.available is not None else ""


def _spacing(view: ResourceView) -> str:
    if view.per_s is None:
        return ""
    if view.burst is None:
        return ", evenly spaced"
    return f", up to {amount_text(view.type, view.burst, view.parts)} at once"
