"""Judging a constant by the annotation of the parameter that it is given to.

Layer: actions; pure. Only what is plainly wrong is said to be: an annotation that is not understood accepts
everything, a text with a reference in it is judged by nobody, and what Python's own typing lets pass (an int
for a float, true for an int) passes. Text is accepted for a `Path`: a file has no other way to write one.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

_KINDS: Mapping[str, tuple[type, ...]] = {
    "str": (str,),
    "int": (int,),
    "float": (int, float),
    "bool": (bool,),
    "list": (list,),
    "dict": (dict,),
    "Path": (str,),
    "None": (type(None),),
    "Mapping": (dict,),
    "MutableMapping": (dict,),
}
_OLD_NAMES: Mapping[str, str] = {"List": "list", "Dict": "dict"}
_PREFIXES = frozenset({"typing", "t", "pathlib", "builtins", "collections", "abc", "typing_extensions"})
_JSON_TYPES: Mapping[str, str] = {
    "str": "string", "int": "integer", "float": "number", "bool": "boolean", "list": "array",
    "dict": "object", "Path": "string", "Mapping": "object", "MutableMapping": "object", "Sequence": "array",
}  # fmt: skip


Path = tuple[str | int, ...]


@dataclass(frozen=True, slots=True)
class Judge:
    """What values a type accepts: those of `types`; `items` judges what a list or a mapping holds."""

    types: tuple[type, ...]
    wanted: str
    json_type: str | None = None
    list_items: Judge | None = None
    dict_items: Judge | None = None

    def accepts(self, value: Any) -> bool:
        """Whether nothing is wrong with a value; False may also mean that it takes a closer look."""
        kind = type(value)
        if kind not in self.types:
            return False
        if kind is list:
            items = self.list_items
            return items is None or all(map(items.accepts, value))
        return kind is not dict or self.dict_items is None

    def faults(self, value: Any, path: Path = ()) -> Iterator[tuple[Path, Any, str]]:
        """(path inside the value, the wrong value, what is wanted there) for everything plainly wrong."""
        kind = type(value)
        if kind is str and ("${" in value or "{{" in value):
            return
        if kind is dict and ("$type" in value or "$secret" in value):
            return
        if not issubclass(kind, self.types):
            yield path, value, self.wanted
        elif kind is list and self.list_items is not None:
            for number, item in enumerate(value):
                yield from self.list_items.faults(item, (*path, number))
        elif kind is dict and self.dict_items is not None:
            for key, item in value.items():
                yield from self.dict_items.faults(item, (*path, key))


@lru_cache(maxsize=1024)
def read_judge(annotation: str | None, *, or_none: bool = False) -> Judge | None:
    """The judge of an annotation's text; None where it is not understood or accepts anything.

    `or_none` lets null pass as well: the parameter's default is None.
    """
    tree = _parse(annotation)
    found = None if tree is None else _judge(tree)
    if found is None or not or_none or type(None) in found.types:
        return found
    return _join([found, Judge((type(None),), "null")])


@lru_cache(maxsize=1024)
def json_type(annotation: str | None) -> str | None:
    """The one JSON Schema type that an annotation stands for, `X | None` taken as X."""
    tree = _parse(annotation)
    if tree is None:
        return None
    kinds = {_JSON_TYPES.get(_base_name(arm) or "") for arm in _arms(tree) if not _is_none(arm)}
    return kinds.pop() if len(kinds) == 1 else None


def _parse(annotation: str | None) -> ast.expr | None:
    if annotation is None or len(annotation) > 1000:
        return None
    try:
        return ast.parse(annotation.strip(), mode="eval").body
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return None


def _name(node: ast.expr) -> str | None:
    """`Path` of `Path`, `pathlib.Path`; None of anything but a plain name of a module that is known."""
    if isinstance(node, ast.Attribute):
        owner = _name(node.value)
        return node.attr if owner in _PREFIXES else None
    if isinstance(node, ast.Name):
        return _OLD_NAMES.get(node.id, node.id)
    return "None" if _is_none(node) else None


def _base_name(node: ast.expr) -> str | None:
    node = _unwrapped(node)
    name = _name(node.value if isinstance(node, ast.Subscript) else node)
    return _OLD_NAMES.get(name, name) if name is not None else None


def _is_none(node: ast.expr) -> bool:
    return isinstance(node, ast.Constant) and node.value is None


def _unwrapped(node: ast.expr) -> ast.expr:
    """The annotation inside quotes and inside `Annotated[...]`."""
    while True:
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            inner = _parse(node.value)
            if inner is None:
                return node
            node = inner
        elif isinstance(node, ast.Subscript) and _name(node.value) == "Annotated":
            if not isinstance(node.slice, ast.Tuple) or not node.slice.elts:
                return node
            node = node.slice.elts[0]
        else:
            return node


def _arms(node: ast.expr) -> Iterator[ast.expr]:
    """The members of a union, nested ones too; a type that is none is its own only member."""
    node = _unwrapped(node)
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.BitOr):
        yield from _arms(node.left)
        yield from _arms(node.right)
    elif isinstance(node, ast.Subscript) and _name(node.value) in ("Optional", "Union"):
        members = node.slice.elts if isinstance(node.slice, ast.Tuple) else [node.slice]
        for member in members:
            yield from _arms(member)
        if _name(node.value) == "Optional":
            yield ast.Constant(value=None)
    else:
        yield node


def _judge(node: ast.expr) -> Judge | None:
    judges = []
    for arm in _arms(node):
        found = _judge_of_one(arm)
        if found is None:
            return None
        judges.append(found)
    return _join(judges)


def _judge_of_one(node: ast.expr) -> Judge | None:
    name = _base_name(node)
    if name is None or name not in _KINDS:
        return None
    types, wanted, items = _KINDS[name], ast.unparse(node), None
    wanted = {"None": "null", "Path": "a path (text)"}.get(wanted, wanted)
    if isinstance(node, ast.Subscript):
        members = node.slice.elts if isinstance(node.slice, ast.Tuple) else [node.slice]
        items = _judge(members[-1])
    return Judge(
        types,
        wanted,
        _JSON_TYPES.get(name),
        list_items=items if types == (list,) else None,
        dict_items=items if types == (dict,) else None,
    )


def _join(judges: list[Judge]) -> Judge:
    """One judge that accepts what any of them accepts; the items of two kinds of list are not judged."""
    if len(judges) == 1:
        return judges[0]
    lists = [judge for judge in judges if list in judge.types]
    dicts = [judge for judge in judges if dict in judge.types]
    return Judge(
        tuple(dict.fromkeys(kind for judge in judges for kind in judge.types)),
        " or ".join(dict.fromkeys(judge.wanted for judge in judges)),
        list_items=lists[0].list_items if len(lists) == 1 else None,
        dict_items=dicts[0].dict_items if len(dicts) == 1 else None,
    )
