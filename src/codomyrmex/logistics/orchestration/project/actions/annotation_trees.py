"""Reading the text of an annotation: its names, the members of a union, what an alias stands for.

Layer: actions; pure. Names of typing and of the standard library are known by their last part; every other
name is asked of a `Lookup`. A name that the project defines itself goes before one of the library.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from functools import lru_cache

from codomyrmex.logistics.orchestration.project.actions.named_types import Lookup, NamedType

MAX_TEXT = 1000
MAX_ALIASES = 10
_OLD_NAMES = {"List": "list", "Dict": "dict", "Set": "set", "FrozenSet": "frozenset", "Tuple": "tuple"}
_OLD_NAMES |= {"NoneType": "None", "Text": "str"}
PREFIXES = frozenset(
    {"typing", "t", "pathlib", "builtins", "collections", "abc", "typing_extensions", "types"}
    | {"datetime", "dt", "decimal", "uuid"}
)


@lru_cache(maxsize=1024)
def parse(annotation: str | None) -> ast.expr | None:
    """The tree of an annotation's text; None of what is no expression, or too long to be worth it."""
    if annotation is None or len(annotation) > MAX_TEXT:
        return None
    try:
        return ast.parse(annotation.strip(), mode="eval").body
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return None


def is_none(node: ast.expr) -> bool:
    return isinstance(node, ast.Constant) and node.value is None


def name_of(node: ast.expr) -> str | None:
    """`Path` of `Path`, `pathlib.Path`; None of anything but a plain name of a module that is known."""
    if isinstance(node, ast.Attribute):
        owner = name_of(node.value)
        return _OLD_NAMES.get(node.attr, node.attr) if owner in PREFIXES else None
    if isinstance(node, ast.Name):
        return _OLD_NAMES.get(node.id, node.id)
    return "None" if is_none(node) else None


def base_name(node: ast.expr) -> str | None:
    """`list` of `list[int]`."""
    return name_of(node.value if isinstance(node, ast.Subscript) else node)


def members(node: ast.Subscript) -> list[ast.expr]:
    """What stands between the brackets."""
    return node.slice.elts if isinstance(node.slice, ast.Tuple) else [node.slice]


def bare_text(annotation: str) -> str:
    """The annotation without quotes and `Annotated`, for reading."""
    tree = parse(annotation)
    return annotation if tree is None else ast.unparse(unwrapped(tree))


def named(node: ast.expr, lookup: Lookup) -> NamedType | None:
    """What the project, or a worker, knows of the name that a node is."""
    if isinstance(node, ast.Subscript):
        node = node.value
    if isinstance(node, ast.Name):
        return lookup(node.id)
    if isinstance(node, ast.Attribute) and name_of(node) is None:
        return lookup(ast.unparse(node))
    return None


def unwrapped(node: ast.expr) -> ast.expr:
    """The annotation inside quotes, and inside `Annotated[...]` and its like."""
    for _ in range(MAX_ALIASES):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            inner = parse(node.value)
            if inner is None:
                return node
            node = inner
        elif isinstance(node, ast.Subscript) and name_of(node.value) in ("Annotated", "Final", "Required"):
            node = members(node)[0] if members(node) else node
        else:
            return node
    return node


def arms(node: ast.expr, lookup: Lookup, depth: int = 0) -> Iterator[tuple[ast.expr, Lookup]]:
    """The members of a union, nested ones and aliases too, each with the lookup for its names."""
    node = unwrapped(node)
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.BitOr):
        yield from arms(node.left, lookup, depth)
        yield from arms(node.right, lookup, depth)
        return
    if isinstance(node, ast.Subscript) and name_of(node.value) in ("Optional", "Union"):
        for member in members(node):
            yield from arms(member, lookup, depth)
        if name_of(node.value) == "Optional":
            yield ast.Constant(value=None), lookup
        return
    found = named(node, lookup) if depth < MAX_ALIASES else None
    inner = None if found is None or found.alias is None else parse(found.alias)
    if found is not None and inner is not None:
        if isinstance(node, ast.Subscript):  # what a name of a library stands for keeps its brackets
            inner = ast.Subscript(value=inner, slice=node.slice, ctx=ast.Load())
        yield from arms(inner, found.lookup, depth + 1)
    else:
        yield node, lookup
