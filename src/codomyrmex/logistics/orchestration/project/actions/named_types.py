"""Types that annotations name: enums, records and aliases, as source or a worker tells of them.

Layer: actions; pure. A `Lookup` answers what a name means where an annotation stands; None where that is not
known, and then the annotation says nothing. Records are dataclasses, TypedDicts and msgspec structs.
"""

from __future__ import annotations

import ast
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

_ENUMS = frozenset({"Enum", "IntEnum", "StrEnum"})
_LITERAL = (str, int, float, bool, type(None))


@dataclass(frozen=True, slots=True, kw_only=True)
class Field:
    """One field of a record; `annotation` is text."""

    name: str
    annotation: str | None
    required: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class NamedType:
    """What a name stands for: one of `choices` (an enum's values), a record of `fields`, or `alias`.

    `lookup` is for the names in the annotations of the fields and the alias; `is_plain` marks a class of which
    only so much is known that it is none of these.
    """

    name: str
    choices: tuple[Any, ...] | None = None
    fields: tuple[Field, ...] | None = None
    alias: str | None = None
    is_plain: bool = False
    doc: str = ""
    lookup: Callable[[str], NamedType | None]


Lookup = Callable[[str], NamedType | None]


def nothing(_name: str) -> NamedType | None:
    """The lookup of who knows no names."""
    return None


def from_class(node: ast.ClassDef, lookup: Lookup) -> NamedType | None:
    """What a class statement defines; None where its text does not tell."""
    bases = [tail(base) for base in node.bases]
    doc = ast.get_docstring(node) or ""
    if any(base in _ENUMS for base in bases):
        choices = _choices(node, lower="StrEnum" in bases)
        return None if choices is None else NamedType(name=node.name, choices=choices, doc=doc, lookup=lookup)
    decorators = [tail(decorator) for decorator in node.decorator_list]
    if "TypedDict" in bases or "Struct" in bases or "dataclass" in decorators:
        fields = _fields(node, bases, lookup)
        return None if fields is None else NamedType(name=node.name, fields=fields, doc=doc, lookup=lookup)
    if not node.decorator_list and not node.keywords and all(base == "object" for base in bases):
        return NamedType(name=node.name, is_plain=True, doc=doc, lookup=lookup)
    inherited = [lookup(base) for base in bases]
    if len(inherited) == 1 and inherited[0] is not None and inherited[0].fields and not node.decorator_list:
        fields = _fields(node, bases, lookup)  # a TypedDict, or a struct, that adds to another one
        return None if fields is None else NamedType(name=node.name, fields=fields, doc=doc, lookup=lookup)
    return None


def from_told(told: Mapping[str, Mapping[str, Any]]) -> Lookup:
    """The lookup over what a worker told of types, by qualified name; a short name means the only one of it."""
    short: dict[str, list[str]] = {}
    for name in told:
        short.setdefault(name.rpartition(".")[2], []).append(name)

    def lookup(name: str) -> NamedType | None:
        candidates = short.get(name.rpartition(".")[2], [])
        each = told.get(name) or (told[candidates[0]] if len(candidates) == 1 else None)
        if each is None:
            return None
        choices, fields = each.get("choices"), each.get("fields")
        return NamedType(
            name=name.rpartition(".")[2],
            choices=None if choices is None else tuple(choices),
            fields=None if fields is None else tuple(Field(**field) for field in fields),
            is_plain=bool(each.get("is_plain")),
            doc=str(each.get("doc") or ""),
            lookup=lookup,
        )

    return lookup


def tail(node: ast.expr) -> str:
    """`dataclass` of `@dataclasses.dataclass(frozen=True)`; the last part of a dotted name."""
    if isinstance(node, ast.Call):
        node = node.func
    if isinstance(node, ast.Subscript):
        node = node.value
    if isinstance(node, ast.Attribute):
        return node.attr
    return node.id if isinstance(node, ast.Name) else ""


def _choices(node: ast.ClassDef, *, lower: bool) -> tuple[Any, ...] | None:
    found: list[Any] = []
    for statement in node.body:
        if not isinstance(statement, ast.Assign):
            continue
        target, value = statement.targets[0], statement.value
        if not isinstance(target, ast.Name) or target.id.startswith("_"):
            continue
        if lower and isinstance(value, ast.Call) and tail(value) == "auto":
            found.append(target.id.lower())
        elif isinstance(value, ast.Constant) and isinstance(value.value, _LITERAL):
            found.append(value.value)
        else:
            return None  # what it is worth takes running the class
    return tuple(found) or None


def _fields(node: ast.ClassDef, bases: list[str], lookup: Lookup) -> tuple[Field, ...] | None:
    found: dict[str, Field] = {}
    for base in bases:
        if base in ("TypedDict", "Struct", "object", "Generic", "Protocol"):
            continue
        inherited = lookup(base)
        if inherited is None or inherited.fields is None:
            return None
        found.update((field.name, field) for field in inherited.fields)
    total = not any(keyword.arg == "total" and _is_false(keyword.value) for keyword in node.keywords)
    found.update((field.name, field) for field in _own_fields(node, total=total))
    return tuple(found.values())


def _own_fields(node: ast.ClassDef, *, total: bool) -> Iterator[Field]:
    for statement in node.body:
        if not isinstance(statement, ast.AnnAssign) or not isinstance(statement.target, ast.Name):
            continue
        note, required = statement.annotation, statement.value is None and total
        kind = tail(note)
        if kind in ("ClassVar", "KW_ONLY"):
            continue
        if kind in ("NotRequired", "Required", "ReadOnly", "InitVar") and isinstance(note, ast.Subscript):
            required = kind == "Required" or (required and kind != "NotRequired")
            note = note.slice
        if isinstance(statement.value, ast.Call) and tail(statement.value) == "field":
            options = {keyword.arg: keyword.value for keyword in statement.value.keywords}
            if "init" in options and _is_false(options["init"]):
                continue
            required = not {"default", "default_factory"} & options.keys()
        yield Field(name=statement.target.id, annotation=ast.unparse(note), required=required)


def _is_false(node: ast.expr) -> bool:
    return isinstance(node, ast.Constant) and node.value is False
