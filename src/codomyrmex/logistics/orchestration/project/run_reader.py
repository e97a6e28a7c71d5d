"""Runs and tasks as readers see them, from committed rows alone.

Layer: above the run store. It opens nothing and writes nothing, so any process may use it while an engine
works. A task without a row has not begun: it is shown as BLOCKED, or PENDING where nothing it depends on
is open. Definitions are compiled once per reader.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from codomyrmex.clock import to_datetime
from codomyrmex.exceptions import RunNotFound, TaskNotFound
from codomyrmex.logistics.orchestration.project import (
    approvals,
    definition_store,
    engine_store,
    intent_store,
    run_store,
)
from codomyrmex.logistics.orchestration.project.approvals import Approval
from codomyrmex.logistics.orchestration.project.compiled_workflow import CompiledWorkflow
from codomyrmex.logistics.orchestration.project.intent_store import Intent
from codomyrmex.logistics.orchestration.project.item_outputs import ItemOutputs
from codomyrmex.logistics.orchestration.project.result_files import ResultFiles
from codomyrmex.logistics.orchestration.project.run_views import RunView, TaskCounts, TaskView
from codomyrmex.logistics.orchestration.project.states import RunPhase, StepKind, WorkflowStatus
from codomyrmex.logistics.orchestration.project.task_views import TaskTable
from codomyrmex.logistics.orchestration.project.values import decode
from codomyrmex.logistics.orchestration.project.workflow_compiler import compile_workflow
from codomyrmex.logistics.storage.database import Database, Row

if TYPE_CHECKING:
    from codomyrmex.logistics.orchestration.project.explanations import Explanation, RunExplanation
    from codomyrmex.logistics.orchestration.project.run_estimate import RunEstimate
    from codomyrmex.logistics.orchestration.project.run_explainer import RunExplainer

RUN_COLUMNS = """
SELECT run.number, run.id, run.workflow, run.definition, run.status, run.epoch, run.parameters, run.outputs, run.error,
    run.created_at, run.started_at, run.ended_at, run.phase, run.intent, parent.id, run.labels, run.concurrency,
    run.stopping
