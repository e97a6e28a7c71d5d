"""The parameters of an action as a JSON Schema (2020-12).

Layer: actions; pure. Made from annotations, defaults and the docstring of the function. It says what a caller
that has only JSON may give: a path and a date are text, an enum is one of its values, a dataclass an object.
What is not understood accepts anything, so the schema never refuses what the action would take.
"""

from __future__ import annotations

import ast
from collections.abc import Iterable, Mapping
from typing import Any

from codomyrmex.logistics.orchestration.project.actions.annotation_trees import (
    arms,
    base_name,
    members,
    name_of,
    named,
    parse,
)
from codomyrmex.logistics.orchestration.project.actions.named_types import Lookup, NamedType

DIALECT = "https://json-schema.org/draft/2020-12/schema"
Schema = dict[str, Any]

_SIMPLE: Mapping[str, Schema] = {
    "str": {"type": "string"},
    "int": {"type": "integer"},
    "float": {"type": "number"},
    "bool": {"type": "boolean"},
    "None": {"type": "null"},
    "Path": {"type": "string", "format": "path"},
    "PurePath": {"type": "string", "format": "path"},
    "date": {"type": "string", "format": "date"},
    "datetime": {"type": "string", "format": "date-time"},
    "time": {"type": "string", "format": "time"},
    "UUID": {"type": "string", "format": "uuid"},
    "Decimal": {"type": ["string", "number"]},
}
_ARRAYS = frozenset({"list", "Sequence", "MutableSequence", "Iterable", "Collection", "tuple"})
_SETS = frozenset({"set", "frozenset", "AbstractSet", "Set", "MutableSet"})
_OBJECTS = frozenset({"dict", "Mapping", "MutableMapping"})


def schema_of_parameters(
    parameters: Iterable[Any], *, lookup: Lookup, accepts_any: bool, summary: str = ""
) -> Schema:
    """The schema of the object of parameters; `parameters` are `ParameterDescription`s."""
    writer = _Writer()
    properties: Schema = {}
    required = []
    for each in parameters:
        if each.positional_only:
            continue
        properties[each.name] = writer.parameter(each, lookup)
        if each.required:
            required.append(each.name)
    schema: Schema = {"$schema": DIALECT, "type": "object", "properties": properties}
    if summary:
        schema["description"] = summary
    if required:
        schema["required"] = required
    if not accepts_any:
        schema["additionalProperties"] = False
    if writer.definitions:
        schema["$defs"] = writer.definitions
    return schema


class _Writer:
    """Collects the definitions of records, which may hold each other."""

    def __init__(self) -> None:
        self.definitions: Schema = {}

    def parameter(self, parameter: Any, lookup: Lookup) -> Schema:
        """One property: its type, what the docstring says, its default."""
        tree = parse(parameter.hint or parameter.annotation)
        found = {} if tree is None else self.schema(tree, lookup)
        known, default = _literal(parameter.default)
        if known and default is None and found and not _takes_null(found):
            found = _any_of([found, {"type": "null"}])
        text = parameter.description or _said(tree)
        extra: Schema = {"description": text} if text else {}
        if known:
            extra["default"] = default
        return {**found, **extra}

    def schema(self, node: ast.expr, lookup: Lookup) -> Schema:
        """The schema of an annotation."""
        return _any_of([self._one(arm, scope) for arm, scope in arms(node, lookup)])

    def _one(self, node: ast.expr, lookup: Lookup) -> Schema:
        known = named(node, lookup)
        if known is not None:
            return self._named(known)
        name = base_name(node) or ""
        if name in _SIMPLE:
            return dict(_SIMPLE[name])
        inside = members(node) if isinstance(node, ast.Subscript) else []
        if name == "Literal":
            values = [each.value for each in inside if isinstance(each, ast.Constant)]
            return {"enum": values} if len(values) == len(inside) and all(map(_is_json, values)) else {}
        if name == "tuple" and inside and not _is_ellipsis(inside[-1]):
            items = [self.schema(each, lookup) for each in inside]
            return {"type": "array", "prefixItems": items, "minItems": len(items), "maxItems": len(items)}
        if name in _ARRAYS or name in _SETS:
            found: Schema = {"type": "array"}
            items_schema = self.schema(inside[0], lookup) if inside else {}
            found.update({"items": items_schema} if items_schema else {})
            return {**found, "uniqueItems": True} if name in _SETS else found
        if name in _OBJECTS:
            values_schema = self.schema(inside[-1], lookup) if inside else {}
            return {"type": "object", **({"additionalProperties": values_schema} if values_schema else {})}
        return {}

    def _named(self, known: NamedType) -> Schema:
        if known.choices is not None:
            return {"enum": list(known.choices)} if all(map(_is_json, known.choices)) else {}
        if known.fields is None:
            return {}
        if known.name not in self.definitions:
            properties: Schema = {}
            record: Schema = {"type": "object", "properties": properties, "additionalProperties": False}
            self.definitions[known.name] = record
            for each in known.fields:
                tree = parse(each.annotation)
                properties[each.name] = {} if tree is None else self.schema(tree, known.lookup)
            record["required"] = [each.name for each in known.fields if each.required]
            if known.doc:
                record["description"] = known.doc.strip().splitlines()[0]
        return {"$ref": f"#/$defs/{known.name}"}


