"""Every module stands in a layer, and pure modules are pure. The layers are drawn in pyproject.toml."""

from __future__ import annotations

import ast
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
SOURCE = ROOT / "src"
CONTRACTS = {
    contract["id"]: contract
    for contract in tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"]
}
PROJECT = "codomyrmex.logistics.orchestration.project"

# What a pure module may not even spell: the import rules do not see built-in functions and methods.
IMPURE_CALLS = {"open", "print", "input", "exec", "eval", "compile", "__import__"}
IMPURE_METHODS = {
    *(
        "read_text",
        "read_bytes",
        "write_text",
        "write_bytes",
        "exists",
        "is_file",
        "is_dir",
        "stat",
        "unlink",
    ),
    *("mkdir", "iterdir", "glob", "rglob", "now", "utcnow", "today", "perf_counter", "monotonic"),
}
# Packages that are imported only for what their `__init__` brings; it may import their own modules.
ONE_PURPOSE = {"codomyrmex.cli", "codomyrmex.logging_monitoring"}


def rooms() -> list[list[str]]:
    """The layers from top to bottom, each with its rooms, built or not."""
    layers = [layer.replace("|", ":").split(":") for layer in CONTRACTS["layers"]["layers"]]
    return [[room.strip().strip("()") for room in layer] for layer in layers]


def pure_modules() -> set[str]:
    return set(CONTRACTS["pure"]["source_modules"])


def modules() -> Iterator[tuple[str, Path]]:
    for path in sorted(SOURCE.rglob("*.py")):
        parts = path.relative_to(SOURCE).with_suffix("").parts
        yield ".".join(parts[:-1] if parts[-1] == "__init__" else parts), path


def imported(tree: ast.AST) -> set[str]:
    found: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            found.add(node.module)
            found.update(f"{node.module}.{alias.name}" for alias in node.names)
    return found


def test_every_module_stands_in_a_layer() -> None:
    known = {room for layer in rooms() for room in layer}
    # Packages that only hold others, and the two short ways in.
    doors = {"codomyrmex", "codomyrmex.__main__", "codomyrmex.logistics", "codomyrmex.performance"}
    doors |= {PROJECT, PROJECT.rpartition(".")[0]}
    homeless = [
        name
        for name, _ in modules()
        if name not in doors and not any(name == room or name.startswith(room + ".") for room in known)
    ]
    assert not homeless, f"name a layer for these in [tool.importlinter] of pyproject.toml: {homeless}"


def test_rooms_that_are_built_stand_without_parentheses() -> None:
    built = {name for name, _ in modules()}
    text = " ".join(CONTRACTS["layers"]["layers"])
    assert [room for room in built if f"({room})" in text] == []


def test_every_built_module_of_the_pure_layer_is_held_pure() -> None:
    built = {name for name, _ in modules()}
    (layer,) = [layer for layer in rooms() if f"{PROJECT}.workflow_dag" in layer]
    assert {room for room in layer if room in built} == {
        name for name in pure_modules() if name.startswith(f"{PROJECT}.")
    }


@pytest.mark.parametrize("name", sorted(pure_modules()))
def test_a_pure_module_calls_nothing_that_touches_the_world(name: str) -> None:
    path = SOURCE.joinpath(*name.split(".")).with_suffix(".py")
    found = []
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if not isinstance(node, ast.Call):
            continue
        function = node.func
        if isinstance(function, ast.Name) and function.id in IMPURE_CALLS:
            found.append(f"{path.name}:{node.lineno}: {function.id}()")
        elif isinstance(function, ast.Attribute) and function.attr in IMPURE_METHODS:
            found.append(f"{path.name}:{node.lineno}: .{function.attr}()")
    assert not found


@pytest.mark.parametrize("name", sorted(pure_modules()))
def test_of_the_task_layer_pure_modules_see_only_its_pure_part(name: str) -> None:
    path = SOURCE.joinpath(*name.split(".")).with_suffix(".py")
    allowed = tuple(f"codomyrmex.logistics.task.{part}" for part in ("states", "retry", "lease"))
    seen = imported(ast.parse(path.read_text(encoding="utf-8")))
    assert [
        target
        for target in seen
        if target.startswith("codomyrmex.logistics.task.") and not target.startswith(allowed)
    ] == []


def test_package_doors_stay_lazy() -> None:
    eager = {}
    for name, path in modules():
        if path.name != "__init__.py":
            continue
        top = ast.Module(ast.parse(path.read_text(encoding="utf-8")).body, [])
        statements = [node for node in top.body if isinstance(node, ast.Import | ast.ImportFrom)]
        ours = [target for node in statements for target in imported(node) if target.startswith("codomyrmex")]
        of_one_purpose = name in ONE_PURPOSE and all(target.startswith(name + ".") for target in ours)
        if ours and not of_one_purpose:
            eager[name] = ours
    assert not eager, "an `__init__` that imports its modules makes everybody pay for all of them"
