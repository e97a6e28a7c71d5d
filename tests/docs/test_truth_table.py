"""The tables of docs/concepts/conditions-and-triggers.md hold: row by row in the engine and in the interpreter."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
import truth_tables
from plain_expressions import Missing, Null, condition, template
from truth_tables import rows

from codomyrmex.testing import FinishedRun, run_workflow

TABLES = Path(__file__).parents[2] / "docs" / "concepts" / "conditions-and-triggers.md"
TRIGGERS = rows(TABLES, "triggers")
REFERENCES = rows(TABLES, "references")
RETURNED = {"n": 3, "none": None}
SPARE = 5
HEAD = {"codomyrmex": 1, "name": "table", "isolation": "thread"}
END_OF_CELL = {"runs": "completed", "fails": "failed"}


def test_the_tables_are_whole() -> None:
    rules = ["all_success", "none_failed", "all_done", "one_success", "one_failed"]
    assert list(TRIGGERS[0])[1:] == rules
    ends = {end for row in TRIGGERS for end in row["parents ended"].split(", ")}
    assert ends == {"(no parents)", *truth_tables.PARENTS}
    assert len(REFERENCES) > 20


@pytest.mark.parametrize("row", TRIGGERS, ids=lambda row: row["parents ended"])
def test_a_trigger_rule_does_as_its_cell_says(row: dict[str, str]) -> None:
    ends = [end for end in row["parents ended"].split(", ") if end != "(no parents)"]
    rules = [name for name in row if name != "parents ended"]
    run, oracle = truth_tables.judged(ends, rules)
    for rule in rules:
        wanted = END_OF_CELL.get(row[rule], row[rule])
        assert (rule, run.tasks[rule].status, oracle[rule]) == (rule, wanted, wanted)


@pytest.mark.parametrize("row", REFERENCES, ids=lambda row: row["written"])
def test_a_condition_or_reference_gives_what_its_cell_says(row: dict[str, str]) -> None:
    key, text = row["written"].strip("`").split(": ", 1)
    for column, skipped in (("`a` completed", False), ("`a` was skipped", True)):
        cell = row[column]
        assert engine_says(key, text, skipped=skipped) == cell
        assert plainly(key, text, skipped=skipped) == cell


def test_errors_of_a_fan_out_are_counted_by_item() -> None:
    document = {
        **HEAD,
        "steps": [
            {
                "name": "a",
                "module": "scripted_steps",
                "action": "act",
                "foreach": [
                    {"value": 1, "script": [said]} for said in ("ok", "ValueError", "ok", "KeyError")
                ],
                "parameters": {"script": ["ok"], "item": "${item}"},
                "on_item_failure": "continue",
            },
            _given("errors", "${steps.a.errors}"),
            {
                **_given("yes", 1),
                "run_if": "len(steps.a.errors) == 2 and steps.a.errors[3].type == 'KeyError'",
            },
        ],
    }
    run = run_workflow(document, stubs=_stubs("errors", "yes"))
    assert run.statuses()["yes"] == "completed"
    assert {number: error["type"] for number, error in run.results["errors"].items()} == {
        "1": "ValueError",
        "3": "KeyError",
    }
    assert run.results["a"] == [2, None, 2, None]


def engine_says(key: str, text: str, *, skipped: bool) -> str:
    """The cell that a real run fills in."""
    judged = {**_given("b", None), "trigger_rule": "all_done"}
    if key == "run_if":
        judged["run_if"] = text
    else:
        judged["parameters"] = {"value": text}
    document = {
        **HEAD,
        "parameters": {"spare": {"type": "integer", "default": SPARE}},
        "steps": [{**_given("a", RETURNED), **({"run_if": "false"} if skipped else {})}, judged],
    }
    run = run_workflow(document, stubs=_stubs("a", "b"))
    return _cell(run, key)


def plainly(key: str, text: str, *, skipped: bool) -> str:
    """The cell that plain Python fills in."""
    step = {
        "output": Null() if skipped else RETURNED,
        "status": "skipped" if skipped else "completed",
        "error": Null(),
    }
    names = {"steps": {"a": step}, "parameters": {"spare": SPARE}}
    try:
        if key == "run_if":
            return "runs" if condition(text, names) else "skipped"
        return json.dumps(template(text, names))
    except Missing:
        return "fails"


def _cell(run: FinishedRun, key: str) -> str:
    status = run.tasks["b"].status
    if status == "completed" and key == "with":
        return json.dumps(run.results["b"])
    return {"completed": "runs", "failed": "fails"}.get(status, status)


def _given(name: str, value: Any) -> dict[str, Any]:
    return {"name": name, "module": "table", "action": "given", "parameters": {"value": value}}


def _stubs(*names: str) -> dict[str, Any]:
    return dict.fromkeys(names, lambda value: value)


def test_every_cell_is_of_a_known_word() -> None:
    for row in TRIGGERS:
        assert set(list(row.values())[1:]) <= {"runs", "skipped", "cancelled"}
    for row in REFERENCES:
        for cell in list(row.values())[1:]:
            assert cell in ("runs", "skipped", "fails") or re.match(r'^[\d"{n]', cell)
