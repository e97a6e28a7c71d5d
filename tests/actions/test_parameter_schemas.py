"""Type hints as JSON Schemas, and constants held against them, whether source or a worker told the types."""

from __future__ import annotations

import dataclasses
import enum
from pathlib import Path
from typing import Any, Literal, TypedDict

import jsonschema_rs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from codomyrmex.exceptions import Fault
from codomyrmex.logistics.orchestration.project.actions.annotations import read_judge
from codomyrmex.logistics.orchestration.project.actions.built_in import built_ins
from codomyrmex.logistics.orchestration.project.actions.catalogue import ActionCatalogue
from codomyrmex.logistics.orchestration.project.actions.description import ActionDescription, Origin
from codomyrmex.logistics.orchestration.project.actions.named_types import nothing
from codomyrmex.logistics.orchestration.project.actions.parameter_schema import (
    schema_of_parameters,
    type_text,
)
from codomyrmex.logistics.orchestration.project.actions.signature import outline_of
from codomyrmex.logistics.orchestration.project.actions.told import described_by_worker
from codomyrmex.logistics.orchestration.project.executors.worker.describe import describe_function
from codomyrmex.logistics.orchestration.project.function_check import check_functions

KINDS = '''
from dataclasses import dataclass, field
from enum import Enum, StrEnum, auto
from typing import ClassVar, Literal, NotRequired, TypedDict


class Colour(Enum):
    RED = "red"
    GREEN = "green"


class Mode(StrEnum):
    FAST = auto()
    SLOW = auto()


class Odd(Enum):
    A = object()


@dataclass
class Point:
    """A place."""

    x: int
    y: float = 0.0
    inside: "list[Point]" = field(default_factory=list)
    seen: int = field(init=False, default=0)
    count: ClassVar[int] = 0


@dataclass
class Named(Point):
    name: str = ""


class Options(TypedDict):
    depth: int
    quiet: NotRequired[bool]


Level = Literal[1, 2] | None


class Plain:
    pass
'''
ACTIONS = '''
import datetime as dt
from collections.abc import Mapping, Sequence
from datetime import date as day
from pathlib import Path
from typing import Annotated, Any, Literal, Optional, Union
from uuid import UUID

from kinds import Colour, Level, Mode, Named as Placed, Odd, Options, Plain, Point


def act(
    path: Path,
    /,
    root: Path,
    text: str = "a",
    count: int | None = 3,
    ratio: Optional[float] = None,
    colour: Colour = Colour.RED,
    mode: Mode = None,
    level: Level = None,
    kind: Literal["a", "b"] | int = "a",
    on: day = None,
    at: "dt.datetime | None" = None,
    ident: UUID = None,
    sizes: list[int] = (1, 2),
    table: Mapping[str, list[float]] = {},
    pair: tuple[int, str] = None,
    many: tuple[int, ...] = None,
    names: set[str] = None,
    where: Point = None,
    placed: Sequence[Placed] = (),
    options: Options = {},
    noted: Annotated[int, "how much"] = 0,
    odd: Odd = None,
    plain: Plain = None,
    anything: Any = None,
    bare=1,
    computed: int = len("abc"),
):
    """Acts.

    Args:
        root: the folder
    """
'''
POINT = {
    "type": "object",
    "properties": {
        "x": {"type": "integer"},
        "y": {"type": "number"},
        "inside": {"type": "array", "items": {"$ref": "#/$defs/Point"}},
    },
    "additionalProperties": False,
    "required": ["x"],
    "description": "A place.",
}
NULL = {"type": "null"}
EXPECTED: dict[str, Any] = {
    "root": {"type": "string", "format": "path", "description": "the folder"},
    "text": {"type": "string", "default": "a"},
    "count": {"type": ["integer", "null"], "default": 3},
    "ratio": {"type": ["number", "null"], "default": None},
    "colour": {"enum": ["red", "green"]},
    "mode": {"enum": ["fast", "slow", None], "default": None},
    "level": {"enum": [1, 2, None], "default": None},
    "kind": {"anyOf": [{"enum": ["a", "b"]}, {"type": "integer"}], "default": "a"},
    "on": {"anyOf": [{"type": "string", "format": "date"}, NULL], "default": None},
    "at": {"anyOf": [{"type": "string", "format": "date-time"}, NULL], "default": None},
    "ident": {"anyOf": [{"type": "string", "format": "uuid"}, NULL], "default": None},
    "sizes": {"type": "array", "items": {"type": "integer"}, "default": [1, 2]},
    "table": {
        "type": "object",
        "additionalProperties": {"type": "array", "items": {"type": "number"}},
        "default": {},
    },
    "pair": {
        "anyOf": [
            {
                "type": "array",
                "prefixItems": [{"type": "integer"}, {"type": "string"}],
                "minItems": 2,
                "maxItems": 2,
            },
            NULL,
        ],
        "default": None,
    },
    "many": {"anyOf": [{"type": "array", "items": {"type": "integer"}}, NULL], "default": None},
    "names": {
        "anyOf": [{"type": "array", "items": {"type": "string"}, "uniqueItems": True}, NULL],
        "default": None,
    },
    "where": {"anyOf": [{"$ref": "#/$defs/Point"}, NULL], "default": None},
    "placed": {"type": "array", "items": {"$ref": "#/$defs/Named"}, "default": []},
    "options": {"$ref": "#/$defs/Options", "default": {}},
    "noted": {"type": "integer", "description": "how much", "default": 0},
    "odd": {"default": None},
    "plain": {"default": None},
    "anything": {"default": None},
    "bare": {"default": 1},
    "computed": {"type": "integer"},
}


