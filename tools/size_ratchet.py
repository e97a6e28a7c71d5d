"""Holds the sizes: a module in `src/` has at most 600 lines, a function at most 70 from `def` to its last.

There is no list of exceptions. What has grown past a limit wants to be two things; find the second noun.

    python tools/size_ratchet.py [FOLDER]
"""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
MODULE_LINES = 600
FUNCTION_LINES = 70


def too_long(path: Path) -> Iterator[str]:
    """A line of text for each thing in one file that is over its limit."""
    text = path.read_text(encoding="utf-8")
    lines = text.count("\n") + (not text.endswith("\n") and text != "")
    if lines > MODULE_LINES:
        yield f"{path}: {lines} lines, {MODULE_LINES} allowed"
    for node in ast.walk(ast.parse(text, str(path))):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            length = (node.end_lineno or node.lineno) - node.lineno + 1
            if length > FUNCTION_LINES:
                yield f"{path}:{node.lineno}: {node.name} has {length} lines, {FUNCTION_LINES} allowed"


def main(arguments: list[str]) -> int:
    folder = Path(arguments[0]) if arguments else ROOT / "src"
    paths = sorted(folder.rglob("*.py"))
    if not paths:
        print(f"no Python files under {folder}", file=sys.stderr)
        return 2
    found = [line for path in paths for line in too_long(path)]
    for line in found:
        print(line, file=sys.stderr)
    if not found:
        print(f"sizes: {len(paths)} modules within their limits")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
