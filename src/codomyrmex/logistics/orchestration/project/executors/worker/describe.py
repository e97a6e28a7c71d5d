"""What an action takes, gives and declares, read from its function.

Layer: worker. This is how an engine that must not import a project's code learns signatures before anything
runs.
"""

from __future__ import annotations

import inspect

from . import named_types, values
from .failures import describe_failure

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from typing import Any

    from .modules import Modules


def describe_actions(modules: Modules, names: Iterable[tuple[str, str]]) -> list[dict[str, Any]]:
    """One dict for each (module, action), in the order asked; `found` False and an `error` where there is
    none."""
    return [_describe(modules, module, action) for module, action in names]


def _describe(modules: Modules, module: str, action: str) -> dict[str, Any]:
    base = {"module": module, "action": action}
    try:
        function = modules.find(module, action)
    except BaseException as problem:
        return {**base, "found": False, "error": describe_failure(problem, modules.roots)}
    return {**base, "found": True, **describe_function(function)}


def describe_function(function: Callable[..., Any]) -> dict[str, Any]:
    """Parameters, documentation, declarations, source and its check sum."""
    declared = getattr(function, "__codomyrmex_action__", None) or {}
    plain = inspect.unwrap(function)
    code = getattr(plain, "__code__", None)
    found = {
        "doc": inspect.getdoc(function) or "",
        "effects": declared.get("effects", "idempotent"),
        "resources": declared.get("resources", {}),
        "timeout_s": declared.get("timeout_s"),
        "isolation": declared.get("isolation"),
        "name": declared.get("name"),
        "registered": bool(declared),
        "is_async": inspect.iscoroutinefunction(plain),
        "is_generator": inspect.isgeneratorfunction(plain) or inspect.isasyncgenfunction(plain),
        "file": None if code is None else code.co_filename,
        "line": None if code is None else code.co_firstlineno,
        "fingerprint": None if code is None else _fingerprint(code.co_filename),
    }
    try:
        signature = inspect.signature(function)
    except (TypeError, ValueError):
        return {**found, "parameters": None, "signature": None}
    hints = named_types.hints_of(plain)
    returns = hints.get("return", signature.return_annotation)
    return {
        **found,
        "parameters": [_parameter(item, hints) for item in signature.parameters.values()],
        "signature": str(signature),
        "returns": None if returns is inspect.Parameter.empty else _annotation(returns),
        "types": named_types.types_in(hints.values()),
    }


def _parameter(parameter: inspect.Parameter, hints: Mapping[str, Any]) -> dict[str, Any]:
    empty = inspect.Parameter.empty
    found: dict[str, Any] = {
        "name": parameter.name,
        "kind": parameter.kind.name.lower(),
        "required": parameter.default is empty
        and parameter.kind not in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD),
        "annotation": None if parameter.annotation is empty else _annotation(parameter.annotation),
    }
    if parameter.name in hints:
        hint = _annotation(hints[parameter.name])
        if hint != found["annotation"]:
            found["hint"] = hint
    if parameter.default is not empty:
        try:
            found["default"] = values.to_tagged(parameter.default)
        except values.Unserialisable:
            found["default_text"] = repr(parameter.default)
    return found


def _annotation(annotation: Any) -> str:
    return annotation if isinstance(annotation, str) else inspect.formatannotation(annotation)


def _fingerprint(path: str) -> Any:
    """The SHA-256 of the source file; None where there is no file."""
    import hashlib

    try:
        with open(path, "rb") as file:
            return hashlib.sha256(file.read()).hexdigest()
    except OSError:
        return None
