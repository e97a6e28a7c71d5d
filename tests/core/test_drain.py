"""The drain alone: news in, rows and chunks out, without a thread and with a store that can refuse."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import pytest

from codomyrmex.clock import ManualClock
from codomyrmex.exceptions import CodomyrmexError, StoreBusy, StoreError, StoreFull, StoreIOError
from codomyrmex.logistics.orchestration.project import engine_store, intent_store, run_store
from codomyrmex.logistics.orchestration.project.admission import Admission
from codomyrmex.logistics.orchestration.project.drain import Drain
from codomyrmex.logistics.orchestration.project.executors.attempt import ErrorInfo, Outcome, OutcomeKind
from codomyrmex.logistics.orchestration.project.host_ledger import HostLedger
from codomyrmex.logistics.orchestration.project.machine_share import MachineShare
from codomyrmex.logistics.orchestration.project.news import (
    Adoption,
    Arrival,
    Chunk,
    Due,
    StopAsked,
    Submission,
)
from codomyrmex.logistics.orchestration.project.news_planning import LOSSES_AT_MOST
from codomyrmex.logistics.orchestration.project.resource_claims import ResourceClaims
from codomyrmex.logistics.orchestration.project.resource_request import CPU
from codomyrmex.logistics.orchestration.project.result_files import ResultFiles
from codomyrmex.logistics.orchestration.project.run_plan import RunPlan
from codomyrmex.logistics.orchestration.project.run_state import RunOptions, RunState
from codomyrmex.logistics.orchestration.project.states import STATUSES, RunIntent
from codomyrmex.logistics.orchestration.project.workflow_compiler import compile_workflow
from codomyrmex.logistics.storage.database import Parameters, Row
from codomyrmex.logistics.storage.sqlite import SQLiteDatabase
from codomyrmex.testing import FaultyDatabase


class Store(FaultyDatabase):
    """A store that can also refuse to be read."""

    unreadable = False

    def query(self, sql: str, params: Parameters = ()) -> list[Row]:
        if self.unreadable:
            raise StoreIOError("cannot be read")
        return super().query(sql, params)


class Bench:
    """A drain and the world around it, which only takes notes."""

    def __init__(self) -> None:
        self.database = Store(SQLiteDatabase.open(":memory:"))
        self.clock = ManualClock()
        with self.database.transaction() as tx:
            self.epoch, _token = engine_store.insert(tx, now_us=self.clock.now_us())
        self.admission = Admission(cpu_milli=4000, max_workers=4, share=MachineShare({CPU: 4000}))
        self.drain = Drain(
            database=self.database,
            clock=self.clock,
            epoch=self.epoch,
            admission=self.admission,
            claims=ResourceClaims(
                self.database,
                HostLedger.open(None, clock=self.clock, token="bench"),
                clock=self.clock,
                epoch=self.epoch,
                nudge=lambda epoch: None,
            ),
            results=ResultFiles(None),
            world=self,
        )
        self.at_work: list[Chunk] = []
        self.timers: list[tuple[RunState, int, int]] = []
        self.told: list[tuple[Any, ...]] = []
        self.ids = 0

    @property
    def nothing_is_claimed(self) -> bool:
        share = self.admission.share
        return (share.cpu_milli, self.admission.workers) == (share.allotted.get(CPU, 0), 4)

    # what the drain tells

    def dispatch(self, chunks: list[Chunk]) -> None:
        self.at_work += chunks

    def stop_attempts(self, run: RunState, *, kill: bool) -> None:
        self.told.append(("stop", run.id, kill))

    def set_timer(self, run: RunState, position: int, ready_us: int) -> None:
        self.timers.append((run, position, ready_us))

    def wake_at(self, at_us: int) -> None:
        self.told.append(("wake", at_us))

    def stored(self, run: RunState) -> None:
        self.drain.post(Adoption(run, []))

    def committed(self, plans: Iterable[RunPlan]) -> None:
        pass

    def ended(self, run: RunState) -> None:
        self.told.append(("ended", run.id, run.status.value))

    def broken(self, run: RunState, error: CodomyrmexError) -> None:
        self.told.append(("broken", run.id, type(error).__name__))

    def store_failed(self, error: CodomyrmexError, failures: int) -> None:
        self.told.append(("store_failed", type(error).__name__, failures))

    def fault(self, error: Exception) -> None:
        raise error

    # what the test does

    def submit(self, *steps: dict[str, Any], **more: Any) -> RunState:
        self.ids += 1
        options = RunOptions(root="/")
        entries = [{"module": "m", "action": "f", **step} for step in steps]
        document = {"codomyrmex": 1, "name": "w", "isolation": "thread", "steps": entries, **more}
        run = RunState(
            number=0,
            id=f"r{self.ids}",
            workflow=compile_workflow(document),
            parameters={},
            options=options,
        )
        self.submission = Submission(run, document)
        self.drain.post(self.submission)
        self.drain.drain()
        return run

    def end(self, run: RunState, name: str, kind: str = "completed", drain: bool = True) -> None:
        """Brings the outcome of the task's attempt that is at work."""
        for chunk in self.at_work:
            for entry in list(chunk.entries):
                if chunk.run is run and run.name_of(entry[0]) == name:
                    chunk.entries.remove(entry)
                    self.drain.post(Arrival(chunk, *entry, outcome(OutcomeKind(kind), "ValueError")))
                    if drain:
                        self.drain.drain()
                    return
        raise AssertionError(f"{name} is not at work")

    def working(self, run: RunState) -> list[str]:
        return [
            run.name_of(at) for chunk in self.at_work if chunk.run is run for at, _number in chunk.entries
        ]

    def states(self, run: RunState) -> dict[str, str]:
        return {run.name_of(at): STATUSES[code].value for at, code in enumerate(run.state)}

    def column(self, run: RunState, what: str) -> dict[str, Any]:
        rows = self.database.query(f"SELECT position, {what} FROM task WHERE run = ?", (run.number,))
        return {run.name_of(row[0]): row[1] for row in rows}


