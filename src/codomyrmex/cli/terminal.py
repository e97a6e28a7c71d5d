"""What a stream can show: how wide it is, whether it takes colour, which signs it can encode.

Colour only on a terminal, and never with NO_COLOR or TERM=dumb; FORCE_COLOR asks for it anyway. Text
that comes from files, steps and users passes through `printable`, so that nothing in it can move the
cursor or change the title of the user's terminal.
"""

from __future__ import annotations

import os
import re
import sys
import unicodedata
from collections.abc import Mapping
from typing import TextIO

_CODES = {
    "bold": "1",
    "dim": "2",
    "red": "31",
    "green": "32",
    "yellow": "33",
    "blue": "34",
    "cyan": "36",
}
_ESCAPES = re.compile(r"\x1b(?:\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\)|[@-Z\\-_])")
_CONTROLS = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")
_MINIMUM_WIDTH = 40


class Terminal:
    """One output stream and what it can show."""

    def __init__(self, stream: TextIO, environ: Mapping[str, str] | None = None) -> None:
        environ = os.environ if environ is None else environ
        self.stream = stream
        self.is_tty = stream.isatty()
        self.colour = _takes_colour(self.is_tty, environ)
        self.unicode = _encodes(stream, "✓●─│")

    @property
    def width(self) -> int | None:
        """Columns to fit into; None for a file or a pipe, where nothing is shortened."""
        if not self.is_tty and not os.environ.get("COLUMNS"):
            return None
        import shutil

        return max(_MINIMUM_WIDTH, shutil.get_terminal_size((80, 24)).columns)

    def paint(self, text: str, style: str) -> str:
        """The text in a style such as `bold red`; as it is where colour is not wanted."""
        if not self.colour or not style or not text:
            return text
        codes = ";".join(_CODES[name] for name in style.split())
        return f"\x1b[{codes}m{text}\x1b[0m"

    def line(self, text: str = "") -> None:
        """Writes one line."""
        self.stream.write(text + "\n")

    def flush(self) -> None:
        """Hands on what was written."""
        self.stream.flush()


def open_terminals() -> tuple[Terminal, Terminal]:
    """stdout and stderr, set so that a sign which their encoding lacks is replaced, never an error."""
    for stream in (sys.stdout, sys.stderr):
        reconfigure = getattr(stream, "reconfigure", None)
        if reconfigure is not None:
            reconfigure(errors="replace")
    return Terminal(sys.stdout), Terminal(sys.stderr)


def printable(text: str) -> str:
    """The text without escape sequences and control characters; line ends and tabs stay."""
    return _CONTROLS.sub("", _ESCAPES.sub("", text)) if not text.isprintable() else text


def one_line(text: str) -> str:
    """The text on one line, printable, blanks run together."""
    return " ".join(printable(text).split())


def display_width(text: str) -> int:
    """Columns that the text takes on a terminal."""
    if text.isascii():
        return len(text)
    return sum(
        0 if unicodedata.combining(sign) else 2 if unicodedata.east_asian_width(sign) in "WF" else 1
        for sign in text
    )


def shorten(text: str, width: int, *, unicode: bool = True) -> str:
    """The text cut to `width` columns, its end marked where something was cut off."""
    if display_width(text) <= width:
        return text
    mark = "…" if unicode else "..."
    room, kept = width - len(mark), ""
    for sign in text:
        room -= display_width(sign)
        if room < 0:
            break
        kept += sign
    return (kept.rstrip() + mark)[: max(width, 0)]


def _takes_colour(is_tty: bool, environ: Mapping[str, str]) -> bool:
    if environ.get("NO_COLOR"):
        return False
    if environ.get("FORCE_COLOR"):
        return True
    return is_tty and environ.get("TERM") != "dumb"


def _encodes(stream: TextIO, signs: str) -> bool:
    try:
        signs.encode(stream.encoding or "ascii")
    except (UnicodeEncodeError, LookupError):
        return False
    return True
