"""How a status looks: a sign, a word and a colour, so that none of the three is needed alone."""

from __future__ import annotations

from codomyrmex.cli.terminal import Terminal
from codomyrmex.cli.text_table import Cell

_LOOKS = {
    "completed": ("✓", "green"),
    "failed": ("✗", "bold red"),
    "cancelled": ("■", "yellow"),
    "skipped": ("–", "dim"),
    "running": ("●", "cyan"),
    "paused": ("‖", "yellow"),
    "pending": ("○", ""),
    "blocked": ("·", "dim"),
}


def status_cell(terminal: Terminal, status: str) -> Cell:
    """`✓ completed` in green; the word alone where the stream cannot encode the sign."""
    sign, style = _LOOKS.get(status, ("", ""))
    return Cell(f"{sign} {status}" if sign and terminal.unicode else status, style)


def status_text(terminal: Terminal, status: str) -> str:
    """The cell, painted."""
    cell = status_cell(terminal, status)
    return terminal.paint(cell.text, cell.style)


def status_sign(terminal: Terminal, status: str) -> str:
    """The sign alone, painted; the word where there is no sign."""
    sign, style = _LOOKS.get(status, ("", ""))
    return terminal.paint(sign if sign and terminal.unicode else status, style)
