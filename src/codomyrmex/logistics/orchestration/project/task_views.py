"""The tasks of one run as views.

Layer: above the run store; beside `run_reader`, which makes it. One pass over the rows; what has no row is
worked out from the definition.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from codomyrmex.clock import to_datetime
from codomyrmex.logistics.orchestration.project import intent_store
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
    RunPhase,
    StepKind,
)
from codomyrmex.logistics.orchestration.project.step_spec import StepSpec
from codomyrmex.logistics.storage.database import Database, Row

if TYPE_CHECKING:
    from codomyrmex.logistics.orchestration.project.task_progress import Progress

ROWS = """
SELECT position, state, reason, attempt, ready_at, started_at, ended_at, error FROM task WHERE run = ?
"""
LEAN_ROWS = """
SELECT position, state, reason, attempt, ready_at, started_at, ended_at, NULL FROM task WHERE run = ?
"""
ERROR = "SELECT error FROM task WHERE run = ? AND position = ?"
FAN_OUTS = "SELECT step, first, size FROM fan_out WHERE run = ? ORDER BY first"
QUESTIONS = "SELECT position, message, who FROM approval WHERE run = ? AND status = 'open'"
SOURCES = """
SELECT body FROM event WHERE run = ? AND (body LIKE '%"cached"%' OR body LIKE '%"reused"%')
"""
_WAITS = frozenset(reason.value for reason in BlockReason if reason is not BlockReason.DEPENDENCIES)


_NO_ROW: Row = (0, "pending")


class TaskTable:
    """See the module; holds the rows of one moment. Without `errors` those are read when asked for."""

    def __init__(
        self,
        database: Database,
        run: int,
        run_id: str,
        workflow: CompiledWorkflow,
        phase: str,
        stopping: str | None,
        state_dir: Path | None,
        *,
        errors: bool = True,
    ) -> None:
        self.workflow = workflow
        self.stopping = stopping
        """Why nothing new of the present phase starts, or None."""
        self._run_id = run_id
        self._phase = RunPhase(phase)
        self._database = database
        self._run = run
        self._state_dir = state_dir
        # Fan-outs first: an engine may commit between the two, and whatever has items has a row for its step.
        self._groups = {row[0]: (row[1], row[2]) for row in database.query(FAN_OUTS, (run,))}
        self._starts = [(step, first) for step, (first, size) in self._groups.items() if size]
        self._end = max([len(workflow), *(first + size for first, size in self._groups.values())])
        rows = database.query(ROWS if errors else LEAN_ROWS, (run,))
        self._rows: dict[int, Row] = {row[0]: row for row in rows if row[0] < self._end}
        self._sources: dict[int, str] = {}
        self._drops: dict[int, str | None] = {}
        self._lean = not errors
        self._wishes: dict[tuple[str, Any], str] | None = None
        self._asked: dict[int, tuple[str, tuple[str, ...]]] | None = None
        self._words: dict[int, tuple[int, Progress]] | None = None

    def read_sources(self) -> None:
        """Reads from the journal which results were cached or reused."""
        for (body,) in self._database.query(SOURCES, (self._run,)):
            for event in msgspec.json.decode(body):
                if event[0] == "reused" or (event[0] == "completed" and event[3:] == ["cached"]):
                    self._sources[event[1]] = "reused" if event[0] == "reused" else "cached"

    def source_of(self, position: int) -> str | None:
        """Where a result came from that nothing ran for, once `read_sources` was called."""
        return self._sources.get(position)

    def name_of(self, position: int) -> str:
        """`name`, or `name[i]` for an item."""
        if position < len(self.workflow):
            return self.workflow.names[position]
        if position >= self._end:
            return f"#{position}"  # of a fan-out that is newer than what was read
        step, item = self.step_of(position)
        return f"{self.workflow.names[step]}[{item}]"

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
            if not self.is_there(step):
                continue
            group = self._groups.get(step)
            yield self._view(step, step, None, group)
            if group is not None:
                first, size = group
                for index in range(size):
                    yield self._view(first + index, step, index, None)

    def is_there(self, step: int) -> bool:
        """False for a handler, or what undoes a step, that has not been wanted so far."""
        if step < self.workflow.main_count or step in self._rows:
            return True
        return self.workflow.phase_of(step) == self._phase.rank and self._phase is not RunPhase.COMPENSATING

    def row_of(self, position: int) -> Row | None:
        """Position, state, reason, attempt, ready_at, started_at, ended_at, error; None where it has no row."""
        return self._rows.get(position)

    def group_of(self, step: int) -> range | None:
        """The positions of the items of a step that has been expanded."""
        group = self._groups.get(step)
        return None if group is None else range(group[0], group[0] + group[1])

    def group_steps(self) -> list[int]:
        """The steps that have been expanded."""
        return list(self._groups)

    def step_of(self, position: int) -> tuple[int, int | None]:
        """The step that a position belongs to, and which item of it it is."""
        if position < len(self.workflow):
            return position, None
        step, first = self._starts[bisect_right(self._starts, position, key=lambda each: each[1]) - 1]
        return step, position - first

    def rows(self) -> Iterator[Row]:
        """Every row that there is, as `row_of` gives them."""
        return iter(self._rows.values())

    def error_of(self, position: int) -> dict[str, Any]:
        """How a task failed; empty where it did not."""
        row = self._rows.get(position)
        text = row[7] if row is not None else None
        if self._lean and row is not None and row[1] in ("failed", "cancelled"):
            found = self._database.query(ERROR, (self._run, position))
            text = found[0][0] if found else None
        error: dict[str, Any] = msgspec.json.decode(text) if text else {}
        return error

    def status_of(self, position: int, step: int) -> tuple[str, str | None]:
        """Its status and why, whether it has a row or not."""
        row = self._rows.get(position)
        if row is not None:
            return row[1], row[2].partition(":")[0] if row[1] == "blocked" and row[2] else row[2]
        if position != step:
            if (reason := self.dropped(step)) is not None:
                return "cancelled", reason
            if step in self.workflow.waiting or step in self.workflow.undoes:
                return "blocked", "its turn"
        if position >= len(self.workflow) or not self.open_parents(step):
            return "pending", None
        return "blocked", "dependencies"

    def dropped(self, step: int) -> str | None:
        """Why items of a fan-out that have no row will not begin any more, or None where they will."""
        found = self._drops.get(step, "?")
        if found != "?":
            return found
        spec = self.workflow.spec(step)
        ended = self._rows[step][1] in FINAL_TASK_STATUSES
        first, size = self._groups[step]
        if self.stopping is not None and self.workflow.phase_of(step) == self._phase.rank:
            found = self.stopping
        elif spec.on_item_failure is ItemFailure.STOP and (
            ended or any(self._rows.get(at, _NO_ROW)[1] == "failed" for at in range(first, first + size))
        ):
            found = "item_failed"
        else:
            found = "cancelled" if ended else None
        self._drops[step] = found
        return found

    def open_parents(self, step: int) -> list[int]:
        """The steps that a step depends on and that have not ended."""
        return [
            parent
            for parent in self.workflow.graph.parents(step)
            if self._rows.get(parent, _NO_ROW)[1] not in FINAL_TASK_STATUSES
        ]

    def view_of(self, position: int) -> TaskView:
        """One task by its position."""
        step, index = self.step_of(position)
        return self._view(position, step, index, self._groups.get(step) if index is None else None)

    def wait_of(self, position: int) -> Wait | None:
        """What an open task without a slot waits for, or one between two attempts."""
        step, _index = self.step_of(position)
        status, reason = self.status_of(position, step)
        return self._wait(position, step, reason) if status == "blocked" else None

    def counts_of(self, step: int) -> TaskCounts | None:
        """How many items of a step are in each state."""
        group = self._groups.get(step)
        return None if group is None else self._counts(step, group)

    def _view(self, position: int, step: int, index: int | None, group: tuple[int, int] | None) -> TaskView:
        status, reason = self.status_of(position, step)
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
            error=self.error_of(position) or None,
            log_path=self._log_path(task, attempt) if group is None else None,
            child=self._child(spec, task, attempt) if group is None else None,
            counts=self._counts(step, group) if group is not None else None,
            phase=list(RunPhase)[self.workflow.phase_of(step)].value,
            waiting=self._wait(position, step, reason) if status == "blocked" else None,
            source=self._sources.get(position),
            progress=self._progress(position, attempt) if status == "running" and group is None else None,
        )

    def _progress(self, position: int, attempt: int) -> Progress | None:
        """What a running attempt says of how far it is; what an earlier one said does not count."""
        if self._words is None:
            from codomyrmex.logistics.orchestration.project import progress_store

            self._words = progress_store.of_run(self._database, self._run)
        found = self._words.get(position)
        return found[1] if found is not None and found[0] == attempt else None

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
            state = self.status_of(position, step)[0]
            counts[state] = counts.get(state, 0) + 1
        return TaskCounts(total=size, **counts)

    def _wait(self, position: int, step: int, reason: str | None) -> Wait | None:
        if reason not in _WAITS:
            return None
        row = self._rows[position]
        until = None if row[4] is None else to_datetime(row[4])
        if reason == BlockReason.CHILD.value:
            return Wait(reason=reason, what=child_id(self._run_id, self.name_of(position), row[3]))
        if reason == BlockReason.SIGNAL.value:
            name = (row[2] or "").partition(":")[2] or self._signal_name(step)
            return Wait(reason=reason, what=name, until=until, recorded_by=self._recorded("signal", name))
        if reason == BlockReason.APPROVAL.value:
            message, who = self._question(position)
            by = self._recorded("answer", self.name_of(position))
            return Wait(reason=reason, what=message, who=who, until=until, recorded_by=by)
        return Wait(reason=str(reason), until=until)

    def _question(self, position: int) -> tuple[str, tuple[str, ...]]:
        """The message of an open approval, and who may answer."""
        if self._asked is None:
            found = self._database.query(QUESTIONS, (self._run,))
            self._asked = {at: (message, tuple(msgspec.json.decode(who))) for at, message, who in found}
        return self._asked.get(position, ("", ()))

    def _recorded(self, kind: str, about: str) -> str | None:
        """Who has answered a question, or sent a signal, that the run has not read yet."""
        if self._wishes is None:
            key = {"answer": "task", "signal": "name"}
            self._wishes = {
                (wish.kind, wish.payload.get(key[wish.kind])): wish.payload.get("by") or wish.by
                for wish in reversed(intent_store.open_of_run(self._database, self._run))
                if wish.kind in key
            }
        return self._wishes.get((kind, about))

    def _signal_name(self, step: int) -> str:
        text = self.workflow.waiting[step].text
        return str(text.fixed) if text is not None and text.constant else "NAME"
