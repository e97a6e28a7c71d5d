"""Runs of random workflows while somebody pauses, cancels, kills, resumes, answers and signals.

A driver hears every committed event of a run and asks for what was drawn for that moment, from the thread
that tells events. What would wait forever without it (a question without a time limit, a pause) it ends.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from threading import Lock
from typing import Any

from hypothesis import strategies as st
from random_workflows import ANSWER, CHILD, SIGNALS, Step, child_document, signal_data

from codomyrmex.clock import VirtualClock
from codomyrmex.exceptions import Conflict
from codomyrmex.logistics.orchestration.project.orchestration_engine import OrchestrationEngine
from codomyrmex.testing import FinishedRun

ASKED = ["pause", "pause", "resume", "cancel", "kill", *SIGNALS]


@dataclass(slots=True, kw_only=True)
class Wishes:
    """What is asked of a run, and when."""

    moments: dict[int, str] = field(default_factory=dict)
    """What is asked after so many events."""
    paused: list[str] = field(default_factory=list)
    """What is asked in a pause, one a pause, before it is taken back."""
    answers: list[str] = field(default_factory=lambda: ["yes"])
    """How questions are answered and signals sent, in turn: `yes`, `no`, `later`, `never` (but by the time limit)."""


def wishes() -> st.SearchStrategy[Wishes]:
    """Moments, answers and what happens in pauses."""
    moments = st.dictionaries(st.integers(1, 30), st.sampled_from(ASKED), max_size=4)
    paused = st.lists(st.sampled_from(["resume", "resume", "cancel", "kill", *SIGNALS]), max_size=2)
    answers = st.lists(st.sampled_from(["yes", "yes", "no", "later", "never"]), min_size=1, max_size=4)
    return st.builds(Wishes, moments=moments, paused=paused, answers=answers)


def drive(
    document: Mapping[str, Any], steps: Mapping[str, Step], wanted: Wishes
) -> tuple[FinishedRun, dict[str, FinishedRun]]:
    """The run to its end, and its child runs by id."""
    with TemporaryDirectory() as folder:
        child = Path(folder) / f"{CHILD}.json"
        child.write_text(json.dumps(child_document()))
        root = Path(__file__).parent
        with OrchestrationEngine(state=":memory:", root=root, clock=VirtualClock(), cpu_count=2) as engine:
            engine.workflows.load_workflow(child)
            driver = _Driver(engine, str(document["name"]), steps, wanted)
            engine.register_event_handler("*", driver.hear)
            run_id = engine.start_workflow(document).execution_id
            for _ in range(400):
                if engine.wait(run_id, 0.05):
                    break
                driver.nudge()
            else:
                raise AssertionError(f"the run does not end: {' '.join(engine.explain(run_id))}")
            if driver.fault is not None:
                raise driver.fault
            ids = [view.execution_id for view in engine.reader.runs(limit=1000)[0]]
            runs = {each: FinishedRun(engine.reader, each) for each in ids}
            return runs.pop(run_id), runs


class _Driver:
    def __init__(
        self, engine: OrchestrationEngine, workflow: str, steps: Mapping[str, Step], wanted: Wishes
    ) -> None:
        self._engine = engine
        self._workflow = workflow
        self._steps = steps
        self._wanted = wanted
        self._lock = Lock()
        self._run_id = ""
        self._heard = self._pauses = self._asked = self._signals = 0
        self._later: list[str] = []
        self.fault: Exception | None = None

    def hear(self, event: str, data: dict[str, Any]) -> None:
        """Called with every event of every run, in the order of commits."""
        if data["workflow"] != self._workflow:
            return
        with self._lock:
            self._run_id = data["run_id"]
            self._heard += 1
            if self._heard in self._wanted.moments:
                self._ask(self._wanted.moments[self._heard])
            if event == "waiting":
                self._opened(data["task"])
            elif event == "run_paused":
                self._paused()

    def nudge(self) -> None:
        """Nothing has happened for a while: what was put off is done now."""
        with self._lock:
            if self._run_id:
                later, self._later = self._later, []
                for task in later:
                    self._answer(task, approved=True)
                self._ask("resume")

    def _opened(self, task: str) -> None:
        step = self._steps[task.partition("[")[0]]
        if step["kind"] not in ("approval", "wait_for"):
            return
        how = self._wanted.answers[self._asked % len(self._wanted.answers)]
        self._asked += 1
        if how == "later" or (how == "never" and not step["timed"]):
            self._later.append(task)
        elif how != "never":
            self._answer(task, approved=how == "yes")

    def _paused(self) -> None:
        if self._pauses < len(self._wanted.paused):
            for task in self._later:
                self._answer(task, approved=True)
            self._later = []
            self._ask(self._wanted.paused[self._pauses])
        self._pauses += 1
        self._ask("resume")

    def _answer(self, task: str, *, approved: bool) -> None:
        step = self._steps[task.partition("[")[0]]
        if step["kind"] == "wait_for":
            self._ask(step["signal"])
            return
        try:
            self._engine.answer(
                self._run_id, task, approved=approved, data=ANSWER if approved else None, by="driver"
            )
        except Conflict:
            pass  # it has been cancelled or its time has passed
        except Exception as fault:
            self.fault = fault

    def _ask(self, what: str) -> None:
        engine, run_id = self._engine, self._run_id
        try:
            if what in SIGNALS:
                if what in {step["signal"] for step in self._steps.values()}:  # others are refused
                    engine.signal(run_id, what, signal_data(self._signals + 1))
                    self._signals += 1
            elif what == "pause":
                engine.pause(run_id)
            elif what == "resume":
                engine.resume(run_id)
            else:
                engine.cancel(run_id, kill=what == "kill")
        except Conflict:
            pass  # the run has ended meanwhile, or is not paused
        except Exception as fault:
            self.fault = fault
