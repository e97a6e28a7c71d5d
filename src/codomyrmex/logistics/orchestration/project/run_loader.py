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
from codomyrmex.logistics.orchestration.project.compiled_workflow import CompileFaults, compile_workflow
from codomyrmex.logistics.orchestration.project.result_files import ResultFiles
from codomyrmex.logistics.orchestration.project.run_state import (
    COMPLETED,
    FAILED,
    RUNNING,
    SKIPPED,
    RunOptions,
    RunState,
)
from codomyrmex.logistics.orchestration.project.states import (
    CODES,
    FIRST_TERMINAL_CODE,
    RunIntent,
    TaskStatus,
    WorkflowStatus,
)
from codomyrmex.logistics.storage.database import Database

READ_RUN = "SELECT number, definition, status, intent, parameters, options FROM run WHERE id = ?"
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
    number, definition, status, intent, parameters, options = rows[0]
    try:
        workflow = compile_workflow(definition_store.read(database, definition), functions=functions)
    except CompileFaults as fault:
        raise NotResumable(f"the definition of run {run_id} no longer compiles: {fault}") from fault
    run = RunState(
        number=number,
        id=run_id,
        workflow=workflow,
        parameters=msgspec.json.decode(parameters),
        options=RunOptions(environment=environment, **_options(options)),
    )
    run.status = WorkflowStatus(status)
    run.intent = RunIntent(intent)
    run.stopping = "cancelled" if run.intent is not RunIntent.NONE else None
    run.rows_ahead = True
    attach_results(run, database, results)
    _read_fan_outs(run, database)
    lost = _read_tasks(run, database)
    _count_parents(run)
    run.journal_length = database.query(run_store.LAST_EVENTS, (number,))[0][0]
    return run, lost


def attach_results(run: RunState, database: Database, results: ResultFiles) -> None:
    """Lets a run read recorded outputs that are not in memory."""
    run.whole_output = results.get
    run.load_output = lambda position: results.get(run_store.read_result(database, run.number, position))


def _options(text: str) -> dict[str, Any]:
    found: dict[str, Any] = msgspec.json.decode(text)
    found["roots"] = tuple(found["roots"])
    return found


def _read_fan_outs(run: RunState, database: Database) -> None:
    for step, first, items, check_sum in database.query(run_store.READ_FAN_OUTS, (run.number,)):
        data = bytes(items)
        if crc32(data) != check_sum:
            raise StoreCorrupt(f"the items of step {run.workflow.names[step]!r} do not match their check sum")
        run.add_group(step, first, msgspec.json.decode(data))


def _read_tasks(run: RunState, database: Database) -> list[tuple[int, int]]:
    lost = []
    for position, state, attempt, crashes, losses, ready_at, error in database.query(
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
        if code >= FIRST_TERMINAL_CODE:
            _note_end(run, position, code)
    return lost


def _note_end(run: RunState, position: int, code: int) -> None:
    if position >= len(run.workflow):
        group = run.groups[run.step_of(position)]
        group.open -= 1
        group.bad += code != COMPLETED
        if code == FAILED:
            run.errors.setdefault(group.step, run.errors[position])
    if code == FAILED and run.first_failure is None and run.spec_of(position).required:
        run.first_failure = position
        if run.workflow.fail_fast and run.stopping is None:
            run.stopping = "fail_fast"


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