class Shade(enum.Enum):
    DARK = "dark"
    LIGHT = "light"


@dataclasses.dataclass
class Box:
    """Holds boxes."""

    size: int
    inside: list[Box] = dataclasses.field(default_factory=list)


class Wish(TypedDict, total=False):
    depth: int


def told(shade: Shade, box: Box | None = None, wish: Wish | None = None, how: Literal["a", 1] = "a") -> Path:
    """Told by a worker.

    :param shade: how dark
    """
    return Path()


def described(function: Any) -> ActionDescription:
    answer = {"found": True, **describe_function(function)}
    return described_by_worker(answer, "m", "a", origin=Origin.PROJECT, target=("m", "a"))


@pytest.fixture
def catalogue(tmp_path: Path) -> ActionCatalogue:
    (tmp_path / "kinds.py").write_text(KINDS)
    (tmp_path / "acts.py").write_text(ACTIONS)
    return ActionCatalogue(tmp_path)


def faults(catalogue: ActionCatalogue, action: str = "act", **parameters: Any) -> list[tuple[Any, Fault]]:
    steps = [{"name": "s", "module": "acts", "action": action, "parameters": {"root": "r", **parameters}}]
    found = catalogue.check({"steps": steps})
    return [(path[3:], fault) for path, fault in found if fault.code != "by_position"]


def test_every_kind_of_hint_has_its_schema(catalogue: ActionCatalogue) -> None:
    schema = catalogue.find("acts", "act").schema
    assert schema["properties"] == EXPECTED
    assert (schema["required"], schema["additionalProperties"]) == (["root"], False)
    assert schema["$defs"]["Point"] == POINT
    assert list(schema["$defs"]["Named"]["properties"]) == ["x", "y", "inside", "name"]
    assert schema["$defs"]["Options"]["required"] == ["depth"]
    assert jsonschema_rs.meta.is_valid(schema)


