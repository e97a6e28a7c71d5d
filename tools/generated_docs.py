"""Writes the parts of the documents that are generated, where a document asks for them.

A document asks with two comments, `<!-- generated: NAME -->` and `<!-- end generated -->`; what stands
between them is replaced. NAME is one of

    task-states   the picture and the meaning of every state of a task, from `logistics/task/states.py`
    run-states    the same of a run, from `logistics/orchestration/project/states.py`
    layers        the rooms of the house, from the import contract in `pyproject.toml`

    python tools/generated_docs.py [--check] [FILE...]

With `--check` nothing is written; a document that is out of date is named and the exit code is 1.
"""

from __future__ import annotations

import ast
import importlib
import re
import sys
import tomllib
from collections.abc import Callable, Mapping
from enum import Enum
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
MARKED = re.compile(r"(<!-- generated: ([a-z-]+) -->\n).*?(<!-- end generated -->)", re.DOTALL)


def task_states() -> str:
    from codomyrmex.logistics.task import states

    return _machine(states.TaskStatus, states.MOVES)


def run_states() -> str:
    from codomyrmex.logistics.orchestration.project import states

    return _machine(states.WorkflowStatus, states.RUN_MOVES)


def layers() -> str:
    """The layers from top to bottom, one line each; rooms of a layer that may not see each other by `|`."""
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["importlinter"]
    (contract,) = [found for found in settings["contracts"] if found["id"] == "layers"]
    lines = []
    for layer in contract["layers"]:
        sign = ":" if ":" in layer else "|"
        built = [_short(room.strip()) for room in layer.split(sign) if "(" not in room]
        if built:
            lines += _folded(built, sign)
    return "```text\n" + "\n".join(lines) + "\n```\n"


SECTIONS: dict[str, Callable[[], str]] = {
    "layers": layers,
    "run-states": run_states,
    "task-states": task_states,
}


def _short(room: str) -> str:
    return (
        room.removeprefix("codomyrmex.")
        .replace("logistics.orchestration.project.", "")
        .replace("logistics.", "")
    )


def _folded(rooms: list[str], sign: str, width: int = 100) -> list[str]:
    """The rooms of one layer, on as many lines as it takes."""
    lines = [rooms[0]]
    for room in rooms[1:]:
        if len(lines[-1]) + len(room) + 3 > width:
            lines.append(f"    {sign} {room}")
        else:
            lines[-1] += f" {sign} {room}"
    return lines


def _machine(states: type[Enum], moves: Mapping[tuple[Any, Any], Any]) -> str:
    """A state diagram of the table of moves, and a line on what each state means."""
    leaving = {before for before, _ in moves}
    drawn = ["```mermaid", "stateDiagram-v2"]
    drawn += [f"    {before.name} --> {then.name}: {move.value}" for (before, move), then in moves.items()]
    drawn += [
        f"    {state.name} --> [*]" for state in states if state not in leaving and state in moves.values()
    ]
    drawn += ["```", "", "| state | what it means |", "| --- | --- |"]
    meanings = _meanings(states)
    drawn += [f"| {state.name} | {meanings.get(state.name, '')} |" for state in states]
    return "\n".join(drawn) + "\n"


def _meanings(states: type[Enum]) -> dict[str, str]:
    """The text that stands under each member in the source."""
    source = importlib.import_module(states.__module__).__file__ or ""
    for node in ast.parse(Path(source).read_text(encoding="utf-8")).body:
        if isinstance(node, ast.ClassDef) and node.name == states.__name__:
            return {
                member.targets[0].id: " ".join(text.value.value.split())
                for member, text in zip(node.body, node.body[1:], strict=False)
                if isinstance(member, ast.Assign)
                and isinstance(member.targets[0], ast.Name)
                and isinstance(text, ast.Expr)
                and isinstance(text.value, ast.Constant)
                and isinstance(text.value.value, str)
            }
    return {}


def renewed(text: str) -> str:
    """The document with every generated part as it is today; KeyError names a part that nobody generates."""
    return MARKED.sub(lambda found: f"{found[1]}\n{SECTIONS[found[2]]()}\n{found[3]}", text)


def main(arguments: list[str]) -> int:
    check = "--check" in arguments
    given = [Path(name) for name in arguments if name != "--check"]
    stale = 0
    for path in given or [*sorted(ROOT.glob("*.md")), *sorted((ROOT / "docs").rglob("*.md"))]:
        before = path.read_text(encoding="utf-8")
        try:
            after = renewed(before)
        except KeyError as unknown:
            print(f"{path}: nothing generates {unknown}; there are {', '.join(SECTIONS)}", file=sys.stderr)
            return 2
        if after != before:
            stale += 1
            print(f"{path}: {'out of date; run `make docs`' if check else 'written'}")
            if not check:
                path.write_text(after, encoding="utf-8")
    return 1 if check and stale else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
