"""The fingerprint of an action: what changes when the code that it runs changes.

Layer: shell; above actions. In this order:

    declared    `@action(version="2")`: the author says when results change, and nothing else counts
    project     the hash of the module's file and of every project module that it imports, directly or through
                others, found in the source by `ast`; beside it the version of Python
    elsewhere   the version of the distribution (of codomyrmex itself for `shell`, `http`, `files`)

What is imported by a computed name, and data files, are not seen: `inputs` and `also` of the cache name them.
A function that has been imported into this process keeps the fingerprint it had: editing its file does not
change what runs.
"""

from __future__ import annotations

import ast
import os
import sys
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from types import CodeType
from typing import Any

from codomyrmex.logistics.orchestration.project.actions import places
from codomyrmex.logistics.orchestration.project.actions.built_in import MODULES as BUILT_IN_MODULES
from codomyrmex.logistics.orchestration.project.file_hashes import RACY_NS, FileHashes, shown
from codomyrmex.logistics.orchestration.project.function_code import captured, code_of, hash_of_code
from codomyrmex.logistics.orchestration.project.installed_code import package_of

MOST_FILES = 5000
Code = dict[str, Any]


@dataclass(slots=True)
class _Scan:
    """What one source file imports, and which versions its actions declare."""

    imports: list[tuple[int, str, tuple[str, ...]]] = field(default_factory=list)
    versions: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class _Closure:
    """The project files that a file leads to, and how they and their folders were when that was found out."""

    files: tuple[str, ...]
    stamps: tuple[object, ...]


class ActionCode:
    """Fingerprints of the actions of one engine; usable from several threads."""

    def __init__(self, hashes: FileHashes) -> None:
        self._hashes = hashes
        self._closures: dict[tuple[str, tuple[str, ...]], _Closure] = {}
        self._scans: dict[str, tuple[object, _Scan]] = {}
        self._loaded: dict[CodeType, Code] = {}

    def of(
        self,
        module: str,
        action: str,
        *,
        function: Callable[..., Any] | None,
        roots: Sequence[str],
        root: str,
        python: str,
    ) -> Code:
        """The fingerprint as a JSON object; raises OSError when a file goes away meanwhile, and ValueError."""
        if module in BUILT_IN_MODULES:
            from codomyrmex import __version__

            return {"package": f"codomyrmex {__version__}"}
        if function is not None:
            return self._of_function(function, (module, action), tuple(roots), root, python)
        path = _source_of(module, roots)
        if path is None:
            return package_of(module, python, self._hashes)
        return self._of_file(path, action, tuple(roots), root)

    def _of_function(
        self,
        function: Callable[..., Any],
        name: tuple[str, str],
        roots: tuple[str, ...],
        root: str,
        python: str,
    ) -> Code:
        declared = getattr(function, "__codomyrmex_action__", None) or {}
        if declared.get("version") is not None:
            return {"version": str(declared["version"])}
        module, action = name
        code = code_of(function)
        if code is None:
            return package_of(module, python, self._hashes)
        known = self._loaded.get(code)
        if known is None:
            known = self._loaded[code] = self._of_loaded(code, name, roots, root, python)
        # A function that can be found by its name is the same wherever it is found.
        held = captured(function) if "<" in action else {}
        return {**known, "holds": held} if held else known

    def _of_loaded(
        self, code: CodeType, name: tuple[str, str], roots: tuple[str, ...], root: str, python: str
    ) -> Code:
        module, action = name
        path = _source_of(module, roots)
        if path is not None:
            return self._of_file(path, action, roots, root)
        path = os.path.abspath(code.co_filename)
        if not os.path.isfile(path):  # a notebook's cell
            return {"files": {code.co_qualname: hash_of_code(code)}}
        if module == "__main__" or path.startswith(tuple(_prefix(each) for each in roots)):
            return self._of_file(path, code.co_name, (os.path.dirname(path), *roots), root)
        return package_of(module, python, self._hashes)

    def _of_file(self, path: str, action: str, roots: tuple[str, ...], root: str) -> Code:
        version = self._scan(path).versions.get(action)
        if version is not None:
            return {"version": version}
        files = self._closure(path, roots)
        return {"files": {shown(each, root): self._hashes.of(each) for each in files}}

    def _closure(self, path: str, roots: tuple[str, ...]) -> tuple[str, ...]:
        known = self._closures.get((path, roots))
        if known is not None and known.stamps == _stamps(known.files, roots):
            return known.files
        found = {path: None}
        todo = [path]
        while todo and len(found) < MOST_FILES:
            for each in _led_to(todo.pop(), roots, self._scan):
                if each not in found:
                    found[each] = None
                    todo.append(each)
        files = tuple(sorted(found))
        self._closures[path, roots] = _Closure(files, _stamps(files, roots))
        return files

    def _scan(self, path: str) -> _Scan:
        stamp = _stamp(path)
        known = self._scans.get(path)
        if known is not None and known[0] == stamp:
            return known[1]
        scan = _read(path)
        if stamp is not None and time.time_ns() - stamp[0] > RACY_NS:
            self._scans[path] = (stamp, scan)
        return scan


