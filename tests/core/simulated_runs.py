"""One run without an engine: the pure core fed with news in an order that one seed decides.

No thread, store or clock takes part, so a seed gives the same run each time, thousands a minute. What the world
would bring is drawn: which attempts end and when, recalls, answers, signals, times that pass, child runs that
end, and in between somebody who pauses, cancels, kills and resumes. `SimulatedRun` is read like a finished run.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from heapq import heappop, heappush
from random import Random
from types import SimpleNamespace
from typing import Any

from random_workflows import ANSWER, CHILD, NAMES, SIGNALS, child_document, signal_data
from scripted_steps import scripted, total

from codomyrmex.logistics.orchestration.project import news_planning
from codomyrmex.logistics.orchestration.project.batch import Batch
from codomyrmex.logistics.orchestration.project.child_definition import ChildDefinition
from codomyrmex.logistics.orchestration.project.executors.attempt import ErrorInfo, Outcome, OutcomeKind
from codomyrmex.logistics.orchestration.project.expressions import EvaluationError
from codomyrmex.logistics.orchestration.project.news import (
    Adoption,
    Answered,
    Arrival,
    ChildEnded,
    Chunk,
    Due,
    News,
    PauseAsked,
    Recall,
    SignalSent,
    StopAsked,
)
from codomyrmex.logistics.orchestration.project.run_plan import RunPlan
from codomyrmex.logistics.orchestration.project.run_scope import scope_of
from codomyrmex.logistics.orchestration.project.run_state import (
    COMPLETED,
    PENDING,
    RUNNING,
    RunOptions,
    RunState,
)
from codomyrmex.logistics.orchestration.project.states import (
    STATUSES,
    BlockReason,
    RunIntent,
    RunPhase,
    WorkflowStatus,
)
from codomyrmex.logistics.orchestration.project.values import decode, encode
from codomyrmex.logistics.orchestration.project.workflow import Workflow
from codomyrmex.logistics.orchestration.project.workflow_compiler import compile_workflow
from codomyrmex.logistics.orchestration.project.workflow_file import load_text

NUMBER = 1
COMMITS_AT_MOST = 3000


def canonical(document: Mapping[str, Any]) -> dict[str, Any]:
    """The document as an engine stores it."""
    return Workflow.from_document(document).to_document()


_child = load_text(json.dumps(child_document())).document
CHILD_DEFINITION = ChildDefinition(workflow=compile_workflow(_child), document=_child)


class Simulation:
    """See the module; `calm` where nobody asks for anything."""

    def __init__(self, document: Mapping[str, Any], chance: Random, *, calm: bool = False) -> None:
        workflow = compile_workflow(canonical(document))
        children = {CHILD: CHILD_DEFINITION} if workflow.children else {}
        self.run = RunState(
            number=NUMBER,
            id="simulated",
            workflow=workflow,
            parameters={"number": 5},
            options=RunOptions(root="/", roots=()),
            children=children,
        )
        self.results: dict[int, bytes] = {}
        self.run.load_output = self.results.get
        self.run.whole_output = lambda data: data
        self.chance, self.calm = chance, calm
        self.now_us, self.signals = 1_000_000, 0
        self.ended: dict[int, int] = {}
        self.ready: list[int] = []
        self.attempts: dict[int, int] = {}
        self.timers: list[tuple[int, int]] = []
        self.children: dict[int, Any] = {}
        self.stopped_children: set[int] = set()
        self.child_ends: dict[str, Any] = {}
        self.journal: list[tuple[int, tuple[Any, ...]]] = []
        self.phases: set[str] = {"main"}

    def go(self) -> SimulatedRun:
        """To the end of the run."""
        self.commit([Adoption(self.run, [])])
        for _ in range(COMMITS_AT_MOST):
            if self.run.status.terminal:
                return SimulatedRun(self)
            self.commit([self.news() for _ in range(self.chance.choice((1, 1, 1, 2)))])
        open_tasks = [
            self.run.name_of(at) for at, code in enumerate(self.run.state) if not STATUSES[code].terminal
        ]
        raise AssertionError(f"the run does not end: {self.run.status.value}, open: {open_tasks}")

    # -- a commit --------------------------------------------------------------------------------

    def commit(self, news: list[News | None]) -> None:
        batch = Batch(1, self.now_us, [each for each in news if each is not None])
        for each in batch.news:
            if isinstance(each, Arrival):
                news_planning.plan_arrival(batch, each, {NUMBER: self.run}, frozen=False)
            elif isinstance(each, Recall):
                news_planning.plan_recall(batch, each, {NUMBER: self.run})
            elif isinstance(each, Adoption):
                news_planning.plan_adoption(batch, each)
            elif isinstance(each, Due):
                news_planning.plan_due(batch, each, self.run)
            elif isinstance(each, ChildEnded):
                news_planning.plan_child_end(batch, each, self.run)
            else:
                news_planning.plan_asked(batch, each, self.run)
        plan = batch.plan_for(self.run)
        plan.settle()
        self.ready += [at for first, end in plan.ready for at in range(first, end)]
        if plan.intent is not RunIntent.PAUSE and not plan.ended:
            self.start_some(plan)
        self.keep(plan)
        plan.apply()
        self.attempts = {at: number for at, number in self.attempts.items() if self.run.state[at] == RUNNING}
        self.now_us += self.chance.choice((1, 10))

    def start_some(self, plan: RunPlan) -> None:
        self.chance.shuffle(self.ready)
        left: list[int] = []
        for position in self.ready:
            if plan.state_of(position) != PENDING:
                continue
            if plan.running and self.chance.random() < 0.4:
                left.append(position)
            else:
                self.attempts[position] = plan.start(position)
        self.ready = left

    def keep(self, plan: RunPlan) -> None:
        """What a store and a timekeeper would remember of a plan."""
        sequence = self.run.journal_length + 1
        self.journal += [(sequence, event) for event in plan.events]
        self.phases |= {event[2] for event in plan.events if event[0] == "phase"}
        for timer in plan.timers:
            heappush(self.timers, timer)
        for move, ended_us, result, _crc, _error, _run, position, *_more in [*plan.finished, *plan.answered]:
            self.ended[position] = ended_us
            if move == "completed" and result is not None:
                self.results[position] = result
        for start in plan.children_started:
            self.children[start.position] = start
        self.stopped_children |= {at for at, intent in plan.child_wishes if intent.ends}

    # -- what happens ------------------------------------------------------------------------------

    def news(self) -> News | None:
        """One thing that may happen now; None where what was drawn is not possible any more."""
        options: list[Callable[[], News | None]] = [
            *(lambda at=at: self.arrival(at) for at in self.attempts),
            *(lambda at=at: self.child_end(at) for at, why in self.blocked(BlockReason.CHILD)),
            *(lambda at=at: self.answer(at) for at, why in self.blocked(BlockReason.APPROVAL)),
            *(self.signal for _ in self.blocked(BlockReason.SIGNAL)),
        ]
        if self.timers:
            options.append(self.due)
        if self.run.status is WorkflowStatus.PAUSED or self.run.intent is RunIntent.PAUSE:
            options += [lambda: PauseAsked(NUMBER, False)] * 2
        if not self.calm and self.chance.random() < 0.12:
            return self.wish()
        return self.chance.choice(options)() if options else None

    def blocked(self, reason: BlockReason) -> list[tuple[int, BlockReason]]:
        return [(at, why) for at, why in self.run.blocked.items() if why is reason]

    def wish(self) -> News:
        what = self.chance.choice(("pause", "pause", "pause", "resume", "cancel", "kill", "signal"))
        if what in ("pause", "resume"):
            return PauseAsked(NUMBER, what == "pause")
        return self.signal() if what == "signal" else StopAsked(NUMBER, RunIntent(what))

    def signal(self) -> News:
        self.signals += 1
        return SignalSent(NUMBER, self.chance.choice(SIGNALS), encode(signal_data(self.signals)), "sim")

    def answer(self, position: int) -> News:
        approved = self.chance.random() < 0.7
        task = self.run.name_of(position)
        return Answered(
            run_number=NUMBER, task=task, approved=approved, data=ANSWER if approved else None, by="sim"
        )

    def due(self) -> News:
        ready_us, position = heappop(self.timers)
        self.now_us = max(self.now_us, ready_us)
        return Due(NUMBER, position, ready_us)

    def child_end(self, position: int) -> News | None:
        start = self.children.get(position)
        if start is None or start.run.id in self.child_ends:
            return None
        stopped = position in self.stopped_children and self.chance.random() < 0.7
        status = (
            WorkflowStatus.COMPLETED if start.run.parameters["script"][0] == "ok" else WorkflowStatus.FAILED
        )
        if stopped or self.chance.random() < 0.05:
            status = WorkflowStatus.CANCELLED
        outputs = {"n": 1} if status is WorkflowStatus.COMPLETED else {}
        self.child_ends[start.run.id] = SimpleNamespace(status=status, outputs=outputs)
        self.stopped_children.discard(position)
        return ChildEnded(
            run_number=NUMBER,
            position=position,
            attempt=start.attempt,
            id=start.run.id,
            status=status,
            outputs=encode(outputs).decode(),
            error=None,
        )

    def arrival(self, position: int) -> News | None:
        number = self.attempts.pop(position, None)
        if number is None:
            return None
        chunk: Any = Chunk(self.run, None)  # type: ignore[arg-type]
        if self.chance.random() < 0.05:
            return Recall(chunk, [(position, number)])
        return Arrival(chunk, position, number, self.outcome(position, number))

    def outcome(self, position: int, number: int) -> Outcome:
        """What `scripted_steps.act` does; where the run is being stopped, it may heed that."""
        if self.run.stopping is not None and self.chance.random() < 0.3:
            return self.ended_as(OutcomeKind.CANCELLED)
        template = self.run.workflow.templates[self.run.step_of(position)]
        try:
            given = template.resolve(scope_of(self.run, position)) if template is not None else {}
        except EvaluationError as error:
            return self.ended_as(
                OutcomeKind.FAILED, error=ErrorInfo(type="ExpressionError", message=str(error))
            )
        script, item = scripted(given["script"], given.get("item"))
        said = script[min(number, len(script)) - 1]
        if said != "ok":
            error = ErrorInfo(type=said, message=said, mro=tuple(NAMES[said]))
            return self.ended_as(OutcomeKind.FAILED, error=error)
        return self.ended_as(OutcomeKind.COMPLETED, result=encode(1 + total(given.get("used")) + total(item)))

    def ended_as(self, kind: OutcomeKind, **more: Any) -> Outcome:
        return Outcome(kind=kind, started_us=self.now_us, ended_us=self.now_us, duration_s=0.0, **more)


class SimulatedRun:
    """What the checks read of a `FinishedRun`."""

    def __init__(self, made: Simulation) -> None:
        run = made.run
        self.status = run.status
        self.outputs = decode(run.result[0].encode()) if run.result and run.result[0] else None
        self.children = made.child_ends
        self.events = [
            {
                "sequence": sequence,
                "event": event[0],
                "task": run.name_of(event[1]) if event[1] is not None else None,
                "details": list(event[2:]),
            }
            for sequence, event in made.journal
        ]
        undoing = {run.step_of(at) for at in run.compensation}
        self.tasks: dict[str, Any] = {}
        self.results: dict[str, Any] = {}
        for position, code in enumerate(run.state):
            step = run.step_of(position)
            phase = list(RunPhase)[run.workflow.phase_of(step)]
            if phase.value in made.phases and (phase is not RunPhase.COMPENSATING or step in undoing):
                task = SimpleNamespace(status=STATUSES[code].value, ended_at=made.ended.get(position))
                self.tasks[run.name_of(position)] = task
                if position == step and code == COMPLETED:
                    self.results[run.name_of(position)] = self._result(made, step)

    @staticmethod
    def _result(made: Simulation, step: int) -> Any:
        group = made.run.groups.get(step)
        if group is None:
            return decode(made.results[step]) if step in made.results else []
        places = range(group.first, group.first + group.size)
        return [decode(made.results[at]) if at in made.results else None for at in places]

    def statuses(self) -> dict[str, str]:
        return {name: task.status for name, task in self.tasks.items()}
