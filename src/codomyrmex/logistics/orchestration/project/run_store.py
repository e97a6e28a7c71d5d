"""The rows of runs, and what a plan writes: the SQL beside its noun.

Layer: above storage, task rows and the pure modules; holds no state of its own. Every function takes the
transaction (or the database, for reading) as its first argument and never opens one. Each statement repeats the
guard of the state table and the number of rows it changed is checked: a token that is no longer valid
changes nothing, and the whole transaction is refused (`StaleEngine`, `StaleTask`).

Every plan ends with a line of the journal, and the journal refuses lines of an engine that another one has
declared dead: that is the fence, and no table gets past it.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any
from zlib import crc32

import msgspec

from codomyrmex.exceptions import Conflict, StoreCorrupt
from codomyrmex.logistics.orchestration.project import cache_store
from codomyrmex.logistics.orchestration.project.run_plan import RunPlan
from codomyrmex.logistics.orchestration.project.run_state import RunState
from codomyrmex.logistics.storage.database import Database, Row, Transaction
from codomyrmex.logistics.task import task_rows


class StaleEngine(Conflict):
    """Another engine has declared this one dead; what it still wants to write is refused."""

    code = "stale_engine"

    def __init__(self) -> None:
        super().__init__(
            "another engine has taken over from this one", hint="open a new engine; nothing recorded is lost"
        )


class StaleTask(Conflict):
    """A row is not in the state that this engine believes it to be in."""

    code = "stale_task"


INSERT_APPROVAL = """
INSERT OR REPLACE INTO approval (run, position, message, form, who, opened_at, due_at, status)
VALUES (?, ?, ?, ?, ?, ?, ?, 'open')
"""
CLOSE_APPROVAL = """
UPDATE approval SET status = ?, answer = ?, answered_by = ?, comment = ?, answered_at = ?
WHERE run = ? AND position = ? AND status = 'open'
"""
PUT_SIGNAL = "INSERT OR REPLACE INTO signal (run, name, data, by, at) VALUES (?, ?, ?, ?, ?)"
IS_LIVE = "SELECT 1 FROM engine WHERE epoch = ? AND ended_at IS NULL"

INSERT_RUN = """
INSERT INTO run (id, workflow, definition, status, epoch, parameters, options, created_at,
    parent, parent_position, parent_attempt, root, concurrency, policy, labels)
