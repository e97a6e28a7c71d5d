"""The values of expressions: how they are read, written as text, and what the named functions do with them.

Pure. Values are JSON trees; what JSON lacks stands in them as `{"$type": T, "value": ...}`, and `plain` reads
such a tag as the JSON value inside it (a path is its text, an enum its value, a data class its fields).
Invariants: a function never mutates an argument, never makes more than `MAX_ITEMS` items or `MAX_TEXT`
characters, and raises nothing but `EvaluationError`. Null reads as the empty collection.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from codomyrmex.exceptions import CodomyrmexError

MAX_ITEMS: Final = 200_000
MAX_TEXT: Final = 32 * 1024 * 1024
MAX_INTEGER: Final = 2**63

_COLLECTIONS: Final = (list, tuple, set, frozenset, range)


class EvaluationError(CodomyrmexError):
    """A condition or a `${...}` that was well formed could not be computed from the values it met."""

    code = "evaluation"


class ReferenceFault(EvaluationError):
    """A reference leads to nothing; `reference` is its text, `reason` what was missing."""

    code = "reference"

    def __init__(self, reference: str, reason: str) -> None:
        self.reference, self.reason = reference, reason
        inside = reference.removeprefix("${").removesuffix("}")
        advice = f"where it may be missing, give a default: {inside} ?? null"
        super().__init__(f"{reference}: {reason}", hint=advice)


class MissingValue(CodomyrmexError):
    """Raised by a `Scope` where a step has no output; the message says why (`it was skipped`)."""

    code = "missing_value"


def kind(value: object) -> str:
    """What a user calls a value of this type."""
    names: dict[type, str] = {
        bool: "a boolean", int: "an integer", float: "a number", str: "text", dict: "an object",
        type(None): "null",
    }  # fmt: skip
    found = names.get(type(value))
    if found is not None:
        return found
    return "a list" if isinstance(value, _COLLECTIONS) else f"a {type(value).__name__}"


def plain(value: Any) -> Any:
    """The JSON value inside a tagged one, one level deep; any other value is returned as it is."""
    while type(value) is dict and "$type" in value:
        tag, inner = value["$type"], value.get("value")
        if tag == "dict" and type(inner) is list:
            return {_key(pair[0]): pair[1] for pair in inner}
        if tag == "float":
            return float(inner) if inner in ("nan", "inf", "-inf") else inner
        value = inner
    return value


def _key(key: Any) -> Any:
    key = plain(key)
    return tuple(key) if type(key) is list else key


def as_text(value: Any) -> str:
    """A value as it stands inside a text: text as it is, all else as JSON (`true`, `null`, `[1, 2]`)."""
    value = plain(value)
    if type(value) is str:
        return value
    if value is None or value is True or value is False:
        return "null" if value is None else "true" if value else "false"
    try:
        text = _written(value)
    except (ValueError, RecursionError) as error:  # digits of a huge integer; a tree too deep to write
        raise EvaluationError(f"{kind(value)} cannot be written as text: {error}") from None
    if len(text) > MAX_TEXT:
        raise EvaluationError(f"{kind(value)} is too long as text: {len(text):,} characters")
    return text


def _written(value: Any) -> str:
    if type(value) is int:
        return str(value)
    if type(value) is float:
        return repr(value)
    if isinstance(value, (dict, *_COLLECTIONS)):
        import json

        tree = value if isinstance(value, (dict, list)) else list(value)
        return json.dumps(tree, ensure_ascii=False, default=_foreign)
    return str(_foreign(value))


def _foreign(value: Any) -> Any:
    """A value that JSON has no form for: collections as lists, all else by its own text."""
    return list(value) if isinstance(value, _COLLECTIONS) else str(value)


def contains(container: Any, item: Any) -> bool:
    """`item in container`: a part of a text, an element of a list, a key of an object; null holds nothing."""
    if container is None:
        return False
    if type(container) is str:
        if type(item) is not str:
            raise EvaluationError(f"text cannot hold {kind(item)}; compare with str(...)")
        return item in container
    if type(container) is dict:
        try:
            return item in container
        except TypeError:
            raise EvaluationError(f"{kind(item)} cannot be a key") from None
    try:
        return item in _items("contains", container)
    except RecursionError:
        raise EvaluationError("contains(): the items nest too deep to be compared") from None


def number(value: Any, operator: str) -> int | float:
    """The operand of an arithmetic operator, checked: a number within 64 bits."""
    found = type(value)
    if found is float or (found is int and -MAX_INTEGER <= value <= MAX_INTEGER):
        return value  # type: ignore[no-any-return]
    if found is int:
        raise EvaluationError(f"{operator!r}: the integer has more than 64 bits")
    raise EvaluationError(
        f"{operator!r} works on numbers, got {kind(value)}",
        hint="to join texts write them into one: '${a}-${b}', or use join([a, b], '-')",
    )


def _items(function: str, value: Any) -> Any:
    """The elements of a collection, tags read."""
    if value is None:
        return ()
    if type(value) is dict:
        raise EvaluationError(f"{function}() wants a list, got an object; use keys(...) or values(...)")
    if not isinstance(value, _COLLECTIONS):
        raise EvaluationError(f"{function}() wants a list, got {kind(value)}")
    if len(value) > MAX_ITEMS:
        raise EvaluationError(f"{function}() takes at most {MAX_ITEMS:,} items, got {len(value):,}")
    if type(value) is range or dict not in set(map(type, value)):
        return value
    return [plain(element) for element in value]


def _text(function: str, value: Any) -> str:
    if type(value) is str:
        return value
    if hasattr(type(value), "__fspath__"):
        return str(value)
    raise EvaluationError(
        f"{function}() wants text, got {kind(value)}", hint="turn it into text with str(...)"
    )


def _compared(name: str, function: Callable[[Any], Any]) -> Callable[..., Any]:
    def call(*arguments: Any) -> Any:
        items = _items(name, arguments[0] if len(arguments) == 1 else list(arguments))
        try:
            return function(items)
        except TypeError:
            raise EvaluationError(f"{name}(): the items are of kinds that have no order among them") from None
        except RecursionError:
            raise EvaluationError(f"{name}(): the items nest too deep to be compared") from None
        except ValueError:
            raise EvaluationError(
                f"{name}() of nothing", hint=f"ask first: len(x) > 0 and {name}(x) > 1"
            ) from None

    return call


def _len(value: Any) -> int:
    if value is None:
        return 0
    if type(value) is str or isinstance(value, (dict, *_COLLECTIONS)):
        return len(value)
    raise EvaluationError(f"len() wants a list, an object or text, got {kind(value)}")


def _sum(value: Any) -> int | float:
    items = _items("sum", value)
    if not set(map(type, items)) <= {int, float}:
        wrong = next(item for item in items if type(item) not in (int, float))
        raise EvaluationError(f"sum() wants numbers, got {kind(wrong)} among them")
    try:
        return number(sum(items), "sum")
    except OverflowError:
        raise EvaluationError("sum(): the integers are too large for a sum with fractions") from None


def _fields(name: str) -> Callable[[Any], list[Any]]:
    def call(value: Any) -> list[Any]:
        if value is None:
            return []
        if type(value) is not dict:
            raise EvaluationError(f"{name}() wants an object, got {kind(value)}")
        if len(value) > MAX_ITEMS:
            raise EvaluationError(f"{name}() takes at most {MAX_ITEMS:,} fields, got {len(value):,}")
        return list(value) if name == "keys" else list(value.values())

    return call


def _number_from(name: str, read: Callable[[Any], int | float]) -> Callable[[Any], int | float]:
    def call(value: Any) -> int | float:
        if type(value) not in (bool, int, float, str):
            raise EvaluationError(f"{name}() wants a number or text, got {kind(value)}")
        try:
            return number(read(value), name)
        except (ValueError, OverflowError):
            shown = repr(value if len(str(value)) <= 40 else str(value)[:37] + "...")
            raise EvaluationError(f"{name}() cannot read {shown}") from None

    return call


def _range(*arguments: Any) -> range:
    for argument in arguments:
        if type(argument) is not int:
            raise EvaluationError(f"range() wants integers, got {kind(argument)}")
        number(argument, "range")
    if len(arguments) == 3 and arguments[2] == 0:
        raise EvaluationError("range() with a step of 0 never ends")
    found = range(*arguments)
    if found and abs(found[-1] - found[0]) // abs(found.step) + 1 > MAX_ITEMS:
        raise EvaluationError(f"range() makes at most {MAX_ITEMS:,} items")
    return found


def _basename(value: Any) -> str:
    text = _text("basename", value)
    return text.rstrip("/").rpartition("/")[2] or text[:1]


def _join(items: Any, separator: Any = ",") -> str:
    if type(items) is str and type(separator) is not str:
        items, separator = separator, items  # Python's order: the separator first
    glue = _text("join", separator)
    parts = [as_text(item) for item in _items("join", items)]
    length = sum(map(len, parts)) + len(glue) * len(parts)
    if length > MAX_TEXT:
        raise EvaluationError(f"join() makes at most {MAX_TEXT:,} characters, got {length:,}")
    return glue.join(parts)


# name: (the function, fewest arguments, most arguments)
FUNCTIONS: Final[dict[str, tuple[Callable[..., Any], int, int]]] = {
    "len": (_len, 1, 1),
    "min": (_compared("min", min), 1, 32),
    "max": (_compared("max", max), 1, 32),
    "sum": (_sum, 1, 1),
    "any": (lambda value: any(_items("any", value)), 1, 1),
    "all": (lambda value: all(_items("all", value)), 1, 1),
    "sorted": (_compared("sorted", sorted), 1, 1),
    "keys": (_fields("keys"), 1, 1),
    "values": (_fields("values"), 1, 1),
    "str": (as_text, 1, 1),
    "int": (_number_from("int", int), 1, 1),
    "float": (_number_from("float", float), 1, 1),
    "bool": (bool, 1, 1),
    "range": (_range, 1, 3),
    "lower": (lambda value: _text("lower", value).lower(), 1, 1),
    "upper": (lambda value: _text("upper", value).upper(), 1, 1),
    "startswith": (
        lambda value, part: _text("startswith", value).startswith(_text("startswith", part)),
        2,
        2,
    ),
    "endswith": (lambda value, part: _text("endswith", value).endswith(_text("endswith", part)), 2, 2),
    "contains": (contains, 2, 2),
    "basename": (_basename, 1, 1),
    "join": (_join, 1, 2),
}
