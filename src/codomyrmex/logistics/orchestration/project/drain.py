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
from random import random
from threading import Lock

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
from codomyrmex.logistics.orchestration.project import definition_store, intent_store, run_store
from codomyrmex.logistics.orchestration.project.admission import Admission, Lane
from codomyrmex.logistics.orchestration.project.batch import Batch, Dispatch
from codomyrmex.logistics.orchestration.project.executors.attempt import Outcome, OutcomeKind
from codomyrmex.logistics.orchestration.project.news import (
    Adoption,
    Arrival,
    Chunk,
    Due,
    News,
    Recall,
    StopAsked,
    Submission,
)
from codomyrmex.logistics.orchestration.project.run_plan import RunPlan
from codomyrmex.logistics.orchestration.project.run_state import PENDING, RunState
from codomyrmex.logistics.orchestration.project.states import Isolation, RunIntent
from codomyrmex.logistics.storage.database import Database
from codomyrmex.logistics.task.retry import decide

NEWS_PER_DRAIN = 2000
CHUNK_LENGTH = 64
"""At most so many attempts are committed ahead in one slot."""
QUICK_S = 0.002
"""An attempt that is known to take less may share a commit with others, up to so much work in all."""
SPREAD_S = 0.0005
"""Less work than this is not shared out: handing it to another thread would take longer than doing it."""
LEARNING = 0.125
"""How much the newest duration counts in what is known of a step's."""
LOSSES_AT_MOST = 10
"""An attempt that is lost through no fault of its own runs again, but not for ever."""
BARRIER_LATEST_S = 0.2
"""A commit after so long without a barrier is one: the timekeeper, who makes them beside the commits, is late."""
TRANSIENT = (StoreBusy, StoreFull, StoreIOError)


