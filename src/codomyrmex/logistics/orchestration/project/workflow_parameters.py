"""Parameters of a workflow: their declarations, and the values that users give for them.

Layer: pure. A value is read by its declared type, so `-p shards=3`, `{"shards": 3}` and `shards: "3"` mean
the same. A `list` or `object` is JSON text or the value itself. A `path` becomes an absolute
`pathlib.Path`: one that the user gives is relative to the caller's folder, a default to the root. A `date`
is ISO 8601 text and becomes a `datetime.date`.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from codomyrmex.exceptions import Fault

PARAMETER_TYPES = ("string", "integer", "number", "boolean", "list", "object", "path", "date")

_TRUE = frozenset({"true", "yes", "on", "1"})
_FALSE = frozenset({"false", "no", "off", "0"})
_INTEGER = re.compile(r"[-+]?\d{1,4000}", re.ASCII)
_NUMBER = re.compile(r"[-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d{1,3})?", re.ASCII)
_EXAMPLES: Mapping[str, str] = {
    "string": "text",
    "integer": "3",
    "number": "0.5",
    "boolean": "true",
    "list": '["a", "b"]',
    "object": '{"a": 1}',
    "path": "data/input.csv",
    "date": "2026-03-31",
}


class ParameterError(ValueError):
    """A value that its declared type cannot read: `wanted` and `got` are ready to be shown."""

    def __init__(self, wanted: str, got: str) -> None:
        super().__init__(f"{wanted} is needed, got {got}")
        self.wanted, self.got = wanted, got


def describe(value: Any) -> str:
    """What a value is, in the words of a file: `text 'abc'`, `the number 3`, `a list of 2`, `nothing.

    Null)`.
    """
    if value is None:
        return "nothing (null)"
    if isinstance(value, bool):
        return "true" if value else "false"
    if value == "":
        return "empty text"
    if isinstance(value, str):
        return f"text {value!r}" if len(value) <= 60 else f"text {value[:57] + '...'!r}"
    if isinstance(value, (int, float)):
        return f"the number {value}" if abs(value) < 1e30 else "a very big number"
    if isinstance(value, Mapping):
        return f"a mapping with {', '.join(map(repr, [*value][:3]))}" if value else "an empty mapping"
    if isinstance(value, (list, tuple)):
        return f"a list of {len(value)}" if value else "an empty list"
    return f"a {type(value).__name__}"


def read_parameter(name: str, declaration: Mapping[str, Any], value: Any, base_dir: str) -> Any:
    """The value read by its declared type, paths made absolute from `base_dir`.

    ParameterError says what is wrong.
    """
    kind = declaration["type"]
    read = _read(kind, value)
    choices = declaration.get("choices")
    if choices and read not in [_read(kind, choice) for choice in choices]:
        raise ParameterError(f"one of {', '.join(map(str, choices))}", describe(value))
    if kind == "path":
        from pathlib import Path

        return Path(base_dir, read).absolute()
    if kind == "date":
        from datetime import date

        return date.fromisoformat(read)
    return read


def bind_parameters(
    document: Mapping[str, Any], given: Mapping[str, Any], *, caller_dir: str, root: str
) -> tuple[dict[str, Any], list[Fault]]:
    """Values for every declared parameter, in the order declared, and what is wrong with those given."""
    declared: Mapping[str, Any] = document.get("parameters", {})
    faults = [_unknown_parameter(name, declared) for name in given if name not in declared]
    values: dict[str, Any] = {}
    for name, declaration in declared.items():
        is_given = name in given
        if not is_given and "default" not in declaration:
            faults.append(_missing_parameter(name, declaration))
            continue
        value = given[name] if is_given else declaration["default"]
        if value is None and declaration.get("default", ...) is None:
            values[name] = None
            continue
        try:
            values[name] = read_parameter(name, declaration, value, caller_dir if is_given else root)
        except ParameterError as error:
            faults.append(_wrong_parameter(name, declaration, error))
    return values, faults


def normalise_declaration(raw: Mapping[str, Any]) -> dict[str, Any]:
    """A declaration with its type always named, its default and choices read by it, in plain JSON."""
    kind = raw.get("type") or _type_of(raw.get("default"))
    declaration: dict[str, Any] = {"type": kind}
    if "default" in raw:
        default = raw["default"]
        declaration["default"] = None if default is None else _read(kind, default)
    if raw.get("choices"):
        declaration["choices"] = [_read(kind, choice) for choice in raw["choices"]]
    if raw.get("description"):
        declaration["description"] = raw["description"]
    return declaration


def check_declaration(raw: Mapping[str, Any]) -> list[tuple[str, ParameterError]]:
    """What of `default` and `choices` the declared type cannot read: (key, error)."""
    kind = raw.get("type") or _type_of(raw.get("default"))
    wrong: list[tuple[str, ParameterError]] = []
    choices = raw.get("choices")
    if kind not in _READERS or not (choices is None or isinstance(choices, list)):
        return wrong
    for key, values in (("choices", choices or ()), ("default", (raw.get("default"),))):
        for value in values:
            try:
                read = None if value is None else _read(kind, value)
            except ParameterError as error:
                wrong.append((key, error))
                continue
            is_chosen = key == "choices" or value is None or not choices or wrong
            if not is_chosen and read not in [_read(kind, choice) for choice in choices or ()]:
                wanted = f"one of the choices ({', '.join(map(str, choices or ()))})"
                wrong.append((key, ParameterError(wanted, describe(value))))
    return wrong


def _type_of(value: Any) -> str:
    if isinstance(value, bool):
        return "boolean"
    kinds: tuple[tuple[type, str], ...] = (
        (int, "integer"),
        (float, "number"),
        (list, "list"),
        (dict, "object"),
    )
    return next((kind for type_, kind in kinds if isinstance(value, type_)), "string")


def _read(kind: str, value: Any) -> Any:
    """A JSON value of the kind: dates and paths stay text here."""
    return _READERS[kind](value)


def _read_string(value: Any) -> str:
    if isinstance(value, str):
        return value
    if isinstance(value, (int, float)):
        return str(value).lower() if isinstance(value, bool) else str(value)
    raise ParameterError("text", describe(value))


def _read_integer(value: Any) -> int:
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    if isinstance(value, float) and value.is_integer():
        return int(value)
    if isinstance(value, str) and _INTEGER.fullmatch(value.strip()):
        return int(value)
    raise ParameterError("an integer", describe(value))


def _read_number(value: Any) -> int | float:
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        return value
    text = value.strip() if isinstance(value, str) else ""
    if _INTEGER.fullmatch(text):
        return int(text)
    if _NUMBER.fullmatch(text):
        return float(text)
    raise ParameterError("a number", describe(value))


def _read_boolean(value: Any) -> bool:
    if isinstance(value, bool):
        return value
    word = str(value).strip().lower() if isinstance(value, (str, int)) else ""
    if word in _TRUE or word in _FALSE:
        return word in _TRUE
    raise ParameterError("true or false", describe(value))


def _read_list(value: Any) -> list[Any]:
    read = _read_json(value) if isinstance(value, str) else value
    if isinstance(read, (list, tuple)):
        return list(read)
    raise ParameterError('a list (in JSON: ["a", "b"])', describe(value))


def _read_object(value: Any) -> dict[str, Any]:
    read = _read_json(value) if isinstance(value, str) else value
    if isinstance(read, Mapping):
        return dict(read)
    raise ParameterError('a mapping (in JSON: {"a": 1})', describe(value))


def _read_json(text: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return None


def _read_path(value: Any) -> str:
    text = value if isinstance(value, str) else getattr(value, "__fspath__", lambda: "")()
    if isinstance(text, str) and text and "\0" not in text:
        return text
    raise ParameterError("a path", describe(value))


def _read_date(value: Any) -> str:
    from datetime import date, datetime

    if isinstance(value, date) and not isinstance(value, datetime):
        return value.isoformat()
    try:
        return date.fromisoformat(value.strip()).isoformat()
    except (AttributeError, ValueError):
        raise ParameterError("a date like 2026-03-31", describe(value)) from None


_READERS: Mapping[str, Callable[[Any], Any]] = {
    "string": _read_string,
    "integer": _read_integer,
    "number": _read_number,
    "boolean": _read_boolean,
    "list": _read_list,
    "object": _read_object,
    "path": _read_path,
    "date": _read_date,
}


def _nearest(word: str, known: Iterable[str]) -> str | None:
    from difflib import get_close_matches

    return next(iter(get_close_matches(word, list(known), n=1)), None)


def _unknown_parameter(name: str, declared: Mapping[str, Any]) -> Fault:
    nearest = _nearest(name, declared)
    message = f"there is no parameter {name!r}"
    if not declared:
        message += "; this workflow takes none"
    return Fault(
        message=message,
        path=f"parameters.{name}",
        code="unknown_parameter",
        allowed=tuple(declared),
        nearest=nearest,
    )


def _missing_parameter(name: str, declaration: Mapping[str, Any]) -> Fault:
    return Fault(
        message=f"a value is needed: {declaration['type']} without a default",
        path=f"parameters.{name}",
        code="missing_parameter",
        advice=f"give it with: -p {name}={_EXAMPLES[declaration['type']]}",
    )


def _wrong_parameter(name: str, declaration: Mapping[str, Any], error: ParameterError) -> Fault:
    choices = tuple(map(str, declaration.get("choices", ())))
    is_choice = error.wanted.startswith("one of")
    word = error.got.removeprefix("text ").strip("'")
    return Fault(
        message=f"{error.got} is not one of the choices" if is_choice else str(error),
        path=f"parameters.{name}",
        code="wrong_parameter",
        got=error.got,
        allowed=choices,
        nearest=_nearest(word, choices),
    )
