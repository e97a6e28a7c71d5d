"""Importing an action into this process, for steps that run in a thread or in the event loop of the engine.

Layer: actions. A plain import, nothing cached here: what Python has imported stays as it was imported. The
roots are added at the end of `sys.path`, so that a file of the project cannot take the place of a module that
the engine itself imports later; where another module would win for that reason, the project's file is loaded
by its path, under a name that is the same in every process.
"""

from __future__ import annotations

import importlib
import importlib.util
import os
import sys
from collections.abc import Callable, Sequence
from threading import RLock
from typing import TYPE_CHECKING, Any

from codomyrmex.logistics.orchestration.project.actions import places
from codomyrmex.logistics.orchestration.project.actions.built_in import UNDER_A_WORKER
from codomyrmex.logistics.orchestration.project.actions.missing import FunctionMissing, ModuleMissing
from codomyrmex.logistics.orchestration.project.workflow_faults import nearest

if TYPE_CHECKING:
    from pathlib import Path
    from types import ModuleType

_loading = RLock()
"""Held while a file is loaded by its path: another thread must not find it half executed."""


def load_function(
    module: str, action: str, roots: Sequence[str], file: Path | str | None = None
) -> Callable[..., Any]:
    """The function that `module` and `action` name (a description's `target`); `action` may be dotted.

    `file` is the workflow file, whose folder is searched first. Raises `ActionNotFound`, or what importing
    raised.
    """
    folders = list(roots)
    if file is not None:
        folders.insert(0, os.path.dirname(os.path.abspath(file)))
    loaded = load_module(module, action, list(dict.fromkeys(folders)))
    found: Any = loaded
    for part in action.split("."):
        try:
            found = getattr(found, part)
        except AttributeError:
            raise _function_missing(loaded, module, action) from None
    if not callable(found):
        text = f"{action!r} in the module {module!r} is a {type(found).__name__}, not a function"
        raise FunctionMissing(module, action, text)
    return found  # type: ignore[no-any-return]


def load_module(module: str, action: str, folders: Sequence[str]) -> ModuleType:
    """Imports `files`, a `./file.py`, or a module by name."""
    if module == "files":
        return importlib.import_module("codomyrmex.logistics.orchestration.project.actions.files")
    if module in UNDER_A_WORKER:
        text = f"{module}.{action} runs in a worker process only"
        raise ModuleMissing(module, action, text, hint="leave `isolation` out, or set it to process")
    _extend_path(folders)
    if places.is_path(module):
        path = places.locate_file(module, folders)
        if path is None:
            looked_in = [] if os.path.isabs(module) else folders
            raise ModuleMissing(module, action, f"there is no file {module!r}", looked_in=looked_in)
        return _load_file(path, folders)
    located = places.locate_module(module, folders)
    if isinstance(located, places.Located) and located.path is not None:
        return _load_located(module, located.path)
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as problem:
        if problem.name is None or not f"{module}.".startswith(f"{problem.name}."):
            raise  # the module is there; something that it imports is not
    looked_in = [*folders, "the installed packages"]
    raise ModuleMissing(module, action, f"there is no module {module!r}", looked_in=looked_in)


def _extend_path(folders: Sequence[str]) -> None:
    for folder in folders:
        if folder not in sys.path:
            sys.path.append(folder)


def _load_located(name: str, path: str) -> ModuleType:
    """The module under its own name where that leads to this file, else by path."""
    importlib.invalidate_caches()
    try:
        spec = importlib.util.find_spec(name)
    except (ImportError, ValueError, AttributeError):
        spec = None
    origin = None if spec is None else spec.origin
    if origin is not None and os.path.realpath(origin) == os.path.realpath(path):
        return importlib.import_module(name)
    return _load_path(path)


def _load_file(path: str, folders: Sequence[str]) -> ModuleType:
    main = sys.modules.get("__main__")
    if main is not None and os.path.realpath(getattr(main, "__file__", None) or "") == os.path.realpath(path):
        return main  # the script that runs now is not to run a second time
    name = places.module_name(path, folders)
    return _load_path(path) if places.is_path(name) else _load_located(name, path)


def _load_path(path: str) -> ModuleType:
    import binascii

    stem = "".join(char if char.isalnum() else "_" for char in os.path.basename(path).removesuffix(".py"))
    name = f"file_{stem}_{binascii.crc32(os.fsencode(path)):08x}"
    with _loading:
        known = sys.modules.get(name)
        if known is not None:
            return known
        spec = importlib.util.spec_from_file_location(name, path)
        if spec is None or spec.loader is None:
            raise ImportError(f"{path} is not a Python file", path=path)
        module = importlib.util.module_from_spec(spec)
        sys.modules[name] = module
        try:
            spec.loader.exec_module(module)
        except BaseException:
            sys.modules.pop(name, None)
            raise
        return module


def _function_missing(loaded: ModuleType, module: str, action: str) -> FunctionMissing:
    known = [name for name, value in vars(loaded).items() if callable(value) and not name.startswith("_")]
    where = getattr(loaded, "__file__", None) or module
    text = f"the module {module!r} has no function {action!r}; looked in {where}"
    return FunctionMissing(module, action, text, known=known, nearest=nearest(action, known))
