"""A definition made ready to run: names, specs, graph and templates as columns.

Layer: pure; made by `workflow_compiler`. A step is a number; what a run keeps per step stands in
`run_state`. Equal specs are shared, constant parameters are kept as they are, so a step of a large workflow
costs its name and a few machine words.

The numbers go through the phases of a run: first the steps of `steps:`, then for each of them that has
`compensate` the one that undoes it, then `on_failure:`, then `finally:`.
"""

from __future__ import annotations

from array import array
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec

from codomyrmex.exceptions import Fault
from codomyrmex.logistics.orchestration.project.expressions import Condition
from codomyrmex.logistics.orchestration.project.references import Template
from codomyrmex.logistics.orchestration.project.states import ConcurrencyPolicy, RunPhase
from codomyrmex.logistics.orchestration.project.step_cache_spec import StepCache
from codomyrmex.logistics.orchestration.project.step_spec import StepSpec
from codomyrmex.logistics.orchestration.project.waiting_spec import WaitingSpec
from codomyrmex.logistics.orchestration.project.workflow_dag import Graph

Path = tuple[str | int, ...]
NO_SECRETS: frozenset[str] = frozenset()


@dataclass(slots=True, kw_only=True)
class CompiledWorkflow:
    """A workflow as columns; step `i` has name `names[i]` and spec `specs[spec_of[i]]`."""

    name: str
    hash: str
    document: Mapping[str, Any]
    names: list[str]
    index: dict[str, int]
    graph: Graph
    specs: list[StepSpec]
    spec_of: array[int]
    templates: list[Template | None]
    conditions: dict[int, Condition]
    fan_outs: dict[int, Template]
    outputs: Template | None
    referenced: bytearray
    functions: Mapping[str, Callable[..., Any]]
    max_parallel: int | None
    fail_fast: bool
    has_rules: bool
    """True where a step has a trigger rule other than all_success."""
    phase_ends: tuple[int, int, int, int]
    """Per phase in order, the number after its last step."""
    compensations: Mapping[int, int]
    """Per step that can be undone, the number of the step that does it."""
    undoes: Mapping[int, int]
    """The same from the other side."""
    waiting: Mapping[int, WaitingSpec]
    """Steps that hold no slot."""
    grids: frozenset[int]
    """The fan-outs that stand in the document as names with a list each."""
    caches: Mapping[int, StepCache]
    secrets: Mapping[int, frozenset[str]]
    """Per step that needs any, the names of the secrets in its parameters and in its environment."""
    timeout_s: float | None
    concurrency: Template | None
    policy: ConcurrencyPolicy
    labels: Template | None

    def __len__(self) -> int:
        """The number of steps of all phases."""
        return len(self.names)

    @property
    def main_count(self) -> int:
        """The number of steps of `steps:`."""
        return self.phase_ends[0]

    def phase_steps(self, phase: RunPhase) -> range:
        """The numbers of the steps of one phase."""
        rank = phase.rank
        return range(self.phase_ends[rank - 1] if rank else 0, self.phase_ends[rank])

    def phase_of(self, step: int) -> int:
        """The rank of the phase of a step."""
        return next(rank for rank, end in enumerate(self.phase_ends) if step < end)

    @property
    def children(self) -> tuple[str, ...]:
        """The names of the workflows that steps start, each once."""
        found = (each.child for each in self.waiting.values() if each.child)
        return tuple(dict.fromkeys(found))

    def spec(self, step: int) -> StepSpec:
        """The spec of step number `step`."""
        return self.specs[self.spec_of[step]]

    def secrets_of(self, step: int) -> frozenset[str]:
        """The names of the secrets that an attempt of step number `step` needs."""
        return self.secrets.get(step, NO_SECRETS)


class CompileFaults(Exception):
    """What is wrong with a document, each with the path of its place (`("steps", 3, "run_if")`)."""

    def __init__(self, found: Sequence[tuple[Path, Fault]]) -> None:
        super().__init__(f"{len(found)} faults")
        self.found = tuple(found)


def encode_document(document: Mapping[str, Any]) -> bytes:
    """The canonical bytes of a document: what its hash is taken of and what the store keeps."""
    return msgspec.json.encode(document, order="deterministic")
