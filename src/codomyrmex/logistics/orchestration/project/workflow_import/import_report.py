"""What an importer hands back: a workflow as a tree, and honestly what of the original is not in it.

Layer: pure. Nothing is dropped silently: everything that the original says and the tree does not is a
`LeftOut` with its place and what to do instead. Step names are made here too: every importer meets names
that our grammar does not allow, and has to resolve collisions in the same way each time.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from typing import Any

from codomyrmex.exceptions import Fault, ValidationError
from codomyrmex.logistics.orchestration.project.workflow_faults import Path, clean_name
from codomyrmex.logistics.orchestration.project.workflow_text import Lines

MAX_NAME = 128
_NAME = re.compile(rf"[A-Za-z_][A-Za-z0-9_.-]{{0,{MAX_NAME - 1}}}")


@dataclass(frozen=True, slots=True, kw_only=True)
class LeftOut:
    """One thing of the original that is not, or not quite, in the imported workflow."""

    what: str
    place: str
    line: int | None = None
    advice: str = ""

    def to_dict(self) -> dict[str, Any]:
        """The fields that are set, for `--json`."""
        found = {"what": self.what, "place": self.place, "line": self.line, "advice": self.advice}
        return {name: value for name, value in found.items() if value not in (None, "")}


@dataclass(slots=True, kw_only=True)
class Imported:
    """A workflow in the short form of files, and what was left out, in the order of the original."""

    tree: dict[str, Any]
    left_out: list[LeftOut] = field(default_factory=list)
    steps: int = 0


class StepNames:
    """Names of steps made of names that may hold anything: the same for the same input, and no two alike.

    `reserved` are names that must stay as they are; no other name is changed into one of them.
    """

    def __init__(self, reserved: Iterable[str] = ()) -> None:
        self._taken = set(reserved)
        self._next: dict[str, int] = {}

    def take(self, wanted: str, *, otherwise: str = "step") -> str:
        """A free name as near to the wanted one as the grammar allows."""
        clean = clean_name(wanted) or otherwise
        name = clean
        number = self._next.get(clean, 2)
        while name in self._taken:
            suffix = f"_{number}"
            name = clean[: MAX_NAME - len(suffix)] + suffix
            number += 1
        self._next[clean] = number
        self._taken.add(name)
        return name


def is_name(text: str) -> bool:
    """Whether a text may be the name of a step as it is."""
    return _NAME.fullmatch(text) is not None


def dotted(path: Path) -> str:
    """A place of the original: `jobs.build.steps[2]`."""
    text = ""
    for part in path:
        text += f"[{part}]" if isinstance(part, int) else (f".{part}" if text else str(part))
    return text


def line_of(lines: Lines, path: Path) -> int | None:
    """The line of a place, or of the nearest thing around it."""
    return next((lines[path[:size]] for size in range(len(path), -1, -1) if path[:size] in lines), None)


def unreadable(faults: Iterable[Fault], file: str | None, subject: str) -> ValidationError:
    """The error of a text that is not even a tree; advice about our own files would lead astray."""
    placed = [
        replace(each, file=file, advice=None if each.code == "empty" else each.advice) for each in faults
    ]
    return ValidationError(placed, subject=subject)