def test_a_worker_tells_types_that_give_the_same_schemas() -> None:
    schema = described(told).schema
    assert schema["properties"] == {
        "shade": {"enum": ["dark", "light"], "description": "how dark"},
        "box": {"anyOf": [{"$ref": "#/$defs/Box"}, NULL], "default": None},
        "wish": {"anyOf": [{"$ref": "#/$defs/Wish"}, NULL], "default": None},
        "how": {"enum": ["a", 1], "default": "a"},
    }
    assert schema["$defs"]["Box"]["properties"]["inside"] == {
        "type": "array",
        "items": {"$ref": "#/$defs/Box"},
    }
    assert schema["$defs"]["Wish"]["required"] == []
    assert jsonschema_rs.meta.is_valid(schema)


def test_every_built_in_has_a_schema() -> None:
    for actions in built_ins().values():
        for action in actions.values():
            assert jsonschema_rs.meta.is_valid(action.schema)
            required = [each.name for each in action.parameters if each.required]
            assert action.to_dict()["schema"].get("required", []) == required


@pytest.mark.parametrize(
    ("given", "path", "said", "nearest"),
    [
        ({"colour": "grean"}, ("colour",), "takes 'red' or 'green' for 'colour'", "green"),
        ({"mode": "fats"}, ("mode",), "'fast' or 'slow'", "fast"),
        ({"level": 3}, ("level",), "takes 1 or 2 or null", None),
        ({"kind": "c"}, ("kind",), "takes 'a' or 'b' or int", None),
        ({"on": "2026-13-01"}, ("on",), "a date (text like 2026-03-31)", None),
        ({"on": 3}, ("on",), "a date", None),
        ({"at": "noon"}, ("at",), "a moment", None),
        ({"ident": "x"}, ("ident",), "a UUID", None),
        ({"where": {"y": 1}}, ("where",), "takes Point with the key 'x'", None),
        ({"where": {"x": 1, "z": 2}}, ("where", "z"), "only the keys of Point (x, y, inside)", None),
        ({"where": {"x": 1, "inside": [{"x": "a"}]}}, ("where", "inside", 0, "x"), "takes int", None),
        ({"options": {"depth": "deep"}}, ("options", "depth"), "takes int", None),
        ({"table": {"a": ["x"]}}, ("table", "a", 0), "takes float", None),
        ({"root": 3}, ("root",), "a path (text)", None),
    ],
)
def test_a_constant_that_breaks_its_hint_is_a_fault_at_its_place(
    given: dict[str, Any], path: tuple[Any, ...], said: str, nearest: str | None, catalogue: ActionCatalogue
) -> None:
    ((where, fault),) = faults(catalogue, **given)
    assert where == path
    assert said in fault.message
    assert fault.nearest == nearest


@pytest.mark.parametrize(
    "given",
    [
        {"colour": "${parameters.colour}"},
        {"where": "${steps.a.output}"},
        {"where": {"x": "${item}"}},
        {"where": {"$type": "dataclass", "class": "kinds:Point", "value": {}}},
        {"placed": [{"x": 1, "name": "${item}", "inside": [{"x": 2}]}]},
        {"options": {"depth": 1}},
        {"on": {"$type": "date", "value": "2026-01-01"}},
        {"odd": 3, "plain": 4, "level": None, "mode": None, "kind": 7},
    ],
)
def test_references_tagged_values_and_what_fits_pass(
    given: dict[str, Any], catalogue: ActionCatalogue
) -> None:
    assert faults(catalogue, **given) == []


def test_functions_at_hand_are_judged_by_the_same_rules() -> None:
    steps = [
        {"name": "s", "module": "m", "action": "a", "parameters": {"shade": "drak", "box": {"size": "x"}}}
    ]
    found = check_functions({"steps": steps}, {"s": told}, options=())
    assert [(path[3:], fault.nearest) for path, fault in found] == [
        (("shade",), "dark"),
        (("box", "size"), None),
    ]