def outcome(kind: OutcomeKind, error: str) -> Outcome:
    info = ErrorInfo(type=error, mro=(error,), message="no") if kind is not OutcomeKind.COMPLETED else None
    result = b"1" if kind is OutcomeKind.COMPLETED else None
    return Outcome(kind=kind, started_us=1, ended_us=2, duration_s=1.0, result=result, error=info)


@pytest.fixture
def bench() -> Iterator[Bench]:
    made = Bench()
    yield made
    made.database.close()


CHAIN = ({"name": "a"}, {"name": "b", "dependencies": ["a"]})


def test_a_successor_starts_in_the_commit_of_its_predecessors_result(bench: Bench) -> None:
    run = bench.submit(*CHAIN)
    assert bench.working(run) == ["a"]
    before = bench.database.commits
    bench.end(run, "a")
    assert bench.database.commits == before + 1
    assert bench.column(run, "state") == {"a": "completed", "b": "running"}
    bench.end(run, "b")
    assert bench.told == [("ended", "r1", "completed")]
    assert bench.nothing_is_claimed


@pytest.mark.parametrize("error", [StoreBusy, StoreFull, StoreIOError])
def test_a_refused_commit_leaves_no_trace_and_is_made_again(bench: Bench, error: type[StoreError]) -> None:
    run = bench.submit(*CHAIN)
    bench.database.error = error
    bench.database.fail_commit = bench.database.commits + 1
    bench.end(run, "a")
    assert bench.states(run) == {"a": "running", "b": "blocked"}
    assert bench.column(run, "state") == {"a": "running"}
    assert (bench.working(run), bench.told) == ([], [("store_failed", error.__name__, 1)])
    bench.drain.drain()
    assert bench.working(run) == ["b"]
    assert bench.drain.failures == 0


def test_a_commit_in_doubt_that_took_effect_is_not_made_again(bench: Bench) -> None:
    run = bench.submit(*CHAIN)
    bench.database.after, bench.database.fail_commit = True, bench.database.commits + 1
    bench.end(run, "a")
    assert bench.told == []
    assert bench.working(run) == ["b"]


