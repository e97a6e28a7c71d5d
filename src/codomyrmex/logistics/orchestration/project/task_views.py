"""The tasks of one run as views, and sentences about them.

Layer: above the run store; beside `run_reader`, which makes it. One pass over the rows; what has no row is
worked out from the definition.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec

from codomyrmex.clock import to_datetime
from codomyrmex.logistics.orchestration.project.child_definition import child_id
from codomyrmex.logistics.orchestration.project.compiled_workflow import CompiledWorkflow
from codomyrmex.logistics.orchestration.project.run_views import (
    FINAL_TASK_STATUSES,
    TaskCounts,
    TaskView,
    Wait,
)
from codomyrmex.logistics.orchestration.project.states import (
    BlockReason,
    ItemFailure,
    RunIntent,
    RunPhase,
    StepKind,
)
from codomyrmex.logistics.orchestration.project.step_spec import StepSpec
from codomyrmex.logistics.storage.database import Database, Row

ROWS = """
SELECT position, state, reason, attempt, ready_at, started_at, ended_at, error FROM task WHERE run = ?
"""
FAN_OUTS = "SELECT step, first, size FROM fan_out WHERE run = ? ORDER BY first"
QUESTIONS = "SELECT position, message, who FROM approval WHERE run = ? AND status = 'open'"
SOURCES = """
SELECT body FROM event WHERE run = ? AND (body LIKE '%"cached"%' OR body LIKE '%"reused"%')
"""
EXPLAINED_AT_MOST = 30
WHY_SKIPPED = {
    "condition": "its run_if said no",
    "upstream": "a step it depends on did not succeed",
    "trigger_rule": "its trigger_rule was not met",
    "cancelled": "the run was cancelled",
    "fail_fast": "another step failed and fail_fast is set",
    "timeout": "the run took longer than its timeout",
    "item_failed": "another item failed and on_item_failure is stop",
    "nothing_to_undo": "its item had not completed, so there is nothing to undo",
    "concurrency": "another run has the same concurrency key",
    "expression": "its condition or its items could not be worked out",
}


SOURCE_WORDS = {
    "cached": "its result was in the cache, so nothing ran",
    "reused": "its result was taken from an earlier run",
}
_WAITS = frozenset(reason.value for reason in BlockReason if reason is not BlockReason.DEPENDENCIES)


_NO_ROW: Row = (0, "pending")


class TaskTable:
    """See the module; holds the rows of one moment."""

    def __init__(
        self,
        database: Database,
        run: int,
        run_id: str,
        workflow: CompiledWorkflow,
        phase: str,
        intent: str,
        stopping: str | None,
        state_dir: Path | None,
    ) -> None:
        self.workflow = workflow
        self._stopping = stopping
        self._run_id = run_id
        self._phase = RunPhase(phase)
        self._paused = intent == RunIntent.PAUSE.value
        self._database = database
        self._run = run
        self._state_dir = state_dir
        # Fan-outs first: an engine may commit between the two, and whatever has items has a row for its step.
        self._groups = {row[0]: (row[1], row[2]) for row in database.query(FAN_OUTS, (run,))}
        self._rows: dict[int, Row] = {row[0]: row for row in database.query(ROWS, (run,))}
        self._sources: dict[int, str] = {}
        self._drops: dict[int, str | None] = {}
        self._asked: dict[int, tuple[str, tuple[str, ...]]] | None = None

    def read_sources(self) -> None:
        """Reads from the journal which results were cached or reused."""
        for (body,) in self._database.query(SOURCES, (self._run,)):
            for event in msgspec.json.decode(body):
                if event[0] == "reused" or (event[0] == "completed" and event[3:] == ["cached"]):
                    self._sources[event[1]] = "reused" if event[0] == "reused" else "cached"

    def name_of(self, position: int) -> str:
        """`name`, or `name[i]` for an item."""
        if position < len(self.workflow):
            return self.workflow.names[position]
        for step, (first, size) in self._groups.items():
            if first <= position < first + size:
                return f"{self.workflow.names[step]}[{position - first}]"
        return f"#{position}"

    def position_of(self, name: str) -> int | None:
        """The position of `name` or `name[i]`, or None where there is none."""
        step = self.workflow.index.get(name)
        if step is not None:
            return step
        head, bracket, tail = name.partition("[")
        group = self._groups.get(self.workflow.index.get(head, -1))
        if not bracket or group is None or not tail[:-1].isdecimal() or int(tail[:-1]) >= group[1]:
            return None
        return int(group[0]) + int(tail[:-1])

    def views(self) -> Iterator[TaskView]:
        """Every task, steps in the order of the definition, each fan-out before its items."""
        for step in range(len(self.workflow)):
            if not self._is_there(step):
                continue
            group = self._groups.get(step)
            yield self._view(step, step, None, group)
            if group is not None:
                first, size = group
                for index in range(size):
                    yield self._view(first + index, step, index, None)

    def explain(self, task: str | None) -> list[str]:
        """What waiting tasks wait for and why tasks did not complete; with a name, that task whatever its state."""
        said = []
        if task is not None:
            self.read_sources()
        for view in self.views():
            if task is not None and task not in (view.name, view.step):
                continue
            if task is None and view.index is not None and view.error is None:
                continue  # its fan-out step speaks for it
            if task is not None or view.status not in FINAL_TASK_STATUSES or view.error or view.reason:
                said.append(self._sentence(view))
        if task is None and len(said) > EXPLAINED_AT_MOST:
            said[EXPLAINED_AT_MOST:] = [
                f"... and {len(said) - EXPLAINED_AT_MOST} more tasks; name one to hear of it."
            ]
        return said

    def _is_there(self, step: int) -> bool:
        """False for a handler, or what undoes a step, that has not been wanted so far."""
        if step < self.workflow.main_count or step in self._rows:
            return True
        return self.workflow.phase_of(step) == self._phase.rank and self._phase is not RunPhase.COMPENSATING

    def _status(self, position: int, step: int) -> tuple[str, str | None]:
        row = self._rows.get(position)
        if row is not None:
            return row[1], row[2].partition(":")[0] if row[1] == "blocked" and row[2] else row[2]
        if position != step:
            if (reason := self._dropped(step)) is not None:
                return "cancelled", reason
            if step in self.workflow.waiting or step in self.workflow.undoes:
                return "blocked", "its turn"
        if position >= len(self.workflow) or not self._open_parents(step):
            return "pending", None
        return "blocked", "dependencies"

    def _dropped(self, step: int) -> str | None:
        """Why items of a fan-out that have no row will not begin any more, or None where they will."""
        found = self._drops.get(step, "?")
        if found != "?":
            return found
        spec = self.workflow.spec(step)
        ended = self._rows[step][1] in FINAL_TASK_STATUSES
        first, size = self._groups[step]
        if self._stopping is not None and self.workflow.phase_of(step) == self._phase.rank:
            found = self._stopping
        elif spec.on_item_failure is ItemFailure.STOP and (
            ended or any(self._rows.get(at, _NO_ROW)[1] == "failed" for at in range(first, first + size))
        ):
            found = "item_failed"
        else:
            found = "cancelled" if ended else None
        self._drops[step] = found
        return found

    def _open_parents(self, step: int) -> list[str]:
        return [
            self.workflow.names[parent]
            for parent in self.workflow.graph.parents(step)
            if self._rows.get(parent, (0, "blocked"))[1] not in FINAL_TASK_STATUSES
        ]

    def _view(self, position: int, step: int, index: int | None, group: tuple[int, int] | None) -> TaskView:
        status, reason = self._status(position, step)
        name = self.workflow.names[step]
        spec = self.workflow.spec(step)
        row = self._rows.get(position)
        attempt = row[3] if row is not None else 0
        started, ended = (row[5], row[6]) if row is not None else (None, None)
        task = name if index is None else f"{name}[{index}]"
        return TaskView(
            name=task,
            step=name,
            index=index,
            status=status,
            reason=reason,
            attempt=attempt,
            module=spec.module,
            action=spec.action,
            started_at=to_datetime(started) if started is not None else None,
            ended_at=to_datetime(ended) if ended is not None else None,
            duration_s=(ended - started) / 1_000_000 if started is not None and ended is not None else None,
            error=msgspec.json.decode(row[7]) if row is not None and row[7] else None,
            log_path=self._log_path(task, attempt) if group is None else None,
            child=self._child(spec, task, attempt) if group is None else None,
            counts=self._counts(step, group) if group is not None else None,
            phase=list(RunPhase)[self.workflow.phase_of(step)].value,
            waiting=self._wait(position, step, reason) if status == "blocked" else None,
            source=self._sources.get(position),
        )

    def _child(self, spec: StepSpec, task: str, attempt: int) -> str | None:
        return child_id(self._run_id, task, attempt) if spec.kind is StepKind.WORKFLOW and attempt else None

    def _log_path(self, task: str, attempt: int) -> str | None:
        if self._state_dir is None or not attempt:
            return None
        path = self._state_dir / "runs" / self._run_id / f"{task}.{attempt}.log"
        return str(path) if path.exists() else None

    def _counts(self, step: int, group: tuple[int, int]) -> TaskCounts:
        first, size = group
        counts: dict[str, int] = {}
        for position in range(first, first + size):
            state = self._status(position, step)[0]
            counts[state] = counts.get(state, 0) + 1
        return TaskCounts(total=size, **counts)

    def _sentence(self, view: TaskView) -> str:
        head = f"{view.name} is {view.status}"
        if view.status == "running":
            if view.counts is not None:
                return f"{head}: {view.counts.ended} of {view.counts.total} items have ended."
            return f"{head}: attempt {view.attempt}, since {_clock(view.started_at)}."
        if view.status == "blocked":
            return f"{head}: {self._waits_for(view)}."
        if view.status == "pending":
            if self._paused:
                return f"{head}: ready, and the run is paused; codomyrmex resume goes on."
            return f"{head}: ready, waits for CPU (a step claims 1, unless its `resources: {{cpu: ...}}` says less)."
        if view.error is not None:
            return f"{head} after attempt {view.attempt}: {_error_line(view.error)}."
        if view.source is not None:
            return f"{head}: {SOURCE_WORDS[view.source]}."
        if view.reason is not None:
            return f"{head}: {WHY_SKIPPED.get(view.reason, view.reason)}."
        return f"{head} in attempt {view.attempt}."

    def _waits_for(self, view: TaskView) -> str:
        if view.reason in _WAITS:
            return self._waits_without_slot(view)
        if view.reason == "its turn":
            return "waits until items before it have ended"
        waiting = self._open_parents(self.workflow.index[view.step])
        if not waiting:
            return "the run is paused; codomyrmex resume goes on" if self._paused else "waits for its turn"
        shown = ", ".join(waiting[:5]) + (f" and {len(waiting) - 5} more" if len(waiting) > 5 else "")
        return f"waits for {shown}"

    def _waits_without_slot(self, view: TaskView) -> str:
        wait = view.waiting
        assert wait is not None, view.name
        said = wait.text(datetime.now(UTC))
        if wait.reason == BlockReason.CHILD.value:
            return f"waits for {said} (codomyrmex explain {wait.what})"
        if wait.reason == BlockReason.SIGNAL.value:
            return f"waits for {said} (codomyrmex runs signal {self._run_id} {wait.what})"
        if wait.reason == BlockReason.APPROVAL.value:
            return f"waits for {said} (codomyrmex approvals answer {self._run_id} {view.name})"
        if self.workflow.spec(self.workflow.index[view.step]).kind is StepKind.SLEEP:
            return f"sleeps until {said}"
        return f"attempt {view.attempt} failed, the next follows at {said}"

    def _wait(self, position: int, step: int, reason: str | None) -> Wait | None:
        if reason not in _WAITS:
            return None
        row = self._rows[position]
        until = None if row[4] is None else to_datetime(row[4])
        if reason == BlockReason.CHILD.value:
            return Wait(reason=reason, what=child_id(self._run_id, self.name_of(position), row[3]))
        if reason == BlockReason.SIGNAL.value:
            return Wait(reason=reason, what=self._signal_name(step), until=until)
        if reason == BlockReason.APPROVAL.value:
            message, who = self._question(position)
            return Wait(reason=reason, what=message, who=who, until=until)
        return Wait(reason=str(reason), until=until)

    def _question(self, position: int) -> tuple[str, tuple[str, ...]]:
        """The message of an open approval, and who may answer."""
        if self._asked is None:
            found = self._database.query(QUESTIONS, (self._run,))
            self._asked = {at: (message, tuple(msgspec.json.decode(who))) for at, message, who in found}
        return self._asked.get(position, ("", ()))

    def _signal_name(self, step: int) -> str:
        text = self.workflow.waiting[step].text
        return str(text.fixed) if text is not None and text.constant else "NAME"


def _clock(instant: Any) -> str:
    return instant.astimezone().strftime("%H:%M:%S") if instant is not None else "?"


def _error_line(error: Any) -> str:
    message = str(error.get("message") or "").strip().splitlines()
    kind = str(error.get("type", "error")).rpartition(".")[2]
    return f"{kind}: {message[0]}" if message and message[0] else kind
