"""What clients ask of the engine that owns a run: rows that are written by one process and read by another.

Layer: above storage; holds no state. A client writes an intent and nudges the owner; the owner reads what
is open whenever the database says that somebody wrote, deals with it in a drain, and closes the rows in
that drain's transaction. An intent for a run that nobody owns is dealt with by the client itself.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import msgspec

from codomyrmex.logistics.storage.database import Database, Row, Transaction

INSERT = "INSERT INTO intent (run, kind, by, at, payload) VALUES (?, ?, ?, ?, ?)"
_COLUMNS = "SELECT intent.sequence, intent.run, intent.kind, intent.payload, intent.by FROM intent"
OPEN = f"""
{_COLUMNS} JOIN run ON run.number = intent.run
WHERE intent.handled_at IS NULL AND run.epoch = ?
AND run.status IN ('pending', 'running', 'paused') ORDER BY intent.sequence
"""
OPEN_OF_RUN = f"{_COLUMNS} WHERE handled_at IS NULL AND run = ? ORDER BY sequence"
CLOSE = "UPDATE intent SET handled_at = ? WHERE sequence = ? AND handled_at IS NULL"


@dataclass(frozen=True, slots=True, kw_only=True)
class Intent:
    """One wish: `kind` is cancel, kill, pause, resume, signal or answer; `payload` what goes with the last two."""

    sequence: int
    run: int
    kind: str
    payload: dict[str, Any]
    by: str


def ask(
    tx: Transaction, *, run: int, kind: str, by: str, now_us: int, payload: dict[str, Any] | None = None
) -> None:
    """Writes an intent; `by` is the login name of whoever asks."""
    text = None if payload is None else msgspec.json.encode(payload).decode()
    tx.execute(INSERT, (run, kind, by, now_us, text))


def open_intents(database: Database, *, epoch: int) -> list[Intent]:
    """What is asked of the runs of one engine and not dealt with, oldest first."""
    return [_intent(row) for row in database.query(OPEN, (epoch,))]


def open_of_run(database: Database, run: int) -> list[Intent]:
    """What is asked of one run and not dealt with, oldest first."""
    return [_intent(row) for row in database.query(OPEN_OF_RUN, (run,))]


def close(tx: Transaction, sequences: Iterable[int], *, now_us: int) -> None:
    """Marks intents as dealt with."""
    tx.execute_many(CLOSE, [(now_us, sequence) for sequence in sequences])


def _intent(row: Row) -> Intent:
    sequence, run, kind, payload, by = row
    found = msgspec.json.decode(payload) if payload else {}
    return Intent(sequence=sequence, run=run, kind=kind, payload=found, by=by)
