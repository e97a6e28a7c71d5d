"""A scope with one step of every kind: with an output, a dash in its name, tagged values, or skipped."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from codomyrmex.logistics.orchestration.project.expressions import MissingValue

OUTPUTS: dict[str, Any] = {
    "build": {"count": 5, "files": ["p", "q"], "ok": True, "nested": {"a": [{"b": 1}]}, "none": None},
    "build-wheel": {"path": "dist/x.whl", "a-b": 7},
    "empty": None,
    "typed": {
        "$type": "dataclass",
        "class": "m:C",
        "value": {"value": 3, "where": {"$type": "path", "value": "/data/in.csv"}},
    },
    "paths": [{"$type": "path", "value": "/a"}, {"$type": "path", "value": "/b"}],
    "pairs": {"$type": "dict", "value": [[1, "one"], ["$type", "two"]]},
}


@dataclass(kw_only=True)
class SampleScope:
    parameters: Mapping[str, object] = field(
        default_factory=lambda: {
            "x": 1,
            "name": "hi",
            "flag": False,
            "nothing": None,
            "list": [3, 1, 2],
            "a-b": 4,
        }
    )
    run: Mapping[str, object] = field(default_factory=lambda: {"id": "r1"})
    env: Mapping[str, str] = field(default_factory=lambda: {"HOME": "/root"})
    item: object = field(default_factory=lambda: {"name": "it", "list": [1, 2]})
    index: int | None = 3
    output: object = field(default_factory=lambda: {"id": 9, "parts": ["a"]})
    outputs: Mapping[str, Any] = field(default_factory=lambda: OUTPUTS)

    def step(self, name: str, field: str) -> object:
        if field == "status":
            return "completed" if name in self.outputs else "skipped"
        if field == "error":
            return None if name in self.outputs else {"type": "ValueError", "message": "no"}
        if field == "errors":
            return {"3": {"type": "ValueError", "message": "bad item"}} if name == "build" else {}
        if name not in self.outputs:
            raise MissingValue(f"step {name!r} was skipped")
        return self.outputs[name]