@pytest.mark.parametrize("after", [False, True])
@pytest.mark.parametrize("submitting", [False, True])
def test_a_commit_in_doubt_waits_until_the_store_can_be_asked(
    bench: Bench, after: bool, submitting: bool
) -> None:
    run = bench.submit(*CHAIN)
    bench.database.error, bench.database.after = StoreIOError, after
    bench.database.fail_commit, bench.database.unreadable = bench.database.commits + 1, True
    second = bench.submit({"name": "x"}) if submitting else None
    bench.end(run, "a")
    bench.drain.drain()
    assert bench.states(run)["b"] == "blocked"
    assert not bench.submission.accepted.is_set() or not submitting
    assert {told[0] for told in bench.told} == {"store_failed"}
    bench.database.unreadable = False
    bench.drain.drain()
    bench.drain.drain()  # where it had not taken effect, only now
    assert bench.working(run) == ["b"]
    assert second is None or bench.working(second) == ["x"]
    bench.end(run, "b")
    assert bench.told[-1] == ("ended", "r1", "completed")


def test_a_run_whose_rows_somebody_changed_is_put_aside_and_the_others_go_on(bench: Bench) -> None:
    one, other = bench.submit(*CHAIN), bench.submit(*CHAIN)
    with bench.database.transaction() as tx:
        tx.execute("UPDATE task SET attempt = 9 WHERE run = ?", (one.number,))
    bench.end(one, "a", drain=False)
    bench.end(other, "a", drain=False)
    third = bench.submit({"name": "x"})
    bench.drain.drain()
    assert ("broken", "r1", "StaleTask") in bench.told
    assert (bench.working(other), bench.working(third)) == (["b"], ["x"])
    assert bench.submission.error is None


def test_a_new_run_that_cannot_be_stored_is_refused_and_the_others_go_on(bench: Bench) -> None:
    run = bench.submit(*CHAIN)
    bench.ids = 0  # the next run has the same id
    bench.end(run, "a", drain=False)
    bench.submit({"name": "x"})
    assert isinstance(bench.submission.error, StoreError)
    bench.drain.drain()
    assert bench.working(run) == ["b"]


def test_an_engine_that_was_declared_dead_writes_nothing_more(bench: Bench) -> None:
    run = bench.submit(*CHAIN)
    with bench.database.transaction() as tx:
        engine_store.end(tx, epoch=bench.epoch, now_us=1)
    bench.end(run, "a")
    assert bench.told == [("store_failed", run_store.StaleEngine.__name__, 1)]
    assert bench.column(run, "state") == {"a": "running"}


# -- outcomes that are nobody's failure, or everybody's ---------------------------------------------------


def test_a_lost_attempt_uses_no_retry_but_not_for_ever(bench: Bench) -> None:
    run = bench.submit({"name": "a"})
    for losses in range(1, LOSSES_AT_MOST + 1):
        bench.end(run, "a", "lost")
        assert bench.working(run) == ["a"]
        assert bench.column(run, "losses") == {"a": losses}
    bench.end(run, "a", "lost")
    assert bench.told == [("ended", "r1", "failed")]


def test_a_loss_is_not_counted_as_one_of_the_attempts(bench: Bench) -> None:
    run = bench.submit({"name": "a", "retry": {"max_attempts": 2}})
    for kind in ("lost", "failed", "failed"):
        assert bench.working(run) == ["a"]
        bench.end(run, "a", kind)
    assert bench.told == [("ended", "r1", "failed")]
    assert bench.column(run, "attempt") == {"a": 3}


def test_a_task_that_crashes_by_itself_is_given_up_after_two_crashes(bench: Bench) -> None:
    run = bench.submit({"name": "a", "retry": {"max_attempts": 9}})
    for kind in ("crashed", "failed", "crashed"):
        assert bench.working(run) == ["a"]
        bench.end(run, "a", kind)
    assert bench.told == [("ended", "r1", "failed")]


def test_what_an_engine_ends_in_its_own_shutdown_can_be_resumed(bench: Bench) -> None:
    run = bench.submit({"name": "a"})
    bench.drain.freeze()
    bench.end(run, "a", "cancelled")
    assert bench.column(run, "state") == {"a": "pending"}
    assert bench.working(run) == []
    assert bench.told == []


