"""`codomyrmex.current_task` inside a worker, whether or not its interpreter has the package.

Layer: worker. The module is always loaded from the file beside the engine that started the worker, so the
state of the attempt has one home. Where `codomyrmex` itself cannot be imported, a package that offers just
`current_task`, `action` and `register_codec` stands in for it; an installed one is never hidden.
"""

from __future__ import annotations

import importlib.abc
import importlib.machinery
import importlib.util
import os
import sys

from . import file_codecs

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from types import ModuleType
    from typing import Any, Optional

PACKAGE = "codomyrmex"
CURRENT_TASK = "codomyrmex.current_task"


def install() -> Any:
    """Loads `codomyrmex.current_task` and returns it."""
    path = __file__
    for _ in range(6):
        path = os.path.dirname(path)
    path = os.path.join(path, "current_task.py")
    spec = importlib.util.spec_from_file_location(CURRENT_TASK, path)
    if spec is None or spec.loader is None:
        raise ImportError(f"{path} is missing; install codomyrmex again")
    module = importlib.util.module_from_spec(spec)
    sys.modules[CURRENT_TASK] = module
    spec.loader.exec_module(module)
    sys.meta_path.append(_StandIn())
    return module


class _StandIn(importlib.abc.Loader):
    """The last finder asked: it answers only when nothing else has `codomyrmex`."""

    def find_spec(
        self, name: str, path: Optional[Sequence[str]] = None, target: Optional[ModuleType] = None
    ) -> Optional[importlib.machinery.ModuleSpec]:
        del path, target
        if name != PACKAGE:
            return None
        return importlib.machinery.ModuleSpec(name, self, is_package=True)

    def create_module(self, spec: importlib.machinery.ModuleSpec) -> None:
        del spec

    def exec_module(self, module: ModuleType) -> None:
        current = sys.modules[CURRENT_TASK]
        module.__path__ = []
        vars(module).update(
            __doc__="What an action needs of codomyrmex, in an interpreter that does not have it.",
            current_task=current.current_task,
            action=current.action,
            register_codec=file_codecs.register_codec,
        )
