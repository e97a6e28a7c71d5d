"""Plain text tables: aligned, fitted to a width by shortening the columns that allow it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from codomyrmex.cli.terminal import Terminal, display_width, one_line, shorten

_GAP = 2


class Column(NamedTuple):
    """A title, the side the text stands on, and the width it may shrink to (None: never shortened)."""

    title: str
    right: bool = False
    shrink_to: int | None = None


@dataclass(frozen=True, slots=True)
class Cell:
    """A text and a style of `Terminal.paint`."""

    text: str
    style: str = ""


Row = Sequence[Cell | str]


def table_lines(terminal: Terminal, columns: Sequence[Column], rows: Sequence[Row]) -> list[str]:
    """The table's lines, titles first; columns without any text are left out."""
    cells = [[_cell(cell) for cell in row] for row in rows]
    shown = [at for at in range(len(columns)) if any(row[at].text for row in cells)]
    widths = {
        at: max(len(columns[at].title), *(display_width(row[at].text) for row in cells)) for at in shown
    }
    if terminal.width is not None:
        _shrink(columns, widths, terminal.width)
    gap = " " * _GAP
    titles = [Cell(column.title, "dim") for column in columns]
    return [
        gap.join(_padded(terminal, columns[at], row[at], widths[at]) for at in shown).rstrip()
        for row in (titles, *cells)
    ]


def _cell(cell: Cell | str) -> Cell:
    return Cell(one_line(cell)) if isinstance(cell, str) else Cell(one_line(cell.text), cell.style)


def _shrink(columns: Sequence[Column], widths: dict[int, int], limit: int) -> None:
    """Takes column by column from the widest that may still give, until the line fits."""
    least = {at: columns[at].shrink_to for at in widths}
    excess = sum(widths.values()) + _GAP * (len(widths) - 1) - limit
    while excess > 0:
        able = [at for at, floor in least.items() if floor is not None and widths[at] > floor]
        if not able:
            return
        widths[max(able, key=widths.__getitem__)] -= 1
        excess -= 1


def _padded(terminal: Terminal, column: Column, cell: Cell, width: int) -> str:
    text = shorten(cell.text, width, unicode=terminal.unicode)
    fill = " " * (width - display_width(text))
    painted = terminal.paint(text, cell.style)
    return fill + painted if column.right else painted + fill
