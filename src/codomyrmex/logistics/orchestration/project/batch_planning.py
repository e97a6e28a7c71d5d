"""From news to a batch: what a drain is about to do, worked out. Nothing is written or started here.

Layer: beside the drain, which commits what this plans; under virtual time it is the whole engine
(`run_simulation`). Both plan by this one code, so a plan of a workflow is what a run of it does.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

from codomyrmex.logistics.orchestration.project import news_planning
from codomyrmex.logistics.orchestration.project.admission import Admission
from codomyrmex.logistics.orchestration.project.batch import Batch
from codomyrmex.logistics.orchestration.project.news import (
    Adoption,
    Arrival,
    Asked,
    ChildEnded,
    Chunk,
    Due,
    News,
    Recall,
    Submission,
    Woken,
)
from codomyrmex.logistics.orchestration.project.ready_tasks import admit, offer_ready
from codomyrmex.logistics.orchestration.project.run_state import RunState
from codomyrmex.logistics.orchestration.project.states import RunIntent

Durations = Callable[[RunState], Sequence[float] | None]
"""What each step of a run is expected to take, in seconds; None where nothing was learned."""


class Claims(Protocol):
    """What there is besides this engine's own share of the machine, and who has it."""

    def look(self, admission: Admission, now_us: int) -> None:
        """Before anything is planned: takes in what others have changed."""

    def prepare(self, admission: Admission, batch: Batch) -> None:
        """Before anything is admitted: gives back what others wait for."""

    @property
    def may_provide(self) -> bool:
        """False where it is known that no more is to be had now."""

    def provide(self, admission: Admission) -> bool:
        """After all was admitted that fits: asks for more; True where there is more now."""

    def claimed(self, batch: Batch, chunk: Chunk, requester: str) -> None:
        """A chunk was admitted that holds named resources."""

    def released(self, batch: Batch, chunk: Chunk, position: int, number: int) -> None:
        """One that held some has ended."""

    def plan_waits(self, admission: Admission, batch: Batch) -> None:
        """At the end: what is waited for."""


class BatchPlanning:
    """See the module; used by one thread at a time."""

    def __init__(
        self, admission: Admission, claims: Claims, *, epoch: int, durations: Durations = lambda run: None
    ) -> None:
        self.runs: dict[int, RunState] = {}
        """The runs at work, by number."""
        self.admission = admission
        self.frozen = False
        """True while the engine shuts down: outcomes are recorded, nothing new starts."""
        self._claims = claims
        self._epoch = epoch
        self._durations = durations

    def plan(self, news: list[News], now_us: int) -> Batch:
        """What follows from all of these, what starts included."""
        admission = self.admission
        batch = self.take_in(news, now_us)
        for chunk, count in batch.closed.items():
            if count and chunk.open == count:
                admission.release(chunk.lane, chunk.claim)
        self.make_ready(batch)
        if not self.frozen:
            self._admit(batch)
        return batch

    def make_ready(self, batch: Batch) -> None:
        """Settles the plans of a batch; what became ready goes into the queues."""
        admission = self.admission
        for plan in batch.plans.values():
            plan.settle()
            turn = plan.run.turn
            if turn is not None:
                admission.follow(turn, plan)
            if plan.ready:
                offer_ready(admission, plan)
            if plan.intent is RunIntent.PAUSE:
                admission.hold(plan.run.number, held=True)
            elif plan.resumed:
                admission.hold(plan.run.number, held=False)

    def take_in(self, news: list[News], now_us: int) -> Batch:
        """What the news mean for each run alone; `admission` is marked, to go back to."""
        batch = Batch(self._epoch, now_us, news)
        self.admission.mark(now_us)
        self._claims.look(self.admission, now_us)
        for each in news:
            if isinstance(each, Arrival):
                if each.chunk.held:
                    self._claims.released(batch, each.chunk, each.position, each.number)
                news_planning.plan_arrival(batch, each, self.runs, frozen=self.frozen)
            elif isinstance(each, Recall):
                for position, number in each.entries if each.chunk.held else ():
                    self._claims.released(batch, each.chunk, position, number)
                news_planning.plan_recall(batch, each, self.runs)
            elif not isinstance(each, Woken):
                self._plan_other(batch, each)
        return batch

    def _admit(self, batch: Batch) -> None:
        """Starts what fits, as long as more of the machine is to be had."""
        claims, admission = self._claims, self.admission
        claims.prepare(admission, batch)
        admission.refused = not claims.may_provide
        admission.may_ask = not admission.refused and not admission.share.is_whole
        admission.stopped_short = False
        admission.keep_room()
        admit(admission, batch, claims.claimed)
        while claims.provide(admission):
            admit(admission, batch, claims.claimed)
        admission.may_ask = False
        if admission.stopped_short:  # what cannot be had now is passed by
            admit(admission, batch, claims.claimed)
        claims.plan_waits(admission, batch)

    def _plan_other(self, batch: Batch, news: Submission | Adoption | Asked | ChildEnded | Due) -> None:
        if isinstance(news, Submission):
            batch.submissions.append(news)
            return
        if isinstance(news, Adoption):
            self._adopt(batch, news)
            return
        run = self.runs.get(news.run_number)
        if run is None:
            return  # ended, or not taken up yet: what is asked of it stays open and is read again
        if isinstance(news, Due):
            news_planning.plan_due(batch, news, run)
        elif isinstance(news, ChildEnded):
            news_planning.plan_child_end(batch, news, run)
        else:
            news_planning.plan_asked(batch, news, run)

    def _adopt(self, batch: Batch, news: Adoption) -> None:
        run = news.run
        self.runs[run.number] = run
        admission = self.admission
        if not admission.named.loaded and any(spec.request.named for spec in run.workflow.specs):
            admission.wants_named = True  # how large its requests are is asked before anything is in a queue
            self._claims.look(admission, batch.now_us)
        news_planning.plan_adoption(batch, news, self._durations(run))
