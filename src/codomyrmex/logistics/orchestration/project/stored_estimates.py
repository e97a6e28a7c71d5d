"""How far a run is, from committed rows: for readers beside an engine.

Layer: beside `run_reader`, which makes it; reads only. What the engine that owns the run may use stands in its row.
A run that nobody works on has a percentage, and no time that is left.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from typing import Any, NamedTuple

import msgspec

from codomyrmex.logistics.orchestration.project import progress_store, resource_store
from codomyrmex.logistics.orchestration.project.child_definition import child_id
from codomyrmex.logistics.orchestration.project.compiled_workflow import CompiledWorkflow
from codomyrmex.logistics.orchestration.project.expectations import Expectation, Expectations
from codomyrmex.logistics.orchestration.project.profile_store import actions_of, expectations_of
from codomyrmex.logistics.orchestration.project.run_estimate import (
    Items,
    Outlook,
    Room,
    RunEstimate,
    Standing,
    UnderWay,
    child_under_way,
    rest_of_attempt,
)
from codomyrmex.logistics.orchestration.project.run_state import BLOCKED
from codomyrmex.logistics.orchestration.project.run_views import TaskView
from codomyrmex.logistics.orchestration.project.states import CODES, RunPhase, TaskStatus
from codomyrmex.logistics.orchestration.project.task_progress import Progress
from codomyrmex.logistics.storage.database import Database, Row

RUN = """
SELECT number, phase, stopping, started_at, created_at, options, epoch, status FROM run WHERE id = ?
"""
STEPS = "SELECT position, state FROM task WHERE run = ? AND position < ?"
OPEN = """
SELECT position, state, reason, attempt, ready_at, started_at FROM task
WHERE run = ? AND state IN ('running', 'blocked')
"""
FAN_OUTS = """
SELECT fan_out.step, fan_out.first, fan_out.size,
    coalesce(sum(task.state IN ('completed', 'failed', 'cancelled', 'skipped')), 0),
    coalesce(sum(task.state IN ('completed', 'failed')), 0)
FROM fan_out LEFT JOIN task
    ON task.run = fan_out.run AND task.position >= fan_out.first AND task.position < fan_out.first + fan_out.size