def test_handlers_and_compensations_are_checked_too(catalogue: ActionCatalogue) -> None:
    wrong = {"module": "acts", "action": "act", "parameters": {"root": "r", "colour": "blue"}}
    document = {
        "steps": [{"name": "wait", "sleep": 1.0}, {"name": "s", "sleep": 1, "compensate": wrong}],
        "finally": [{"name": "f", **wrong}],
        "on_failure": [{"name": "o", "module": "acts", "action": "atc"}],
    }
    places = [path for path, fault in catalogue.check(document) if fault.code != "by_position"]
    assert places == [
        ("steps", 1, "compensate", "parameters", "colour"),
        ("on_failure", 0, "action"),
        ("finally", 0, "parameters", "colour"),
    ]


RETURNS = """
import socket
import threading as t
from threading import Lock
from typing import Iterator
from kinds import Plain, Point

def connect() -> socket.socket: ...
def lock() -> "Lock | None": ...
def once() -> Iterator[int]: ...
def plain() -> Plain: ...
def numbers():
    for n in range(3):
        yield n

def point() -> Point: ...
def either() -> Plain | int: ...
def maybe() -> dict[str, socket.socket] | list: ...
def inner():
    def generator():
        yield 1
    return list(generator())
def unknown() -> "Whatever": ...
"""


@pytest.mark.parametrize(
    ("action", "said"),
    [
        ("connect", "returning:connect returns socket.socket, which means nothing outside the process"),
        ("lock", "returning:lock returns threading.Lock"),
        ("once", "can be read only once: return a list"),
        ("plain", "returning:plain returns Plain, a class that is no dataclass"),
        ("numbers", "returning:numbers is a generator"),
        ("point", None),
        ("either", None),
        ("maybe", None),
        ("inner", None),
        ("unknown", None),
    ],
)
def test_a_result_that_cannot_be_kept_is_warned_of_and_no_fault(
    action: str, said: str | None, tmp_path: Path
) -> None:
    (tmp_path / "kinds.py").write_text(KINDS)
    (tmp_path / "returning.py").write_text(RETURNS)
    catalogue = ActionCatalogue(tmp_path)
    assert catalogue.check({"steps": [{"name": "s", "module": "returning", "action": action}]}) == []
    assert [said in text for text in catalogue.warnings] == ([] if said is None else [True])


def test_a_project_with_codecs_is_not_warned_of_its_own_classes(tmp_path: Path) -> None:
    (tmp_path / "kinds.py").write_text(KINDS)
    (tmp_path / "returning.py").write_text(RETURNS)
    (tmp_path / "codecs_here.py").write_text("register_codec('kinds.Plain')")
    catalogue = ActionCatalogue(tmp_path)
    steps = [{"name": name, "module": "returning", "action": name} for name in ("plain", "connect")]
    catalogue.check({"steps": steps})
    assert ["connect" in text for text in catalogue.warnings] == [True]


HINTS = [
    "str", "int", "float", "bool", "None", "list", "list[int]", "dict[str, float]", "int | str | None",
    "Literal['a', 1, None]", "list[Literal['x']]", "Optional[list[str]]", "date", "Path", "dict[str, list[bool]]",
    "Sequence[int]", "tuple[int, str]", "set[int]", "Whatever", "Any",
]  # fmt: skip
JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-3, 3)
    # 0.0 is an integer to JSON Schema, and a float to a function in Python: there the two differ rightly.
    | st.floats(allow_nan=False).filter(lambda number: not number.is_integer())
    | st.sampled_from(["a", "x", "2026-01-01"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from("ab"), inner, max_size=2),
    max_leaves=5,
)


@given(st.sampled_from(HINTS), JSON)
def test_what_a_schema_takes_is_never_called_wrong(hint: str, value: Any) -> None:
    outline = outline_of(f"def f(x: {hint}): ...".encode(), "m")
    signature = outline.signature("f")
    assert signature is not None
    schema = schema_of_parameters(signature.parameters, lookup=nothing, accepts_any=False)
    judge = read_judge(hint)
    if (
        jsonschema_rs.validator_for(schema, validate_formats=True).is_valid({"x": value})
        and judge is not None
    ):
        assert list(judge.faults(value)) == []
        assert type_text(schema["properties"]["x"])
