"""When each task of a run would begin and end, and what holds the run up: the answer of `workflows plan`.

Layer: pure; values only. Times are seconds from the start of the run. A plan is what the real admission does under
virtual time with the durations that were learned (`workflow_planner`), or a better order that a solver found
(`plan_optimiser`), which a run can follow.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

ADMISSION = "admission"
OPTIMISED = "optimised"


@dataclass(frozen=True, slots=True, kw_only=True)
class PlannedTask:
    """One task of a plan; of a child run its name stands behind that of its step (`deploy/build`)."""

    task: str
    step: str
    ready_s: float
    """When nothing but resources and order held it up any more."""
    start_s: float
    end_s: float
    request: Mapping[str, int] = field(default_factory=dict)
    """What it holds meanwhile, by resource id, in the units of `resource_request`; nothing for steps without a slot."""
    slot: bool = True
    """False for a step that holds none: a sleep, a wait, a child run."""
    known: bool = True
    """False where nothing was learned of it, so its duration is a guess."""
    critical: bool = False
    """True on the longest path of the graph."""

    @property
    def duration_s(self) -> float:
        return self.end_s - self.start_s

    def to_dict(self) -> dict[str, Any]:
        """Every field."""
        return {
            "task": self.task,
            "step": self.step,
            "ready_s": self.ready_s,
            "start_s": self.start_s,
            "end_s": self.end_s,
            "request": dict(self.request),
            "slot": self.slot,
            "known": self.known,
            "critical": self.critical,
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Bound:
    """Something that no order of the work can beat: the run takes at least `least_s` because of it."""

    name: str
    """`critical path`, a resource by its id or name, `workers` or `max_parallel`."""
    least_s: float
    used: float | None = None
    """Of a resource, the part of it that the plan keeps busy, 0 to 1."""

    def to_dict(self) -> dict[str, Any]:
        """Every field."""
        return {"name": self.name, "least_s": self.least_s, "used": self.used}


@dataclass(frozen=True, slots=True, kw_only=True)
class Spread:
    """Where the end lies when durations vary as they did before: in 8 of 10 cases between `p10_s` and `p90_s`.

    Half of the simulated runs end before `p50_s`. That is later than the plan, which takes every task at its median:
    where many go side by side the slowest of them counts, not the middle one.
    """

    p10_s: float
    p50_s: float
    p90_s: float
    simulations: int

    def to_dict(self) -> dict[str, Any]:
        """Every field."""
        return {
            "p10_s": self.p10_s,
            "p50_s": self.p50_s,
            "p90_s": self.p90_s,
            "simulations": self.simulations,
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkflowPlan:
    """See the module. `tasks` are in the order in which they start."""

    workflow: str
    definition: str
    """The hash of the definition."""
    tasks: tuple[PlannedTask, ...]
    duration_s: float
    """When the last task ends, each at its median."""
    critical_path: tuple[str, ...]
    """The steps of the longest path of the graph, in order,"""
    critical_path_s: float
    """and how long they take one after the other."""
    bounds: tuple[Bound, ...]
    """The tightest first."""
    capacities: Mapping[str, int]
    """What it was planned for, by resource id or name."""
    workers: int
    complete: bool = True
    """False where the run would not end well, or not at all; `assumptions` say why."""
    spread: Spread | None = None
    assumptions: tuple[str, ...] = ()
    """Sentences: what was taken to be so because nobody can know it before the run."""
    method: str = ADMISSION
    """`admission`, or `optimised`."""
    optimal: bool = False
    """True where a solver has proved that no order is better."""
    unoptimised_s: float | None = None
    """Of an optimised plan, what the admission alone would take."""

    @property
    def expected_s(self) -> float:
        """When the run is expected to end: what half of the simulated runs need, or `duration_s` without them."""
        return self.duration_s if self.spread is None else self.spread.p50_s

    @property
    def bound(self) -> Bound | None:
        """What holds the run up most."""
        return self.bounds[0] if self.bounds else None

    @property
    def order(self) -> Iterator[str]:
        """The names of the tasks as they start."""
        return (task.task for task in self.tasks)

    def to_dict(self) -> dict[str, Any]:
        """As `workflows plan --json` prints it."""
        bound = self.bound
        return {
            "workflow": self.workflow,
            "definition": self.definition,
            "method": self.method,
            "optimal": self.optimal,
            "duration_s": self.duration_s,
            "expected_s": self.expected_s,
            "unoptimised_s": self.unoptimised_s,
            "spread": self.spread.to_dict() if self.spread is not None else None,
            "critical_path": list(self.critical_path),
            "critical_path_s": self.critical_path_s,
            "bound_by": bound.name if bound is not None else None,
            "bounds": [bound.to_dict() for bound in self.bounds],
            "capacities": dict(self.capacities),
            "workers": self.workers,
            "complete": self.complete,
            "assumptions": list(self.assumptions),
            "tasks": [task.to_dict() for task in self.tasks],
        }
