"""The types that a function's annotations name, told so that they can be judged elsewhere.

Layer: worker. `types_in` gives {qualified name: {"choices": ...} | {"fields": ...} | {"is_plain": True}} for the
enums, the records (dataclasses, TypedDicts, msgspec structs) and the plain classes of user code among them.
"""

from __future__ import annotations

import inspect
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Any, Optional

MAX_TYPES = 200


def hints_of(function: Any) -> dict[str, Any]:
    """The resolved annotations by name; empty where they cannot be resolved."""
    import typing

    try:
        return typing.get_type_hints(function, include_extras=True)
    except Exception:
        return {}  # a name that only a type checker sees, or a form that this interpreter does not have


def types_in(hints: Iterable[Any]) -> dict[str, dict[str, Any]]:
    """What is known of every class in these hints, and in the fields of those classes."""
    found: dict[str, dict[str, Any]] = {}
    waiting = list(hints)
    while waiting and len(found) < MAX_TYPES:
        hint = waiting.pop()
        waiting.extend(getattr(hint, "__args__", None) or ())
        if not isinstance(hint, type) or hint.__module__ == "builtins":
            continue
        name = f"{hint.__module__}.{hint.__qualname__}"
        if name not in found:
            told, inside = _told(hint)
            if told is not None:
                found[name] = told
                waiting.extend(inside)
    return found


def _told(kind: Any) -> tuple[Optional[dict[str, Any]], list[Any]]:
    import enum

    if issubclass(kind, enum.Enum):
        choices = [member.value for member in kind]
        plain = all(value is None or type(value) in (str, int, float, bool) for value in choices)
        return ({"choices": choices} if plain else None), []
    fields = _fields(kind)
    if fields is not None:
        hints = hints_of(kind)
        told = [
            {
                "name": name,
                "annotation": inspect.formatannotation(hints[name]) if name in hints else None,
                "required": required,
            }
            for name, required in fields
        ]
        return {"fields": told, "doc": _doc(kind)}, list(hints.values())
    if kind.__mro__[1:] == (object,) and type(kind) is type and not _is_library(kind):
        return {"is_plain": True}, []
    return None, []


def _fields(kind: Any) -> Optional[list[tuple[str, bool]]]:
    """(name, required) of a record's fields; None for what is no record."""
    if hasattr(kind, "__dataclass_fields__"):
        import dataclasses

        missing = dataclasses.MISSING
        return [
            (field.name, field.default is missing and field.default_factory is missing)
            for field in dataclasses.fields(kind)
            if field.init
        ]
    if hasattr(kind, "__struct_fields__"):
        optional = len(kind.__struct_defaults__)
        names = kind.__struct_fields__
        return [(name, number < len(names) - optional) for number, name in enumerate(names)]
    if hasattr(kind, "__required_keys__"):
        return [(name, name in kind.__required_keys__) for name in kind.__annotations__]
    return None


def _doc(kind: Any) -> str:
    doc = kind.__doc__ or ""
    return "" if doc.startswith(f"{kind.__name__}(") else doc.strip()


def _is_library(kind: Any) -> bool:
    """Of the standard library or of an installed package, whose classes may have codecs anywhere."""
    file = getattr(sys.modules.get(kind.__module__), "__file__", None) or ""
    return not file or "site-packages" in file or file.startswith(sys.base_prefix)
