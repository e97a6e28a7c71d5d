"""Answers to approvals and signals of a run in a test, and the notice of what would wait for ever.

Layer: testing. Registered as an event handler, it hears when a step is opened that waits for somebody: it
answers as the stub of the step says, or, where there is none and no time limit either, ends the run at once
and keeps what waits, for the test to be told. Child runs are heard too; they have no stubs of their own.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from codomyrmex.clock import VirtualClock
from codomyrmex.exceptions import CodomyrmexError, Conflict
from codomyrmex.logistics.orchestration.project.approvals import Answerer
from codomyrmex.logistics.orchestration.project.orchestration_engine import OrchestrationEngine
from codomyrmex.logistics.orchestration.project.run_state import RunState
from codomyrmex.logistics.orchestration.project.states import BlockReason, StepKind

NAME = "stub"
"""Who has answered, where the stub does not say."""


class AnsweringClock(VirtualClock):
    """Virtual time that stands still while something is open that the stubs may answer."""

    def __init__(self) -> None:
        super().__init__()
        self.answers: Answers | None = None

    def skip(self, seconds: float) -> bool:
        """See `VirtualClock.skip`."""
        return not (self.answers is not None and self.answers.behind) and super().skip(seconds)


class Answers:
    """See the module; `stubs` by the name of the step, of the runs of the workflow `name`."""

    def __init__(self, engine: OrchestrationEngine, name: str, stubs: Mapping[str, Any]) -> None:
        self._engine = engine
        self._name = name
        self._stubs = stubs
        self._orchestrator = engine.workflows.host.orchestrator
        self._looked_at: set[tuple[str, int]] = set()
        self.fault: CodomyrmexError | None = None
        """What the test is to be told when the run has ended."""
        for event in ("waiting", "run_recovered"):
            engine.register_event_handler(event, self.hear)

    def hear(self, event: str, data: Mapping[str, Any]) -> None:
        """Called in the order of commits; an answer that is not accepted ends the run."""
        live = self._orchestrator.find(data["run_id"])
        if live is None:
            return
        run = live.state
        for position in run.blocked.copy():
            if event == "run_recovered" or run.name_of(position) == data["task"]:
                self._look_at(run, position)
                self._looked_at.add((run.id, position))
        self._orchestrator.timekeeper.look()

    @property
    def behind(self) -> bool:
        """Whether something is open that waits for somebody and was not looked at yet."""
        return any(
            why in (BlockReason.APPROVAL, BlockReason.SIGNAL) and (live.state.id, at) not in self._looked_at
            for live in self._orchestrator.live_runs()
            for at, why in live.state.blocked.copy().items()
        )

    def _look_at(self, run: RunState, position: int) -> None:
        step = run.step_of(position)
        spec = run.workflow.waiting.get(step)
        if spec is None or spec.kind not in (StepKind.APPROVAL, StepKind.SIGNAL):
            return
        name, task = run.workflow.names[step], run.name_of(position)
        try:
            if name in self._stubs and run.workflow.name == self._name:
                self._answer(run, position, task, self._stubs[name], spec.who)
            elif spec.timeout_s is None and not self._bounded():
                self._give_up(run, _nobody(run, task, spec.kind))
        except Conflict:
            return  # its time has passed meanwhile, or the run was stopped
        except CodomyrmexError as error:
            self._give_up(run, error)

    def _answer(self, run: RunState, position: int, task: str, stub: Any, who: tuple[str, ...]) -> None:
        signal = run.signal_names.get(position)
        if signal is not None:
            self._engine.signal(run.id, signal, stub)
            return
        said: dict[str, Any] = dict(stub) if isinstance(stub, Mapping) else {"approved": bool(stub)}
        name = said.get("by", who[0] if who else NAME)
        self._engine.control.answer(
            run.id,
            task,
            approved=said.get("approved", True),
            data=said.get("data"),
            who=Answerer(name=name),  # the same on every machine, whoever runs the test there
            comment=said.get("comment"),
        )

    def _bounded(self) -> bool:
        """Whether a time limit of a run ends the waiting; every live run here belongs to the one in the test."""
        return any(each.state.deadline_us is not None for each in self._orchestrator.live_runs())

    def _give_up(self, run: RunState, fault: CodomyrmexError) -> None:
        if self.fault is None:
            self.fault = fault
        for each in self._orchestrator.live_runs():
            self._engine.cancel(each.state.id, kill=True)


def _nobody(run: RunState, task: str, kind: StepKind) -> CodomyrmexError:
    step = task.partition("[")[0]
    what, stub = ("an approval", "True") if kind is StepKind.APPROVAL else ("a signal", "{...}")
    return CodomyrmexError(
        f"step {task!r} of {run.workflow.name!r} waits for {what} that nobody gives",
        hint=f"give it a stub, stubs={{{step!r}: {stub}}}, or the step a timeout",
    )
