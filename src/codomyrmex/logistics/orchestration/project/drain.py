"""The drain: inbox -> plan -> one transaction -> apply -> dispatch.

Layer: the shell around the pure core; the only code that changes the scheduling state of an engine.

All of that state lies behind one lock. Whoever brings news appends it to the inbox and drains: it takes
the lock and deals with everything that lies there, in three steps.

    inbox ──> PLAN   the pure modules compute moves, rows, events, dispatches; nothing changes
              COMMIT one transaction writes them
              APPLY  the deltas go into memory, the news leaves the inbox, slots get work ──> inbox

Whoever comes meanwhile waits for the lock and finds the inbox empty, or leads the next drain: one commit
serves all that came in while the last one ran, without a writer thread and its hops. A successor never
starts before its predecessor's result is committed, because its start is in the same transaction.

A commit that fails drops the plan and keeps the inbox; nothing is dispatched until one succeeds. Where it
is unknown whether a commit took effect, the journal tells, which every transaction adds to. A run whose rows
are not as this engine believes is put aside (`Dispatch.broken`), the others go on.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from threading import Lock
from typing import TYPE_CHECKING

from codomyrmex.clock import Clock
from codomyrmex.exceptions import (
    CodomyrmexError,
    Conflict,
    EngineClosed,
    StoreBusy,
    StoreError,
    StoreFull,
    StoreIOError,
)
from codomyrmex.logistics.orchestration.project import (
    definition_store,
    intent_store,
    run_store,
)
from codomyrmex.logistics.orchestration.project.admission import Admission
from codomyrmex.logistics.orchestration.project.batch import Batch, Dispatch
from codomyrmex.logistics.orchestration.project.batch_planning import BatchPlanning, Durations
from codomyrmex.logistics.orchestration.project.child_definition import documents
from codomyrmex.logistics.orchestration.project.child_runs import ask_children, broken_end_of, end_of
from codomyrmex.logistics.orchestration.project.news import (
    Adoption,
    Arrival,
    Chunk,
    News,
    Recall,
    Submission,
    Woken,
)
from codomyrmex.logistics.orchestration.project.ready_tasks import quick_s
from codomyrmex.logistics.orchestration.project.resource_claims import ResourceClaims
from codomyrmex.logistics.orchestration.project.resource_store import ClaimRefused
from codomyrmex.logistics.orchestration.project.result_files import ResultFiles
from codomyrmex.logistics.orchestration.project.run_loader import attach_results
from codomyrmex.logistics.orchestration.project.run_plan import RunPlan
from codomyrmex.logistics.orchestration.project.run_state import RunState
from codomyrmex.logistics.orchestration.project.states import RunIntent
from codomyrmex.logistics.storage.database import Database, Transaction

if TYPE_CHECKING:
    from codomyrmex.logistics.orchestration.project.profile_recorder import ProfileRecorder

NEWS_PER_DRAIN = 2000
BARRIER_LATEST_S = 0.2
"""A commit after so long without a barrier is one: the timekeeper, who makes them beside the commits, is late."""
TRANSIENT = (StoreBusy, StoreFull, StoreIOError)


class Drain:
    """The scheduling state of one engine; see the module."""

    def __init__(
        self,
        *,
        database: Database,
        clock: Clock,
        epoch: int,
        admission: Admission,
        claims: ResourceClaims,
        results: ResultFiles,
        world: Dispatch,
        durations: Durations = lambda run: None,
        recorder: ProfileRecorder | None = None,
    ) -> None:
        self._planning = BatchPlanning(admission, claims, epoch=epoch, durations=durations)
        self.runs = self._planning.runs
        self.admission = admission
        self.chunks: set[Chunk] = set()
        self.failures = 0
        self.stopped = False
        """True once nothing must be written any more: the engine was fenced, or has a fault."""
        self._database = database
        self._clock = clock
        self._epoch = epoch
        self._claims = claims
        self._results = results
        self._world = world
        self._recorder = recorder
        """Learns from what was committed."""
        self._refused_claims = 0
        """How many commits in a row were refused because of a claim."""
        self._outdated = False
        """True when a claim was refused because of what others did: what is there is planned anew at once."""
        self._inbox: deque[News] = deque()
        self._lock = Lock()
        self._doubtful: Batch | None = None
        """A batch of which nobody could say yet whether it was committed; nothing is planned before."""
        self._barrier_s = 0.0

    def freeze(self) -> None:
        """The engine shuts down: outcomes are recorded, nothing new starts."""
        self._planning.frozen = True

    # -- news ------------------------------------------------------------------------------------

    def post(self, news: News) -> None:
        """Appends to the inbox; the caller sees to it that somebody drains."""
        self._inbox.append(news)

    @property
    def has_news(self) -> bool:
        """True while something lies in the inbox."""
        return bool(self._inbox)

    def drain(self, *, keep_one: bool = False) -> Chunk | None:
        """Deals with all that lies in the inbox; with `keep_one`, returns a chunk for the calling slot's thread."""
        kept: Chunk | None = None
        with self._lock:
            while self._inbox and not self.stopped:
                try:
                    chunks = self._step()
                    if chunks is None:
                        break
                    if keep_one and kept is None:
                        kept = _take_for_thread(chunks)
                    if chunks:
                        self._world.dispatch(chunks)
                except Exception as error:  # noqa: BLE001 - the last boundary: the engine stops, its runs can be resumed
                    self.stopped = True
                    self._world.fault(error)
        return kept

    def _step(self) -> list[Chunk] | None:
        """One plan, commit and apply; None when the commit was refused."""
        batch, self._doubtful = self._doubtful, None
        if batch is not None and batch.doubt is not None:
            return self._apply(batch) if self._settle_doubt(batch, batch.doubt) else None
        try:
            batch = self._plan()
        except StoreError as error:  # a recorded output could not be read
            self.admission.rollback()
            self._try_later(error)
            return None
        except Exception as error:
            if not self._isolate(error):
                raise
            return []
        if self._commit(batch):
            return self._apply(batch)
        outdated, self._outdated = self._outdated, False
        return [] if outdated else None

    def stop(self) -> None:
        """Nothing is planned any more once this returns; a drain in progress ends first."""
        with self._lock:
            self.stopped = True
            for news in self._inbox:
                if isinstance(news, Submission):
                    news.error = EngineClosed("the engine was shut down before the run was stored")
                    news.accepted.set()

    def barrier(self) -> None:
        """Makes all that is committed survive a power cut; commits go on meanwhile. Raises `StoreError`."""
        began_s = self._clock.monotonic_s()
        self._database.barrier()
        self._barrier_s = began_s

    def holds_up(self, chunk: Chunk) -> bool:
        """True when others could begin what stands behind the attempt that this chunk is at."""
        if not chunk.lane.quick:
            return False  # one attempt a chunk: nothing stands behind it
        return bool(chunk.entries) or (bool(chunk.lane.heap) and quick_s(chunk.run) is not None)

    def recall(self, chunks: Iterable[Chunk]) -> bool:
        """Takes back what has not begun from `chunks`; True when there were any."""
        found = False
        for chunk in chunks:
            self.post(Recall(chunk, _unbegun(chunk), chunk.now_running))
            found = True
        return found

    # -- plan ------------------------------------------------------------------------------------

    def _plan(self) -> Batch:
        # By index, because others append meanwhile; only the holder of the lock takes away.
        inbox = self._inbox
        news = [inbox[at] for at in range(min(len(inbox), NEWS_PER_DRAIN))]
        self.admission.named.closed = self._refused_claims > 1
        return self._planning.plan(news, self._clock.now_us())

    def _isolate(self, fault: Exception) -> bool:
        """After planning failed: puts aside the run that fails when planned alone; False where there is none."""
        self.admission.rollback()
        by_run: dict[int, tuple[RunState, list[News]]] = {}
        for news in list(self._inbox.copy()):
            run = self._run_of(news)
            if run is not None:
                by_run.setdefault(id(run), (run, []))[1].append(news)
        for run, about in by_run.values():
            try:
                self._planning.make_ready(self._planning.take_in(about, self._clock.now_us()))
            except StoreError:
                continue
            except Exception as error:  # noqa: BLE001 - whatever it is, it is of this run alone
                self._drop({id(news) for news in about if isinstance(news, Adoption)})
                self._break(run, BrokenRun(run.id, error))
                return True
            finally:
                self.admission.rollback()
        return False

    def _run_of(self, news: News) -> RunState | None:
        if isinstance(news, Arrival | Recall):
            run = news.chunk.run
            return run if self.runs.get(run.number) is run else None
        if isinstance(news, Adoption):
            return news.run
        return None if isinstance(news, Submission | Woken) else self.runs.get(news.run_number)

    def _drop(self, unwanted: set[int]) -> None:
        """Takes entries out of the inbox, named by their `id`, while others may append."""
        kept = [self._inbox.popleft() for _ in range(len(self._inbox))]
        self._inbox.extendleft(news for news in reversed(kept) if id(news) not in unwanted)

    # -- commit ----------------------------------------------------------------------------------

    def _commit(self, batch: Batch) -> bool:
        plans = [plan for plan in batch.plans.values() if plan.changed]
        if not plans and not batch.writes:
            return self._committed()
        try:
            self._write(batch, plans)
        except StoreError as error:
            return self._settle_doubt(batch, error) if error.outcome_unknown else self._refused(batch, error)
        except ClaimRefused:
            self._outdated = self.admission.named.stale = True
            self._refused_claims += 1
            self.admission.rollback()
            return False
        except Conflict as error:
            return self._refused(batch, error)
        return self._committed()

    def _write(self, batch: Batch, plans: list[RunPlan]) -> None:
        now_s = self._clock.monotonic_s()
        late = now_s - self._barrier_s >= BARRIER_LATEST_S
        barrier = late or bool(batch.submissions) or any(plan.ended for plan in plans)
        for plan in plans:  # before the write lock is held: a file of many items takes a while
            plan.expanded = [(*row[:-1], self._results.put(row[-1])) for row in plan.expanded]
        batch.children = []
        with self._database.transaction(barrier=barrier) as tx:
            if not plans:
                run_store.check_live(tx, epoch=self._epoch)
            for submission in batch.submissions:
                self._write_submission(tx, submission, batch.now_us)
            for plan in plans:
                run_store.write_plan(tx, plan)
                for start in plan.children_started:
                    child = start.run
                    child.number = run_store.insert_run(tx, child, epoch=self._epoch, now_us=batch.now_us)
                    batch.children.append(child)
                if plan.child_wishes:
                    ask_children(tx, plan)
            if batch.intents:
                intent_store.close(tx, batch.intents, now_us=batch.now_us)
            if batch.claiming:
                self._claims.write(tx, batch)
        if barrier:
            self._barrier_s = now_s

    def _write_submission(self, tx: Transaction, submission: Submission, now_us: int) -> None:
        run = submission.run
        definition_store.insert(tx, submission.document, hash=run.workflow.hash, now_us=now_us)
        for hash, document in documents(run.children):
            definition_store.insert(tx, document, hash=hash, now_us=now_us)
        run.number = run_store.insert_run(tx, run, epoch=self._epoch, now_us=now_us)

    def _committed(self) -> bool:
        self.failures = self._refused_claims = 0
        return True

    def _took_effect(self, batch: Batch, plans: list[RunPlan]) -> bool:
        """Whether a commit that ended in doubt is in the store."""
        if plans:
            return run_store.is_written(self._database, plans[0])
        submitted = batch.submissions[0].run.id if batch.submissions else None
        return bool(self._database.query("SELECT 1 FROM run WHERE id = ?", (submitted,)))

    def _settle_doubt(self, batch: Batch, error: StoreError) -> bool:
        """Goes on after a commit that ended in doubt; as long as the store cannot be asked, the batch waits."""
        try:
            took_effect = self._took_effect(batch, [plan for plan in batch.plans.values() if plan.changed])
        except StoreError as unreadable:
            batch.doubt, self._doubtful = error, batch
            self._try_later(unreadable)
            return False
        return self._committed() if took_effect else self._refused(batch, error)

    def _try_later(self, error: CodomyrmexError) -> None:
        self.failures += 1
        self._world.store_failed(error, self.failures)

    def _refused(self, batch: Batch, error: CodomyrmexError) -> bool:
        """Nothing was written. Faults of the store are tried again; other faults belong to one run."""
        self.admission.rollback()
        self.admission.named.stale = True
        for submission in batch.submissions:
            submission.run.number = 0
        if isinstance(error, (*TRANSIENT, run_store.StaleEngine)):
            self._try_later(error)
            return False
        self._put_aside(batch, error)
        return False

    def _put_aside(self, batch: Batch, error: CodomyrmexError) -> None:
        """Finds the run whose rows are refused by trying each alone, and takes it out of this engine.

        When all that is there can be written, it was the new runs that were refused.
        """
        broken = False
        for plan in batch.plans.values():
            try:
                with self._database.transaction() as tx:
                    run_store.write_plan(tx, plan)
                    raise _Tried
            except _Tried:
                continue
            except TRANSIENT as again:
                self._try_later(again)
                return
            except (StoreError, Conflict) as fault:
                broken = True
                self._drop({id(n) for n in batch.news if isinstance(n, Adoption) and n.run is plan.run})
                self._stop_attempts(plan.run)
                self._break(plan.run, fault)
        for submission in batch.submissions if not broken else ():
            submission.error = error
            submission.accepted.set()
        if not broken:
            self._drop({id(submission) for submission in batch.submissions})
        self._try_later(error)

    # -- apply -----------------------------------------------------------------------------------

    def _apply(self, batch: Batch) -> list[Chunk]:
        plans = [plan for plan in batch.plans.values() if plan.changed]
        stopped = [plan for plan in plans if plan.stopping is not None and plan.stopping != plan.run.stopping]
        stopped += [
            plan for plan in plans if plan.intent is RunIntent.KILL and plan.run.intent is not RunIntent.KILL
        ]
        for plan in plans:
            plan.apply()
        for chunk, count in batch.closed.items():
            chunk.open -= count
            if not chunk.open:
                self.chunks.discard(chunk)
        self.chunks.update(batch.chunks)
        self._learn(batch.news)
        for _ in batch.news:
            self._inbox.popleft()
        if batch.claiming:
            self._claims.committed(self.admission, batch)
        if self.admission.retry_us is not None:
            self._world.wake_at(self.admission.retry_us)
        self._take_in(batch)
        for plan in stopped:
            self._stop_attempts(plan.run)
        for plan in plans:
            self._pass_on(plan)
        self._world.committed(plans)
        for plan in plans:
            if plan.ended:
                self._end(plan.run)
        return batch.chunks

    def _learn(self, all_news: list[News]) -> None:
        """What ended tells of how long such attempts take, and what they need."""
        recorder, runs = self._recorder, self.runs
        if recorder is None:
            return
        for news in all_news:
            if isinstance(news, Arrival):
                run, position = news.chunk.run, news.position
                if runs.get(run.number) is run:
                    step = position if position < run.step_count else run.step_of(position)
                    recorder.note(run, step, news.outcome)

    def _take_in(self, batch: Batch) -> None:
        """New runs are stored: they may begin."""
        for submission in batch.submissions:
            self._world.stored(submission.run)
            submission.accepted.set()
        for child in batch.children:
            attach_results(child, self._database, self._results)
            self._world.stored(child)

    def _pass_on(self, plan: RunPlan) -> None:
        """What a plan wants of the clock, of children, and of slots that hold more than they work on."""
        for ready_us, position in plan.timers:
            self._world.set_timer(plan.run, position, ready_us)
        if plan.intent is RunIntent.PAUSE:
            self.recall(chunk for chunk in self.chunks if chunk.run is plan.run and chunk.open > 1)

    def _end(self, run: RunState) -> None:
        """A run is terminal: its parent hears of it, and so does the world."""
        self._forget(run)
        ended = end_of(run)
        if ended is not None:
            self.post(ended)
        self._world.ended(run)

    def _stop_attempts(self, run: RunState) -> None:
        self.recall(chunk for chunk in self.chunks if chunk.run is run)
        self._world.stop_attempts(run, kill=run.intent is RunIntent.KILL)

    def _break(self, run: RunState, error: CodomyrmexError) -> None:
        """A run cannot go on in this engine: it is put aside, and its parent hears of it."""
        self._forget(run)
        ended = broken_end_of(run, error)
        if ended is not None:
            self.post(ended)
        self._world.broken(run, error)

    def _forget(self, run: RunState) -> None:
        self.runs.pop(run.number, None)
        self.admission.forget(run.number)


def _take_for_thread(chunks: list[Chunk]) -> Chunk | None:
    """Takes the first chunk out that is not for a worker process."""
    for index, chunk in enumerate(chunks):
        if not chunk.lane.process:
            return chunks.pop(index)
    return None


class BrokenRun(CodomyrmexError):
    """What a run is told of cannot be planned; it is put aside, and the other runs go on."""

    code = "broken_run"

    def __init__(self, run_id: str, cause: Exception) -> None:
        super().__init__(
            f"run {run_id} was put aside on a fault of the engine ({type(cause).__name__}: {cause})",
            hint="what is recorded is safe; please report this with the traceback in the log",
        )
        self.__cause__ = cause


class _Tried(Exception):
    """Rolls a trial back."""


def _unbegun(chunk: Chunk) -> list[tuple[int, int]]:
    entries = []
    while True:
        try:
            entries.append(chunk.entries.pop())
        except IndexError:
            return entries
