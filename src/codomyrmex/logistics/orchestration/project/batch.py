"""One drain's plans, and what a drain asks of the world around it.

Layer: beside the drain; values and a port. A `Batch` lives from planning to applying: the news it deals with,
a plan for each run that they touch, and the chunks that are to be dispatched once it is committed.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Protocol

from codomyrmex.exceptions import CodomyrmexError, StoreError
from codomyrmex.logistics.orchestration.project.news import Chunk, News, Submission
from codomyrmex.logistics.orchestration.project.resource_store import ClaimRow
from codomyrmex.logistics.orchestration.project.run_plan import RunPlan
from codomyrmex.logistics.orchestration.project.run_state import RunState


class Dispatch(Protocol):
    """What the drain asks of the world after a commit."""

    def dispatch(self, chunks: list[Chunk]) -> None:
        """Gives chunks to slots."""

    def stop_attempts(self, run: RunState, *, kill: bool) -> None:
        """Asks every attempt of a run that is under way to end."""

    def wake_at(self, at_us: int) -> None:
        """Brings `Woken` at that time: a quota lets something through then."""

    def set_timer(self, run: RunState, position: int, ready_us: int) -> None:
        """Brings `Due` at that time."""

    def stored(self, run: RunState) -> None:
        """A new run, or a child, is in the store: brings its `Adoption` when it may begin."""

    def committed(self, plans: Iterable[RunPlan]) -> None:
        """Told after every commit, in commit order, with what it said."""

    def ended(self, run: RunState) -> None:
        """A run is terminal and has left the engine."""

    def broken(self, run: RunState, error: CodomyrmexError) -> None:
        """A run was put aside: its rows are not as this engine believes."""

    def store_failed(self, error: CodomyrmexError, failures: int) -> None:
        """A commit was refused; somebody has to drain again later."""

    def fault(self, error: Exception) -> None:
        """Planning itself failed, which is a fault of this package: the engine must not go on."""


@dataclass(slots=True)
class Batch:
    """One drain's plans."""

    epoch: int
    now_us: int
    news: list[News]
    plans: dict[int, RunPlan] = field(default_factory=dict)
    submissions: list[Submission] = field(default_factory=list)
    intents: list[int] = field(default_factory=list)
    chunks: list[Chunk] = field(default_factory=list)
    closed: dict[Chunk, int] = field(default_factory=dict)
    """How many entries of each chunk have ended or were taken back."""
    children: list[RunState] = field(default_factory=list)
    """The runs that steps start with this batch."""
    claims: list[ClaimRow] = field(default_factory=list)
    """What attempts that start take of named resources,"""
    quotas: dict[str, tuple[int, int]] = field(default_factory=dict)
    """{id: (instant before, instant after)} of the quotas that they use,"""
    releases: list[str] = field(default_factory=list)
    """and the allocations that ended attempts give back, by their ids"""
    released: list[str] = field(default_factory=list)
    """and by the ids of their resources."""
    waits: dict[str, tuple[int, int]] | None = None
    """What this engine says that it waits for, where that has changed: {id: (since, amount)}."""
    foreign_version: int | None = None
    """Changes when another process has written; read in the transaction of this batch."""
    doubt: StoreError | None = None
    """The error that left open whether this batch was committed."""

    @property
    def claiming(self) -> bool:
        """True where something of named resources is written."""
        return bool(self.claims or self.releases or self.quotas) or self.waits is not None

    @property
    def writes(self) -> bool:
        """True where there is something to write besides what plans say."""
        return bool(self.submissions or self.intents) or self.claiming

    def plan_for(self, run: RunState) -> RunPlan:
        plan = self.plans.get(run.number)
        if plan is None:
            plan = self.plans[run.number] = RunPlan(run, epoch=self.epoch, now_us=self.now_us)
        return plan
