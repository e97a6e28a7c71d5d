"""A run read back from the store, as it was at the last commit.

Layer: above the run store. What has no row has not begun: its state follows from the definition and from
the rows of what it depends on. Attempts that the rows show as running died with their engine; they are
returned beside the run, and the first drain gives them back to the queue.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any
from zlib import crc32

import msgspec

from codomyrmex.exceptions import NotResumable, RunNotFound, StoreCorrupt
from codomyrmex.logistics.orchestration.project import definition_store, run_store
from codomyrmex.logistics.orchestration.project.child_definition import ChildDefinition
from codomyrmex.logistics.orchestration.project.compiled_workflow import CompiledWorkflow, CompileFaults
from codomyrmex.logistics.orchestration.project.news import ChildEnded
from codomyrmex.logistics.orchestration.project.result_files import ResultFiles
from codomyrmex.logistics.orchestration.project.run_plan import BY_WISH
from codomyrmex.logistics.orchestration.project.run_state import (
    BLOCKED,
    CANCELLED,
    COMPLETED,
    FAILED,
    RUNNING,
    SKIPPED,
    Parent,
    RunOptions,
    RunState,
)
from codomyrmex.logistics.orchestration.project.states import (
    CODES,
    FIRST_TERMINAL_CODE,
    BlockReason,
    ItemFailure,
    RunIntent,
    RunPhase,
    TaskStatus,
    WorkflowStatus,
)
from codomyrmex.logistics.orchestration.project.workflow_compiler import compile_workflow
from codomyrmex.logistics.storage.database import Database

READ_RUN = """
SELECT number, definition, status, intent, parameters, options, phase, outcome, stopping, outputs, error, deadline_at,
    paused_at, compensation, parent, parent_position, parent_attempt, root, concurrency, labels
