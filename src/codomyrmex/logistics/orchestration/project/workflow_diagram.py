"""Drawings of a graph as text: Mermaid and DOT.

Layer: pure. Any name may stand in a workflow graph, so both writers escape what their language would
read as its own; an edge points from the task that runs first to the one that waits for it. What a graph
does not know, which steps wait, which handle a failure, which undo another, is told by `Looks`.

Sources: https://mermaid.js.org/syntax/flowchart.html, https://graphviz.org/doc/info/lang.html
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from re import compile as regex
from typing import TYPE_CHECKING, Any, Final

from codomyrmex.logistics.orchestration.project.workflow_kinds import (
    COMPENSATION,
    STEP_LISTS,
    compensation_name,
    kind_of,
)

if TYPE_CHECKING:
    from codomyrmex.logistics.orchestration.project.workflow_dag import Graph

_PLAIN_NAME: Final = regex(r"[A-Za-z_][A-Za-z0-9_]*")
_MERMAID_UNSAFE: Final = regex(r"[^\w .,:/()\[\]+=-]")
# Mermaid's lexer takes these for keywords even at the beginning of a longer word.
_MERMAID_KEYWORDS: Final = (
    *("call", "class", "click", "default", "direction", "end", "flowchart"),
    *("graph", "href", "interpolate", "linkstyle", "style", "subgraph"),
)
_MERMAID_SHAPES: Final = {
    "workflow": ("[[", "]]"),
    "approval": ("{{", "}}"),
    "wait_for": (">", "]"),
    "sleep": ("([", "])"),
}
_DOT_SHAPES: Final = {"workflow": "box3d", "approval": "hexagon", "wait_for": "cds", "sleep": "oval"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Looks:
    """What is drawn of steps beside their names and edges; all by name."""

    kinds: Mapping[str, str] = field(default_factory=dict)
    """Steps that wait without a slot, and how."""
    groups: Mapping[str, Sequence[str]] = field(default_factory=dict)
    """The steps of `on_failure` and `finally`."""
    undone: Mapping[str, str] = field(default_factory=dict)
    """Steps that are compensated, and the task that does it."""

    @classmethod
    def of_document(cls, document: Mapping[str, Any]) -> Looks:
        """How the steps of a canonical document look."""
        steps = [step for name in STEP_LISTS for step in document.get(name, ())]
        kinds = ((step["name"], kind_of(step)) for step in steps)
        return cls(
            kinds={name: kind for name, kind in kinds if kind is not None},
            groups={
                key: [step["name"] for step in document[key]] for key in STEP_LISTS[1:] if document.get(key)
            },
            undone={step["name"]: compensation_name(step["name"]) for step in steps if COMPENSATION in step},
        )


PLAIN: Final = Looks()


def mermaid(graph: Graph, looks: Looks = PLAIN) -> str:
    """`graph TD`, a line for each edge; a name that Mermaid could misread gets an id and a quoted label.

    A dotted edge goes from a step to what undoes it; handlers stand in a box of their own.
    """
    ids = dict(zip(graph.names, _mermaid_ids(graph.names), strict=True))
    boxed = {name for names in looks.groups.values() for name in names}
    told = boxed | set(looks.undone) | set(looks.undone.values())
    lines = ["graph TD"]
    for index, name in enumerate(graph.names):
        alone = not graph.parents(index) and not graph.children(index) and name not in told
        if name not in boxed and (alone or ids[name] != name or name in looks.kinds):
            lines.append(f"    {_mermaid_node(name, ids[name], looks)}")
    for title, names in looks.groups.items():
        lines.append(f"    subgraph {_free_id(title, ids)}[{title}]")
        lines.extend(f"        {_mermaid_node(name, ids[name], looks)}" for name in names)
        lines.append("    end")
    for first, then in graph.edges():
        lines.append(f"    {ids[graph.names[first]]} --> {ids[graph.names[then]]}")
    lines.extend(f"    {ids[name]} -.-> {ids[undo]}" for name, undo in looks.undone.items() if undo in ids)
    return "\n".join(lines) + "\n"


def _mermaid_node(name: str, node: str, looks: Looks) -> str:
    kind = looks.kinds.get(name)
    if kind is None and node == name:
        return node
    first, last = _MERMAID_SHAPES.get(kind or "", ("[", "]"))
    return f'{node}{first}"{_mermaid_text(name)}"{last}'


def _free_id(title: str, ids: Mapping[str, str]) -> str:
    """An id for a box that no node has."""
    found = f"box_{title}"
    while found in ids.values():
        found += "_"
    return found


def dot(graph: Graph, looks: Looks = PLAIN) -> str:
    """A `digraph` with every name quoted."""
    quoted = {name: _dot_text(name) for name in graph.names}
    boxed = {name for names in looks.groups.values() for name in names}
    lines = ["digraph workflow {"]
    lines.extend(f"    {_dot_node(name, quoted[name], looks)}" for name in graph.names if name not in boxed)
    for title, names in looks.groups.items():
        lines.append(f'    subgraph cluster_{title} {{ label="{title}";')
        lines.extend(f"        {_dot_node(name, quoted[name], looks)}" for name in names)
        lines.append("    }")
    for first, then in graph.edges():
        lines.append(f"    {quoted[graph.names[first]]} -> {quoted[graph.names[then]]};")
    lines.extend(
        f"    {quoted[name]} -> {quoted[undo]} [style=dotted];"
        for name, undo in looks.undone.items()
        if undo in quoted
    )
    return "\n".join([*lines, "}"]) + "\n"


def _dot_node(name: str, quoted: str, looks: Looks) -> str:
    shape = _DOT_SHAPES.get(looks.kinds.get(name, ""))
    return f"{quoted} [shape={shape}];" if shape is not None else f"{quoted};"


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