VALUES (?, ?, ?, 'pending', ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
"""
FIND_RUN_NUMBER = "SELECT number FROM run WHERE id = ?"

INSERT_FAN_OUT = "INSERT INTO fan_out (run, step, first, size, items, check_sum) VALUES (?, ?, ?, ?, ?, ?)"
INSERT_ATTEMPT = """
INSERT INTO attempt (run, position, number, epoch, outcome, ended_at, error) VALUES (?, ?, ?, ?, ?, ?, ?)
ON CONFLICT DO NOTHING
"""
# The fence: the journal takes no line of an engine that has ended, so neither does any other table.
INSERT_EVENTS = """
INSERT INTO event (run, sequence, at, epoch, body)
SELECT ?, ?, ?, ?, ? WHERE EXISTS (SELECT 1 FROM engine WHERE epoch = ? AND ended_at IS NULL)
"""
FIND_SESSION = "SELECT 1 FROM run WHERE json_extract(options, '$.session') = ? LIMIT 1"
FIND_EVENTS = "SELECT 1 FROM event WHERE run = ? AND sequence = ? AND epoch = ?"
LAST_EVENTS = "SELECT coalesce(max(sequence), 0) FROM event WHERE run = ?"
MOVE_RUN = """
UPDATE run SET status = ?, intent = ?, phase = ?, outcome = ?, stopping = ?, outputs = ?, error = ?,
    deadline_at = ?, paused_at = ?, compensation = ?, started_at = coalesce(started_at, ?), ended_at = ?
WHERE number = ? AND epoch = ? AND status IN ('pending', 'running', 'paused')
"""


def check_live(tx: Transaction, *, epoch: int) -> None:
    """Raises `StaleEngine` when the row of this engine says that it has ended."""
    if not tx.execute(IS_LIVE, (epoch,)):
        raise StaleEngine


def is_written(database: Database, plan: RunPlan) -> bool:
    """True when the transaction of a plan has taken effect: asked when its commit ended in doubt."""
    row = (plan.run.number, plan.run.journal_length + 1, plan.epoch)
    return bool(database.query(FIND_EVENTS, row))


def has_session(database: Database, session: str) -> bool:
    """Whether a run belongs to that session; goes through all runs where none does."""
    return bool(database.query(FIND_SESSION, (session,)))


def insert_run(tx: Transaction, run: RunState, *, epoch: int, now_us: int) -> int:
    """Stores a new run and returns its number."""
    parameters = msgspec.json.encode(run.parameters).decode()
    children = {name: child.to_tree() for name, child in run.children.items()}
    options = msgspec.json.encode({**run.options.to_dict(), "children": children}).decode()
    labels = msgspec.json.encode(run.options.labels).decode()
    workflow, parent = run.workflow, run.parent
    place = (None,) * 4 if parent is None else (parent.run, parent.position, parent.attempt, parent.root)
    key = run.options.concurrency
    row = (run.id, workflow.name, workflow.hash, epoch, parameters, options, now_us)
    tx.execute(INSERT_RUN, (*row, *place, key, workflow.policy.value if key else None, labels))
    return int(tx.execute(FIND_RUN_NUMBER, (run.id,))[0][0])


def write_plan(tx: Transaction, plan: RunPlan) -> None:
    """Writes everything that a plan says of its run; raises `StaleTask` when a guard does not hold."""
    _write_tasks(tx, plan)
    if plan.failed_attempts:
        tx.execute_many(INSERT_ATTEMPT, plan.failed_attempts)
    if plan.cached:
        cache_store.insert_many(tx, plan.cached)
    if plan.approvals_opened or plan.approvals_closed or plan.signals:
        _write_inbox(tx, plan)
    body = msgspec.json.encode(plan.events).decode()
    row = (plan.run.number, plan.run.journal_length + 1, plan.now_us, plan.epoch, body, plan.epoch)
    if tx.execute_many(INSERT_EVENTS, [row]) != 1:
        raise StaleEngine
    run = plan.run
    before = (run.status, run.intent, run.phase, run.stopping, run.deadline_us)
    if before != (plan.status, plan.intent, plan.phase, plan.stopping, plan.deadline_us):
        _move_run(tx, plan)


def _write_tasks(tx: Transaction, plan: RunPlan) -> None:
    started = plan.started
    if plan.expanded:
        rows = [(*row, crc32(row[-1])) for row in plan.expanded]
        tx.execute_many(INSERT_FAN_OUT, rows)
        # A fan-out step may begin and end in one plan: its start is written before its end.
        expanded = {row[1] for row in plan.expanded}
        groups = [row for row in started if row[1] in expanded]
        started = [row for row in started if row[1] not in expanded]
        _exactly(task_rows.claim_again(tx, groups), groups, plan.run)
    if plan.finished:
        _exactly(task_rows.finish(tx, plan.finished), plan.finished, plan.run)
    if plan.returned:
        _exactly(task_rows.give_back(tx, plan.returned), plan.returned, plan.run)
    if plan.withdrawn:
        _exactly(task_rows.withdraw(tx, plan.withdrawn), plan.withdrawn, plan.run)
    if plan.waited:
        _exactly(task_rows.wait(tx, plan.waited), plan.waited, plan.run)
    if plan.answered:
        _exactly(task_rows.answer(tx, plan.answered), plan.answered, plan.run)
    if plan.settled:
        _exactly(task_rows.settle(tx, plan.settled), plan.settled, plan.run)
    if started:
        _exactly(task_rows.claim(tx, started), started, plan.run)
    if plan.restarted:
        _exactly(task_rows.claim_again(tx, plan.restarted), plan.restarted, plan.run)


def _write_inbox(tx: Transaction, plan: RunPlan) -> None:
    """What people are asked and have said."""
    tx.execute_many(INSERT_APPROVAL, plan.approvals_opened)
    _exactly(tx.execute_many(CLOSE_APPROVAL, plan.approvals_closed), plan.approvals_closed, plan.run)
    number, now_us = plan.run.number, plan.now_us
    rows = [(number, name, data, by, now_us) for name, (data, by) in plan.signals.items()]
    tx.execute_many(PUT_SIGNAL, rows)


def _move_run(tx: Transaction, plan: RunPlan) -> None:
    outputs, error = plan.result if plan.result is not None else (None, None)
    ended = plan.now_us if plan.ended else None
    undoing = msgspec.json.encode(list(plan.undoing)).decode() if plan.undoing else None
    row = (
        plan.status.value,
        plan.intent.value,
        plan.phase.value,
        plan.outcome.value if plan.outcome is not None else None,
        plan.stopping,
        outputs,
        error,
        plan.deadline_us,
        plan.paused_us,
        undoing,
        plan.now_us,
        ended,
        plan.run.number,
        plan.epoch,
    )
    _exactly(tx.execute_many(MOVE_RUN, [row]), [row], plan.run)


def _exactly(changed: int, rows: Sequence[Row], run: RunState) -> None:
    if changed != len(rows):
        raise StaleTask(
            f"run {run.id}: {len(rows) - changed} of {len(rows)} rows are not in the state this engine knows",
            hint="the run is read again from the store",
        )


# -- reading ---------------------------------------------------------------------------------------

READ_TASKS = """
SELECT position, state, reason, attempt, crashes, losses, ready_at, ended_at, error FROM task WHERE run = ?
ORDER BY coalesce(ended_at, 0), position
"""
READ_FAN_OUTS = "SELECT step, first, items, check_sum FROM fan_out WHERE run = ? ORDER BY first"
READ_SIGNALS = "SELECT name, data FROM signal WHERE run = ?"
READ_CHILDREN = """
SELECT number, id, parent_position, parent_attempt, status, outputs, error FROM run WHERE parent = ? ORDER BY number
"""
READ_RESULT = "SELECT result, check_sum FROM task WHERE run = ? AND position = ? AND state = 'completed'"
READ_RESULTS = """
SELECT position, result, check_sum FROM task
WHERE run = ? AND position BETWEEN ? AND ? AND state = 'completed' ORDER BY position
"""


def read_result(database: Database, run: int, position: int) -> bytes | None:
    """The recorded result of a task as tagged JSON; raises `StoreCorrupt` when its check sum is wrong."""
    rows = database.query(READ_RESULT, (run, position))
    return _checked(rows[0][0], rows[0][1], run, position) if rows else None


def read_results(database: Database, run: int, first: int, last: int) -> Iterable[tuple[int, bytes]]:
    """The recorded results of the positions `first` to `last`, in order; tasks without one are left out."""
    for position, result, check_sum in database.query(READ_RESULTS, (run, first, last)):
        data = _checked(result, check_sum, run, position)
        if data is not None:
            yield position, data


def _checked(result: Any, check_sum: int | None, run: int, position: int) -> bytes | None:
    if result is None:
        return None
    data = bytes(result)
    if crc32(data) != check_sum:
        raise StoreCorrupt(
            f"the result of task {position} of run {run} does not match its check sum",
            hint="restore the state from a copy, or run the workflow again",
        )
    return data