def _source_of(module: str, roots: Sequence[str]) -> str | None:
    """The project file of a module, or None where the project has none."""
    if places.is_path(module):
        return places.locate_file(module, roots)
    found = places.locate_module(module, roots)
    return (found.path or found.origin) if isinstance(found, places.Located) else None


def _read(path: str) -> _Scan:
    scan = _Scan()
    if not path.endswith(".py"):
        return scan
    with open(path, "rb") as file:
        source = file.read()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            tree = ast.parse(source, path)
    except (SyntaxError, ValueError, RecursionError):
        return scan  # its hash counts all the same
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            scan.imports += [(0, alias.name, ()) for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            names = tuple(alias.name for alias in node.names)
            scan.imports.append((node.level, node.module or "", names))
        elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            version = _declared_version(node)
            if version is not None:
                scan.versions[node.name] = version
    return scan


def _declared_version(node: ast.FunctionDef | ast.AsyncFunctionDef) -> str | None:
    for each in node.decorator_list:
        if isinstance(each, ast.Call) and ast.unparse(each.func).rpartition(".")[2] == "action":
            for keyword in each.keywords:
                if keyword.arg == "version" and isinstance(keyword.value, ast.Constant):
                    return None if keyword.value.value is None else str(keyword.value.value)
    return None


def _led_to(path: str, roots: tuple[str, ...], scan_of: Callable[[str], _Scan]) -> Iterator[str]:
    """The project files that importing a file imports: its packages, and what it names."""
    folder = os.path.dirname(path)
    while os.path.isfile(package := os.path.join(folder, "__init__.py")):
        yield package
        folder = os.path.dirname(folder)
    for level, module, names in scan_of(path).imports:
        if level:
            base = os.path.dirname(path)
            for _ in range(level - 1):
                base = os.path.dirname(base)
            where: tuple[str, ...] = (base,)
        else:
            where = roots
        yield from _named(module, names, where)


def _named(module: str, names: tuple[str, ...], folders: tuple[str, ...]) -> Iterator[str]:
    """The files of `module`, of the packages around it, and of those `names` that are modules in it."""
    parts = module.split(".") if module else []
    dotted = [".".join(parts[: count + 1]) for count in range(len(parts))]
    found = True
    for name in dotted:
        located = places.locate_module(name, folders)
        found = located is not None or any(_is_folder(name, each) for each in folders)
        if not found:
            return
        if isinstance(located, places.Located) and (located.path or located.origin):
            yield located.path or str(located.origin)
    for name in names if found else ():
        inner = f"{module}.{name}" if module else name
        located = places.locate_module(inner, folders) if name != "*" else None
        if isinstance(located, places.Located) and (located.path or located.origin):
            yield located.path or str(located.origin)


def _is_folder(name: str, folder: str) -> bool:
    """A package without `__init__.py`."""
    return os.path.isdir(os.path.join(folder, *name.split(".")))


def _prefix(folder: str) -> str:
    return folder.rstrip(os.sep) + os.sep


def _stamp(path: str) -> tuple[int, int, int, int] | None:
    try:
        found = os.stat(path)
    except OSError:
        return None
    return found.st_mtime_ns, found.st_ctime_ns, found.st_size, found.st_ino


def _stamps(files: tuple[str, ...], roots: tuple[str, ...]) -> tuple[object, ...]:
    folders = sorted({os.path.dirname(each) for each in files} | set(roots))
    return tuple(_stamp(each) for each in (*files, *folders))


def python_version(interpreter: str | None, known: dict[str, str]) -> str:
    """The version of an interpreter (None: this one); `known` remembers those that had to be asked."""
    import platform

    if interpreter is None or interpreter == sys.executable:
        return platform.python_version()
    if interpreter not in known:
        known[interpreter] = _version_in_folder(interpreter) or _asked(interpreter)
    return known[interpreter]


def _version_in_folder(interpreter: str) -> str | None:
    """What `pyvenv.cfg` says."""
    config = os.path.join(os.path.dirname(os.path.dirname(interpreter)), "pyvenv.cfg")
    try:
        with open(config, encoding="utf-8", errors="replace") as file:
            lines = [line.partition("=") for line in file]
    except OSError:
        return None
    found = {name.strip().lower(): value.strip() for name, _, value in lines}
    return found.get("version") or found.get("version_info")


def _asked(interpreter: str) -> str:
    import subprocess

    command = [interpreter, "-IS", "-c", "import platform; print(platform.python_version())"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=10, check=True)
    except (OSError, subprocess.SubprocessError):
        return interpreter
    return done.stdout.strip()
