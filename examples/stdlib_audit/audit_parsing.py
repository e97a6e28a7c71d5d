"""Parses files and keeps the facts that the later steps rank and count.

The step that fans out: each task gets a few paths and answers with a few KiB. A file that does not parse is a
fact (`error`), not a failure. Trees are walked with a stack of statements and never into expressions:
functions, classes, imports and control flow are statements, and so no depth of nesting exhausts the
interpreter's own stack.
"""

from __future__ import annotations

import ast
import warnings
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from audit_facts import KEPT_PER_FILE, FileFacts, ParseError, Ranked
from audit_modules import is_public_module, is_public_name, is_test_path, module_name

FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)
DEFINITIONS = (*FUNCTIONS, ast.ClassDef)

# What raises the control-flow level by one; `else`, `except` and `case` stay on the level of their statement.
_FLOW = tuple(
    getattr(ast, name)
    for name in ("If", "For", "AsyncFor", "While", "Try", "TryStar", "With", "AsyncWith", "Match")
    if hasattr(ast, name)
)
_COMPOUND = (ast.Module, *DEFINITIONS, *_FLOW)
# A second definition of the same thing (a property's setter), or one without a body of its own.
_SILENT_DECORATORS = frozenset({"setter", "deleter", "getter", "overload"})


class Defined(NamedTuple):
    """A function or class, the names that lead to it, and whether all of them are public."""

    node: ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef
    qualified: str
    public: bool


def parse_batch(root: str, paths: list[str]) -> list[FileFacts]:
    """Return the facts of each of `paths`, which are relative to `root`, in order."""
    return [parse_file(Path(root), path) for path in paths]


def parse_file(root: Path, path: str) -> FileFacts:
    """Read and parse one file; what the parser or the file system refuses becomes the fact `error`."""
    try:
        source = (root / path).read_bytes()
    except PermissionError as problem:
        return _bare_facts(path, b"", _error(problem, message="may not be read by this user"))
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # invalid escapes and the like are the library's own affair
            tree = ast.parse(source, filename=path)
    except SyntaxError as problem:
        return _bare_facts(path, source, _error(problem, message=problem.msg, line=problem.lineno))
    except (
        ValueError,
        RecursionError,
        MemoryError,
    ) as problem:  # null bytes; deeper than the parser's limits
        return _bare_facts(path, source, _error(problem, message=str(problem)))
    return _facts_of(path, source, tree)


def _error(problem: Exception, *, message: str, line: int | None = None) -> ParseError:
    return {"kind": type(problem).__name__, "line": line or 0, "message": message}


def _bare_facts(path: str, source: bytes, error: ParseError | None) -> FileFacts:
    return {
        "path": path,
        "module": module_name(path),
        "tests": is_test_path(path),
        "bytes": len(source),
        "lines": len(source.splitlines()),
        "error": error,
        "classes": 0,
        "functions": 0,
        "lengths": [],
        "depths": [],
        "longest": [],
        "deepest": [],
        "public": {},
        "documented": {},
        "undocumented": [],
        "imports": {},
    }


def _facts_of(path: str, source: bytes, tree: ast.Module) -> FileFacts:
    facts = _bare_facts(path, source, None)
    defined = list(definitions(tree, is_public_module(path)))
    functions = [each for each in defined if not isinstance(each.node, ast.ClassDef)]
    lengths = [[each.qualified, each.node.lineno, line_count(each.node)] for each in functions]
    depths = [[each.qualified, each.node.lineno, flow_depth(each.node)] for each in functions]
    facts["functions"] = len(functions)
    facts["classes"] = len(defined) - len(functions)
    facts["lengths"] = _tally(lengths)
    facts["depths"] = _tally(depths)
    facts["longest"] = highest(lengths)
    facts["deepest"] = highest([row for row in depths if row[2]])
    facts["imports"] = imported_names(tree, path)
    _judge_docstrings(facts, tree, defined)
    return facts


def _tally(ranked: list[Ranked]) -> list[list[int]]:
    return sorted([value, count] for value, count in Counter(row[2] for row in ranked).items())


def highest(ranked: list[Ranked]) -> list[Ranked]:
    """Return the rows of the highest values, equal ones in the order of the file."""
    return sorted(ranked, key=lambda row: (-row[2], row[1], row[0]))[:KEPT_PER_FILE]


def line_count(node: ast.stmt) -> int:
    """Return the lines from `def` to the last one, docstring included and decorators not."""
    return (node.end_lineno or node.lineno) - node.lineno + 1


def blocks(node: ast.AST) -> Iterator[list[ast.stmt]]:
    """Yield the statement lists directly inside a statement, those of its handlers and cases included."""
    if not isinstance(node, _COMPOUND):
        return
    for field in ("body", "orelse", "finalbody"):
        block = getattr(node, field, None)
        if block:
            yield block
    for field in ("handlers", "cases"):
        for part in getattr(node, field, ()):
            yield part.body


