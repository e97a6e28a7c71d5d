"""The port to the state: what every store of this package can do.

Layer: `logistics.storage`. A database holds the tables of one state; whoever writes does so inside a
*transaction*, of which there is one at a time across all threads and processes, and whoever reads asks a
*query*, which sees what was committed and never waits for a writer of another process.

How far a commit reaches is the *durability* of the database. Killing the process loses no commit at any
level; the levels differ in what a power cut may take back:

    process   the newest commits, back to the last sync; what is left is a consistent earlier state
    barrier   nothing committed before the last barrier: a transaction with `barrier=True`, or `barrier()`
    power     nothing

See https://sqlite.org/wal.html and
https://sqlite.org/pragma.html#pragma_synchronous.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from enum import StrEnum
from typing import Any, Protocol

from codomyrmex.exceptions import StoreError

Row = tuple[Any, ...]
Parameters = Sequence[Any] | Mapping[str, Any]


class Durability(StrEnum):
    """What a power cut may take back; the module's first lines explain each."""

    PROCESS = "process"
    BARRIER = "barrier"
    POWER = "power"


class StoreConstraint(StoreError):
    """A statement broke a rule of the tables: a key that is there already, a null, a failed check."""

    code = "store_constraint"


class Transaction(Protocol):
    """The writing side of a database, between BEGIN and COMMIT."""

    def execute(self, sql: str, params: Parameters = ()) -> list[Row]:
        """Runs one statement and returns all its rows; raises a `StoreError`."""

    def execute_many(self, sql: str, rows: Iterable[Parameters]) -> int:
        """Runs one statement for each row; returns how many table rows changed in all, triggers included."""

    def savepoint(self) -> AbstractContextManager[None]:
        """A part that is undone alone when it raises; the transaction goes on."""


class Database(Protocol):
    """One state. All methods may be called from any thread."""

    def transaction(self, *, barrier: bool = False) -> AbstractContextManager[Transaction]:
        """Commits when the block ends, rolls back when it raises anything.

        With `barrier` the commit, and all before it, survives a power cut. Raises `StoreBusy` when the lock
        is not had in time, and a `StoreError` with `outcome_unknown` when the commit itself failed half-way.
        """

    def query(self, sql: str, params: Parameters = ()) -> list[Row]:
        """Reads what is committed. Not to be called by a thread that is inside a transaction."""

    def version(self) -> int:
        """A number that changes whenever anybody, this database included, has committed a change."""

    def barrier(self) -> None:
        """Makes all that this database committed so far survive a power cut; free if it does already."""

    def checkpoint(self) -> int:
        """Moves committed pages from the log to the main file; returns how many are left in the log."""

    def close(self) -> None:
        """Waits for the transaction in progress, then lets go of the files; idempotent."""
