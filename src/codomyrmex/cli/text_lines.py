"""Words in lines that fit a width."""

from __future__ import annotations

from codomyrmex.cli.terminal import display_width


def folded(text: str, width: int, *, first: str = "", then: str = "", taken: int | None = None) -> list[str]:
    """The words of `text` behind `first`, and behind `then` on every further line.

    `taken` is what `first` takes on the screen where that is not its length; a word is never cut.
    """
    lines: list[str] = []
    line, used, empty = first, display_width(first) if taken is None else taken, True
    for word in text.split(" "):
        size = display_width(word)
        if not empty and used + 1 + size > width:
            lines.append(line)
            line, used, empty = then, display_width(then), True
        line += word if empty else f" {word}"
        used += size + (not empty)
        empty = False
    return [*lines, line]
