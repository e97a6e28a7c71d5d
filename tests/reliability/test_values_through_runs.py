"""Values on their way through a run: large results, and types that JSON does not have."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from codomyrmex.logistics.orchestration.project.orchestration_engine import OrchestrationEngine

VALUES = """
from datetime import date
from pathlib import Path

def many(size):
    return {"items": [{"text": "x" * size, "number": number} for number in range(100)]}

def number_of(item):
    return item["number"]

def typed():
    return {"day": date(2024, 2, 29), "path": Path("/somewhere")}

def kinds(day, path, parameter):
    return [type(day).__name__, isinstance(path, Path), isinstance(parameter, Path)]
"""


@pytest.mark.parametrize("size", [10, 100, 2000])
def test_a_fan_out_reads_a_result_however_large_in_the_drain_that_records_it(
    size: int, tmp_path: Path
) -> None:
    (tmp_path / "passing.py").write_text(VALUES)
    document = {
        "codomyrmex": 1,
        "name": "passing",
        "parameters": {"place": {"type": "path", "default": "here"}},
        "steps": [
            {"name": "many", "call": "passing:many", "with": {"size": size}},
            {
                "name": "each",
                "call": "passing:number_of",
                "foreach": "${steps.many.output.items}",
                "with": {"item": "${item}"},
            },
            {"name": "typed", "call": "passing:typed"},
            {
                "name": "kinds",
                "call": "passing:kinds",
                "with": {
                    "day": "${steps.typed.output.day}",
                    "path": "${steps.typed.output.path}",
                    "parameter": "${parameters.place}",
                },
            },
        ],
    }
    for step in document["steps"]:  # type: ignore[attr-defined]
        step["isolation"] = "thread"
    (tmp_path / "passing.json").write_text(json.dumps(document))
    with OrchestrationEngine(state=tmp_path / "state", root=tmp_path) as engine:
        run = engine.execute_workflow(tmp_path / "passing.json")
        assert run.status == "completed", run.error
        found = engine.reader.results(run.execution_id)
        assert found["each"] == list(range(100))
        assert found["kinds"] == ["date", True, True]
