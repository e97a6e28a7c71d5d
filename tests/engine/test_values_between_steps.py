"""A value that one step returns is the value that the next one gets, whatever carries it."""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from codomyrmex import OrchestrationEngine, Workflow


def make() -> dict[str, Any]:
    return {
        "path": Path("/a/b"),
        "at": datetime(2026, 1, 2, 3, 4, tzinfo=UTC),
        "price": Decimal("1.10"),
        "raw": b"\x00\xff",
        "pair": (1, "x"),
        "names": {"a"},
        "odd": {1: "one", "$type": "mine"},
        "nothing": None,
    }


def kinds(value: dict[str, Any], given: Path, item: tuple[int, str]) -> list[str]:
    assert value == make()
    return [type(each).__name__ for each in (*value.values(), given, item)]


@pytest.mark.parametrize("isolation", ["thread", "process", "async"])
def test_types_survive_the_way_from_step_to_step(isolation: str, tmp_path: Path) -> None:
    workflow = Workflow("values")
    made = workflow.step(make).options(isolation=isolation)
    seen = workflow.step(kinds, value=made.output, given=Path("/c"), item=made.output["pair"])
    seen.options(isolation=isolation)
    with OrchestrationEngine(state=tmp_path / "state", root=Path(__file__).parent) as engine:
        execution = engine.execute_workflow(workflow)
        assert execution.error is None
        expected = ["datetime", "Decimal", "bytes", "tuple", "set", "dict", "NoneType", "PosixPath", "tuple"]
        assert execution.results["kinds"] == ["PosixPath", *expected]
        assert execution.results["make"] == make()
