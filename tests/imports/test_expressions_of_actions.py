"""Expressions and matrices of GitHub Actions, computed as they are there."""

from __future__ import annotations

from typing import Any

import pytest

from codomyrmex.logistics.orchestration.project.workflow_import.actions_matrix import combinations
from codomyrmex.logistics.orchestration.project.workflow_import.actions_syntax import (
    UnreadableExpression,
    constant,
    fold,
    parse,
    pieces,
)

KNOWN: dict[tuple[str, ...], Any] = {
    ("matrix", "os"): "Ubuntu-latest", ("matrix", "n"): 0, ("matrix", "x"): None, ("matrix", "on"): True,
    ("matrix", "list"): ["a", "B"],
}  # fmt: skip


def value(source: str) -> Any:
    tree = fold(parse(source), lambda path: constant(KNOWN[path]) if path in KNOWN else None)
    assert tree.known, tree
    return tree.value


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("matrix.os == 'ubuntu-LATEST'", True),
        ("startsWith(matrix.os, 'ubuntu')", True),
        ("endsWith(matrix.os, 'windows')", False),
        ("contains(matrix.list, 'b')", True),
        ("matrix.n || '2'", "2"),
        ("matrix.x == ''", True),
        ("matrix.on && 'yes' || 'no'", "yes"),
        ("!matrix.on", False),
        ("!!matrix.on && !(1 == 2)", True),
        ("format('{0}-{1}{{}}', matrix.os, 3)", "Ubuntu-latest-3{}"),
        ("fromJSON('[1, 2]')", [1, 2]),
        ("join(matrix.list, '/')", "a/B"),
        ("'it''s'", "it's"),
        ("true == 1", True),
        ("0x1F == 31", True),
        ("false && github.ref", False),
        ("true || github.ref", True),
    ],
)
def test_what_an_import_can_know_is_computed(source: str, expected: object) -> None:
    assert value(source) == expected


def test_what_only_a_run_can_know_stays_and_the_rest_is_folded_away() -> None:
    tree = fold(
        parse("matrix.on && github.ref == 'x'"), lambda path: constant(True) if "on" in path else None
    )
    assert (tree.kind, tree.source) == ("==", "github.ref == 'x'")


def test_a_text_is_cut_at_its_expressions_also_with_braces_in_quotes() -> None:
    found = list(pieces("a ${{ format('}}') }} b ${{x}}"))
    assert [each if isinstance(each, str) else each.source for each in found] == [
        "a ",
        "format('}}')",
        " b ",
        "x",
    ]


@pytest.mark.parametrize("source", ["", "a ==", "(a", "a b", "a.", "f(a", "'x", "a[1", "§", "(" * 500 + "a"])
def test_what_is_no_expression_is_refused(source: str) -> None:
    with pytest.raises(UnreadableExpression):
        parse(source)


def test_a_matrix_is_the_product_without_what_is_excluded_and_with_what_is_included() -> None:
    matrix = {
        "os": ["linux", "mac"], "v": [1, 2],
        "exclude": [{"os": "mac", "v": 1}],
        "include": [{"color": "green"}, {"os": "mac", "shape": "square"}, {"os": "windows", "v": 9}],
    }  # fmt: skip
    assert combinations(matrix) == [
        {"os": "linux", "v": 1, "color": "green"},
        {"os": "linux", "v": 2, "color": "green"},
        {"os": "mac", "v": 2, "color": "green", "shape": "square"},
        {"os": "windows", "v": 9},
    ]


def test_included_entries_alone_are_combinations_of_their_own() -> None:
    assert combinations({"include": [{"a": 1}, {"b": 2}]}) == [{"a": 1}, {"b": 2}]


@pytest.mark.parametrize("matrix", [{"a": "${{ x }}"}, {"include": [1]}, {"a": list(range(300))}])
def test_a_matrix_that_cannot_be_worked_out_is_refused(matrix: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"no list|at most 256"):
        combinations(matrix)
