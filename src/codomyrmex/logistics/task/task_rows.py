"""The durable rows of tasks: claimed, finished, returned, settled. The SQL beside its noun.

Layer: above storage; knows nothing of workflows. Every function takes the transaction first and never opens one. Each
statement repeats the guard of the state table (`states.MOVES`), so a row that is not in the state, attempt
and epoch that the writer believes it to be in is not changed; the functions return how many rows were.

    (no row) ──claim──> running ──finish──> completed | failed | cancelled
        │                  │ give_back
        │ settle           ▼
        └───────────> pending | blocked ──claim_again──> running
                           │ settle
                           └──> skipped | cancelled | failed

    (no row) ──wait──> blocked ──answer──> completed | failed       a task that needs no slot

The token of an attempt is (epoch, attempt): only the engine that claimed a row can finish it, and only once.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from codomyrmex.logistics.storage.database import Transaction

Rows = Sequence[tuple[Any, ...]]

CLAIM = (
    "INSERT INTO task (run, position, state, attempt, epoch, started_at) VALUES (?, ?, 'running', ?, ?, ?)"
)
CLAIM_AGAIN = """
INSERT INTO task (run, position, state, attempt, epoch, started_at) VALUES (?, ?, 'running', ?, ?, ?)
ON CONFLICT (run, position) DO UPDATE
SET state = 'running', reason = NULL, ready_at = NULL, attempt = excluded.attempt, epoch = excluded.epoch,
    started_at = excluded.started_at
WHERE task.state = 'pending'
"""
FINISH = """
UPDATE task SET state = ?, ended_at = ?, result = ?, check_sum = ?, error = ?
WHERE run = ? AND position = ? AND state = 'running' AND attempt = ? AND epoch = ?
"""
GIVE_BACK = """
UPDATE task SET state = ?, reason = ?, ready_at = ?, attempt = ?, crashes = ?, losses = ?, epoch = ?
WHERE run = ? AND position = ? AND state = 'running' AND attempt = ?
"""
WAIT = """
INSERT INTO task (run, position, state, reason, attempt, epoch, started_at, ready_at)
VALUES (?, ?, 'blocked', ?, ?, ?, ?, ?)
ON CONFLICT (run, position) DO UPDATE
SET reason = excluded.reason, attempt = excluded.attempt, epoch = excluded.epoch, ready_at = excluded.ready_at
WHERE task.state = 'blocked'
"""
ANSWER = """
UPDATE task SET state = ?, reason = NULL, ready_at = NULL, ended_at = ?, result = ?, check_sum = ?, error = ?
WHERE run = ? AND position = ? AND state = 'blocked' AND attempt = ?
"""
WITHDRAW = "DELETE FROM task WHERE run = ? AND position = ? AND state = 'running' AND attempt = ?"
SETTLE = """
INSERT INTO task (run, position, state, reason, attempt, epoch, ended_at, error) VALUES (?, ?, ?, ?, ?, ?, ?, ?)
ON CONFLICT (run, position) DO UPDATE
SET state = excluded.state, reason = excluded.reason, ready_at = NULL, ended_at = excluded.ended_at,
    error = excluded.error
WHERE task.state IN ('pending', 'blocked')
"""


def claim(tx: Transaction, rows: Rows) -> int:
    """First attempts of tasks that have no row: (run, position, attempt, epoch, started_us)."""
    return tx.execute_many(CLAIM, rows)


def claim_again(tx: Transaction, rows: Rows) -> int:
    """Attempts of tasks that may have a row, which then says pending; the columns of `claim`."""
    return tx.execute_many(CLAIM_AGAIN, rows)


def finish(tx: Transaction, rows: Rows) -> int:
    """Ends of attempts: (state, ended_us, result, check_sum, error, run, position, attempt, epoch)."""
    return tx.execute_many(FINISH, rows)


def give_back(tx: Transaction, rows: Rows) -> int:
    """Attempts after which the task waits again.

    (state, reason, ready_us, attempt, crashes, losses, epoch, run, position, attempt that ran).
    """
    return tx.execute_many(GIVE_BACK, rows)


def wait(tx: Transaction, rows: Rows) -> int:
    """Tasks without a slot that begin to wait: (run, position, reason, attempt, epoch, started_us, ready_us)."""
    return tx.execute_many(WAIT, rows)


def answer(tx: Transaction, rows: Rows) -> int:
    """Ends of tasks that waited without a slot.

    (state, ended_us, result, check_sum, error, run, position, attempt).
    """
    return tx.execute_many(ANSWER, rows)


def withdraw(tx: Transaction, rows: Rows) -> int:
    """First attempts taken back before they began, whose tasks have no row again: (run, position, attempt)."""
    return tx.execute_many(WITHDRAW, rows)


def settle(tx: Transaction, rows: Rows) -> int:
    """Moves of tasks that do not run: (run, position, state, reason, attempt, epoch, ended_us, error)."""
    return tx.execute_many(SETTLE, rows)
