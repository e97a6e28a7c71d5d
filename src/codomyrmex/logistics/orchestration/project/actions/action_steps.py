"""The places of a definition that name an action: steps, handlers, and what compensates them.

Layer: actions; pure. Kinds of step that hold no slot name none and are left out.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

LISTS = ("steps", "on_failure", "finally")
Path = tuple[str | int, ...]


def action_steps(document: Mapping[str, Any]) -> Iterator[tuple[str, Mapping[str, Any], Path]]:
    """(task name, the mapping with `module` and `action`, its place), in the order of the document.

    The compensation of the step `pay` has the task name `pay.compensate`.
    """
    for key in LISTS:
        for number, step in enumerate(document.get(key) or ()):
            place: Path = (key, number)
            if "module" in step:
                yield step["name"], step, place
            undo = step.get("compensate")
            if undo and "module" in undo:
                yield f"{step['name']}.compensate", undo, (*place, "compensate")
