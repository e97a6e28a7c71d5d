"""An engine under virtual time: the planning code of the drain, with attempts that only take time.

Layer: beside the drain. There is no store, no thread and no clock: a heap holds what happens next. Everything that
decides (what becomes ready, what goes next, what fits) is the code that a real run goes through, so what comes out is
what a run does whose tasks take as long as they are said to. All that happens at one instant is planned together.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Mapping
from heapq import heappop, heappush
from typing import Any, NamedTuple

from codomyrmex.logistics.orchestration.project.admission import Admission
from codomyrmex.logistics.orchestration.project.batch import Batch
from codomyrmex.logistics.orchestration.project.batch_planning import BatchPlanning, Durations
from codomyrmex.logistics.orchestration.project.child_runs import end_of
from codomyrmex.logistics.orchestration.project.executors.attempt import Outcome, OutcomeKind
from codomyrmex.logistics.orchestration.project.machine_share import MachineShare
from codomyrmex.logistics.orchestration.project.named_resources import NamedResource
from codomyrmex.logistics.orchestration.project.news import Adoption, Arrival, Chunk, Due, News, Woken
from codomyrmex.logistics.orchestration.project.order_policy import OrderPolicy
from codomyrmex.logistics.orchestration.project.resource_request import CPU
from codomyrmex.logistics.orchestration.project.run_state import RunState

EPOCH = 1
NULL = b"null"
AttemptTime = Callable[[RunState, int], float]
"""How many seconds an attempt of a position of a run takes."""


class Happening(NamedTuple):
    """One line of the journal: when (microseconds), of which run, and the event as the run's plan told it."""

    at_us: int
    run: RunState
    event: tuple[Any, ...]


class _OwnClaims:
    """Nobody else uses the machine, and what the state limits is in the admission already."""

    def look(self, admission: Admission, now_us: int) -> None:
        """Nobody else changes anything."""

    def prepare(self, admission: Admission, batch: Batch) -> None:
        """Nothing has to go back."""

    @property
    def may_provide(self) -> bool:
        """There is nothing more to be had."""
        return False

    def provide(self, admission: Admission) -> bool:
        """There is nothing more to be had."""
        return False

    def claimed(self, batch: Batch, chunk: Chunk, requester: str) -> None:
        """No rows are kept."""

    def released(self, batch: Batch, chunk: Chunk, position: int, number: int) -> None:
        """No rows are kept."""

    def plan_waits(self, admission: Admission, batch: Batch) -> None:
        """Notes until when quotas hold something up."""
        if admission.wants_named:
            admission.note_waits()


class Simulation:
    """See the module. `submit` runs, then `run`; `journal` has what happened, `ready_us` when each task was ready."""

    def __init__(
        self,
        *,
        machine: Mapping[str, int],
        workers: int,
        attempt_s: AttemptTime,
        named: Iterable[NamedResource] = (),
        policy: OrderPolicy | None = None,
        durations: Durations = lambda run: None,
    ) -> None:
        self.journal: list[Happening] = []
        self.ready_us: dict[tuple[int, int], int] = {}
        """By run number and position, when a task last became ready."""
        self.now_us = 0
        self.admission = Admission(
            cpu_milli=machine.get(CPU, 0),
            max_workers=workers,
            share=MachineShare.whole(machine),
            policy=policy,
        )
        self.admission.named.load(named, {})
        self._planning = BatchPlanning(self.admission, _OwnClaims(), epoch=EPOCH, durations=durations)
        self._attempt_s = attempt_s
        self._coming: list[tuple[int, int, News]] = []
        self._sequence = 0
        self._inbox: deque[News] = deque()
        self._run_count = 0
        self.first: RunState | None = None
        """The run that was submitted first."""

    def submit(self, run: RunState, at_us: int = 0) -> None:
        """A run that begins at `at_us`; it gets its number here."""
        self._number(run)
        self.first = self.first or run
        self._later(at_us, Adoption(run, []))

    def run(self, until_us: int | None = None) -> None:
        """Lets time pass until nothing happens any more, or until an instant."""
        while self._coming and (until_us is None or self._coming[0][0] <= until_us):
            self.now_us = self._coming[0][0]
            while self._coming and self._coming[0][0] <= self.now_us:
                self._inbox.append(heappop(self._coming)[2])
            while self._inbox:
                news = list(self._inbox)
                self._inbox.clear()
                self._apply(self._planning.plan(news, self.now_us))

    def _number(self, run: RunState) -> None:
        self._run_count += 1
        run.number = self._run_count

    def _later(self, at_us: int, news: News) -> None:
        self._sequence += 1
        heappush(self._coming, (at_us, self._sequence, news))

    def _apply(self, batch: Batch) -> None:
        now_us, journal = self.now_us, self.journal
        plans = [plan for plan in batch.plans.values() if plan.changed]
        for plan in plans:
            number = plan.run.number
            for start in plan.children_started:
                self._number(start.run)
            plan.apply()
            journal += [Happening(now_us, plan.run, event) for event in plan.events]
            for first, end in plan.ready:
                for position in range(first, end):
                    self.ready_us[number, position] = now_us
        for chunk, count in batch.closed.items():
            chunk.open -= count
        for chunk in batch.chunks:
            self._work(chunk)
        if self.admission.retry_us is not None:
            self._later(max(now_us, self.admission.retry_us), Woken())
        for plan in plans:
            for ready_us, position in plan.timers:
                self._later(max(now_us, ready_us), Due(plan.run.number, position, ready_us))
            self._inbox.extend(Adoption(start.run, []) for start in plan.children_started)
        for plan in plans:
            if plan.ended:
                self._end(plan.run)

    def _work(self, chunk: Chunk) -> None:
        """The attempts of a chunk, one after the other."""
        at_us = self.now_us
        for position, number in chunk.entries:
            began_us = at_us
            lasts_s = self._attempt_s(chunk.run, position)
            at_us += round(lasts_s * 1_000_000)
            outcome = Outcome(
                kind=OutcomeKind.COMPLETED,
                started_us=began_us,
                ended_us=at_us,
                duration_s=lasts_s,
                result=NULL,
            )
            self._later(at_us, Arrival(chunk, position, number, outcome))
        chunk.entries.clear()

    def _end(self, run: RunState) -> None:
        self._planning.runs.pop(run.number, None)
        self.admission.forget(run.number)
        ended = end_of(run)
        if ended is not None:
            self._inbox.append(ended)
