"""The workflows that a run may start as runs of their own, found and checked before anything begins.

Layer: pure. A run pins its whole tree of definitions when it is submitted: a file that changes later
changes nothing, and what a child would be refused for is refused with its parent. The tree is stored with
the run as hashes (`to_tree`); the documents stand in the store.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from codomyrmex.logistics.orchestration.project.compiled_workflow import CompiledWorkflow
from codomyrmex.logistics.orchestration.project.run_ids import id_of

MAX_DEPTH = 100
"""So many runs may be nested below one; the root is not counted."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ChildDefinition:
    """One workflow that steps may start, by the name they use."""

    workflow: CompiledWorkflow
    document: Mapping[str, Any]
    file: str | None = None
    roots: tuple[str, ...] = ()
    """Where its project modules are looked for."""
    children: Mapping[str, ChildDefinition] = field(default_factory=dict)

    def to_tree(self) -> dict[str, Any]:
        """What is stored: the definition by its hash, and the same of its own children."""
        return {
            "definition": self.workflow.hash,
            "file": self.file,
            "roots": list(self.roots),
            "children": {name: child.to_tree() for name, child in self.children.items()},
        }


def documents(children: Mapping[str, ChildDefinition]) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Every definition of a tree as (hash, document); one may come more than once."""
    for child in children.values():
        yield child.workflow.hash, child.document
        yield from documents(child.children)


def child_id(parent_id: str, task: str, attempt: int) -> str:
    """The id of the run that an attempt of a task starts; the same whenever it is asked."""
    digest = hashlib.sha256(f"{parent_id}/{task}/{attempt}".encode()).digest()
    return id_of(int.from_bytes(digest[:8], "big"))
