"""Values of parameters: read by the declared type, from text, JSON or Python alike."""

from __future__ import annotations

from datetime import date
from pathlib import Path
from typing import Any

import pytest

from codomyrmex.logistics.orchestration.project.workflow_parameters import (
    ParameterError,
    bind_parameters,
    normalise_declaration,
    read_parameter,
)

DOCUMENT: dict[str, Any] = {
    "parameters": {
        "root": {"type": "path", "default": "."},
        "shards": {"type": "integer", "default": 3},
        "day": {"type": "date"},
        "level": {"type": "string", "default": "low", "choices": ["low", "high"]},
        "note": {"type": "string", "default": None},
    }
}


@pytest.mark.parametrize(
    ("kind", "given", "value"),
    [
        ("string", "a", "a"), ("string", 3, "3"), ("string", True, "true"),
        ("integer", "3", 3), ("integer", " -3 ", -3), ("integer", 3.0, 3), ("integer", "0755", 755),
        ("number", "1.10", 1.1), ("number", "1e3", 1000.0), ("number", "3", 3), ("number", 0.5, 0.5),
        ("boolean", "yes", True), ("boolean", "False", False), ("boolean", True, True), ("boolean", 0, False),
        ("list", '["a", 1]', ["a", 1]), ("list", ("a", 1), ["a", 1]), ("list", [], []),
        ("object", '{"a": 1}', {"a": 1}), ("object", {"a": 1}, {"a": 1}),
        ("path", "data", Path("/here/data")), ("path", "/data", Path("/data")),
        ("path", Path("x"), Path("/here/x")),
        ("date", "2026-03-31", date(2026, 3, 31)), ("date", date(2026, 3, 31), date(2026, 3, 31)),
    ],
)  # fmt: skip
def test_values_of_every_type(kind: str, given: Any, value: Any) -> None:
    read = read_parameter("p", {"type": kind}, given, "/here")

    assert read == value
    assert type(read) is type(value)


@pytest.mark.parametrize(
    ("kind", "given"),
    [
        ("string", ["a"]), ("string", None), ("integer", "three"), ("integer", 3.5), ("integer", True),
        ("integer", "9" * 5000),
        ("number", "nan"), ("number", "fast"), ("number", True), ("boolean", "maybe"),
        ("boolean", 2), ("boolean", 0.5), ("list", "a, b"), ("list", '{"a": 1}'), ("object", "[1]"),
        ("object", "{" * 5000), ("path", ""), ("path", 3), ("path", "a\0b"),
        ("date", "31.03.2026"), ("date", 20260331),
    ],
)  # fmt: skip
def test_what_a_type_cannot_read(kind: str, given: Any) -> None:
    with pytest.raises(ParameterError, match="is needed, got"):
        read_parameter("p", {"type": kind}, given, "/here")


def test_given_paths_are_relative_to_the_caller_and_defaults_to_the_root() -> None:
    given, _ = bind_parameters(
        DOCUMENT, {"day": "2026-01-01", "root": "x"}, caller_dir="/caller", root="/root"
    )
    default, _ = bind_parameters(DOCUMENT, {"day": "2026-01-01"}, caller_dir="/caller", root="/root")

    assert (given["root"], default["root"]) == (Path("/caller/x"), Path("/root"))
    assert default == {
        "root": Path("/root"),
        "shards": 3,
        "day": date(2026, 1, 1),
        "level": "low",
        "note": None,
    }


def test_every_wrong_parameter_is_told_at_once() -> None:
    given = {"shrads": 3, "shards": "many", "level": "medium"}

    _, faults = bind_parameters(DOCUMENT, given, caller_dir="/", root="/")

    assert [str(fault) for fault in faults] == [
        "parameters.shrads: there is no parameter 'shrads'; did you mean 'shards'?",
        "parameters.shards: an integer is needed, got text 'many'",
        "parameters.day: a value is needed: date without a default\n    give it with: -p day=2026-03-31",
        "parameters.level: text 'medium' is not one of the choices; allowed: low, high",
    ]


def test_a_workflow_without_parameters_says_so() -> None:
    _, faults = bind_parameters({}, {"x": 1}, caller_dir="/", root="/")

    assert [str(fault) for fault in faults] == [
        "parameters.x: there is no parameter 'x'; this workflow takes none"
    ]


@pytest.mark.parametrize(
    ("default", "kind"),
    [
        (3, "integer"),
        (0.5, "number"),
        (True, "boolean"),
        ([1], "list"),
        ({}, "object"),
        ("a", "string"),
        (None, "string"),
    ],
)
def test_a_declaration_without_a_type_takes_that_of_its_default(default: Any, kind: str) -> None:
    assert normalise_declaration({"default": default}) == {"type": kind, "default": default}