FROM run WHERE id = ?
"""
READ_ABOVE = "SELECT parent, concurrency FROM run WHERE number = ?"
READ_RAISES = """
SELECT position, count(*) FROM attempt WHERE run = ? AND outcome = 'out_of_memory' GROUP BY position
"""
READ_LIMITS = "SELECT definition, options FROM run WHERE number = ?"
_COLUMNS = (
    "number", "definition", "status", "intent", "parameters", "options", "phase", "outcome", "stopping", "outputs",
    "error", "deadline_at", "paused_at", "compensation", "parent", "parent_position", "parent_attempt", "root",
    "concurrency", "labels",
)  # fmt: skip
_CODES = {status.value: CODES[status] for status in TaskStatus}


def load_run(
    database: Database,
    run_id: str,
    *,
    results: ResultFiles,
    environment: Mapping[str, str],
    functions: Mapping[str, Callable[..., Any]] | None = None,
) -> tuple[RunState, list[tuple[int, int]]]:
    """The run and its lost attempts as (position, attempt number); raises `RunNotFound`, `NotResumable`."""
    rows = database.query(READ_RUN, (run_id,))
    if not rows:
        raise RunNotFound(run_id)
    row = dict(zip(_COLUMNS, rows[0], strict=True))
    workflow = _compiled(database, row["definition"], functions, f"run {run_id}")
    options = msgspec.json.decode(row["options"])
    children = options.pop("children", {})
    run = RunState(
        number=row["number"],
        id=run_id,
        workflow=workflow,
        parameters=msgspec.json.decode(row["parameters"]),
        options=_options(options, row, environment),
        children=_children(database, children),
        parent=_parent(database, row),
    )
    _read_heads(run, row)
    attach_results(run, database, results)
    _read_fan_outs(run, database, results)
    run.add_steps({run.step_of(position) for position in run.compensation})
    lost = _read_tasks(run, database)
    for position, count in database.query(READ_RAISES, (run.number,)):
        if run.spec_of(position).retry.memory > 1:
            run.memory_raises[position] = count
    run.signals = {name: bytes(data) for name, data in database.query(run_store.READ_SIGNALS, (run.number,))}
    _drop_items(run)
    _count_parents(run)
    _count_open(run)
    run.journal_length = database.query(run_store.LAST_EVENTS, (run.number,))[0][0]
    return run, lost


def _compiled(
    database: Database, hash: str, functions: Mapping[str, Callable[..., Any]] | None, what: str
) -> CompiledWorkflow:
    try:
        return compile_workflow(definition_store.read(database, hash), functions=functions)
    except CompileFaults as fault:
        raise NotResumable(f"the definition of {what} no longer compiles: {fault}") from fault


def _children(database: Database, tree: Mapping[str, Any]) -> dict[str, ChildDefinition]:
    """The definitions that a run has pinned for its children."""
    return {
        name: ChildDefinition(
            workflow=_compiled(database, child["definition"], None, f"workflow {name!r}"),
            document={
                "parameters": definition_store.read(database, child["definition"]).get("parameters", {})
            },
            file=child["file"],
            roots=tuple(child["roots"]),
            children=_children(database, child["children"]),
        )
        for name, child in tree.items()
    }


def _parent(database: Database, row: Mapping[str, Any]) -> Parent | None:
    if row["parent"] is None:
        return None
    definition, text = database.query(READ_LIMITS, (row["root"],))[0]
    cap = msgspec.json.decode(text).get("max_parallel") or definition_store.read(database, definition).get(
        "max_parallel"
    )
    keyed, above = False, row["parent"]
    while above is not None and not keyed:
        above, key = database.query(READ_ABOVE, (above,))[0]
        keyed = key is not None
    return Parent(
        keyed=keyed,
        run=row["parent"],
        position=row["parent_position"],
        attempt=row["parent_attempt"],
        root=row["root"],
        root_cap=cap,
    )


def _read_heads(run: RunState, row: Mapping[str, Any]) -> None:
    """What the row of the run says of it as a whole."""
    run.status = WorkflowStatus(row["status"])
    run.intent = RunIntent(row["intent"])
    run.phase = RunPhase(row["phase"])
    run.stopping = row["stopping"]
    if run.intent.ends and run.phase is RunPhase.MAIN and run.stopping is None:
        run.stopping = BY_WISH
    run.deadline_us, run.paused_us = row["deadline_at"], row["paused_at"]
    if row["outcome"] is not None:
        run.outcome = WorkflowStatus(row["outcome"])
        run.result = (row["outputs"], row["error"])
    workflow = run.workflow
    if row["compensation"] is not None:
        run.compensation = msgspec.json.decode(row["compensation"])
    for phase in list(RunPhase)[2 : run.phase.rank + 1]:
        if phase is RunPhase.FINALLY or run.outcome is WorkflowStatus.FAILED:
            run.add_steps(workflow.phase_steps(phase))


def ended_children(database: Database, run: RunState) -> list[ChildEnded]:
    """The news of children that have ended while nobody could tell their parent."""
    found = []
    for _number, id, position, attempt, status, outputs, error in database.query(
        run_store.READ_CHILDREN, (run.number,)
    ):
        open_child = run.blocked.get(position) is BlockReason.CHILD and run.attempts[position] == attempt
        if open_child and WorkflowStatus(status).terminal:
            end = ChildEnded(
                run_number=run.number,
                position=position,
                attempt=attempt,
                id=id,
                status=WorkflowStatus(status),
                outputs=outputs,
                error=error,
            )
            found.append(end)
    return found


def attach_results(run: RunState, database: Database, results: ResultFiles) -> None:
    """Lets a run read recorded outputs that are not in memory."""
    run.whole_output = results.get
    run.load_output = lambda position: results.get(run_store.read_result(database, run.number, position))


def _options(found: dict[str, Any], row: Mapping[str, Any], environment: Mapping[str, str]) -> RunOptions:
    found["roots"] = tuple(found["roots"])
    if found.get("clean_env") is not None:
        found["clean_env"] = tuple(found["clean_env"])
    if found.get("follow") is not None:
        found["follow"] = tuple(found["follow"])
    labels = msgspec.json.decode(row["labels"])
    return RunOptions(environment=environment, concurrency=row["concurrency"], labels=labels, **found)


def _read_fan_outs(run: RunState, database: Database, results: ResultFiles) -> None:
    for step, first, items, check_sum in database.query(run_store.READ_FAN_OUTS, (run.number,)):
        data = bytes(items)
        if crc32(data) != check_sum:
            raise StoreCorrupt(f"the items of step {run.workflow.names[step]!r} do not match their check sum")
        run.add_group(step, first, msgspec.json.decode(results.get(data) or b"[]"))


def _read_tasks(run: RunState, database: Database) -> list[tuple[int, int]]:
    lost = []
    for position, state, reason, attempt, crashes, losses, ready_at, ended_at, error in database.query(
        run_store.READ_TASKS, (run.number,)
    ):
        code = _CODES[state]
        run.move(position, code)
        run.attempts[position] = attempt
        if crashes:
            run.crashes[position] = crashes
        if losses:
            run.losses[position] = losses
        if ready_at is not None:
            run.timers[position] = ready_at
        if error is not None:
            run.errors[position] = msgspec.json.decode(error)
        if code == RUNNING and position not in run.groups:
            lost.append((position, attempt))
        if code == BLOCKED:
            _note_wait(run, position, reason)
        if code >= FIRST_TERMINAL_CODE:
            _note_end(run, position, code, reason, ended_at)
    return lost


def _note_wait(run: RunState, position: int, reason: str | None) -> None:
    """A task that is open without a slot."""
    step = run.step_of(position)
    if step not in run.workflow.waiting or reason is None:
        return
    kind, _colon, name = reason.partition(":")
    run.blocked[position] = BlockReason(kind)
    if name:
        run.signal_names[position] = name
    if position != step:
        run.groups[step].opened += 1


def _note_end(run: RunState, position: int, code: int, reason: str | None, ended_us: int | None) -> None:
    if code == CANCELLED and run.stopping == BY_WISH and reason in (None, BY_WISH):
        run.wish_cancelled = True
    step = run.step_of(position)
    spec = run.workflow.spec(step)
    item = position >= len(run.workflow)
    if item:
        group = run.groups[step]
        group.open -= 1
        group.failed += code == FAILED
        group.cancelled += code == CANCELLED
        # One that failed before it was opened, on an expression, has no attempt and has had its turn.
        group.opened += step in run.workflow.waiting and (run.attempts[position] > 0 or code == FAILED)
        if code == FAILED and spec.on_item_failure is not ItemFailure.CONTINUE:
            run.errors.setdefault(group.step, run.errors[position])
            if spec.on_item_failure is ItemFailure.STOP:
                run.stopped_groups.add(step)
    if code == COMPLETED and step in run.workflow.compensations and (item or step not in run.groups):
        run.undoable.append((ended_us or 0, position))
    if code != FAILED or not spec.required or (item and spec.on_item_failure is ItemFailure.CONTINUE):
        return
    if run.workflow.phase_of(step) == 0:
        if run.first_failure is None:
            run.first_failure = position
    elif run.handler_failure is None:
        run.handler_failure = position


def _drop_items(run: RunState) -> None:
    """Items without a row of fan-outs that have ended, or of which nothing new starts: they were cancelled."""
    for step, group in run.groups.items():
        stopping = run.stopping is not None and run.workflow.phase_of(step) == run.phase.rank
        if not (stopping or step in run.stopped_groups or run.state[step] >= FIRST_TERMINAL_CODE):
            continue
        for position in range(group.first, group.first + group.size):
            if run.state[position] < FIRST_TERMINAL_CODE and not run.attempts[position]:
                run.move(position, CANCELLED)
                group.open -= 1
                group.cancelled += 1
                run.wish_cancelled |= run.stopping == BY_WISH


def _count_open(run: RunState) -> None:
    """How many tasks of the present phase are not terminal."""
    workflow = run.workflow
    if run.phase is RunPhase.COMPENSATING:
        steps = list(dict.fromkeys(run.step_of(position) for position in run.compensation))
    else:
        steps = list(workflow.phase_steps(run.phase))
    run.open = sum(run.state[step] < FIRST_TERMINAL_CODE for step in steps)
    run.open += sum(run.groups[step].open for step in steps if step in run.groups)


def _count_parents(run: RunState) -> None:
    graph = run.workflow.graph
    for step in range(len(run.workflow)):
        code = run.state[step]
        if code < FIRST_TERMINAL_CODE:
            continue
        for child in graph.children(step):
            run.waiting[child] -= 1
            if code == COMPLETED:
                continue
            optional = code == FAILED and not run.workflow.spec(step).required
            counts = run.skipped_parents if code == SKIPPED or optional else run.failed_parents
            counts[child] = counts.get(child, 0) + 1
