"""What constants an annotation accepts."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from codomyrmex.logistics.orchestration.project.actions.annotations import json_type, read_judge

ACCEPTED: list[tuple[str, Any]] = [
    ("str", "text"),
    ("str", "3"),
    ("int", 3),
    ("float", 3),
    ("float", 0.5),
    ("bool", True),
    ("list", [1, "a"]),
    ("dict", {"a": 1}),
    ("Path", "data/in.csv"),
    ("pathlib.Path", "data/in.csv"),
    ("Path", {"$type": "path", "value": "/data"}),
    ("Optional[int]", None),
    ("typing.Optional[int]", 3),
    ("int | None", None),
    ("Union[str, list[str]]", ["a"]),
    ("Union[str, list[str]]", "a"),
    ("'int'", 3),
    ("Annotated[int, 'at least 1']", 3),
    ("list[int]", [1, 2]),
    ("List[int]", []),
    ("list[int | str]", [1, "a"]),
    ("list[list[int]]", [[1], []]),
    ("dict[str, int]", {"a": 1}),
    ("Mapping[str, str]", {"a": "b"}),
    ("int", "${parameters.n}"),
    ("int", "{{count.output}}"),
    ("list[int]", ["${item}", 2]),
    ("int", {"$secret": "TOKEN"}),
    ("list[int] | list[str]", ["a", 1]),
]
REFUSED: list[tuple[str, Any, tuple[Any, ...], str]] = [
    ("str", 3, (), "str"),
    ("str", None, (), "str"),
    ("int", "3", (), "int"),
    ("int", 0.5, (), "int"),
    ("float", "0.5", (), "float"),
    ("bool", 1, (), "bool"),
    ("bool", "yes", (), "bool"),
    ("list", {"a": 1}, (), "list"),
    ("list[str]", "a", (), "list[str]"),
    ("dict", [1], (), "dict"),
    ("Path", 3, (), "a path (text)"),
    ("Optional[int]", "3", (), "int or null"),
    ("str | list[str]", 3, (), "str or list[str]"),
    ("list[int]", [1, "a", 2], (1,), "int"),
    ("list[list[int]]", [[1], ["a"]], (1, 0), "int"),
    ("dict[str, int]", {"a": 1, "b": "c"}, ("b",), "int"),
    ("Optional[list[int]]", ["a"], (0,), "int"),
]
NOT_JUDGED = [
    "Any",
    "object",
    "Money",
    "tuple[int, ...]",
    "Sequence[str]",
    "Literal[b'a']",
    "Literal[A]",
    "int | Money",
    "T",
    "3 +",
]


@pytest.mark.parametrize(("annotation", "value"), ACCEPTED)
def test_a_value_of_the_type_passes(annotation: str, value: Any) -> None:
    judge = read_judge(annotation)

    assert judge is not None
    assert list(judge.faults(value)) == []


@pytest.mark.parametrize(("annotation", "value", "path", "wanted"), REFUSED)
def test_a_value_of_another_type_is_refused_at_its_place(
    annotation: str, value: Any, path: tuple[Any, ...], wanted: str
) -> None:
    judge = read_judge(annotation)

    assert judge is not None
    assert [(wrong.path, wrong.wanted) for wrong in judge.faults(value)] == [(path, wanted)]


@pytest.mark.parametrize("annotation", NOT_JUDGED)
def test_an_annotation_that_is_not_understood_accepts_everything(annotation: str) -> None:
    assert read_judge(annotation) is None


def test_a_default_of_none_lets_null_pass() -> None:
    judge = read_judge("str", or_none=True)

    assert judge is not None
    assert list(judge.faults(None)) == []
    assert [wrong.wanted for wrong in judge.faults(3)] == ["str or null"]


@pytest.mark.parametrize(
    ("annotation", "expected"),
    [
        ("str", "string"),
        ("int | None", "integer"),
        ("Optional[Path]", "string"),
        ("list[str]", "array"),
        ("Mapping[str, int]", "object"),
        ("int | str", None),
        ("Money", None),
        (None, None),
    ],
)
def test_the_json_type_of_an_annotation(annotation: str | None, expected: str | None) -> None:
    assert json_type(annotation) == expected


@given(st.text(max_size=40))
def test_no_text_in_an_annotation_is_an_error(annotation: str) -> None:
    read_judge(annotation)
    json_type(annotation)
