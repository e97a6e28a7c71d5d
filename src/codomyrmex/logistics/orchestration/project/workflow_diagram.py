"""Drawings of a graph as text: Mermaid and DOT.

Layer: pure. Any name may stand in a workflow graph, so both writers escape what their language would
read as its own; an edge points from the task that runs first to the one that waits for it.

Sources: https://mermaid.js.org/syntax/flowchart.html, https://graphviz.org/doc/info/lang.html
"""

from __future__ import annotations

from collections.abc import Sequence
from re import compile as regex
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from codomyrmex.logistics.orchestration.project.workflow_dag import Graph

_PLAIN_NAME: Final = regex(r"[A-Za-z_][A-Za-z0-9_]*")
_MERMAID_UNSAFE: Final = regex(r"[^\w .,:/()\[\]+=-]")
# Mermaid's lexer takes these for keywords even at the beginning of a longer word.
_MERMAID_KEYWORDS: Final = (
    *("call", "class", "click", "default", "direction", "end", "flowchart"),
    *("graph", "href", "interpolate", "linkstyle", "style", "subgraph"),
)


def mermaid(graph: Graph) -> str:
    """`graph TD`, a line for each edge; a name that Mermaid could misread gets an id and a quoted label."""
    ids = _mermaid_ids(graph.names)
    lines = ["graph TD"]
    for index, (name, node) in enumerate(zip(graph.names, ids, strict=True)):
        if node != name:
            lines.append(f'    {node}["{_mermaid_text(name)}"]')
        elif not graph.parents(index) and not graph.children(index):
            lines.append(f"    {node}")
    lines.extend(f"    {ids[first]} --> {ids[then]}" for first, then in graph.edges())
    return "\n".join(lines) + "\n"


def dot(graph: Graph) -> str:
    """A `digraph` with every name quoted."""
    quoted = [_dot_text(name) for name in graph.names]
    lines = ["digraph workflow {", *(f"    {name};" for name in quoted)]
    lines.extend(f"    {quoted[first]} -> {quoted[then]};" for first, then in graph.edges())
    return "\n".join([*lines, "}"]) + "\n"


def _mermaid_ids(names: Sequence[str]) -> list[str]:
    """A node id for each name: the name itself where Mermaid reads it as one, else a number nobody uses."""
    prefix = "n"
    while any(name.startswith(prefix) and name[len(prefix) :].isdigit() for name in names):
        prefix += "_"
    return [name if _is_plain(name) else f"{prefix}{index}" for index, name in enumerate(names)]


def _is_plain(name: str) -> bool:
    return _PLAIN_NAME.fullmatch(name) is not None and not name.lower().startswith(_MERMAID_KEYWORDS)


def _mermaid_text(name: str) -> str:
    return _MERMAID_UNSAFE.sub(lambda found: f"#{ord(found[0])};", name)


def _dot_text(name: str) -> str:
    escaped = name.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
    return f'"{escaped}"'