def definitions(tree: ast.Module, public: bool) -> Iterator[Defined]:
    """Yield every function and class; what a function defines inside itself is never public."""
    stack: list[tuple[ast.AST, str, bool]] = [(tree, "", public)]
    while stack:
        node, prefix, open_to_all = stack.pop()
        for block in blocks(node):
            for child in block:
                if not isinstance(child, DEFINITIONS):
                    stack.append((child, prefix, open_to_all))
                    continue
                seen = open_to_all and is_public_name(child.name)
                yield Defined(child, prefix + child.name, seen)
                stack.append((child, f"{prefix}{child.name}.", seen and isinstance(child, ast.ClassDef)))


def flow_depth(function: ast.AST) -> int:
    """Return how many levels of control flow stand inside each other; inner functions count apart."""
    deepest = 0
    stack = [(child, 0) for block in blocks(function) for child in block]
    while stack:
        node, level = stack.pop()
        if not isinstance(node, _FLOW):
            continue
        deepest = max(deepest, level + 1)
        for block in blocks(node):
            inner = level if _is_elif(node, block) else level + 1
            stack += [(child, inner) for child in block]
    return deepest


def _is_elif(node: ast.AST, block: list[ast.stmt]) -> bool:
    """Tell whether `block` is the `elif` of `node`: alone in `orelse`, an `if` in the same column."""
    return (
        isinstance(node, ast.If)
        and block is node.orelse
        and isinstance(block[0], ast.If)
        and len(block) == 1
        and block[0].col_offset == node.col_offset
    )


def _judge_docstrings(facts: FileFacts, tree: ast.Module, defined: list[Defined]) -> None:
    """Count public things and their docstrings; dunder methods are left out, for all know what they do."""
    public: Counter[str] = Counter()
    documented: Counter[str] = Counter()
    missing: list[Ranked] = []
    if is_public_module(facts["path"]) and tree.body:
        public["module"] += 1
        documented["module"] += has_docstring(tree)
    for node, qualified, open_to_all in defined:
        if not open_to_all or node.name.startswith("__") or _is_silent(node):
            continue
        kind = "class" if isinstance(node, ast.ClassDef) else "function"
        public[kind] += 1
        if has_docstring(node):
            documented[kind] += 1
        elif kind == "function":
            missing.append([qualified, node.lineno, line_count(node)])
    facts["public"] = dict(sorted(public.items()))
    facts["documented"] = dict(sorted(documented.items()))
    facts["undocumented"] = highest(missing)


def has_docstring(node: Any) -> bool:
    """Tell whether the first statement of a module, class or function is a text that is not blank."""
    first = node.body[0] if node.body else None
    value = first.value if isinstance(first, ast.Expr) else None
    return isinstance(value, ast.Constant) and isinstance(value.value, str) and bool(value.value.strip())


def _is_silent(node: Any) -> bool:
    names = [getattr(each, "attr", None) or getattr(each, "id", "") for each in node.decorator_list]
    return any(name in _SILENT_DECORATORS for name in names)


def imported_names(tree: ast.Module, path: str) -> dict[str, list[str]]:
    """Return what the module imports, by when it does.

    `load`: while it is itself imported. `deferred`: inside a function or under `if __name__ == "__main__"`.
    `never`: under `if TYPE_CHECKING` or `if 0`, where only tools look. `from a import b` gives `a:b`, for
    only the whole graph can tell whether `b` is a module.
    """
    found: dict[str, set[str]] = {"load": set(), "deferred": set(), "never": set()}
    stack: list[tuple[ast.AST, str]] = [(tree, "load")]
    while stack:
        node, when = stack.pop()
        if isinstance(node, (ast.Import, ast.ImportFrom)):
            found[when].update(_targets(node, path))
            continue
        inner = _when_inside(node, when)
        for block in blocks(node):
            later = when if block is getattr(node, "orelse", None) else inner
            stack += [(child, later) for child in block]
    return {when: sorted(names) for when, names in found.items() if names}


def _when_inside(node: ast.AST, when: str) -> str:
    if when == "load" and isinstance(node, FUNCTIONS):
        return "deferred"
    if when == "load" and isinstance(node, ast.If):
        test = node.test
        named = getattr(test, "id", None) or getattr(test, "attr", None)
        if named == "TYPE_CHECKING" or (isinstance(test, ast.Constant) and not test.value):
            return "never"
        if isinstance(test, ast.Compare) and getattr(test.left, "id", None) == "__name__":
            return "deferred"
    return when


def _targets(node: ast.Import | ast.ImportFrom, path: str) -> Iterator[str]:
    if isinstance(node, ast.Import):
        yield from (alias.name for alias in node.names)
        return
    base = _absolute(node, path)
    if base:
        yield from (base if alias.name == "*" else f"{base}:{alias.name}" for alias in node.names)


def _absolute(node: ast.ImportFrom, path: str) -> str:
    """Return the absolute name behind `from ..a import`; empty when the dots leave the root."""
    if not node.level:
        return node.module or ""
    package = path.split("/")[:-1]
    kept = len(package) - (node.level - 1)
    if kept < 0:
        return ""
    return ".".join(package[:kept] + ([node.module] if node.module else []))
