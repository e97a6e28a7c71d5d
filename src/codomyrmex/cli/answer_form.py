"""The data of an answer, as the form of an approval wants it: words read by its types, questions at a terminal.

A form is a JSON Schema. A word that does not read as its type stays text, so that the check of the whole form
names it among the other faults.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any

_WORDS = {"true": True, "yes": True, "false": False, "no": False}
_UNREADABLE = object()


def read_answer(form: Mapping[str, Any] | None, given: Mapping[str, Any]) -> dict[str, Any]:
    """The values of `-p` words by the types of the form; what is no text any more stays as it is."""
    fields = fields_of(form)
    return {name: read_value(fields.get(name, {}), value) for name, value in given.items()}


def read_value(field: Mapping[str, Any], given: Any) -> Any:
    """One value by its field of the form; a list by repetition, or one text for a list of one."""
    kinds = kinds_of(field)
    if "array" in kinds and not (isinstance(given, str) and given.lstrip().startswith("[")):
        items = field.get("items")
        inner = items if isinstance(items, Mapping) else {}
        return [read_value(inner, each) for each in (given if isinstance(given, list) else [given])]
    if not isinstance(given, str):
        return given
    for choice in field.get("enum", ()):
        if given == choice or (not isinstance(choice, str) and given == json.dumps(choice)):
            return choice
    for kind in kinds:
        value = _READERS[kind](given) if kind in _READERS else _UNREADABLE
        if value is not _UNREADABLE:
            return value
    return given


def missing_fields(form: Mapping[str, Any] | None, data: Mapping[str, Any]) -> list[str]:
    """The required fields that have no value yet, in the order of the form."""
    required = (form or {}).get("required", ())
    return [name for name in required if isinstance(name, str) and name not in data]


def form_text(form: Mapping[str, Any] | None) -> str:
    """A form in short: `amount: integer, note?: string`."""
    required = (form or {}).get("required", ())
    parts = []
    for name, field in fields_of(form).items():
        kind = "|".join(kinds_of(field)) or "any"
        if "enum" in field:
            kind = "|".join(str(choice) for choice in field["enum"])
        parts.append(f"{name}{'' if name in required else '?'}: {kind}")
    return ", ".join(parts) or ("data" if form is not None else "")


def field_text(name: str, field: Mapping[str, Any]) -> str:
    """What a person is asked for a field: its title, else its name, and what it takes."""
    kind = "|".join(kinds_of(field))
    takes = ", ".join(str(choice) for choice in field["enum"]) if "enum" in field else kind
    about = str(field.get("title") or field.get("description") or name)
    return f"{about} ({takes})" if takes else about


def fields_of(form: Mapping[str, Any] | None) -> dict[str, Mapping[str, Any]]:
    """The declared properties of a form by name."""
    found = (form or {}).get("properties")
    if not isinstance(found, Mapping):
        return {}
    return {name: field if isinstance(field, Mapping) else {} for name, field in found.items()}


def kinds_of(field: Mapping[str, Any]) -> list[str]:
    """The JSON types that a field takes; none where it says nothing."""
    kind = field.get("type", [])
    return [kind] if isinstance(kind, str) else [str(each) for each in kind]


def _integer(text: str) -> Any:
    try:
        return int(text)
    except ValueError:
        return _UNREADABLE


def _number(text: str) -> Any:
    try:
        value = float(text)
    except ValueError:
        return _UNREADABLE
    whole = _integer(text)
    # JSON has neither an infinity nor what is no number.
    return whole if whole is not _UNREADABLE else value if abs(value) < float("inf") else _UNREADABLE


def _boolean(text: str) -> Any:
    return _WORDS.get(text.lower(), _UNREADABLE)


def _null(text: str) -> Any:
    return None if text in ("", "null") else _UNREADABLE


def _tree(kind: type) -> Callable[[str], Any]:
    def read(text: str) -> Any:
        try:
            found = json.loads(text)
        except (json.JSONDecodeError, RecursionError):
            return _UNREADABLE
        return found if isinstance(found, kind) else _UNREADABLE

    return read


_READERS: dict[str, Callable[[str], Any]] = {
    "integer": _integer,
    "number": _number,
    "boolean": _boolean,
    "null": _null,
    "array": _tree(list),
    "object": _tree(dict),
    "string": lambda text: text,
}
