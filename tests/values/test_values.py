"""Tagged JSON: every value that may be kept comes back as it was, on both sides alike."""

from __future__ import annotations

import collections
import dataclasses
import datetime
import decimal
import enum
import math
import pathlib
import uuid
import zoneinfo
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from codomyrmex.logistics.orchestration.project import values
from codomyrmex.logistics.orchestration.project.executors.worker import values as worker_values


class Colour(enum.Enum):
    RED = "red"


class Level(enum.IntEnum):
    LOW = 1


@dataclasses.dataclass(frozen=True, slots=True)
class Point:
    x: int
    y: Any = None


class Row(msgspec.Struct):
    name: str
    size: int = 0


Pair = collections.namedtuple("Pair", "a b")
PARIS = zoneinfo.ZoneInfo("Europe/Paris")

PLAIN = [
    None,
    True,
    0,
    -(2**63),
    2**64 - 1,
    1.5,
    "",
    "é",
    [],
    {},
    [1, ["x", {"a": None}]],
    {"a": {"b": [1.0]}},
]
TAGGED = [
    datetime.datetime(2026, 11, 22, 3, 4, 5, 6),
    datetime.datetime(2026, 11, 22, tzinfo=datetime.UTC),
    datetime.datetime(2026, 10, 25, 2, 30, tzinfo=PARIS, fold=1),
    datetime.date(2026, 2, 28),
    datetime.time(1, 2, 3),
    datetime.timedelta(days=-1, microseconds=7),
    pathlib.Path("/a/b c"),
    decimal.Decimal("1.10"),
    uuid.UUID(int=7),
    b"\x00\xff",
    (1, (2, [3])),
    {1, 2},
    frozenset({"a"}),
    {1: "a", (1, 2): "b"},
    {"$type": "set", "value": [1]},
    {"a": {"$type": 5}},
    2**64,
    -(2**200),
    math.inf,
    "\udcff",
    {"\udcff": 1},
    Colour.RED,
    Level.LOW,
    Point(1, (2, Colour.RED)),
    Row("r", 2),
    [{"deep": [Point(1)]}],
]


@pytest.mark.parametrize("value", PLAIN, ids=repr)
def test_a_plain_tree_is_returned_as_the_very_same_object(value: Any) -> None:
    assert values.to_tagged(value) is value


@pytest.mark.parametrize("value", PLAIN + TAGGED, ids=repr)
def test_every_value_comes_back_with_its_type(value: Any) -> None:
    for written in (values.encode(value), worker_values.dumps(value)):
        for read in (values.load, worker_values.loads):
            found = read(written)
            assert found == value
            assert type(found) is type(value)


def test_not_a_number_and_a_named_zone_survive() -> None:
    assert math.isnan(values.decode(values.encode(math.nan)))
    found = values.load(values.encode(TAGGED[2]))
    assert (found.tzinfo, found.fold) == (PARIS, 1)


def test_the_engine_reads_records_as_dicts_and_enums_as_values() -> None:
    data = values.encode({"p": Point(1, Level.LOW), "r": Row("a"), "c": Colour.RED, "s": {Point(1)}})
    assert values.decode(data) == {
        "p": {"x": 1, "y": 1},
        "r": {"name": "a", "size": 0},
        "c": "red",
        "s": [{"x": 1, "y": None}],
    }


def test_subclasses_of_plain_types_are_the_plain_type() -> None:
    class Name(str):
        __slots__ = ()

    given = {
        "c": collections.Counter("aab"),
        "n": Name("x"),
        "d": collections.OrderedDict(a=1),
        "p": Pair(1, 2),
    }
    assert values.load(values.encode(given)) == {"c": {"a": 2, "b": 1}, "n": "x", "d": {"a": 1}, "p": (1, 2)}


def test_numbers_of_other_libraries_are_plain_numbers() -> None:
    class Scalar:
        ndim = 0

        def item(self) -> float:
            return 2.5

    Scalar.__module__ = "numpy"
    assert values.encode([Scalar()]) == b"[2.5]"


def test_sets_are_written_in_an_order_that_does_not_depend_on_hashing() -> None:
    assert values.encode({"b", "a", "c"}) == b'{"$type":"set","value":["a","b","c"]}'
    assert values.encode({(2,), (1,)}) == values.encode({(1,), (2,)})


def local_class() -> Any:
    @dataclasses.dataclass
    class Local:
        x: int = 1

    return Local()


def looped() -> Any:
    rows: list[Any] = []
    rows.append(rows)
    return rows


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ({"a": [0, {"b c": object()}]}, "output.a[1]['b c'] is a builtins.object, which cannot be kept"),
        ({"p": Point(object())}, "output.p.x is a builtins.object"),
        ((i for i in ()), "which can be read only once: make it a list"),
        (local_class(), "a class made inside a function"),
        (looped(), "is nested deeper than 200, or contains itself"),
        (print, "output is a builtins.builtin_function_or_method"),
    ],
)
def test_what_cannot_be_kept_is_named_with_its_place_and_the_ways_out(value: Any, message: str) -> None:
    with pytest.raises(values.Unserialisable) as caught:
        values.encode(value)
    assert message in str(caught.value)
    assert "write a file and return its Path" in str(caught.value)
    assert len(str(caught.value)) < 500


@pytest.mark.parametrize(
    "tree",
    [
        {"$type": "enum", "class": "os:system", "value": "true"},
        {"$type": "dataclass", "class": "subprocess:Popen", "value": {"args": "true"}},
        {"$type": "msgspec", "class": "builtins:dict", "value": {}},
        {"$type": "pydantic", "class": "builtins:dict", "value": {}},
        {"$type": "dataclass", "class": "absent_module:X", "value": {}},
        {"$type": "nonsense", "value": 1},
        {"$type": "set"},
    ],
)
def test_a_tag_never_calls_anything_but_the_kind_of_class_that_it_says(tree: Any) -> None:
    with pytest.raises(values.Undecodable):
        values.from_tagged(tree, classes=True)


json_trees = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=20,
)
hashable = st.none() | st.integers() | st.text() | st.binary() | st.decimals(allow_nan=False) | st.dates()
rich_trees = st.recursive(
    hashable | st.datetimes() | st.timedeltas() | st.uuids(),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.tuples(inner, inner)
        | st.dictionaries(hashable, inner, max_size=3)
        | st.frozensets(hashable, max_size=3)
    ),
    max_leaves=20,
)


@given(json_trees | rich_trees)
def test_any_tree_comes_back_from_either_side(tree: Any) -> None:
    assert values.load(values.encode(tree)) == tree
    assert values.decode(worker_values.dumps(tree)) == tree
    assert worker_values.loads(values.encode(tree)) == tree


@given(json_trees)
def test_a_tree_that_imitates_tags_is_not_taken_for_them(tree: Any) -> None:
    imitation = {"$type": "bytes", "value": tree}
    assert values.load(values.encode(imitation)) == imitation
