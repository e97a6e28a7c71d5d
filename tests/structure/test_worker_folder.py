"""What runs in a worker runs on any Python from 3.9, with its standard library and nothing else."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

SOURCE = Path(__file__).resolve().parents[2] / "src" / "codomyrmex"
WORKER = SOURCE / "logistics" / "orchestration" / "project" / "executors" / "worker"
CURRENT_TASK = SOURCE / "current_task.py"
FILES = [*sorted(WORKER.glob("*.py")), CURRENT_TASK]

# Of the standard library, and in it from 3.9 to the newest. Every name here is one more thing that each
# worker may load, so add with care and import inside the function that needs it.
ALLOWED = {
    *(
        "__future__",
        "_thread",
        "array",
        "ast",
        "asyncio",
        "atexit",
        "binascii",
        "codecs",
        "collections",
        "contextlib",
    ),
    *(
        "contextvars",
        "ctypes",
        "dataclasses",
        "datetime",
        "decimal",
        "difflib",
        "enum",
        "errno",
        "faulthandler",
    ),
    *("functools", "gc", "hashlib", "http", "importlib", "inspect", "io", "itertools", "json", "linecache"),
    *(
        "logging",
        "math",
        "mmap",
        "operator",
        "os",
        "pathlib",
        "re",
        "resource",
        "runpy",
        "select",
        "selectors",
    ),
    *(
        "shlex",
        "shutil",
        "signal",
        "socket",
        "ssl",
        "stat",
        "string",
        "struct",
        "subprocess",
        "sys",
        "tempfile",
    ),
    *(
        "threading",
        "time",
        "traceback",
        "types",
        "typing",
        "urllib",
        "uuid",
        "warnings",
        "weakref",
        "zoneinfo",
    ),
}
# Keyword arguments that came after 3.9.
NEWER_KEYWORDS = {("dataclass", "slots"), ("dataclass", "kw_only"), ("zip", "strict")}


def tree_of(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"), str(path), feature_version=(3, 9))


def statements(node: ast.AST) -> Iterator[ast.AST]:
    """Everything that is executed: what stands under `if TYPE_CHECKING` is left out."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.If) and "TYPE_CHECKING" in ast.unparse(child.test):
            continue
        yield child
        yield from statements(child)


def files() -> pytest.MarkDecorator:
    return pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)


@files()
def test_it_parses_as_python_3_9_and_imports_only_what_is_allowed(path: Path) -> None:
    foreign = set()
    for node in statements(tree_of(path)):
        if isinstance(node, ast.Import):
            foreign.update(alias.name for alias in node.names if alias.name.partition(".")[0] not in ALLOWED)
        elif isinstance(node, ast.ImportFrom):
            beside = node.level == 1 and path.parent == WORKER
            if not beside and (node.level or (node.module or "").partition(".")[0] not in ALLOWED):
                foreign.add("." * node.level + (node.module or ""))
    assert not foreign


@files()
def test_annotations_are_never_evaluated(path: Path) -> None:
    tree = tree_of(path)
    annotated = any(
        isinstance(node, ast.AnnAssign)
        or (
            isinstance(node, ast.FunctionDef)
            and any(arg.annotation for arg in ast.walk(node.args) if isinstance(arg, ast.arg))
        )
        for node in ast.walk(tree)
    )
    future = any(
        isinstance(node, ast.ImportFrom)
        and node.module == "__future__"
        and any(alias.name == "annotations" for alias in node.names)
        for node in tree.body
    )
    assert future or not annotated


@files()
def test_no_argument_is_used_that_came_after_3_9(path: Path) -> None:
    found = [
        f"{path.name}:{node.lineno}: {node.func.id}({keyword.arg}=)"
        for node in ast.walk(tree_of(path))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name)
        for keyword in node.keywords
        if (node.func.id, keyword.arg) in NEWER_KEYWORDS
    ]
    assert not found


def test_there_is_a_worker_to_hold() -> None:
    assert len(FILES) > 3
