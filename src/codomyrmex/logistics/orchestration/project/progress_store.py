"""The rows that tell how far running attempts say that they are: the SQL beside its noun.

Layer: above storage; holds no state of its own. A row counts only while its very attempt is running: one that a
killed engine left behind says nothing of the next attempt.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from codomyrmex.logistics.orchestration.project.task_progress import Progress
from codomyrmex.logistics.storage.database import Database, Transaction

PUT = """
INSERT OR REPLACE INTO task_progress (run, position, attempt, done, total, message, at) VALUES (?, ?, ?, ?, ?, ?, ?)
"""
REMOVE = "DELETE FROM task_progress WHERE run = ? AND position = ?"
FORGET = "DELETE FROM task_progress WHERE run = (SELECT number FROM run WHERE id = ?)"
OF_RUN = "SELECT position, attempt, done, total, message, at FROM task_progress WHERE run = ?"


class ProgressRow(NamedTuple):
    """What one attempt said last."""

    run: int
    position: int
    attempt: int
    progress: Progress


def put(tx: Transaction, rows: Iterable[ProgressRow]) -> None:
    """Writes what attempts say now over what they said before."""
    tx.execute_many(
        PUT,
        [
            (row.run, row.position, row.attempt, said.done, said.total, said.message, said.at_us)
            for row in rows
            for said in (row.progress,)
        ],
    )


def remove(tx: Transaction, places: Iterable[tuple[int, int]]) -> None:
    """Removes what was said of tasks, each as (run number, position); those that are not there do not matter."""
    tx.execute_many(REMOVE, list(places))


def forget(tx: Transaction, run_id: str) -> None:
    """Removes all that an earlier engine left of a run."""
    tx.execute(FORGET, (run_id,))


def of_run(database: Database, run: int) -> dict[int, tuple[int, Progress]]:
    """{position: (attempt, what it said)} of one run."""
    return {
        position: (attempt, Progress(done=done, total=total, message=message or "", at_us=at))
        for position, attempt, done, total, message, at in database.query(OF_RUN, (run,))
    }
