"""`codomyrmex workflows test`: cases in files, run in memory, told as a table or as JSON."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

WORKFLOW = """
codomyrmex: 1
name: nightly
parameters: {rows: {type: integer, default: 3}}
steps:
  - {name: fetch, call: "shop:fetch", with: {rows: "${parameters.rows}"}, retry: 2}
  - {name: approve, approval: {message: "Send?"}, needs: [fetch]}
  - {name: count, call: "./acts.py:count", with: {rows: "${steps.fetch.output.rows}"}, needs: [approve]}
outputs: {count: "${steps.count.output}"}
"""
ACTS = "def count(rows): return len(rows)\n"
TESTS = """
cases:
  - name: a failed download is tried again
    stubs:
      fetch: {attempts: [{error: "ConnectionError: gone"}, {output: {rows: [1, 2]}}]}
      approve: {approved: true}
    expect:
      outputs: {count: 2}
      attempts: {fetch: 2}
      order: [fetch, approve, count]
      steps: {fetch: completed, count: completed}
  - name: a no sends nothing
    parameters: {rows: 1}
    stubs:
      fetch: {output: {rows: [1]}}
      approve: {approved: false, comment: not today}
      count: {output: 1}
    expect: {status: failed, error: not today, steps: {approve: failed, count: cancelled}}
"""


@pytest.fixture
def nightly(project: Path) -> Path:
    (project / "workflows").mkdir()
    (project / "workflows" / "nightly.yaml").write_text(WORKFLOW)
    (project / "workflows" / "acts.py").write_text(ACTS)
    (project / "workflows" / "nightly.test.yaml").write_text(TESTS)
    (project / ".git").mkdir()
    return project


def test_cases_that_hold_are_a_table_and_exit_0(cli: Callable[..., Any], nightly: Path) -> None:
    ended = cli("workflows", "test")
    assert (ended.code, "2 cases passed" in ended.err) == (0, True)
    assert [line.split()[0] for line in ended.out.splitlines()] == ["RESULT", "passed", "passed"]
    assert all(len(line) <= 80 for line in ended.out.splitlines())


def test_a_file_of_tests_is_no_workflow(cli: Callable[..., Any], nightly: Path) -> None:
    document = cli("workflows", "list", "--json").document
    assert [row["name"] for row in document["data"]["workflows"]] == ["nightly"]


def test_json_has_a_row_for_each_case(cli: Callable[..., Any], nightly: Path) -> None:
    data = cli("workflows", "test", "workflows/nightly.test.yaml", "--json").document["data"]
    assert (data["total"], data["passed"], data["failed"], data["next_cursor"]) == (2, 2, 0, None)
    assert [row["status"] for row in data["cases"]] == ["completed", "failed"]
    assert {row["file"] for row in data["cases"]} == {"workflows/nightly.test.yaml"}


def test_what_differs_is_said_and_exits_1(cli: Callable[..., Any], nightly: Path) -> None:
    case = {
        "name": "wrong in every way",
        "stubs": {"fetch": {"output": {"rows": []}}, "approve": {"approved": True}},
        "expect": {
            "status": "failed",
            "outputs": {"count": 1, "sum": 2},
            "results": {"count": 1},
            "steps": {"count": "skipped", "gone": "completed"},
            "attempts": {"fetch": 3},
            "order": ["count", "fetch"],
        },
    }
    (nightly / "nightly.test.json").write_text(json.dumps({"workflow": "nightly", "cases": [case]}))
    ended = cli("workflows", "test", "nightly.test.json", "--json")
    assert (ended.code, ended.document["error"]["code"]) == (1, "tests_failed")
    assert ended.document["data"]["cases"][0]["problems"] == [
        "the run is completed, not failed",
        "count is completed, not skipped",
        "gone is not there, not completed",
        "the output count is 0, not 1",
        "there is no output sum",
        "the result of count is 0, not 1",
        "fetch had 1 attempts, not 3",
        "the order was fetch, count",
    ]
    shown = cli("workflows", "test", "nightly.test.json")
    assert "  there is no output sum" in shown.out.splitlines()


@pytest.mark.parametrize(
    ("case", "problem"),
    [
        ({"stubs": {"fech": {"output": 1}}}, "'fetch'"),
        ({"stubs": {"fetch": {"output": {"rows": []}}}}, "waits for an approval"),
        ({"parameters": {"row": 1}}, "no parameter 'row'"),
    ],
)
def test_a_case_that_cannot_run_has_failed(
    cli: Callable[..., Any], nightly: Path, case: dict[str, Any], problem: str
) -> None:
    tests = {"workflow": "workflows/nightly.yaml", "cases": [{"name": "x", **case}]}
    (nightly / "x.test.json").write_text(json.dumps(tests))
    ended = cli("workflows", "test", "x.test.json")
    assert ended.code == 1
    assert problem in ended.out


def test_every_fault_of_a_file_is_told_with_its_line_and_nothing_runs(
    cli: Callable[..., Any], nightly: Path
) -> None:
    (nightly / "workflows" / "bad.test.yaml").write_text(
        "workflow: nightly\n"
        "case: 1\n"
        "cases:\n"
        "  - name: one\n"
        "    stubs:\n"
        "      fetch: 3\n"
        "    expect:\n"
        "      status: complete\n"
        "      order: fetch\n"
    )
    ended = cli("workflows", "test")
    assert ended.code == 2
    for line, words in (
        (2, "unknown key 'case'; did you mean 'cases'?"),
        (6, "a stub is a mapping"),
        (8, "did you mean 'completed'?"),
        (9, "an order is a list"),
    ):
        assert any(f"bad.test.yaml:{line}:" in row and words in row for row in ended.err.splitlines()), words
    assert "passed" not in ended.out


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("cases: []", "cases are a list"),
        ("workflow: x", "`cases` is missing"),
        ("cases: [{name: a}, {name: a}]", "two cases are called 'a'"),
        ("cases: [{name: a, stubs: {b: {output: 1, error: x}}}]", "a stub says one thing"),
        ("cases: [{name: a, stubs: {b: {output: 1, data: x}}}]", "go with `approved`"),
        ("cases: [", "a.test.yaml:1"),
    ],
)
def test_a_faulty_file_of_tests_exits_2(
    cli: Callable[..., Any], project: Path, text: str, words: str
) -> None:
    (project / "a.test.yaml").write_text(text)
    ended = cli("workflows", "test", "a.test.yaml")
    assert ended.code == 2
    assert words in ended.err


def test_no_tests_are_no_failure(cli: Callable[..., Any], project: Path) -> None:
    ended = cli("workflows", "test")
    assert (ended.code, ended.out) == (0, "")
    assert "no tests of workflows" in ended.err