FROM run LEFT JOIN run AS parent ON parent.number = run.parent
"""
_NAMES = (
    "number", "id", "workflow", "definition", "status", "epoch", "parameters", "outputs", "error", "created", "started",
    "ended", "phase", "intent", "parent", "labels", "concurrency", "stopping",
)  # fmt: skip
HANDLER_ROWS = "SELECT count(*) FROM task WHERE run = ? AND position >= ? AND position < ?"
COUNT_STATES = "SELECT state, count(*) FROM task WHERE run = ? GROUP BY state"
FAN_OUT_SIZES = "SELECT coalesce(sum(size), 0) FROM fan_out WHERE run = ?"
OPEN_FAN_OUTS = """
SELECT count(*) FROM fan_out JOIN task ON task.run = fan_out.run AND task.position = fan_out.step
WHERE fan_out.run = ? AND task.state = 'running'
"""
DROPPED_ITEMS = """
SELECT coalesce(sum(fan_out.size - (
    SELECT count(*) FROM task AS item WHERE item.run = fan_out.run
    AND item.position >= fan_out.first AND item.position < fan_out.first + fan_out.size
)), 0) FROM fan_out JOIN task ON task.run = fan_out.run AND task.position = fan_out.step
WHERE fan_out.run = ? AND task.state IN ('failed', 'cancelled')
"""
EVENTS = "SELECT sequence, at, body FROM event WHERE run = ? AND sequence > ? ORDER BY sequence"


_RUN_ENDINGS = {"RunTimedOut": "", "Skipped": "not started: "}
DEFINITIONS_KEPT = 16
"""So many compiled definitions a reader keeps."""
_PHASE_WORDS = {
    "compensating": "undoing what had completed",
    "on_failure": "running its on_failure steps",
    "finally": "running its finally steps",
}


class RunReader:
    """See the module; `own_epoch` marks the runs of the engine that reads."""

    def __init__(self, database: Database, state_dir: Path | None, *, own_epoch: int | None = None) -> None:
        self._database = database
        self._state_dir = state_dir
        self._own_epoch = own_epoch
        self._results = ResultFiles(state_dir / "artifacts" / "results" if state_dir is not None else None)
        self._compiled: dict[str, CompiledWorkflow] = {}

    # -- runs ------------------------------------------------------------------------------------

    def find(self, text: str) -> str:
        """The id behind an id, a unique prefix, a workflow's name (its latest run) or `@last`."""
        if text == "@last":
            rows = self._database.query(
                "SELECT id FROM run WHERE parent IS NULL ORDER BY number DESC LIMIT 1"
            )
            if not rows:
                raise RunNotFound("@last", hint="nothing has been run here yet: codomyrmex run FILE")
            return str(rows[0][0])
        rows = self._database.query(
            "SELECT id FROM run WHERE id >= ? AND id < ? LIMIT 2", (text, text + "\U0010ffff")
        )
        if len(rows) == 1 or (rows and rows[0][0] == text):
            return str(rows[0][0])
        if len(rows) > 1:
            raise RunNotFound(text, hint=f"several ids begin so, {rows[0][0]} and {rows[1][0]} among them")
        rows = self._database.query(
            "SELECT id FROM run WHERE workflow = ? ORDER BY number DESC LIMIT 1", (text,)
        )
        if not rows:
            raise RunNotFound(
                text, nearest=self._nearest(text), hint="codomyrmex runs list shows what there is"
            )
        return str(rows[0][0])

    def runs(
        self,
        limit: int = 20,
        cursor: str | None = None,
        status: str | None = None,
        workflow: str | None = None,
        labels: Mapping[str, str] | None = None,
        *,
        roots: bool = False,
    ) -> tuple[list[RunView], str | None, int]:
        """Newest first (with `roots` without child runs); the cursor of the next page, or None; how many in all."""
        where: list[str] = ["run.parent IS NULL" if roots else "1"]
        values: list[Any] = []
        for name, value in (labels or {}).items():
            where.append("EXISTS (SELECT 1 FROM json_each(run.labels) WHERE key = ? AND value = ?)")
            values += [name, value]
        for column, wanted in (("status", status), ("workflow", workflow)):
            if wanted is not None:
                where.append(f"run.{column} = ?")
                values.append(wanted)
        condition = " AND ".join(where)
        total = self._database.query(f"SELECT count(*) FROM run WHERE {condition}", values)[0][0]
        if cursor is not None:
            condition += " AND run.number < ?"
            values.append(cursor)
        sql = f"{RUN_COLUMNS} WHERE {condition} ORDER BY run.number DESC LIMIT ?"
        rows = self._database.query(sql, [*values, limit + 1])
        page = [self._view(row) for row in rows[:limit]]
        return page, str(rows[limit - 1][0]) if len(rows) > limit else None, total

    def run(self, run_id: str) -> RunView:
        """One run by its whole id; raises `RunNotFound`."""
        return self._view(self._row(run_id))

    def with_estimates(self, run: RunView, tasks: Sequence[TaskView] = ()) -> tuple[RunView, list[TaskView]]:
        """A run that has not ended, and tasks of it, with how far they are and how long they are expected to go on.

        Both stay as they are where nothing was learned of them yet. A pass over the rows of the run.
        """
        if run.final:
            return run, list(tasks)
        from codomyrmex.logistics.orchestration.project.stored_estimates import StoredEstimate

        at_work = run.owner != "nobody" and run.status != WorkflowStatus.PAUSED.value
        workflow = self._workflow(self._row(run.execution_id)[3])
        stored = StoredEstimate(
            self._database,
            run.execution_id,
            workflow,
            now_us=_now_us(),
            at_work=at_work,
            of_child=self._estimate_of,
        )
        found = stored.estimate()
        if found is not None:
            left_s, late_s = (found.left_s, found.left_p90_s) if at_work else (None, None)
            run = replace(run, percent=found.percent, left_s=left_s, left_p90_s=late_s)
        return run, [stored.with_left(task) for task in tasks] if at_work else list(tasks)

    def _estimate_of(self, run_id: str) -> RunEstimate | None:
        """The same of a run that another one started, or None before it is there."""
        try:
            run, _tasks = self.with_estimates(self.run(run_id))
        except RunNotFound:
            return None
        if run.percent is None or run.left_s is None:
            return None
        from codomyrmex.logistics.orchestration.project.run_estimate import RunEstimate

        return RunEstimate(run.percent, run.left_s, run.left_p90_s or run.left_s)

    def outputs(self, run_id: str) -> Mapping[str, Any]:
        """The declared outputs of a run with every value read, also those kept as files."""
        rows = self._database.query("SELECT outputs FROM run WHERE id = ?", (run_id,))
        if not rows or not rows[0][0]:
            return {}
        found: dict[str, Any] = decode(rows[0][0].encode(), open_file=self._results.values.read)
        return found

    def is_paused(self, run_id: str) -> bool:
        """True where a pause was asked of a run and not taken back."""
        rows = self._database.query("SELECT intent FROM run WHERE id = ?", (run_id,))
        return bool(rows) and rows[0][0] == "pause"

    def results(self, run_id: str) -> Mapping[str, Any]:
        """The outputs of completed steps by name, read when asked for; a fan-out's is a list in order."""
        row = self._row(run_id)
        return RunResults(self._database, self._results, row[0], self._workflow(row[3]))

    # -- tasks -----------------------------------------------------------------------------------

    def tasks(
        self, run_id: str, *, status: str | None = None, limit: int | None = None, sources: bool = False
    ) -> list[TaskView]:
        """Tasks in the order of the definition, each fan-out before its items.

        With `sources` the journal is read too, for which results were cached or reused.
        """
        table = self._table(run_id)
        if sources:
            table.read_sources()
        found = (task for task in table.views() if status is None or task.status == status)
        return (
            [task for _number, task in zip(range(limit), found, strict=False)]
            if limit is not None
            else list(found)
        )

    def task(self, run_id: str, name: str) -> TaskView:
        """One task by `name` or `name[i]`; raises `TaskNotFound`."""
        table = self._table(run_id)
        position = self._position(table, name)
        if not table.is_there(table.step_of(position)[0]):
            raise TaskNotFound(name, hint="it was not wanted so far, so there is nothing of it")
        return table.view_of(position)

    def events(self, run_id: str, after: int = 0) -> Iterator[dict[str, Any]]:
        """The journal of a run in the order of commits: `sequence`, `at`, `event`, `task`, `details`."""
        row = self._row(run_id)
        table = self._table(run_id)
        for sequence, at, body in self._database.query(EVENTS, (row[0], after)):
            for event in msgspec.json.decode(body):
                task = table.name_of(event[1]) if event[1] is not None else None
                yield {
                    "sequence": sequence,
                    "at": to_datetime(at).isoformat(),
                    "event": event[0],
                    "task": task,
                    "details": event[2:],
                }

    def explain(self, run_id: str, task: str | None = None) -> list[str]:
        """Sentences: what each waiting task waits for, or why it ended as it did; what a failed run failed for."""
        return self.explanation(run_id, task).sentences(to_datetime(_now_us()))

    def reasons(self, run_id: str, task: str | None = None) -> list[Explanation]:
        """The same as data: tasks with their reasons, those that are alike as one. Raises `TaskNotFound`."""
        return list(self.explanation(run_id, task).reasons)

    def explanation(self, run_id: str, task: str | None = None) -> RunExplanation:
        """All that is known of why a run, or one task of it, stands as it does. Raises `TaskNotFound`."""
        from codomyrmex.logistics.orchestration.project.explanations import RunExplanation, standing_text

        explainer, table = self._explainer(run_id, {})
        view = explainer.view
        about = [f"Run {run_id} of {view.workflow!r} {standing_text(view.status)}{explainer.headline}."]
        if view.phase != "main" and not view.final:
            about.append(f"Its steps have ended; it is {_PHASE_WORDS[view.phase]}.")
        if task is None:
            found, more = explainer.open_and_odd()
        else:
            found, more = explainer.task(self._position(table, task)), 0
        return RunExplanation(
            run=run_id,
            workflow=view.workflow,
            status=view.status,
            about=tuple(about),
            task=task,
            holds=tuple(explainer.holds),
            reasons=tuple(found),
            more=more,
            failure=explainer.failure(),
        )

    def _explainer(self, run_id: str, made: dict[str, Any]) -> tuple[RunExplainer, TaskTable]:
        """What explains a run; `made` holds what those of one answer share."""
        from codomyrmex.logistics.orchestration.project.resource_facts import ResourceFacts
        from codomyrmex.logistics.orchestration.project.run_explainer import RunExplainer

        if not made:
            made["facts"] = ResourceFacts(
                self._database, self._state_dir, workflow_of=self._workflow, now_us=_now_us()
            )
        table = self._table(run_id, errors=False)

        def child(id: str) -> RunExplainer | None:
            if not self._database.query("SELECT 1 FROM run WHERE id = ?", (id,)):
                return None
            return self._explainer(id, made)[0]

        return RunExplainer(self._database, table, self.run(run_id), made["facts"], child=child), table

    def _position(self, table: TaskTable, name: str) -> int:
        position = table.position_of(name)
        if position is None:
            near = difflib.get_close_matches(name, table.workflow.names[:5000], n=1)
            raise TaskNotFound(name, nearest=near[0] if near else None)
        return position

    def has_task(self, run_id: str, name: str) -> bool:
        """Whether a run has a task of this name, one that was not wanted so far included."""
        return self._table(run_id, errors=False).position_of(name) is not None

    def place_of(self, run_id: str, task: str) -> tuple[int, int]:
        """The numbers of a run and of one of its tasks; raises `TaskNotFound`."""
        row = self._row(run_id)
        position = self._table(run_id).position_of(task)
        if position is None:
            raise TaskNotFound(task)
        return row[0], position

    def inbox(self, limit: int | None = None) -> list[tuple[str, Approval]]:
        """What waits for an answer, oldest first, each with the name of its task; with `limit` all, newest first."""
        found = self._unanswered() if limit is None else approvals.list_all(self._database, limit)
        tables = {run_id: self._table(run_id) for run_id in {question.run_id for question in found}}
        return [(tables[question.run_id].name_of(question.position), question) for question in found]

    def open_wishes(self, run_id: str) -> list[Intent]:
        """What is asked of a run and not dealt with, oldest first."""
        return intent_store.open_of_run(self._database, self._row(run_id)[0])

    def signal_names(self, run_id: str) -> frozenset[str] | None:
        """The signals that steps of a run wait for; None where a name is only worked out when its step begins."""
        workflow = self._workflow(self._row(run_id)[3])
        found = set()
        for spec in workflow.waiting.values():
            if spec.kind is StepKind.SIGNAL and spec.text is not None:
                if not spec.text.constant:
                    return None
                found.add(str(spec.text.fixed))
        return frozenset(found)

    # -- inside ----------------------------------------------------------------------------------

    def _unanswered(self) -> list[Approval]:
        """The open approvals without those that have an answer which their run has not taken up yet."""
        found = approvals.list_open(self._database)
        answered = {
            (number, wish.payload.get("task"))
            for number in {question.run for question in found}
            for wish in intent_store.open_of_run(self._database, number)
            if wish.kind == "answer"
        }
        if not answered:
            return found
        tables = {question.run: self._table(question.run_id) for question in found}
        return [each for each in found if (each.run, tables[each.run].name_of(each.position)) not in answered]

    def _row(self, run_id: str) -> Row:
        rows = self._database.query(f"{RUN_COLUMNS} WHERE run.id = ?", (run_id,))
        if not rows:
            raise RunNotFound(run_id, nearest=self._nearest(run_id))
        return rows[0]

    def _nearest(self, text: str) -> str | None:
        names = [row[0] for row in self._database.query("SELECT DISTINCT workflow FROM run")]
        near = difflib.get_close_matches(text, names, n=1)
        return near[0] if near else None

    def know(self, workflow: CompiledWorkflow) -> None:
        """Takes a compiled definition from who has it, so that it need not be compiled again to be read."""
        self._compiled.pop(workflow.hash, None)
        self._compiled[workflow.hash] = workflow
        if len(self._compiled) > DEFINITIONS_KEPT:
            del self._compiled[next(iter(self._compiled))]

    def _workflow(self, hash: str) -> CompiledWorkflow:
        found = self._compiled.get(hash)
        if found is None:
            found = compile_workflow(definition_store.read(self._database, hash))
            self.know(found)
        return found

    def _table(self, run_id: str, *, errors: bool = True) -> TaskTable:
        row = self._row(run_id)
        workflow = self._workflow(row[3])
        return TaskTable(
            self._database, row[0], run_id, workflow, row[12], row[17], self._state_dir, errors=errors
        )

    def _view(self, row: Row) -> RunView:
        found = dict(zip(_NAMES, row, strict=True))
        failure = msgspec.json.decode(found["error"]) if found["error"] else {}
        created, started, ended = found["created"], found["started"], found["ended"]
        began = started if started is not None else created
        return RunView(
            execution_id=found["id"],
            workflow=found["workflow"],
            status=found["status"],
            parameters=decode(found["parameters"].encode()),
            created_at=to_datetime(created),
            started_at=to_datetime(started) if started is not None else None,
            ended_at=to_datetime(ended) if ended is not None else None,
            duration_s=(ended - began) / 1_000_000 if ended is not None else None,
            tasks=self._counts(found),
            outputs=decode(found["outputs"].encode()) if found["outputs"] else None,
            failed_step=failure.get("step"),
            error=failure_text(failure),
            owner=self._owner(found["epoch"], found["status"]),
            phase=found["phase"],
            intent=found["intent"],
            parent=found["parent"],
            labels=msgspec.json.decode(found["labels"]),
            concurrency=found["concurrency"],
        )

    def _counts(self, run: Mapping[str, Any]) -> TaskCounts:
        number = run["number"]
        counts: dict[str, int] = {row[0]: row[1] for row in self._database.query(COUNT_STATES, (number,))}
        total = self._steps_there(number, run["definition"], RunPhase(run["phase"]))
        total += self._database.query(FAN_OUT_SIZES, (number,))[0][0]
        # A fan-out step waits for its items, which are counted themselves.
        open_fan_outs = self._database.query(OPEN_FAN_OUTS, (number,))[0][0] if counts.get("running") else 0
        waiting = total - sum(counts.values()) + open_fan_outs
        counts["running"] = counts.get("running", 0) - open_fan_outs
        # Items without a row of a fan-out that has ended, or of a run that stops, were cancelled.
        dropped = waiting
        if waiting and run["stopping"] is None:
            dropped = self._database.query(DROPPED_ITEMS, (number,))[0][0]
        counts["cancelled"] = counts.get("cancelled", 0) + dropped
        counts["blocked"] = counts.get("blocked", 0) + waiting - dropped
        return TaskCounts(total=total, **counts)

    def _steps_there(self, number: int, definition: str, phase: RunPhase) -> int:
        """The steps of a run, without handlers and compensations that were not wanted so far."""
        workflow = self._workflow(definition)
        total = workflow.main_count
        if total == len(workflow):
            return total
        begins = ends = len(workflow)
        if phase.rank > 1:
            begins, ends = workflow.phase_ends[phase.rank - 1], workflow.phase_ends[phase.rank]
        for first, end in ((total, begins), (ends, len(workflow))):
            total += int(self._database.query(HANDLER_ROWS, (number, first, end))[0][0])
        return total + ends - begins

    def _owner(self, epoch: int, status: str) -> str | None:
        if status in ("completed", "failed", "cancelled"):
            return None
        if epoch == self._own_epoch:
            return "this engine"
        for engine in engine_store.living(self._database):
            if engine.epoch == epoch and not engine_store.dead(engine, self._state_dir, now_us=_now_us()):
                return f"engine {epoch} pid {engine.pid}"
        return "nobody"