def type_text(schema: Mapping[str, Any]) -> str:
    """A schema's type in a few words: `list of integer`, `"a" or "b"`; empty where it accepts anything."""
    if "anyOf" in schema:
        return " or ".join(filter(None, map(type_text, schema["anyOf"])))
    if "enum" in schema:
        return " or ".join("null" if value is None else repr(value) for value in schema["enum"])
    if "$ref" in schema:
        return str(schema["$ref"]).rpartition("/")[2]
    kind = schema.get("type", "")
    if isinstance(kind, list):
        return " or ".join(kind)
    if kind == "array":
        inside = type_text(schema.get("items") or {})
        return f"list of {inside}" if inside else "list"
    if kind == "object":
        inside = type_text(schema.get("additionalProperties") or {})
        return f"object of {inside}" if inside else "object"
    return str(schema.get("format", kind))


def _any_of(schemas: list[Schema]) -> Schema:
    """One schema for any of them: `type` as a list where they say nothing else."""
    found = [each for number, each in enumerate(schemas) if each not in schemas[:number]]
    if {} in found or not found:
        return {}
    if len(found) == 1:
        return found[0]
    if all(each.keys() == {"type"} and isinstance(each["type"], str) for each in found):
        return {"type": [each["type"] for each in found]}
    if all(each.keys() == {"enum"} or each == {"type": "null"} for each in found):
        return {"enum": [value for each in found for value in each.get("enum", [None])]}
    return {"anyOf": found}


def _takes_null(schema: Schema) -> bool:
    kind = schema.get("type")
    if kind == "null" or (isinstance(kind, list) and "null" in kind):
        return True
    return None in schema.get("enum", ()) or any(map(_takes_null, schema.get("anyOf", ())))


def _said(tree: ast.expr | None) -> str:
    """The text inside `Annotated[X, "text"]`, or `Doc("text")`."""
    if not isinstance(tree, ast.Subscript) or name_of(tree.value) != "Annotated":
        return ""
    for each in members(tree)[1:]:
        inner = each.args[0] if isinstance(each, ast.Call) and each.args else each
        if isinstance(inner, ast.Constant) and isinstance(inner.value, str):
            return inner.value
    return ""


def _literal(text: str | None) -> tuple[bool, Any]:
    """Whether a default is a JSON value, and which."""
    if text is None:
        return False, None
    try:
        value = ast.literal_eval(text)
    except (ValueError, TypeError, SyntaxError, MemoryError, RecursionError):
        return False, None
    if isinstance(value, tuple):
        value = list(value)
    return _is_json(value), value


def _is_json(value: Any) -> bool:
    if isinstance(value, dict):
        return (
            "$type" not in value
            and all(type(key) is str for key in value)
            and all(map(_is_json, value.values()))
        )
    if isinstance(value, list):
        return all(map(_is_json, value))
    if isinstance(value, float):
        return value - value == 0.0
    if isinstance(value, int):
        return -(2**63) <= value < 2**64
    return value is None or (
        isinstance(value, str) and not any("\ud800" <= char <= "\udfff" for char in value)
    )


def _is_ellipsis(node: ast.expr) -> bool:
    return isinstance(node, ast.Constant) and node.value is Ellipsis
