"""A real engine whose time is a test's: the clock moves only when all is quiet, and attempts end when it says so.

Store, drain, slots, timekeeper and recovery are those of every engine. Three things are the test's: the clock; what
an attempt does (it waits until the clock has reached its end); and when the drain runs. All that happens at one
instant (ends, deadlines, new runs) is in the inbox before the drain looks, because which of two things that happen
together is heard of first is otherwise up to the threads.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path
from threading import Condition, Event
from typing import Any

import msgspec

from codomyrmex.clock import ManualClock
from codomyrmex.exceptions import CodomyrmexError
from codomyrmex.logistics.orchestration.project.engine_host import EngineHost
from codomyrmex.logistics.orchestration.project.executors.attempt import Attempt, Outcome, OutcomeKind
from codomyrmex.logistics.orchestration.project.expectations import Expectations
from codomyrmex.logistics.orchestration.project.machine import Overrides
from codomyrmex.logistics.orchestration.project.news import Adoption, Arrival, Chunk, Due, News, Submission
from codomyrmex.logistics.orchestration.project.orchestration_engine import OrchestrationEngine
from codomyrmex.logistics.orchestration.project.order_policy import OrderPolicy
from codomyrmex.logistics.orchestration.project.resource_store import read_named
from codomyrmex.logistics.orchestration.project.resources import Resource
from codomyrmex.logistics.orchestration.project.run_simulation import Simulation
from codomyrmex.logistics.orchestration.project.run_state import RunState
from codomyrmex.logistics.orchestration.project.states import Isolation
from codomyrmex.logistics.orchestration.project.workflow_plan import WorkflowPlan
from codomyrmex.logistics.orchestration.project.workflow_planner import plan_run
from codomyrmex.testing.fake_gpus import FakeGpus
from waiting import wait_until

START_US = 1_700_000_400 * 1_000_000
"""A whole number of spans of ageing."""
SOON_S = 10.0
STUCK_AFTER = 1000
Seconds = Callable[[str, str], float]
"""How long a task of a workflow takes, by their names."""
Rank = tuple[int, int, int]
Place = tuple[Any, ...]
"""Which run: the id of the one at the top, and the position of each step below it that started one."""
Journal = dict[Place, list[tuple[int, list[Any]]]]
"""Of each run, when (microseconds from the start) and what."""


def work() -> None:
    """What every step names; the clock is what runs."""


def step(name: str, *needs: str, **more: Any) -> dict[str, Any]:
    """A step that works for as long as its test says."""
    return {"name": name, "call": "clockwork_engine:work", "needs": list(needs), **more}


def workflow(steps: Sequence[Mapping[str, Any]], name: str = "clockwork", **more: Any) -> dict[str, Any]:
    """The document of a workflow."""
    thread = {"isolation": "thread"}
    return {"codomyrmex": 1, "name": name, "defaults": thread, "steps": list(steps), **more}


class StoppedClock(ManualClock):
    """Stands until it is set. `nearly_s` makes up for what seconds as floats cannot hold of microseconds."""

    def __init__(self, start_us: int) -> None:
        super().__init__(start_us)
        self.nearly_s = 0.0

    def monotonic_s(self) -> float:
        return super().monotonic_s() + self.nearly_s

    def set(self, at_us: int) -> None:
        self._now_us = at_us


@dataclass(slots=True, kw_only=True)
class Working:
    """An attempt under way, and when it ends."""

    attempt: Attempt
    began_us: int
    end_us: int
    rank: Rank
    ended: Event = field(default_factory=Event)


class ClockExecutor:
    """Attempts that wait for the clock."""

    def __init__(
        self, clock: StoppedClock, seconds: Seconds, ranks: Mapping[tuple[str, str, int], Rank]
    ) -> None:
        self._clock, self._seconds, self._ranks = clock, seconds, ranks
        self.changed = Condition()
        self.working: dict[str, Working] = {}
        self.closed = False

    def run(self, attempt: Attempt) -> Outcome:
        began_us = self._clock.now_us()
        lasts_s = self._seconds(attempt.workflow, attempt.task)
        rank = self._ranks[attempt.run_id, attempt.task, attempt.number]
        end_us = began_us + round(lasts_s * 1_000_000)
        here = Working(attempt=attempt, began_us=began_us, end_us=end_us, rank=rank)
        with self.changed:
            self.working[attempt.token] = here
            self.changed.notify_all()
        here.ended.wait()
        with self.changed:
            del self.working[attempt.token]
        kind = OutcomeKind.CANCELLED if self._clock.now_us() < end_us else OutcomeKind.COMPLETED
        return Outcome(kind=kind, started_us=began_us, ended_us=end_us, duration_s=lasts_s, result=b"null")

    def cancel(self, token: str, *, kill: bool = False) -> bool:
        found = self.working.get(token)
        if found is not None:
            found.ended.set()
        return found is not None

    def close(self) -> None:
        with self.changed:
            self.closed = True
            for each in self.working.values():
                each.ended.set()


class Clockwork:
    """See the module. `start` runs, then `finish`; a context manager."""

    def __init__(
        self,
        seconds: Seconds,
        *,
        durations: Callable[[RunState], Sequence[float] | None] = lambda run: None,
        state: Path | None = None,
        cpus: int = 4,
        memory: int = 0,
        gpus: int = 0,
        workers: int | None = None,
        resources: Sequence[Resource] = (),
        policy: OrderPolicy | None = None,
        start_us: int = START_US,
        recover: bool = False,
        began_us: int | None = None,
    ) -> None:
        self.seconds, self.durations = seconds, durations
        self.clock = StoppedClock(start_us)
        self.policy = policy or OrderPolicy()
        self.engine = OrchestrationEngine(
            {"gpu_probe": FakeGpus(gpus)},
            state=":memory:" if state is None else state,
            root=Path(__file__).parent,
            clock=self.clock,
            cpu_count=cpus,
            max_workers=workers,
            recover=False,
        )
        self.host: EngineHost = self.engine.host
        self._ranks: dict[tuple[str, str, int], Rank] = {}
        self._timers: dict[tuple[int, int, int], Rank] = {}
        self._turns = self._stuck = 0
        self._executor = ClockExecutor(self.clock, seconds, self._ranks)
        self.runs: dict[str, RunState] = {}
        self._states: dict[int, RunState] = {}
        """Every run that went through this engine, by number."""
        self._twins: list[tuple[RunState, int]] = []
        self._began_us = start_us if began_us is None else began_us
        self._arrived = 0
        self._take_over()
        if memory:
            self.host.believe(Overrides(memory_bytes=memory))
        if gpus:
            self.host.capacities(gpu=True)
        for resource in resources if not recover else ():
            self.engine.resources.add_resource(resource)

    def _take_over(self) -> None:
        host, orchestrator = self.host, self.host.orchestrator
        for isolation in (Isolation.THREAD, Isolation.PROCESS):  # what asks for devices has to be a process
            host.runner._executors[isolation] = self._executor
        self._drain = drain = orchestrator._drain
        drain._planning._durations = self.durations
        drain.admission.policy = drain.admission.party().policy = self.policy
        self._drain_now, self._post, self._dispatch = drain.drain, drain.post, orchestrator.dispatch
        drain.drain = self._not_yet  # type: ignore[method-assign]
        drain.post = self._posted  # type: ignore[method-assign]
        orchestrator.dispatch = self._dispatched  # type: ignore[method-assign]
        self._set_timer = orchestrator.set_timer
        orchestrator.set_timer = self._timer_set  # type: ignore[method-assign]

    def __enter__(self) -> Clockwork:
        return self

    def __exit__(self, *_: object) -> None:
        self._drain.drain = self._drain_now  # type: ignore[method-assign]
        self.engine.shutdown()

    # -- what the engine goes through -------------------------------------------------------------

    def _not_yet(self, *, keep_one: bool = False) -> Chunk | None:
        return self._drain_now() if self._executor.closed else None

    def _posted(self, news: News) -> None:
        self._post(news)
        with self._executor.changed:
            self._arrived += isinstance(news, Arrival | Submission | Adoption)
            self._executor.changed.notify_all()

    def _dispatched(self, chunks: list[Chunk]) -> None:
        for chunk in chunks:
            self._states[chunk.run.number] = chunk.run
            for position, number in chunk.entries:
                key = (chunk.run.id, chunk.run.name_of(position), number)
                self._ranks[key] = (self._turns, 0, len(self._ranks))
        self._dispatch(chunks)

    def _timer_set(self, run: RunState, position: int, ready_us: int) -> None:
        self._states[run.number] = run
        self._timers.setdefault((run.number, position, ready_us), (self._turns, 1, len(self._timers)))
        self._set_timer(run, position, ready_us)

    def _rank_of(self, news: News) -> Rank:
        """When what happens now was begun: what began first is heard of first."""
        if isinstance(news, Arrival):
            run = news.chunk.run
            return self._ranks[run.id, run.name_of(news.position), news.number]
        if isinstance(news, Due):
            return self._timers.get((news.run_number, news.position, news.ready_us), (0, 0, 0))
        return (self._turns, 2, 0)

    # -- runs ---------------------------------------------------------------------------------------

    def start(self, what: Any, **more: Any) -> str:
        """Starts a run now; returns its id. Runs started one after the other begin together."""
        [run_id] = self.start_together([(what, more)])
        return run_id

    def start_together(self, wanted: Sequence[tuple[Any, Mapping[str, Any]]]) -> list[str]:
        """Starts runs that all are in the inbox before the drain looks."""
        with ThreadPoolExecutor(len(wanted)) as starting:
            found = []
            for what, more in wanted:
                before = self._arrived
                found.append(starting.submit(self.engine.start_workflow, what, **more))
                wait_until(lambda now=found[-1], before=before: now.done() or self._arrived > before)
                if found[-1].done():
                    found[-1].result()
            self._begin()
            return [each.result().execution_id for each in found]

    def _begin(self) -> None:
        for news in list(self._drain._inbox):
            if isinstance(news, Submission):
                self.runs[news.run.id] = news.run
                self._twins.append((twin(news.run), self.clock.now_us()))
        self._turn()
        self._states.update({run.number: run for run in self.runs.values()})

    def recover(self) -> None:
        """Takes over what a dead engine left, all of it before anything begins."""
        for live in self.host.recover():
            self.runs[live.state.id] = self._states[live.state.number] = live.state
        self._turn()

    def die(self) -> float:
        """Lets go of what the kernel takes back from a dead process, and writes nothing; the most work that is lost."""
        now_us = self.clock.now_us()
        lost_us = max((now_us - each.began_us for each in self._executor.working.values()), default=0)
        host = self.host
        host.orchestrator.give_up(CodomyrmexError("died"))
        self._executor.close()
        host.orchestrator.close()
        if host._nudges is not None:
            host._nudges.close()
        host._closed = True
        assert host._lock is not None
        host._lock.release()
        if host.ledger._lock is not None:
            host.ledger._lock.release()
        host.database.close()
        return lost_us / 1_000_000

    def finish(self) -> None:
        """Lets time pass until every run has ended."""
        while self.host.orchestrator.live_runs():
            self.tick()

    def tick(self, until_us: int | None = None) -> bool:
        """Goes to the next instant at which something is due; False where it lies behind `until_us`."""
        ends_us = [each.end_us for each in self._executor.working.values()]
        timekeeper = self.host.orchestrator.timekeeper
        timekeeper.run_here(lambda: None)  # a deadline of no time may have come while the drain was at work
        deadlines = timekeeper._deadlines
        if self._drain.has_news:
            ends_us.append(self.clock.now_us())
        if deadlines:
            ends_us.append(round(deadlines[0][0] * 1_000_000))
        if until_us is not None and (not ends_us or min(ends_us) > until_us):
            self.clock.set(until_us)
            return False
        if not ends_us:
            waiting = [self.engine.explain(live.state.id) for live in self.host.orchestrator.live_runs()]
            raise AssertionError(f"nothing will ever happen again: {waiting}")
        at_us = max(self.clock.now_us(), min(ends_us))
        self._stuck = self._stuck + 1 if at_us == self.clock.now_us() else 0
        if self._stuck > STUCK_AFTER:
            raise AssertionError(
                f"the clock stands still: {deadlines[:3]}, {list(self._executor.working.values())[:3]}"
            )
        self.clock.set(at_us)
        self._end_attempts()
        self._ring()
        self._turn()
        return True

    def go_until(self, after_s: float) -> None:
        """Lets time pass until so many seconds after the start, all that is due then included."""
        while self.tick(self._began_us + round(after_s * 1_000_000)):
            pass

    def _end_attempts(self) -> None:
        """Those whose end has come, one after the other in the order in which they were dispatched."""
        now_us = self.clock.now_us()
        due = [each for each in self._executor.working.values() if each.end_us <= now_us]
        for each in sorted(due, key=lambda each: (each.end_us, each.rank)):
            before = self._arrived
            each.ended.set()
            self._wait(lambda before=before: self._arrived > before, f"{each.attempt.task} to end")

    def _ring(self) -> None:
        """Every deadline that has come."""
        timekeeper = self.host.orchestrator.timekeeper
        self.clock.nearly_s = 5e-7
        timekeeper.look()
        while True:
            timekeeper.run_here(lambda: None)  # whatever it was at is done now
            deadlines = timekeeper._deadlines
            if not deadlines or deadlines[0][0] > self.clock.monotonic_s():
                break
        timekeeper.run_here(lambda: None)
        self.clock.nearly_s = 0.0

    def _turn(self) -> None:
        """One look of the drain, and then until all that it began has begun."""
        self._turns += 1
        inbox = self._drain._inbox
        news = sorted(inbox, key=self._rank_of)
        inbox.clear()
        inbox.extend(news)
        self.host.orchestrator.timekeeper.run_here(self._drain_now)
        self._wait(self._quiet, "all that was dispatched to begin")
        if self.host.orchestrator.failed is not None:
            raise self.host.orchestrator.failed

    def _quiet(self) -> bool:
        # A slot that has just ended a chunk may not have been given the next one yet.
        return len(self._executor.working) == len(self._drain.chunks)

    def _wait(self, condition: Callable[[], bool], what: str) -> None:
        with self._executor.changed:
            if not self._executor.changed.wait_for(condition, SOON_S):
                raise AssertionError(f"waited for {what}")

    # -- what is compared -----------------------------------------------------------------------------

    def journal(self) -> Journal:
        """The journal of every run of the state."""
        places: dict[int, Place] = {}
        for number, id, parent, position in self.host.database.query(
            "SELECT number, id, parent, parent_position FROM run ORDER BY number"
        ):
            places[number] = (id,) if parent is None else (*places[parent], position)
        rows = self.host.database.query("SELECT run, at, body FROM event ORDER BY run, sequence")
        found: Journal = {}
        for run, at_us, body in rows:
            told = found.setdefault(places[run], [])
            told += [(at_us - self._began_us, plain(event)) for event in json.loads(body)]
        return found

    def began(self) -> list[str]:
        """The tasks of the only run in the order in which they first began."""
        [lines] = self.journal().values()
        [run] = self.runs.values()
        return list(dict.fromkeys(run.name_of(event[1]) for _at, event in lines if event[0] == "started"))

    def times(self) -> dict[str, tuple[int, int]]:
        """When each task began and ended, by its name in a plan; one tried again began with its first attempt."""
        found: dict[str, tuple[int, int]] = {}
        states = {self._place(run): run for run in self._states.values()}
        for place, lines in self.journal().items():
            began: dict[int, int] = {}
            run = states[place]
            for at_us, event in lines:
                position = event[1]
                if event[0] in ("started", "waiting"):
                    began.setdefault(position, at_us)
                elif event[0] == "completed" and position in began:
                    found[self._prefix(run) + run.name_of(position)] = (began[position], at_us)
        return found

    def _place(self, run: RunState) -> Place:
        if run.parent is None:
            return (run.id,)
        return (*self._place(self._states[run.parent.run]), run.parent.position)

    def _prefix(self, run: RunState) -> str:
        if run.parent is None:
            return ""
        above = self._states[run.parent.run]
        return f"{self._prefix(above)}{above.name_of(run.parent.position)}/"

    def plan(self, run_id: str, expectations: Expectations) -> WorkflowPlan:
        """What `workflows plan` says of a run, as if it had not begun."""
        return plan_run(
            twin(self.runs[run_id]),
            expectations=expectations,
            machine=self.host.machine.capacities(),
            named=self.named(),
            workers=self.host.orchestrator.capacity.workers,
            policy=self.policy,
        )

    def simulation(self) -> Simulation:
        """The same runs under virtual time, with the same durations; not run yet."""
        simulation = Simulation(
            machine=self.host.machine.capacities(),
            workers=self.host.orchestrator.capacity.workers,
            attempt_s=lambda run, position: self.seconds(run.workflow.name, run.name_of(position)),
            named=self.named(),
            policy=self.policy,
            durations=self.durations,
        )
        for run, at_us in self._twins:
            simulation.submit(twin(run), at_us - self._began_us)
        return simulation

    def named(self) -> list[Any]:
        """What the state limits, as if nobody had used any."""
        rows = read_named(self.host.database, now_us=self.clock.now_us(), epoch=self.host.epoch)
        return [replace(row, tat_us=0, used=0, used_by_others=0, waits=[]) for row in rows]


def twin(run: RunState) -> RunState:
    """A run with the same definition, parameters and options that has not begun."""
    return RunState(
        number=0,
        id=run.id,
        workflow=run.workflow,
        parameters=run.parameters,
        options=run.options,
        children=run.children,
        parent=run.parent,
    )


def simulated(simulation: Simulation) -> Journal:
    """The journal of a simulation, as `Clockwork.journal` has that of the engine."""
    found: Journal = {}
    places: dict[int, Place] = {}
    for at_us, run, event in simulation.journal:
        place: Place = (run.id,)
        if run.parent is not None:
            place = (*places[run.parent.run], run.parent.position)
        places[run.number] = place
        found.setdefault(place, []).append((at_us, plain(json.loads(msgspec.json.encode(event)))))
    return found


def plain(event: list[Any]) -> list[Any]:
    """An event without what nobody can foresee: the id that a child run is given."""
    return event[:2] if event[0] == "child_started" else event


def equal_lines(of_run: Journal, of_plan: Journal) -> None:
    """Raises where two journals differ, and shows what came before that."""
    assert of_run.keys() == of_plan.keys()
    for place, run in of_run.items():
        plan = of_plan[place]
        for at, (happened, planned) in enumerate(zip(run, plan, strict=False)):
            before = run[max(0, at - 6) : at]
            assert happened == planned, f"{place}, line {at}: {happened}, planned {planned}; before: {before}"
        assert len(run) == len(plan), f"{run[len(plan) :] or plan[len(run) :]} is in one of them only"