WHERE fan_out.run = ? GROUP BY fan_out.step
"""
LIMITS = "SELECT limits FROM engine WHERE epoch = ?"
_MOST_CHILDREN = 16
_CODES = {status.value: code for status, code in CODES.items()}


def learned(database: Database, workflow: CompiledWorkflow) -> Expectations:
    """What is known of a workflow and of those that it starts."""
    return expectations_of(database, (workflow.name, *workflow.children), actions_of(workflow))


class StoredEstimate:
    """One run as its rows say now; `of_child` says the same of a run that it started, by its id."""

    def __init__(
        self,
        database: Database,
        run_id: str,
        workflow: CompiledWorkflow,
        *,
        now_us: int,
        at_work: bool,
        of_child: Callable[[str], RunEstimate | None],
    ) -> None:
        self._database = database
        self._run_id = run_id
        self._workflow = workflow
        self._now_us = now_us
        self._at_work = at_work
        self._of_child = of_child
        self._row = _RunRow(*database.query(RUN, (run_id,))[0])
        self._groups = {row[0]: row[1:] for row in database.query(FAN_OUTS, (self._row.number,))}
        self._outlook = Outlook(workflow, learned(database, workflow), self._room())

    def estimate(self) -> RunEstimate | None:
        """How far the run is; None where too little is known."""
        row, size = self._row, len(self._workflow)
        states = bytearray([BLOCKED]) * size
        for position, state in self._database.query(STEPS, (row.number, size)):
            states[position] = _CODES[state]
        standing = Standing(
            states=bytes(states),
            items={
                step: Items(size=count, ended=ended, done=done)
                for step, (_first, count, ended, done) in self._groups.items()
            },
            under_way=list(self._under_way()),
            phase=RunPhase(row.phase),
            stopping=row.stopping is not None,
            elapsed_s=(self._now_us - (row.started_at or row.created_at)) / 1_000_000,
        )
        return self._outlook.estimate(standing)

    def with_left(self, task: TaskView) -> TaskView:
        """A task that is running with how long it goes on, where anything but a guess says so."""
        if task.status != TaskStatus.RUNNING.value or task.started_at is None or task.counts is not None:
            return task
        elapsed_s = self._now_us / 1_000_000 - task.started_at.timestamp()
        at = self._attempt(self._workflow.index[task.step], elapsed_s, task.progress)
        rest = rest_of_attempt(self._outlook.expected(at.step), at)
        return replace(task, left_s=rest.median_s) if rest.known else task

    # -- inside ----------------------------------------------------------------------------------

    def _room(self) -> Room:
        limits = self._database.query(LIMITS, (self._row.epoch,))
        found: dict[str, Any] = msgspec.json.decode(limits[0][0]) if limits and limits[0][0] else {}
        named = {}
        if any(spec.request.named for spec in self._workflow.specs):
            rows = resource_store.read_named(self._database, now_us=self._now_us, epoch=-1)
            named = {row.name: row for row in rows} | {row.id: row for row in rows}
        options: dict[str, Any] = msgspec.json.decode(self._row.options)
        return Room(
            workers=found.get("workers") or 1,
            machine=found.get("capacities") or {},
            named=named,
            max_parallel=options.get("max_parallel") or self._workflow.max_parallel,
        )

    def _under_way(self) -> Iterator[UnderWay]:
        if not self._at_work:
            return
        words = progress_store.of_run(self._database, self._row.number)
        children = 0
        for position, state, reason, attempt, ready_at, started_at in self._database.query(
            OPEN, (self._row.number,)
        ):
            step = self._step_of(position)
            if step is None or (position == step and step in self._groups):
                continue
            if state == TaskStatus.RUNNING.value:
                said = words.get(position)
                progress = said[1] if said is not None and said[0] == attempt else None
                yield self._attempt(step, (self._now_us - (started_at or self._now_us)) / 1_000_000, progress)
            elif reason == "timer" and ready_at is not None:
                yield self._timer(step, max(0.0, (ready_at - self._now_us) / 1_000_000))
            elif reason == "child" and children < _MOST_CHILDREN:
                children += 1
                name = self._workflow.names[step]
                task = name if position == step else f"{name}[{position - self._groups[step][0]}]"
                found = self._of_child(child_id(self._run_id, task, attempt))
                if found is not None:
                    yield child_under_way(step, found)

    def _attempt(self, step: int, elapsed_s: float, progress: Progress | None) -> UnderWay:
        percent = progress.percent if progress is not None else None
        return UnderWay(
            step=step,
            elapsed_s=max(0.0, elapsed_s),
            fraction=percent / 100.0 if percent is not None else None,
            told_s=max(0.0, (self._now_us - progress.at_us) / 1_000_000) if progress is not None else 0.0,
        )

    def _timer(self, step: int, left_s: float) -> UnderWay:
        wait = self._workflow.waiting.get(step)
        if wait is None:
            return UnderWay(step=step, elapsed_s=0.0, starts_in_s=left_s)
        elapsed_s = max(0.0, wait.sleep_s - left_s)
        return UnderWay(step=step, elapsed_s=elapsed_s, rest=Expectation(left_s, left_s))

    def _step_of(self, position: int) -> int | None:
        if position < len(self._workflow):
            return position
        found: Mapping[int, Row] = self._groups
        return next(
            (step for step, (first, size, *_) in found.items() if first <= position < first + size), None
        )


class _RunRow(NamedTuple):
    number: int
    phase: str
    stopping: str | None
    started_at: int | None
    created_at: int
    options: str
    epoch: int
    status: str
