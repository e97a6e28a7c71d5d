"""Conditions and references computed by Python itself: what the engine's own evaluator is compared with.

Only for texts of our own documents: they are handed to `eval`. Null is an object of which everything below is
null again, that is equal to null only and neither less nor greater than anything.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

DEFAULTED = re.compile(r"([\w.]+) \?\? ('[^']*'|[\w.]+)")


class Missing(Exception):
    """A key that is not there, or no output where one has to be."""


class Null:
    """See the module."""

    def __getattr__(self, name: str) -> Null:
        return self

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Null)

    def __hash__(self) -> int:
        return 0

    def __bool__(self) -> bool:
        return False

    def __len__(self) -> int:
        return 0

    def _never(self, other: object) -> bool:
        return False

    __lt__ = __le__ = __gt__ = __ge__ = _never


class Tree:
    """A mapping whose keys are read as attributes."""

    def __init__(self, tree: Mapping[str, Any]) -> None:
        self.tree = tree

    def __getattr__(self, name: str) -> Any:
        if name not in self.tree:
            raise Missing(name)
        return wrapped(self.tree[name])

    def __len__(self) -> int:
        return len(self.tree)


def wrapped(value: Any) -> Any:
    """A value as an expression sees it."""
    if value is None:
        return Null()
    return Tree(value) if isinstance(value, Mapping) else value


def bare(value: Any) -> Any:
    """The same, back in JSON."""
    if isinstance(value, Null):
        return None
    return value.tree if isinstance(value, Tree) else value


def condition(text: str, names: Mapping[str, Any]) -> bool:
    """Whether a condition holds."""
    return bool(_computed(text, names))


def template(text: str, names: Mapping[str, Any]) -> Any:
    """The value of a text with references; `Missing` where one has no value and no default."""
    whole = re.fullmatch(r"\$\{([^}]*)\}", text)
    if whole:
        return _reference(whole[1], names)
    return re.sub(r"\$\{([^}]*)\}", lambda found: str(_reference(found[1], names)), text)


def _reference(text: str, names: Mapping[str, Any]) -> Any:
    if "??" not in text and ".output" in text and isinstance(names["steps"]["a"]["output"], Null):
        raise Missing(text)
    return bare(_computed(text, names))


def _computed(text: str, names: Mapping[str, Any]) -> Any:
    scope = {name: Tree(value) for name, value in names.items()}
    scope |= {"len": len, "null": Null()}

    def first(reference: str, default: str) -> Any:
        try:
            value = eval(reference, scope)
        except Missing:
            value = Null()
        return eval(default, scope) if isinstance(value, Null) else value

    return eval(DEFAULTED.sub(r'first("\1", "\2")', text), {**scope, "first": first})
