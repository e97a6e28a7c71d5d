"""Calling one action: parameters in, a value or the fields of a failure out.

Layer: worker; thread executors use it too, so that the rules are the same in every isolation. Keyword
arguments come from the parameters; a coroutine is run to its end; `sys.exit(0)` is a completion without a
value.
"""

from __future__ import annotations

from .failures import describe_failure
from .values import MARKER, Unserialisable

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from typing import Any


def call(function: Callable[..., Any], parameters: Mapping[str, Any]) -> Any:
    """The action's value; an awaitable is awaited in an event loop of its own."""
    return finished(function(**parameters))


def finished(value: Any) -> Any:
    """What an action returned; an awaitable is awaited in an event loop of its own."""
    if hasattr(value, "__await__"):
        import asyncio

        return asyncio.run(_wait_for(value))
    return value


async def _wait_for(value: Any) -> Any:
    return await value


def failure_of(
    problem: BaseException, roots: Sequence[str], function: Any = None
) -> tuple[str, dict[str, Any]]:
    """The outcome's kind and the fields of its error."""
    fields = describe_failure(problem, roots, getattr(function, "__code__", None))
    if isinstance(problem, Unserialisable):
        return "unserialisable", fields
    return ("out_of_memory" if isinstance(problem, MemoryError) else "failed"), fields


def with_secrets(tree: Any, secrets: Mapping[str, str]) -> Any:
    """A tree of tagged JSON with every `{"$secret": NAME}` of a name that was given replaced by the secret.

    Data never looks like that there: `values` tags it.
    """
    if type(tree) is dict:
        name = tree.get(MARKER)
        if len(tree) == 1 and type(name) is str and name in secrets:
            return secrets[name]
        return {key: with_secrets(item, secrets) for key, item in tree.items()}
    if type(tree) is list:
        return [with_secrets(item, secrets) for item in tree]
    return tree
