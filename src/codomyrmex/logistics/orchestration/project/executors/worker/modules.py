"""Importing the project's code in a worker, and noticing that it has changed.

Layer: worker. The roots stand first on `sys.path`. `./file.py` is imported under its natural name where
that name leads back to the same file, else by path under a name made from the path, the same in every worker.

A warm worker must never run old code: the files of all loaded modules below the roots are remembered by
(mtime, size, inode) as they are loaded, and looked at before an attempt, at most every 20 ms. The
interpreter's cache trusts whole seconds, so the cached form of a file that was changed within the last two
is thrown away.
"""

from __future__ import annotations

import importlib
import importlib.util
import os
import sys
import time

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from types import ModuleType
    from typing import Any, Optional

IMPORTING = "CODOMYRMEX_IMPORTING"
"""Set while a file of the user is imported: the process that does it, and the file."""
CHECK_EVERY_S = 0.02
_RACY_NS = 2_000_000_000
BUILT_IN = {
    "shell": "builtins_shell",
    "python": "builtins_python",
    "http": "builtins_http",
    "files": "builtins_files",
}


class ActionNotFound(LookupError):
    """No such module or function where this worker looks."""


class Modules:
    """The modules below some roots, as they were when loaded."""

    def __init__(self, roots: Sequence[str]) -> None:
        self.roots = tuple(roots)
        self._prefixes = tuple(root.rstrip(os.sep) + os.sep for root in roots)
        self._signatures: dict[str, tuple[int, int, int]] = {}
        self._actions: dict[tuple[str, str], Callable[..., Any]] = {}
        self._loaded_count = 0
        self._checked_at = 0.0
        for index, root in enumerate(roots):
            if root in sys.path:
                sys.path.remove(root)
            sys.path.insert(index, root)

    def find(self, module: str, action: str) -> Callable[..., Any]:
        """The function that `module` and `action` name; `action` may be dotted. Raises `ActionNotFound`."""
        found = self._actions.get((module, action))
        if found is None:
            found = self._resolve(module, action)
            self._actions[module, action] = found
        return found

    def _resolve(self, module: str, action: str) -> Callable[..., Any]:
        loaded = self.load(module)
        target: Any = loaded
        for part in action.split("."):
            try:
                target = getattr(target, part)
            except AttributeError:
                raise ActionNotFound(_no_action(loaded, module, action)) from None
        if not callable(target):
            raise ActionNotFound(f"{module}:{action} is a {type(target).__name__}, not a function")
        return target  # type: ignore[no-any-return]

    def load(self, module: str) -> ModuleType:
        """Imports a built-in, a `./file.py` or a module by name.

        Raises `ActionNotFound`, or what the module's own code raised.
        """
        if module in BUILT_IN:
            return _load_built_in(BUILT_IN[module])
        if module.endswith(".py") or os.sep in module:
            return self._load_file(module)
        try:
            return importlib.import_module(module)
        except ModuleNotFoundError as problem:
            if problem.name is None or not (module + ".").startswith(problem.name + "."):
                raise  # the module is there; something that it imports is not
        importlib.invalidate_caches()  # it may have been written since the folder was last read
        try:
            return importlib.import_module(module)
        except ModuleNotFoundError as problem:
            if problem.name is None or not (module + ".").startswith(problem.name + "."):
                raise
            places = ", ".join(self.roots) or "sys.path"
            raise ActionNotFound(
                f"no module {module!r} in {places}, nor among the packages of {sys.executable}"
            ) from None

    def _load_file(self, module: str) -> ModuleType:
        for root in self.roots or (os.getcwd(),):
            path = os.path.normpath(os.path.join(root, module))
            if os.path.isfile(path):
                return _import_natural(path, root) or _import_path(path)
        raise ActionNotFound(f"no file {module!r} in {', '.join(self.roots) or os.getcwd()}")

    def remember(self) -> None:
        """Notes the files of modules loaded since the last call; cheap when there are none."""
        if len(sys.modules) == self._loaded_count:
            return
        self._loaded_count = len(sys.modules)
        now_ns = time.time_ns()
        for module in list(sys.modules.values()):
            path = getattr(module, "__file__", None)
            if not isinstance(path, str) or path in self._signatures or not self._is_watched(path):
                continue
            signature = _signature(path)
            if signature is not None:
                self._signatures[path] = signature
                if signature[0] > now_ns - _RACY_NS:
                    _forget_cached(module)

    def _is_watched(self, path: str) -> bool:
        return path.startswith(self._prefixes) and "site-packages" not in path and path.endswith(".py")

    def changed(self) -> Optional[str]:
        """The path of a loaded file that is no longer what was loaded."""
        now = time.monotonic()
        if now - self._checked_at < CHECK_EVERY_S:
            return None
        self._checked_at = now
        for path, signature in self._signatures.items():
            if _signature(path) != signature:
                return path
        return None


def _signature(path: str) -> Optional[tuple[int, int, int]]:
    try:
        found = os.stat(path)
    except OSError:
        return None
    return found.st_mtime_ns, found.st_size, found.st_ino


def _forget_cached(module: ModuleType) -> None:
    cached = getattr(module, "__cached__", None)
    if isinstance(cached, str):
        try:
            os.unlink(cached)
        except OSError:
            pass


def _no_action(loaded: ModuleType, module: str, action: str) -> str:
    import difflib

    names = [name for name in vars(loaded) if not name.startswith("_") and callable(vars(loaded)[name])]
    near = difflib.get_close_matches(action, names, 1)
    hint = (
        f"; did you mean {near[0]!r}?"
        if near
        else f"; it has {', '.join(sorted(names)[:10]) or 'no functions'}"
    )
    return f"module {module!r} has no action {action!r}{hint}"


def _import_natural(path: str, root: str) -> Optional[ModuleType]:
    """The file under the name by which other modules of the root import it, where that name is free for
    it."""
    parts = os.path.relpath(path, root)[: -len(".py")].split(os.sep)
    if not all(part.isidentifier() for part in parts):
        return None
    name = ".".join(parts)
    try:
        spec = importlib.util.find_spec(name)
    except (ImportError, ValueError, AttributeError):
        return None
    if spec is None or spec.origin is None or os.path.realpath(spec.origin) != os.path.realpath(path):
        return None
    return importlib.import_module(name)


def _import_path(path: str) -> ModuleType:
    import binascii

    stem = "".join(char if char.isalnum() else "_" for char in os.path.basename(path)[: -len(".py")])
    name = f"file_{stem}_{binascii.crc32(os.fsencode(path)):08x}"
    if name in sys.modules:
        return sys.modules[name]
    return _execute(name, path)


def _execute(name: str, path: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise ActionNotFound(f"{path} is not a Python file")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    before = os.environ.get(IMPORTING)
    os.environ[IMPORTING] = f"{os.getpid()}:{path}"
    try:
        spec.loader.exec_module(module)
    except BaseException:
        sys.modules.pop(name, None)
        raise
    finally:
        if before is None:
            del os.environ[IMPORTING]
        else:
            os.environ[IMPORTING] = before
    return module


def _load_built_in(name: str) -> ModuleType:
    package = __name__.rpartition(".")[0]
    if name != "builtins_files":
        return importlib.import_module(f"{package}.{name}")
    full_name = f"{package}.{name}"
    if full_name not in sys.modules:  # it lives with the engine's actions, and is standard library only too
        project = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
        _execute(full_name, os.path.join(project, "actions", "files.py"))
    return sys.modules[full_name]
