"""What clients ask of the engine that owns a run: rows that are written by one process and read by another.

Layer: above storage; holds no state. A client writes an intent and nudges the owner; the owner reads what
is open whenever the database says that somebody wrote, deals with it in a drain, and closes the rows in
that drain's transaction. An intent for a run that nobody owns is dealt with by the client itself.
"""

from __future__ import annotations

from collections.abc import Iterable

from codomyrmex.logistics.storage.database import Database, Transaction

INSERT = "INSERT INTO intent (run, kind, by, at) VALUES (?, ?, ?, ?)"
OPEN = """
SELECT intent.sequence, intent.run, intent.kind FROM intent JOIN run ON run.number = intent.run
WHERE intent.handled_at IS NULL AND run.epoch = ?
AND run.status IN ('pending', 'running', 'paused') ORDER BY intent.sequence
"""
OPEN_OF_RUN = "SELECT sequence, kind FROM intent WHERE handled_at IS NULL AND run = ? ORDER BY sequence"
CLOSE = "UPDATE intent SET handled_at = ? WHERE sequence = ? AND handled_at IS NULL"


def ask(tx: Transaction, *, run: int, kind: str, by: str, now_us: int) -> None:
    """Writes an intent; `by` is the login name of whoever asks."""
    tx.execute(INSERT, (run, kind, by, now_us))


def open_intents(database: Database, *, epoch: int) -> list[tuple[int, int, str]]:
    """What is asked of the runs of one engine and not dealt with: (sequence, run number, kind), oldest first."""
    return [(row[0], row[1], row[2]) for row in database.query(OPEN, (epoch,))]


def open_of_run(database: Database, run: int) -> list[tuple[int, str]]:
    """What is asked of one run and not dealt with: (sequence, kind), oldest first."""
    return [(row[0], row[1]) for row in database.query(OPEN_OF_RUN, (run,))]


def close(tx: Transaction, sequences: Iterable[int], *, now_us: int) -> None:
    """Marks intents as dealt with."""
    tx.execute_many(CLOSE, [(now_us, sequence) for sequence in sequences])