class RunResults(Mapping[str, Any]):
    """Outputs of completed steps, read from the store when asked for."""

    def __init__(
        self, database: Database, results: ResultFiles, run: int, workflow: CompiledWorkflow
    ) -> None:
        self._database = database
        self._results = results
        self._run = run
        self._workflow = workflow

    def __getitem__(self, name: str) -> Any:
        step = self._workflow.index[name]
        if step in self._workflow.fan_outs:
            return self._items(step)
        data = self._results.get(run_store.read_result(self._database, self._run, step))
        if data is None:
            raise KeyError(name)
        return decode(data, open_file=self._results.values.read)

    def __iter__(self) -> Iterator[str]:
        rows = self._database.query(
            "SELECT position FROM task WHERE run = ? AND state = 'completed' AND position < ? ORDER BY position",
            (self._run, len(self._workflow)),
        )
        return (self._workflow.names[row[0]] for row in rows)

    def __len__(self) -> int:
        return sum(1 for _ in self)

    def __repr__(self) -> str:
        return repr(dict(self))

    def _items(self, step: int) -> ItemOutputs:
        rows = self._database.query(
            "SELECT first, size FROM fan_out WHERE run = ? AND step = ?", (self._run, step)
        )
        if not rows:
            raise KeyError(self._workflow.names[step])
        first, size = rows[0]
        return ItemOutputs(self._database, self._run, first, size, value=self._value)

    def _value(self, data: bytes) -> Any:
        whole = self._results.get(data)
        return None if whole is None else decode(whole, open_file=self._results.values.read)


def failure_text(failure: Mapping[str, Any]) -> str | None:
    """One line: which step failed, with what."""
    if not failure:
        return None
    message = str(failure.get("message") or "").strip().splitlines()
    if message and "step" not in failure and failure.get("type") in _RUN_ENDINGS:
        return f"{_RUN_ENDINGS[failure['type']]}{message[0]}"
    kind = str(failure.get("type", "error")).rpartition(".")[2]
    text = f"{kind}: {message[0]}" if message and message[0] else kind
    return f"step {failure['step']!r}: {text}" if "step" in failure else text


def _now_us() -> int:
    from codomyrmex.clock import SystemClock

    return SystemClock().now_us()
