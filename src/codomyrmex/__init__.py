"""Codomyrmex: durable, resource-aware workflows from one pip install.

The short way in: `from codomyrmex import OrchestrationEngine, Workflow, current_task, action`.
Names are looked up when first asked for (PEP 562), so importing the package costs next to nothing.
"""

from __future__ import annotations

from typing import Any

__version__ = "0.1.0"

_PROJECT = "codomyrmex.logistics.orchestration.project"
_HOMES = {
    "action": "codomyrmex.current_task",
    "current_task": "codomyrmex.current_task",
    "CodomyrmexError": "codomyrmex.exceptions",
    "ValidationError": "codomyrmex.exceptions",
    "register_codec": f"{_PROJECT}.executors.value_files",
}


def __dir__() -> list[str]:
    from importlib import import_module

    return sorted({*globals(), *_HOMES, *import_module(_PROJECT).__all__})


def __getattr__(name: str) -> Any:
    from importlib import import_module

    if name.startswith("_"):
        raise AttributeError(name)
    home = import_module(_HOMES.get(name, _PROJECT))
    try:
        return getattr(home, name)
    except AttributeError:
        raise AttributeError(f"module 'codomyrmex' has no attribute {name!r}") from None
