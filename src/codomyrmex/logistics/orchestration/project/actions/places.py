"""Where modules are looked for, and what file a module's name means there. Nothing is imported.

Layer: actions. `roots` are the folders that stand first on a worker's `sys.path`. A dotted name is walked
part by part with the interpreter's own `PathFinder`, so packages, extension modules and zip files are seen as
an import would see them, but no parent package runs.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib.machinery import ModuleSpec, PathFinder
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

_NEVER_WALKED = frozenset({"node_modules", "site-packages", "__pycache__", "build", "dist"})
MAX_FILES_LISTED = 5000


@dataclass(frozen=True, slots=True)
class Located:
    """A module that is there; `path` is None where it has no Python source."""

    path: str | None
    origin: str | None
    is_package: bool


@dataclass(frozen=True, slots=True)
class Blocked:
    """`package` is there and is the one that an import would take, but has no such module in it."""

    package: str
    folders: tuple[str, ...]


def roots(root: Path | str, file: Path | str | None = None) -> tuple[str, ...]:
    """The import roots in order: the workflow file's folder, the root, its `src` where there is one."""
    base = os.path.abspath(root)
    folders = [os.path.dirname(os.path.abspath(file))] if file is not None else []
    folders.append(base)
    source = os.path.join(base, "src")
    if os.path.isdir(source):
        folders.append(source)
    return tuple(dict.fromkeys(folders))


def is_path(module: str) -> bool:
    """Whether a module is named by its file: `./steps.py`, `/abs/steps.py`, `steps.py`."""
    return module.endswith(".py") or "/" in module or os.sep in module


def locate_file(module: str, folders: Sequence[str]) -> str | None:
    """The file that `./file.py` means: beside the first root that has it."""
    for folder in ("/",) if os.path.isabs(module) else folders:
        path = os.path.normpath(os.path.join(folder, module))
        if path.endswith(".py") and os.path.isfile(path):
            return path
    return None


def locate_module(name: str, folders: Sequence[str]) -> Located | Blocked | None:
    """What a dotted module name means in the first of these folders that has it."""
    parts = name.split(".")
    if not all(part.isidentifier() for part in parts):
        return None
    for folder in folders:
        found = _locate_in(parts, folder)
        if found is not None:
            return found
    return None


def _locate_in(parts: list[str], folder: str) -> Located | Blocked | None:
    where: list[str] = [folder]
    regular: Blocked | None = None
    for number, part in enumerate(parts):
        spec = _find_spec(part, where)
        if spec is None:
            return regular
        if number == len(parts) - 1:
            return _located(spec) or regular
        where = list(spec.submodule_search_locations or ())
        name = ".".join(parts[: number + 1])
        # A folder without __init__.py is only a part of a package: a later folder may have the rest.
        regular = Blocked(name, tuple(where)) if spec.origin is not None else None
        if not where:
            return regular
    return None


def _find_spec(part: str, where: list[str]) -> ModuleSpec | None:
    found = PathFinder.find_spec(part, where)
    if found is None:  # it may have been written within the clock tick in which the folder was last read
        for folder in where:
            _forget(folder)
        found = PathFinder.find_spec(part, where)
    return found


def _forget(folder: str) -> None:
    import sys

    finder = sys.path_importer_cache.get(folder)
    forget = getattr(finder, "invalidate_caches", None)
    if forget is not None:
        forget()


def _located(spec: ModuleSpec) -> Located | None:
    if spec.origin is None:
        return None  # a folder without __init__.py has no functions
    path = spec.origin if spec.origin.endswith(".py") and os.path.isfile(spec.origin) else None
    return Located(path, spec.origin, spec.submodule_search_locations is not None)


def locate_loadable(name: str) -> Located | None:
    """What this interpreter would import, built-in and editable modules too; top-level names only."""
    import importlib.util

    if "." in name or not name.isidentifier():
        return None
    try:
        spec = importlib.util.find_spec(name)
    except (ImportError, ValueError, AttributeError):
        return None
    return None if spec is None else _located(spec)


def names_in(folders: Sequence[str]) -> list[str]:
    """The modules and packages that stand directly in these folders, sorted."""
    names: set[str] = set()
    for folder in folders:
        try:
            entries = list(os.scandir(folder))
        except OSError:
            continue
        for entry in entries:
            stem = entry.name.removesuffix(".py")
            if not stem.isidentifier() or stem.startswith("__"):
                continue
            if stem != entry.name or os.path.isfile(os.path.join(entry.path, "__init__.py")):
                names.add(stem)
    return sorted(names)


def file_names(folder: str) -> list[str]:
    """The names of the Python files directly in a folder."""
    try:
        return sorted(name for name in os.listdir(folder) if name.endswith(".py"))
    except OSError:
        return []


def python_files(folder: str) -> Iterator[str]:
    """The Python files below a folder, sorted by folder; hidden ones, environments and built things left out.

    The state folder is hidden, so nothing in it is ever opened. At most MAX_FILES_LISTED.
    """
    count = 0
    for where, folders, files in os.walk(folder):
        folders[:] = sorted(name for name in folders if _is_walked(where, name))
        for name in sorted(files):
            if name.endswith(".py") and not name.startswith("."):
                count += 1
                if count > MAX_FILES_LISTED:
                    return
                yield os.path.join(where, name)


def _is_walked(where: str, name: str) -> bool:
    if name.startswith(".") or name in _NEVER_WALKED or name.endswith(".egg-info"):
        return False
    return not os.path.exists(os.path.join(where, name, "pyvenv.cfg"))


def module_name(path: str, folders: Sequence[str]) -> str:
    """How a workflow names the module of a file: dotted from the deepest root above it, else `./path.py`."""
    for folder in sorted(folders, key=len, reverse=True):
        if not path.startswith(folder.rstrip(os.sep) + os.sep):
            continue
        parts = os.path.relpath(path, folder).removesuffix(".py").split(os.sep)
        if parts[-1] == "__init__":
            parts.pop()
        if parts and all(part.isidentifier() for part in parts):
            return ".".join(parts)
        return "./" + os.path.relpath(path, folder).replace(os.sep, "/")
    return path