def test_an_action_that_gives_up_by_itself_has_failed(bench: Bench) -> None:
    run = bench.submit({"name": "a", "retry": {"max_attempts": 5}})
    bench.end(run, "a", "cancelled")
    assert bench.column(run, "state") == {"a": "failed"}


# -- cancelling -------------------------------------------------------------------------------------------


def stop(bench: Bench, run: RunState, intent: RunIntent, *intents: int) -> None:
    bench.drain.post(StopAsked(run.number, intent, intents))
    bench.drain.drain()


def test_a_cancelled_run_ends_when_its_last_attempt_has(bench: Bench) -> None:
    run = bench.submit(*CHAIN)
    chunk = bench.at_work[0]
    entry = chunk.entries.popleft()
    stop(bench, run, RunIntent.CANCEL)
    stop(bench, run, RunIntent.CANCEL)
    assert bench.told == [("stop", "r1", False)]
    stop(bench, run, RunIntent.KILL)
    assert bench.told[1:] == [("stop", "r1", True)]
    assert bench.states(run) == {"a": "running", "b": "cancelled"}
    bench.drain.post(Arrival(chunk, *entry, outcome(OutcomeKind.CANCELLED, "TaskCancelled")))
    bench.drain.drain()
    assert bench.states(run)["a"] == "cancelled"
    assert bench.told[2:] == [("ended", "r1", "cancelled")]


def test_what_had_not_begun_is_taken_back_and_cancelled(bench: Bench) -> None:
    run = bench.submit(*CHAIN)
    stop(bench, run, RunIntent.CANCEL)
    assert bench.states(run) == {"a": "cancelled", "b": "cancelled"}
    assert bench.column(run, "attempt") == {"a": 0, "b": 0}
    assert bench.nothing_is_claimed


def test_a_failure_while_the_run_is_being_cancelled_is_not_tried_again(bench: Bench) -> None:
    run = bench.submit({"name": "a", "retry": {"max_attempts": 5}}, {"name": "b"})
    chunk = next(chunk for chunk in bench.at_work if (0, 1) in chunk.entries)
    chunk.entries.remove((0, 1))
    stop(bench, run, RunIntent.CANCEL)
    bench.drain.post(Arrival(chunk, 0, 1, outcome(OutcomeKind.FAILED, "ValueError")))
    bench.drain.drain()
    assert bench.states(run) == {"a": "failed", "b": "cancelled"}
    assert bench.told[-1] == ("ended", "r1", "cancelled")


def test_a_wish_for_a_run_that_is_not_taken_up_yet_stays_open(bench: Bench) -> None:
    run = bench.submit(*CHAIN)
    with bench.database.transaction() as tx:
        intent_store.ask(tx, run=run.number, kind="cancel", by="me", now_us=1)
    (intent,) = intent_store.open_intents(bench.database, epoch=bench.epoch)
    known = bench.drain.runs.pop(run.number)
    stop(bench, run, RunIntent.CANCEL, intent.sequence)
    assert intent_store.open_intents(bench.database, epoch=bench.epoch)
    bench.drain.runs[run.number] = known
    stop(bench, run, RunIntent.CANCEL, intent.sequence)
    assert not intent_store.open_intents(bench.database, epoch=bench.epoch)


def test_a_timer_that_comes_twice_or_too_late_does_nothing(bench: Bench) -> None:
    run = bench.submit({"name": "a", "retry": {"max_attempts": 2, "delay_s": 5}})
    bench.end(run, "a", "failed")
    ((_run, position, ready_us),) = bench.timers
    assert ready_us == bench.clock.now_us() + 5_000_000
    for _ in range(2):
        bench.drain.post(Due(run.number, position, ready_us))
        bench.drain.drain()
    assert bench.working(run) == ["a"]
    bench.end(run, "a")
    bench.drain.post(Due(run.number, position, ready_us))
    bench.drain.drain()
    assert bench.told == [("ended", "r1", "completed")]
