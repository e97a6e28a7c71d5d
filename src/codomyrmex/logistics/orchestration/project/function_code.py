"""What can be told of a function object: its code, and the values that it closed over.

Layer: shell beside `action_code`; for steps made in Python, whose function may have been made by another one.
"""

from __future__ import annotations

import functools
import hashlib
import inspect
from collections.abc import Callable
from types import CodeType
from typing import Any

from codomyrmex.logistics.orchestration.project.cache_key import kept
from codomyrmex.logistics.orchestration.project.values import Unserialisable, to_tagged


def code_of(function: Callable[..., Any]) -> CodeType | None:
    """The code object behind a function, a method or a partial; None for what is not written in Python."""
    while isinstance(function, functools.partial):
        function = function.func
    found = getattr(inspect.unwrap(function), "__code__", None)
    return found if isinstance(found, CodeType) else None


def captured(function: Callable[..., Any]) -> dict[str, Any]:
    """The values that a function closed over or was bound to, tagged; functions among them by their name.

    Raises ValueError for a value that cannot be written down, because nobody could say whether it changed.
    """
    found: dict[str, Any] = {}
    while isinstance(function, functools.partial):
        bound = {**{str(at): value for at, value in enumerate(function.args)}, **function.keywords}
        found |= {name: _written(name, value) for name, value in bound.items()}
        function = function.func
    inner = inspect.unwrap(function)
    code, cells = getattr(inner, "__code__", None), getattr(inner, "__closure__", None)
    if isinstance(code, CodeType) and cells:
        for name, cell in zip(code.co_freevars, cells, strict=True):
            found[name] = _written(name, cell.cell_contents)
    return found


def hash_of_code(code: CodeType) -> str:
    """The hash of what a code object does, wherever it stands in its text."""
    return hashlib.sha256(repr(_meaning(code)).encode()).hexdigest()


def _meaning(code: CodeType) -> tuple[Any, ...]:
    constants = tuple(_meaning(each) if isinstance(each, CodeType) else repr(each) for each in code.co_consts)
    return code.co_code, constants, code.co_names, code.co_varnames, code.co_freevars


def _written(name: str, value: Any) -> Any:
    if callable(value) and hasattr(value, "__qualname__"):
        return f"{value.__module__}.{value.__qualname__}"
    try:
        return kept(to_tagged(value, root=name))
    except Unserialisable as error:
        raise ValueError(
            f"the step's function holds {error}, so its cache cannot tell whether it is the same; "
            "pass it as a parameter, or give the action a version: @action(version=...)"
        ) from None
