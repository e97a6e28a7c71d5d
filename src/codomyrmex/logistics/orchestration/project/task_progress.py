"""How far an attempt says that it is: what `current_task().progress(done, total, message)` tells.

Layer: pure. Whatever an action says is only taken where it is a number; its text is cut, and put on one line. Values
of secrets have been taken out before, where the note was made.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import isfinite
from typing import Any

LONGEST_MESSAGE = 200


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """One word of an attempt; `total` is None where it does not know how much there is."""

    done: float
    total: float | None = None
    message: str = ""
    at_us: int = 0
    """When it was said: UTC microseconds."""

    @property
    def percent(self) -> float | None:
        """0 to 100; None without a total."""
        return None if self.total is None else min(100.0, 100.0 * self.done / self.total)

    def to_dict(self) -> dict[str, Any]:
        """As `--json` and events have it."""
        return {
            "done": self.done,
            "total": self.total,
            "percent": self.percent,
            "message": self.message,
        }


def read_note(note: Mapping[str, Any], *, at_us: int) -> Progress | None:
    """What a note of the kind `progress` says; None where its numbers are none.

    A total that is not above 0 is as good as none.
    """
    done = _number(note.get("done"))
    if done is None or done < 0:
        return None
    total = _number(note.get("total"))
    said = note.get("message")
    message = _one_line(said[:LONGEST_MESSAGE]) if isinstance(said, str) else ""
    return Progress(
        done=done, total=total if total is not None and total > 0 else None, message=message, at_us=at_us
    )


def _one_line(text: str) -> str:
    """A text without what moves a terminal's cursor, and without halves of characters, which no store takes."""
    return text if text.isprintable() else "".join(each if each.isprintable() else " " for each in text)


def _number(value: Any) -> float | None:
    if value is None or isinstance(value, bool | str | bytes):
        return None
    try:
        found = float(value)
    except (TypeError, ValueError, OverflowError):
        return None
    return found if isfinite(found) else None
