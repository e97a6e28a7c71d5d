"""What a `foreach` stands for once it is resolved."""

from __future__ import annotations

from typing import Any

import pytest

from codomyrmex.logistics.orchestration.project.expressions import EvaluationError
from codomyrmex.logistics.orchestration.project.run_scope import fan_out_items, grid_items


@pytest.mark.parametrize(
    ("value", "items"),
    [
        ([], []),
        ([1, "a"], [1, "a"]),
        ({"$type": "tuple", "value": [1, 2]}, [1, 2]),
        ({"$type": "set", "value": [3]}, [3]),
    ],
)
def test_lists_have_items_in_order(value: Any, items: list[Any]) -> None:
    assert fan_out_items(value) == items


@pytest.mark.parametrize(
    "value", [3, "text", None, {"a": 1}, {"a": [1]}, {"$type": "date", "value": "2026-01-01"}]
)
def test_everything_else_is_refused(value: Any) -> None:
    with pytest.raises(EvaluationError):
        fan_out_items(value)


@pytest.mark.parametrize(
    ("grid", "items"),
    [
        (
            {"a": [1, 2], "b": ["x", "y"]},
            [{"a": 1, "b": "x"}, {"a": 1, "b": "y"}, {"a": 2, "b": "x"}, {"a": 2, "b": "y"}],
        ),
        ({"a": [1], "b": []}, []),
    ],
)
def test_a_grid_is_every_combination_and_the_last_name_varies_fastest(
    grid: dict[str, Any], items: list[Any]
) -> None:
    assert grid_items(grid) == items


def test_a_grid_with_what_is_no_list_is_refused_by_name() -> None:
    with pytest.raises(EvaluationError, match="'b' of the grid"):
        grid_items({"a": [1], "b": 2})
