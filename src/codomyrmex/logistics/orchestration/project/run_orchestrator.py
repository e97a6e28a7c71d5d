"""The orchestrator of one engine: the drain and everything that moves it.

Layer: above the attempt runner, below definitions and sessions. It wires the drain (which decides and
commits) to the slots (which run attempts), the timekeeper (deadlines, polling, work for threads that are
not ours) and the teller (events), and it is where runs come in and go out: `submit`, `adopt`, `stop`,
`wait`.

Threads. The caller's thread only appends to the inbox and waits for an event; drains happen in slots and
in the timekeeper. So a KeyboardInterrupt or a signal handler never interrupts a drain.

Failing store. A refused commit changes nothing in memory; the timekeeper drains again after a growing
delay. After `patience_s` of refusals in a row the orchestrator gives up: everybody who waits gets the
store's error, what runs is ended, and the runs can be resumed from what is recorded.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from threading import Event
from typing import TYPE_CHECKING, Any

from codomyrmex.clock import Clock
from codomyrmex.exceptions import CodomyrmexError, EngineClosed, RunNotFound, StoreError
from codomyrmex.logging_monitoring import get_logger
from codomyrmex.logistics.orchestration.project import intent_store, run_store
from codomyrmex.logistics.orchestration.project.admission import Admission, Capacity
from codomyrmex.logistics.orchestration.project.attempt_runner import AttemptRunner
from codomyrmex.logistics.orchestration.project.batch_planning import Durations
from codomyrmex.logistics.orchestration.project.drain import Drain
from codomyrmex.logistics.orchestration.project.host_ledger import HostLedger
from codomyrmex.logistics.orchestration.project.news import (
    Adoption,
    Chunk,
    Due,
    News,
    StopAsked,
    Submission,
    Woken,
)
from codomyrmex.logistics.orchestration.project.process_slots import ProcessSlots
from codomyrmex.logistics.orchestration.project.resource_claims import ResourceClaims
from codomyrmex.logistics.orchestration.project.result_files import ResultFiles
from codomyrmex.logistics.orchestration.project.run_gate import RunGate
from codomyrmex.logistics.orchestration.project.run_plan import RunPlan
from codomyrmex.logistics.orchestration.project.run_state import RunState
from codomyrmex.logistics.orchestration.project.slots import Slots
from codomyrmex.logistics.orchestration.project.states import RunIntent, RunPhase, WorkflowStatus
from codomyrmex.logistics.orchestration.project.teller import Teller
from codomyrmex.logistics.orchestration.project.timekeeper import Timekeeper
from codomyrmex.logistics.orchestration.project.wishes import asked, news_of
from codomyrmex.logistics.storage.database import Database

if TYPE_CHECKING:
    from codomyrmex.logistics.orchestration.project.profile_recorder import ProfileRecorder

POLL_S = 0.25
"""How often the database is asked whether another process wrote."""
HELD_S = 0.004
"""How long an outcome may lie in the inbox while its slot works on."""
STUCK_S = 0.01
"""After so long in one attempt, what else its slot was given goes to others."""
LEARN_EVERY_S = 5.0
"""How often what was learned of durations is stored."""
BARRIER_S = 0.05
CHECKPOINT_S = 1.0
STOP_AGAIN_S = 0.05
"""How soon an attempt is asked again to end that was not to be found: it was only just beginning."""
BACKOFF_S = (0.02, 2.0)
"""First and longest delay before a refused commit is tried again."""

logger = get_logger(__name__)


class EngineFault(CodomyrmexError):
    """The orchestrator met a state that it cannot explain; nothing more was written."""

    code = "engine_fault"

    def __init__(self, cause: Exception) -> None:
        super().__init__(
            f"the engine stopped on a fault of its own ({type(cause).__name__}: {cause})",
            hint="what is recorded is safe: resume the run; please report this with the traceback in the log",
        )
        self.__cause__ = cause


class LiveRun:
    """A run in the hands of an orchestrator: its state, and an event for those who wait for its end."""

    __slots__ = ("done", "error", "state")

    def __init__(self, state: RunState) -> None:
        self.state = state
        self.done = Event()
        self.error: CodomyrmexError | None = None


class RunOrchestrator:
    """See the module. `start` begins its threads; `close` ends them."""

    def __init__(
        self,
        *,
        database: Database,
        clock: Clock,
        epoch: int,
        admission: Admission,
        ledger: HostLedger,
        nudge: Callable[[int], None],
        runner: AttemptRunner,
        results: ResultFiles,
        cancel: Callable[[str], None],
        tell_kept_for: Callable[[dict[str, object] | None], None] = lambda kept_for: None,
        durations: Durations = lambda run: None,
        recorder: ProfileRecorder | None = None,
        patience_s: float = 30.0,
    ) -> None:
        self._database = database
        self._clock = clock
        self._epoch = epoch
        self._runner = runner
        self._patience_s = patience_s
        self._claims = ResourceClaims(database, ledger, clock=clock, epoch=epoch, nudge=nudge)
        self._drain = Drain(
            database=database,
            clock=clock,
            epoch=epoch,
            admission=admission,
            claims=self._claims,
            results=results,
            world=self,
            durations=durations,
            recorder=recorder,
        )
        self._recorder = recorder
        self._tell_kept_for = tell_kept_for
        self._kept_for: dict[str, object] | None = None
        """For whom room is kept, as readers were last told."""
        self._wake_us: int | None = None
        self._gate = RunGate(database, begin=self._begin, cancel=cancel)
        workers = admission.capacity.workers
        self._slots = Slots(self._drain, runner.run, clock=clock, limit=workers)
        self._process_slots = ProcessSlots(self._drain, runner, self._slots, clock=clock)
        self.timekeeper = Timekeeper(clock, idle=self._is_idle, on_error=self._timekeeper_failed)
        self.teller = Teller(on_silence=self.timekeeper.look)
        self._live: dict[str, LiveRun] = {}
        self._closing = False
        self._closed = False
        self._failed: CodomyrmexError | None = None
        self._failing_since_s: float | None = None
        self._seen_version = -1
        self._watching_slots = False
        self._barrier_set = False

    def start(self) -> None:
        """Begins to keep time; slots begin when there is work."""
        self.timekeeper.start()
        self.timekeeper.every(POLL_S, self.read_intents)
        self.timekeeper.every(CHECKPOINT_S, self._checkpoint)
        self.timekeeper.every(POLL_S, self._look_at_gate)
        self.timekeeper.every(POLL_S, self._look_at_resources)
        self.timekeeper.every(LEARN_EVERY_S, self.learn)

    # -- runs ------------------------------------------------------------------------------------

    @property
    def failed(self) -> CodomyrmexError | None:
        """Why this orchestrator has given up, or None."""
        return self._failed

    @property
    def degraded(self) -> bool:
        """True while commits are being refused."""
        return self._drain.failures > 0

    @property
    def capacity(self) -> Capacity:
        """What this engine may use at most."""
        return self._drain.admission.capacity

    def submit(self, run: RunState, document: dict[str, object]) -> LiveRun:
        """Stores a new run and begins it; returns once it is stored (it survives a power cut from then on)."""
        self._check_open()
        live = self._live[run.id] = LiveRun(run)
        news = Submission(run, document)
        self._drain.post(news)
        self._drain_soon()
        while not news.accepted.wait(0.05):
            if self._drain.stopped and not news.accepted.is_set():
                self._live.pop(run.id, None)
                raise self._failed or EngineClosed("the engine was shut down before the run was stored")
        if news.error is not None:
            self._live.pop(run.id, None)
            raise news.error
        return live

    def adopt(self, run: RunState, lost: list[tuple[int, int]], *, wishes: Iterable[News] = ()) -> LiveRun:
        """Takes up a run read from the store whose row already names this engine.

        The `wishes` are dealt with before anything of it starts.
        """
        self._check_open()
        live = self._live[run.id] = LiveRun(run)
        if run.options.concurrency is not None and run.status is WorkflowStatus.PENDING:
            self._gate.add(run)
            stop = next((wish for wish in wishes if isinstance(wish, StopAsked)), None)
            if stop is None:
                self.timekeeper.call_soon(self._look_at_gate)
                return live
            self._gate.stop(run.id, stop.intent)
        else:
            self._drain.post(Adoption(run, lost))
        for wish in wishes:
            self._drain.post(wish)
        self._drain_soon()
        return live

    def find(self, run_id: str) -> LiveRun | None:
        """A run that is live here, or None."""
        return self._live.get(run_id)

    def live_runs(self) -> list[LiveRun]:
        """The runs that are live here, oldest first."""
        return list(self._live.values())

    @property
    def admission(self) -> Admission:
        """The queues of this engine, and what is free; for looking only."""
        return self._drain.admission

    def attempts(self, run: RunState) -> list[tuple[int, float]]:
        """The attempts of a run that are under way now: position, and since when (monotonic seconds)."""
        chunks = [chunk for chunk in list(self._drain.chunks) if chunk.run is run]
        return [(entry[0], chunk.begun_s) for chunk in chunks if (entry := chunk.now_running) is not None]

    def running_positions(self, run: RunState) -> list[int]:
        """The positions of a run whose attempts are under way now, without those that only stand in line."""
        chunks = [chunk for chunk in list(self._drain.chunks) if chunk.run is run]
        return [chunk.now_running[0] for chunk in chunks if chunk.now_running is not None]

    def stop(self, run_id: str, *, kill: bool = False) -> None:
        """Asks for a run to end; returns at once. Idempotent; `kill` leaves no grace."""
        live = self._live.get(run_id)
        if live is None:
            raise RunNotFound(run_id)
        intent = RunIntent.KILL if kill else RunIntent.CANCEL
        if not self._gate.stop(run_id, intent):
            self._drain.post(StopAsked(live.state.number, intent))
        self._drain_soon()

    def ask(self, run_id: str, kind: str, payload: dict[str, Any], *, by: str) -> bool:
        """Brings a wish (`pause`, `resume`, `signal`, `answer`) to a run that is at work here; returns at once.

        False where it is not, or has not begun: then the wish has to be written down.
        """
        live = self._live.get(run_id)
        if live is None or live.state.number not in self._drain.runs:
            return False
        self._drain.post(asked(live.state.number, kind, payload, by=by))
        self._drain_soon()
        return True

    def wait(self, live: LiveRun, timeout_s: float | None = None) -> bool:
        """Waits for the end of a run; False when `timeout_s` was over first. Raises what ended it otherwise."""
        finished = live.done.wait(timeout_s)
        if live.error is not None:
            raise live.error
        return finished

    def nudged(self) -> None:
        """Another process has written something for this engine, or gave something back that it waits for."""
        self.read_intents()
        self._look_at_resources()

    def _read_all_intents(self) -> None:
        self._seen_version = -1
        self.read_intents()

    def read_intents(self) -> None:
        """Reads what clients ask, if anybody wrote since the last time."""
        try:
            version = self._database.version()
            if version == self._seen_version:
                return
            intents = intent_store.open_intents(self._database, epoch=self._epoch)
            self._seen_version = version
        except StoreError as error:
            logger.warning("intents could not be read: %s", error)
            return
        for intent in intents:
            waiting = self._gate.find(intent.run)
            if waiting is not None and intent.kind in ("cancel", "kill"):
                self._gate.stop(waiting.id, RunIntent(intent.kind))
            self._drain.post(news_of(intent))
        if intents:
            self._drain.drain()

    def close(self, *, grace_s: float = 5.0) -> None:
        """Ends what runs, records what has ended, and stops the threads. Unfinished runs stay as they are.

        Idempotent; a call that was interrupted can be repeated and goes on.
        """
        if self._closed:
            return
        self._closing = True
        self._drain.freeze()
        self._runner.close()
        deadline_s = self._clock.monotonic_s() + grace_s
        for slots in (self._process_slots, self._slots):  # the first may still give something to the second
            for thread in slots.close():
                thread.join(max(0.0, deadline_s - self._clock.monotonic_s()))
        self._process_slots.close()
        self._record_rest(deadline_s)
        self.timekeeper.run_here(self.learn)
        self._drain.stop()
        self.timekeeper.stop()
        self.teller.stop()
        for live in list(self._live.values()):
            live.error = (
                live.error or self._failed or EngineClosed("the engine was shut down; the run can be resumed")
            )
            live.done.set()
        self._closed = True

    def _record_rest(self, deadline_s: float) -> None:
        """Drains until all that has ended is recorded, or the grace is over while the store refuses."""
        pause = Event()
        while not self._drain.stopped:
            self.timekeeper.run_here(self._drain.drain)
            if not self._drain.has_news or self._clock.monotonic_s() >= deadline_s:
                return
            pause.wait(BACKOFF_S[0])

    # -- what the drain asks of the world (see `drain.Dispatch`) ------------------------------------

    def dispatch(self, chunks: list[Chunk]) -> None:
        for chunk in chunks:
            if chunk.lane.process:
                self._process_slots.give(chunk)
            else:
                self._slots.give(chunk)

    def stop_attempts(self, run: RunState, *, kill: bool) -> None:
        self._stop_attempts(run, kill=kill, phase=run.phase, asked=frozenset())

    def _stop_attempts(self, run: RunState, *, kill: bool, phase: RunPhase, asked: frozenset[int]) -> None:
        """Asks what runs of a phase to end, again and again until all of it has heard; the next phase is not meant."""
        if run.phase is not phase:
            return
        found = {
            at
            for at in self.running_positions(run)
            if at not in asked and self._runner.stop(run, at, kill=kill)
        }
        if any(chunk.run is run for chunk in list(self._drain.chunks)):
            self.timekeeper.call_in(
                STOP_AGAIN_S,
                lambda: self._stop_attempts(run, kill=kill, phase=phase, asked=asked | found),
            )

    def set_timer(self, run: RunState, position: int, ready_us: int) -> None:
        delay_s = (ready_us - self._clock.now_us()) / 1_000_000
        number = run.number  # the deadline must not keep the run in memory
        self.timekeeper.call_in(delay_s, lambda: self._due(number, position, ready_us))

    def wake_at(self, at_us: int) -> None:
        if self._wake_us is not None and self._wake_us <= at_us:
            return
        self._wake_us = at_us
        delay_s = max(0.0, (at_us - self._clock.now_us()) / 1_000_000)
        self.timekeeper.call_in(delay_s, lambda: self._woken_at(at_us))

    def _woken_at(self, at_us: int) -> None:
        # One that was overtaken by an earlier one dies here: a timer that set itself anew each time would multiply.
        if self._wake_us == at_us:
            self._wake_us = None
            self._wake_now()

    def stored(self, run: RunState) -> None:
        self._live.setdefault(run.id, LiveRun(run))
        if run.options.concurrency is None:
            self._drain.post(Adoption(run, []))
        else:
            self._gate.add(run)
            self.timekeeper.call_soon(self._look_at_gate)

    def committed(self, plans: Iterable[RunPlan]) -> None:
        self._failing_since_s = None
        self.teller.committed(plans)
        if not self._drain.chunks:
            self.timekeeper.look()
        if any(plan.child_wishes for plan in plans):
            self.timekeeper.call_soon(self._read_all_intents)
        if self._drain.admission.keeps_room or self._kept_for is not None:
            self._look_at_kept_room()
        if not self._barrier_set:
            self._barrier_set = True
            self.timekeeper.call_in(BARRIER_S, self._barrier)
        if not self._watching_slots and any(
            chunk.open > 1 or self._drain.holds_up(chunk) for chunk in self._drain.chunks
        ):
            self._watching_slots = True
            self.timekeeper.call_in(HELD_S, self._watch_slots)

    def learn(self) -> None:
        """Stores what was learned of durations and needs, if there is anything new."""
        recorder = self._recorder
        if (
            recorder is not None
            and recorder.has_news
            and not self._drain.failures
            and not self._drain.stopped
        ):
            recorder.flush(self._database)

    def ended(self, run: RunState) -> None:
        self._learn_from(run)
        live = self._live.pop(run.id, None)
        if live is not None:
            live.done.set()
        if self._gate.busy and run.options.concurrency is not None:
            self.timekeeper.call_soon(self._look_at_gate)

    def broken(self, run: RunState, error: CodomyrmexError) -> None:
        logger.error("run %s was put aside: %s", run.id, error)
        self._learn_from(run)
        live = self._live.pop(run.id, None)
        if live is not None:
            live.error = error
            live.done.set()

    def _learn_from(self, run: RunState) -> None:
        if self._recorder is not None and self._recorder.ended(run):
            self.timekeeper.call_soon(self.learn)

    def fault(self, error: Exception) -> None:
        logger.error("the engine has a fault and stops", exc_info=error)
        self.give_up(EngineFault(error))

    def store_failed(self, error: CodomyrmexError, failures: int) -> None:
        now_s = self._clock.monotonic_s()
        if self._failing_since_s is None:
            self._failing_since_s = now_s
            logger.warning("a commit was refused and will be tried again: %s", error)
        fenced = isinstance(error, run_store.StaleEngine)
        if fenced or now_s - self._failing_since_s >= self._patience_s:
            self.give_up(error)
            return
        first_s, longest_s = BACKOFF_S
        self.timekeeper.call_in(min(longest_s, first_s * 2 ** min(failures - 1, 20)), self._drain.drain)

    # -- inside ----------------------------------------------------------------------------------

    def _check_open(self) -> None:
        if self._failed is not None:
            raise self._failed
        if self._closing:
            raise EngineClosed("the engine has been shut down; open a new one")

    def _drain_soon(self) -> None:
        self.timekeeper.call_soon(self._drain.drain)

    def _is_idle(self) -> bool:
        """True when nothing runs and nothing is to be done before the next deadline."""
        if self._drain.failures:
            return not any(chunk.entries or chunk.now_running for chunk in list(self._drain.chunks))
        return not self._drain.chunks and not self._drain.has_news and self.teller.silent

    def _begin(self, adoption: Adoption) -> None:
        self._drain.post(adoption)
        self._drain_soon()

    def _look_at_gate(self) -> None:
        if self._gate.busy:
            self._gate.look()

    def resources_changed(self) -> None:
        """Somebody in this process has added, taken or given back something: what waits is looked at again."""
        self._drain.admission.named.stale = True
        self._claims.allotments.ask_again()
        self.timekeeper.call_soon(self._wake_now)

    def _look_at_kept_room(self) -> None:
        """Tells readers for whom room is kept, once it is somebody else."""
        found = self._drain.admission.kept_for
        kept_for: dict[str, object] | None = None
        if found is not None:
            run, position, since_us = found
            kept_for = {
                "run": run.id,
                "workflow": run.workflow.name,
                "task": run.name_of(position),
                "at": since_us,
            }
        if kept_for != self._kept_for:
            self._kept_for = kept_for
            self.timekeeper.call_soon(lambda: self._tell_kept_for(kept_for))

    def _wake_now(self) -> None:
        self._drain.post(Woken())
        self._drain.drain()

    def _look_at_resources(self) -> None:
        if not self._closing and self._claims.due(self._drain.admission, busy=bool(self._drain.chunks)):
            self._wake_now()

    def _due(self, run_number: int, position: int, ready_us: int) -> None:
        self._drain.post(Due(run_number, position, ready_us))
        self._drain.drain()

    def _barrier(self) -> None:
        self._barrier_set = False
        try:
            self._drain.barrier()
        except StoreError as error:
            logger.warning("a barrier failed: %s", error)

    def _checkpoint(self) -> None:
        try:
            self._database.checkpoint()
        except StoreError as error:
            logger.warning("a checkpoint failed: %s", error)

    def _slots_busy_for(self, limit_s: float, now_s: float) -> bool:
        """True where a slot has been in one attempt for longer than `limit_s`."""
        chunks = list(self._drain.chunks)
        return any(chunk.begun_s and now_s - chunk.begun_s > limit_s for chunk in chunks)

    def _watch_slots(self) -> None:
        """Records outcomes that lie while a slot works on, and spreads what a stuck slot was given."""
        self._watching_slots = False
        now_s = self._clock.monotonic_s()
        late = [
            chunk for chunk in list(self._drain.chunks) if chunk.begun_s and now_s - chunk.begun_s > STUCK_S
        ]
        recalled = self._drain.recall(chunk for chunk in late if self._drain.holds_up(chunk))
        if recalled or (self._drain.has_news and self._slots_busy_for(HELD_S, now_s)):
            self._drain.drain()
        if any(chunk.open > 1 or self._drain.holds_up(chunk) for chunk in list(self._drain.chunks)):
            self._watching_slots = True
            self.timekeeper.call_in(HELD_S, self._watch_slots)

    def give_up(self, error: CodomyrmexError) -> None:
        """Writes nothing more and tells everybody who waits; what runs is ended by `close`."""
        self._failed = error
        self._drain.stopped = True
        logger.error("the engine gives up: %s", error)
        for live in list(self._live.values()):
            live.error = error
            live.done.set()

    def _timekeeper_failed(self, error: BaseException) -> None:
        logger.error("a call of the timekeeper failed", exc_info=error)