class Drain:
    """The scheduling state of one engine; see the module."""

    def __init__(
        self, *, database: Database, clock: Clock, epoch: int, admission: Admission, world: Dispatch
    ) -> None:
        self.runs: dict[int, RunState] = {}
        self.admission = admission
        self.chunks: set[Chunk] = set()
        self.failures = 0
        self.frozen = False
        """True while the engine shuts down: outcomes are recorded, nothing new starts."""
        self.stopped = False
        """True once nothing must be written any more: the engine was fenced, or has a fault."""
        self._database = database
        self._clock = clock
        self._epoch = epoch
        self._world = world
        self._inbox: deque[News] = deque()
        self._lock = Lock()
        self._doubtful: Batch | None = None
        """A batch of which nobody could say yet whether it was committed; nothing is planned before."""
        self._barrier_s = 0.0

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
        return self._apply(batch) if self._commit(batch) else None

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
        return bool(chunk.entries) or (bool(chunk.lane.heap) and _quick_s(chunk.run) is not None)

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
        batch = self._new_batch([inbox[at] for at in range(min(len(inbox), NEWS_PER_DRAIN))])
        for chunk, count in batch.closed.items():
            if count and chunk.open == count:
                self.admission.release(chunk.lane)
        for plan in batch.plans.values():
            plan.settle()
            if plan.ready:
                self._offer_ready(plan)
        if not self.frozen:
            self._admit(batch)
        return batch

    def _new_batch(self, news: list[News]) -> Batch:
        batch = Batch(self._epoch, self._clock.now_us(), news)
        self.admission.mark()
        for each in news:
            if isinstance(each, Arrival):
                self._plan_arrival(batch, each)
            else:
                self._plan_other(batch, each)
        return batch

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
                for plan in self._new_batch(about).plans.values():
                    plan.settle()
            except StoreError:
                continue
            except Exception as error:  # noqa: BLE001 - whatever it is, it is of this run alone
                self._forget(run)
                self._drop({id(news) for news in about if isinstance(news, Adoption)})
                self._world.broken(run, BrokenRun(run.id, error))
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
        return None if isinstance(news, Submission) else self.runs.get(news.run_number)

    def _drop(self, unwanted: set[int]) -> None:
        """Takes entries out of the inbox, named by their `id`, while others may append."""
        kept = [self._inbox.popleft() for _ in range(len(self._inbox))]
        self._inbox.extendleft(news for news in reversed(kept) if id(news) not in unwanted)

    def _plan_other(self, batch: Batch, news: Recall | Submission | Adoption | StopAsked | Due) -> None:
        if isinstance(news, Recall):
            run = news.chunk.run
            if self.runs.get(run.number) is run:
                plan = batch.plan_for(run)
                for position, number in news.entries:
                    plan.give_back(position, number, "recalled")
                if news.at is not None:
                    run.typical_s[run.workflow.spec_of[run.step_of(news.at[0])]] = (
                        QUICK_S  # it is not so quick
                    )
            batch.closed[news.chunk] = batch.closed.get(news.chunk, 0) + len(news.entries)
        elif isinstance(news, Submission):
            batch.submissions.append(news)
        elif isinstance(news, Adoption):
            self._plan_adoption(batch, news)
        else:
            found = self.runs.get(news.run_number)
            if found is None:
                return  # ended, or not taken up yet: what is asked of it stays open and is read again
            if isinstance(news, StopAsked):
                batch.intents.extend(news.intents)
                batch.plan_for(found).stop("cancelled", news.intent)
            else:
                batch.plan_for(found).due(news.position)

    def _plan_adoption(self, batch: Batch, news: Adoption) -> None:
        run = news.run
        self.runs[run.number] = run
        plan = batch.plan_for(run)
        for position, number in news.lost:
            plan.lose(position, number)
        if run.status.value == "pending":
            plan.take_up()
        else:
            plan.revive()

    def _plan_arrival(self, batch: Batch, news: Arrival) -> None:
        chunk, outcome = news.chunk, news.outcome
        run = chunk.run
        batch.closed[chunk] = batch.closed.get(chunk, 0) + 1
        if self.runs.get(run.number) is not run:
            return  # put aside, or already closed
        plan = batch.plan_for(run)
        position = news.position
        spec = run.workflow.spec_of[run.step_of(position)]
        before = run.typical_s[spec]
        newest = outcome.duration_s
        run.typical_s[spec] = newest if before < 0 else before + LEARNING * (newest - before)
        if outcome.kind is OutcomeKind.COMPLETED:
            plan.complete(position, news.number, outcome.result or b"null", outcome.ended_us)
        else:
            self._plan_failure(plan, position, news.number, outcome)

    def _plan_failure(self, plan: RunPlan, position: int, number: int, outcome: Outcome) -> None:
        error = (
            outcome.error.to_dict()
            if outcome.error is not None
            else {"type": outcome.kind.value, "message": ""}
        )
        error["kind"] = outcome.kind.value
        if self.frozen and plan.stopping is None:
            plan.lose(position, number)  # the shutdown of this engine ended it, whatever it made of that
            return
        if plan.stopping is None and outcome.kind is not OutcomeKind.CANCELLED:
            policy = plan.run.workflow.spec(plan.step_of(position)).retry
            crashes = plan.crash_count(position) + (outcome.kind is OutcomeKind.CRASHED)
            if outcome.kind is OutcomeKind.LOST and plan.loss_count(position) < LOSSES_AT_MOST:
                plan.retry(position, number, "lost", error, outcome.ended_us, delay_us=0)
                return
            decision = decide(
                policy,
                attempts=number - plan.loss_count(position),
                crashes=crashes,
                kind=outcome.kind.value,
                names=(error["type"], *error.get("mro", ())),
                fraction=random(),
            )
            if decision.again:
                delay_us = round(decision.delay_s * 1_000_000)
                plan.retry(position, number, outcome.kind.value, error, outcome.ended_us, delay_us=delay_us)
                return
        plan.fail(position, number, outcome.kind.value, error, outcome.ended_us)

    # -- admission -------------------------------------------------------------------------------

    def _offer_ready(self, plan: RunPlan) -> None:
        """Puts what a plan made ready in the queue, neighbours that make the same request as one entry."""
        spec_of, steps = plan.run.workflow.spec_of, plan.run.step_count
        ready = sorted(plan.ready)
        first, end = ready[0]
        for start, stop in ready[1:]:
            if start == end and stop <= steps and spec_of[start] == spec_of[first]:
                end = stop
                continue
            self._offer(plan, first, end)
            first, end = start, stop
        self._offer(plan, first, end)

    def _offer(self, plan: RunPlan, first: int, end: int) -> None:
        run, admission = plan.run, self.admission
        step = plan.step_of(first)
        spec = run.workflow.spec(step)
        if spec.max_parallel is not None and end - first > 1 and first < run.step_count:
            for position in range(first, end):  # each step has a cap of its own
                self._offer(plan, position, position + 1)
            return
        process = spec.isolation is Isolation.PROCESS
        lane = admission.lane(
            run,
            cpu_milli=spec.cpu_milli,
            quick=not process and spec.effects != "unsafe",
            process=process,
            run_cap=run.options.max_parallel or run.workflow.max_parallel,
            step=step if spec.max_parallel is not None else -1,
            step_cap=spec.max_parallel,
        )
        admission.offer(lane, spec.priority.rank, first, end)

    def _admit(self, batch: Batch) -> None:
        admission = self.admission
        small: set[Lane] = set()
        while (lane := admission.next_lane(small)) is not None:
            limit = 1
            if lane.quick and (each_s := _quick_s(lane.run)) is not None:
                limit = max(1, min(CHUNK_LENGTH, int(QUICK_S / max(each_s, 1e-6))))
                waiting = admission.waiting_in(lane, CHUNK_LENGTH * 64)
                if lane.chunks and waiting * each_s < SPREAD_S:
                    small.add(lane)  # whoever works on this lane now will soon drain and take it
                    continue
                slots = admission.capacity.cpu_milli // max(1, lane.cpu_milli)
                if waiting * each_s >= SPREAD_S:
                    limit = min(limit, max(1, -(-waiting // max(1, slots))))
            self._fill_chunk(batch, lane, limit)

    def _fill_chunk(self, batch: Batch, lane: Lane, limit: int) -> None:
        plan = batch.plan_for(lane.run)
        chunk = Chunk(lane.run, lane)
        entries = chunk.entries
        while lane.heap and len(entries) < limit:
            first, end = self.admission.take(lane, limit - len(entries))
            for position in range(first, end):
                if plan.state_of(position) == PENDING:
                    entries.append((position, plan.start(position)))
        if entries:
            chunk.open = len(entries)
            self.admission.claim(lane)
            batch.chunks.append(chunk)

    # -- commit ----------------------------------------------------------------------------------

    def _commit(self, batch: Batch) -> bool:
        plans = [plan for plan in batch.plans.values() if plan.changed]
        if not plans and not batch.submissions and not batch.intents:
            self.failures = 0
            return True
        try:
            self._write(batch, plans)
        except StoreError as error:
            return self._settle_doubt(batch, error) if error.outcome_unknown else self._refused(batch, error)
        except Conflict as error:
            return self._refused(batch, error)
        return self._committed()

    def _write(self, batch: Batch, plans: list[RunPlan]) -> None:
        now_s = self._clock.monotonic_s()
        late = now_s - self._barrier_s >= BARRIER_LATEST_S
        barrier = late or bool(batch.submissions) or any(plan.ended for plan in plans)
        with self._database.transaction(barrier=barrier) as tx:
            if not plans:
                run_store.check_live(tx, epoch=self._epoch)
            for submission in batch.submissions:
                run = submission.run
                document = submission.document
                definition_store.insert(tx, document, hash=run.workflow.hash, now_us=batch.now_us)
                run.number = run_store.insert_run(tx, run, epoch=self._epoch, now_us=batch.now_us)
            for plan in plans:
                run_store.write_plan(tx, plan)
            if batch.intents:
                intent_store.close(tx, batch.intents, now_us=batch.now_us)
        if barrier:
            self._barrier_s = now_s

    def _committed(self) -> bool:
        self.failures = 0
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
                self._forget(plan.run)
                self._stop_attempts(plan.run)
                self._world.broken(plan.run, fault)
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
        for _ in batch.news:
            self._inbox.popleft()
        for submission in batch.submissions:
            self._accept(submission)
        for plan in stopped:
            self._stop_attempts(plan.run)
        for plan in plans:
            for ready_us, position in plan.timers:
                self._world.set_timer(plan.run, position, ready_us)
        self._world.committed(plans)
        for plan in plans:
            if plan.ended:
                self._forget(plan.run)
                self._world.ended(plan.run)
        return batch.chunks

    def _accept(self, submission: Submission) -> None:
        self.post(Adoption(submission.run, []))
        submission.accepted.set()

    def _stop_attempts(self, run: RunState) -> None:
        self.recall(chunk for chunk in self.chunks if chunk.run is run)
        self._world.stop_attempts(run, kill=run.intent is RunIntent.KILL)

    def _forget(self, run: RunState) -> None:
        self.runs.pop(run.number, None)
        self.admission.forget(run.number)


def _quick_s(run: RunState) -> float | None:
    """What an attempt of the slowest step of a run takes, where all are known to be quick; else None."""
    longest = max(run.typical_s)
    return longest if longest < QUICK_S and min(run.typical_s) >= 0 else None


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
