"""Reading the tables of a document, and a run in which steps ended as a row says."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from codomyrmex.testing import FinishedRun, run_workflow

sys.path.insert(0, str(Path(__file__).parents[1] / "core"))

from random_workflows import check, document, expected, moves
from reference_interpreter import Interpreter
from reference_rules import plain

PARENTS: dict[str, dict[str, Any]] = {
    "completed": {},
    "failed": {"script": ["ValueError"]},
    "cancelled": {"parents": ["broken"]},
    "skipped": {"parents": ["fine"], "condition": ("status", "fine", "failed")},
    "optional failed": {"script": ["ValueError"], "required": False},
}


def rows(file: Path, name: str) -> list[dict[str, str]]:
    """The rows of the table that a document marks with `<!-- truth table: NAME -->`, cells by their titles."""
    text = file.read_text(encoding="utf-8")
    table = text.partition(f"<!-- truth table: {name} -->")[2].partition("<!-- end truth table -->")[0]
    lines = [
        [cell.strip() for cell in line.strip().strip("|").split(" |")]
        for line in table.splitlines()
        if line.startswith("|")
    ]
    titles, _rule, *cells = lines
    return [dict(zip(titles, row, strict=True)) for row in cells]


def judged(ends: Sequence[str], rules: Sequence[str]) -> tuple[FinishedRun, dict[str, str]]:
    """A run in which one step for each rule needs steps that ended so; the states that the interpreter gives."""
    parents = [plain(f"p{number}", **PARENTS[end]) for number, end in enumerate(ends)]
    names = [parent["name"] for parent in parents]
    chosen = [
        plain("fine"),
        plain("broken", script=["ValueError"]),
        *parents,
        *(plain(rule, rule=rule, parents=names) for rule in rules),
    ]
    run = run_workflow(document(chosen))
    check(run, chosen)
    oracle = Interpreter(
        {"steps": chosen, "on_failure": [], "finally": [], "fail_fast": False, "result": None}, expected, {}
    )
    for commit in moves(run, {step["name"]: step for step in chosen}, {}):
        oracle.commit(commit)
    return run, oracle.state
