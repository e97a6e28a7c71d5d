"""A database whose commits fail when they are told to.

Layer: testing. It stands around a real `Database` and fills the same port, so faults come in where a disk
would bring them: at the commit. A commit can fail *before* it took effect (nothing is written) or *after*
(all is written, and the caller is told that nobody knows): both look the same to who gets the error.
"""

from __future__ import annotations

from collections.abc import Container, Iterator
from contextlib import contextmanager

from codomyrmex.exceptions import StoreError, StoreFull, StoreIOError
from codomyrmex.logistics.storage.database import Database, Parameters, Row, Transaction


class _FailedBefore(Exception):
    """Rolls the real transaction back."""


class FaultyDatabase:
    """`database`, but the commits whose numbers (from 1) are in `fail_commit` fail with `error`.

    With `after` they take effect all the same. `commits` counts what was tried, `injected` what failed.
    """

    def __init__(
        self,
        database: Database,
        *,
        fail_commit: int | Container[int] = (),
        error: type[StoreError] = StoreFull,
        after: bool = False,
    ) -> None:
        self.database = database
        self.fail_commit = fail_commit
        self.error = error
        self.after = after
        self.commits = 0
        self.injected = 0

    @contextmanager
    def transaction(self, *, barrier: bool = False) -> Iterator[Transaction]:
        """See `Database.transaction`."""
        fails = False
        try:
            with self.database.transaction(barrier=barrier) as tx:
                yield tx
                fails = self._counted()
                if fails and not self.after:
                    raise _FailedBefore
        except _FailedBefore:
            pass
        if fails:
            unknown = self.after or issubclass(self.error, StoreIOError)
            raise self.error(f"commit {self.commits} was made to fail", outcome_unknown=unknown)

    def query(self, sql: str, params: Parameters = ()) -> list[Row]:
        """See `Database.query`."""
        return self.database.query(sql, params)

    def version(self) -> int:
        """See `Database.version`."""
        return self.database.version()

    def barrier(self) -> None:
        """See `Database.barrier`."""
        self.database.barrier()

    def checkpoint(self) -> int:
        """See `Database.checkpoint`."""
        return self.database.checkpoint()

    def close(self) -> None:
        """See `Database.close`."""
        self.database.close()

    def _counted(self) -> bool:
        self.commits += 1
        wanted = self.fail_commit
        fails = self.commits == wanted if isinstance(wanted, int) else self.commits in wanted
        self.injected += fails
        return fails
