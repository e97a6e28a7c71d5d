"""The writing side of a state: one connection, one transaction at a time, the locks in front of it.

Layer: `logistics.storage`. Three locks stand in line and are always taken in this order: a mutex (the
threads of this process), `flock` on a file beside the database (processes), and SQLite's own write lock
(BEGIN IMMEDIATE). So nobody ever meets "database is locked"; who waits longer than the time-out
gets `StoreBusy`.

A commit is synced or not by `PRAGMA synchronous`, switched between transactions: FULL syncs the log at the
commit, and with it all that was committed before. A barrier that has nothing of its own to write rewrites
the application id, because SQLite does not sync for a commit without pages. Whatever goes wrong,
KeyboardInterrupt included, the locks are let go of and nothing stays half-open.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from threading import get_ident
from types import TracebackType

import apsw

from codomyrmex.exceptions import CodomyrmexError, StoreError, StoreIOError
from codomyrmex.logistics.storage.database import Durability, Parameters, Row
from codomyrmex.logistics.storage.faults import busy, translated
from codomyrmex.logistics.storage.lock import FileLock
from codomyrmex.logistics.storage.migrations import APPLICATION_ID


class Writer:
    """What one database writes through; `connect` opens the connection when it is first needed."""

    __slots__ = (
        "_connect",
        "_connection",
        "_current",
        "_cursors",
        "_is_full",
        "_lock",
        "_log_is_durable",
        "_mutex",
        "_owner",
        "_unsynced",
        "busy_timeout_s",
        "commits",
        "durability",
        "path",
        "refusal",
    )

    def __init__(
        self,
        path: str,
        connect: Callable[[], apsw.Connection],
        *,
        lock: FileLock | None,
        durability: Durability,
        busy_timeout_s: float,
    ) -> None:
        self.path = path
        self.durability = durability
        self.busy_timeout_s = busy_timeout_s
        self.commits = 0
        self.refusal: Callable[[], CodomyrmexError] | None = None
        self._connect = connect
        self._lock = lock
        # Re-entrant because only such a lock tells, on release, whether this thread holds it.
        self._mutex = threading.RLock()
        self._owner = 0
        self._connection: apsw.Connection | None = None
        # One for BEGIN and COMMIT, one for the statements in between.
        self._cursors: tuple[apsw.Cursor, ...] = ()
        self._current: SQLiteTransaction | None = None
        self._is_full = False
        self._log_is_durable = False
        self._unsynced = False

    # -- the locks

    def check(self) -> None:
        """Raises what stands against using the database at all, or by this thread now."""
        if self.refusal is not None:
            raise self.refusal()
        if self._owner == get_ident():
            raise RuntimeError("this thread is inside a transaction: use what its `with` block was given")

    @contextmanager
    def held(self, sql: str | None = None) -> Iterator[apsw.Connection]:
        """Both locks, no transaction: for migrations, checkpoints, and reading a state in memory."""
        self.check()
        try:
            self._take()
            yield self.connection()
        except apsw.Error as error:
            raise self._translated(error, sql=sql) from error
        finally:
            self._let_go()

    def _take(self) -> None:
        """Takes the mutex and the file lock; whatever this raises, the caller calls `_let_go`."""
        if not self._mutex.acquire(timeout=self.busy_timeout_s):
            raise busy(self.path)
        self._owner = get_ident()
        if self.refusal is not None:
            raise self.refusal()
        if self._lock is not None:
            try:
                taken = self._lock.acquire(self.busy_timeout_s)
            except OSError as error:
                raise StoreIOError(f"the lock of the state {self.path} cannot be had: {error}") from error
            if not taken:
                raise busy(self.path)

    def _let_go(self) -> None:
        """Lets go of both locks; harmless for a thread that holds neither."""
        try:
            if self._owner == get_ident():
                self._owner = 0
                if self._lock is not None:
                    self._lock.release()
        finally:
            # Only the mutex itself knows whether an interrupted `acquire` got it, and it says so here.
            with suppress(RuntimeError):
                self._mutex.release()

    # -- one transaction; called by SQLiteTransaction

    def begin(self, transaction: SQLiteTransaction) -> apsw.Cursor:
        """The locks, the durability asked for, and BEGIN IMMEDIATE; returns the cursor for the statements."""
        self.check()
        try:
            self._take()
            connection = self.connection()
            control, statements = self._cursors
            level = self.durability
            full = level is Durability.POWER or (transaction.barrier and level is Durability.BARRIER)
            if full is not self._is_full:
                list(control.execute("PRAGMA synchronous=FULL" if full else "PRAGMA synchronous=NORMAL"))
                self._is_full = full
            control.execute("BEGIN IMMEDIATE")
            self._current = transaction
            transaction.changes_before = connection.total_changes()
        except apsw.Error as error:
            fault = self._translated(error)
            self.roll_back()
            raise fault from error
        except BaseException:
            self.roll_back()
            raise
        return statements

    def commit(self, transaction: SQLiteTransaction) -> None:
        """COMMIT and unlock; raises a `StoreError` when it did not take, or not surely, effect."""
        try:
            control = self._cursors[0]
            if self._is_full and self._unsynced and self._wrote_nothing(transaction):
                list(control.execute(f"PRAGMA application_id={APPLICATION_ID}"))
            control.execute("COMMIT")
            self.commits += 1
            self._unsynced = self.durability is Durability.BARRIER and not self._is_full
            self._log_is_durable = self._log_is_durable or self._is_full
        except apsw.Error as error:
            raise self._translated(error, committing=True) from error
        finally:
            self.roll_back()

    def roll_back(self) -> None:
        """Undoes what is still open and lets go of the locks; raises no error of the driver."""
        try:
            connection = self._connection
            if connection is not None and self._owner == get_ident() and connection.in_transaction:
                try:
                    list(connection.execute("ROLLBACK"))
                except apsw.Error:
                    self._discard()  # the next transaction starts on a new connection
        finally:
            self._current = None
            self._let_go()

    def _wrote_nothing(self, transaction: SQLiteTransaction) -> bool:
        # What a savepoint undid counts as a change and leaves no page to sync.
        return transaction.undid or self.connection().total_changes() == transaction.changes_before

    @property
    def has_unsynced(self) -> bool:
        """Whether a power cut could take back what was committed here, and a barrier would prevent it."""
        return self._unsynced

    @property
    def log_is_durable(self) -> bool:
        """Whether SQLite has synced the log through this connection, and with it the log's name in its folder."""
        return self._log_is_durable

    def synced(self, commits: int) -> None:
        """The log has been synced from outside; `commits` is what that number was before."""
        with self._mutex:
            if self.commits == commits:
                self._unsynced = False

    # -- the connection

    def connection(self) -> apsw.Connection:
        """The writing connection, opened if need be; the caller holds the locks."""
        if self._connection is None:
            self._connection = self._connect()
            self._cursors = (self._connection.cursor(), self._connection.cursor())
            self._is_full = False
            self._log_is_durable = False
        return self._connection

    def close(self, refusal: Callable[[], CodomyrmexError]) -> bool:
        """Waits for the transaction in progress and closes; False if it was closed (or left) before."""
        with self._mutex:
            if self._owner == get_ident():
                raise RuntimeError("a state cannot be closed inside a transaction")
            if self.refusal is not None:
                return False
            self.refusal = refusal
            self._discard()
            if self._lock is not None:
                self._lock.close()
        return True

    def leave(self, refusal: Callable[[], CodomyrmexError]) -> list[object]:
        """Gives all up untouched, for a child made by fork(); what is returned must never be freed there."""
        self.refusal = refusal
        if self._current is not None:
            self._current.fault = refusal()
        # Another thread of the parent may hold the mutex; that thread does not exist here.
        self._mutex = threading.RLock()
        self._owner = 0
        kept: list[object] = [self._connection, *self._cursors]
        self._connection, self._cursors = None, ()
        if self._lock is not None:
            self._lock.close()
        return kept

    def _discard(self) -> None:
        connection, self._connection, self._cursors = self._connection, None, ()
        if connection is not None:
            connection.close(True)

    def _translated(
        self, error: apsw.Error, *, committing: bool = False, sql: str | None = None
    ) -> StoreError:
        number = self._connection.system_errno if self._connection is not None else 0
        return translated(error, self.path, sql=sql, system_errno=number, committing=committing)

    def statement_fault(self, transaction: SQLiteTransaction, error: apsw.Error, sql: str) -> StoreError:
        """The `StoreError` of a failed statement; if SQLite ended the transaction too, nothing may follow."""
        fault = self._translated(error, sql=sql)
        if self._connection is None or not self._connection.in_transaction:
            transaction.fault = fault
        return fault


class SQLiteTransaction:
    """See `database.Transaction`; entering takes the locks, leaving commits or rolls back."""

    __slots__ = ("_cursor", "_writer", "barrier", "changes_before", "fault", "undid")

    def __init__(self, writer: Writer, barrier: bool) -> None:
        self._writer = writer
        self._cursor: apsw.Cursor | None = None
        self.barrier = barrier
        self.changes_before = 0
        self.undid = False
        self.fault: CodomyrmexError | None = None

    def __enter__(self) -> SQLiteTransaction:
        self._cursor = self._writer.begin(self)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._cursor = None
        if kind is None and self.fault is None:
            self._writer.commit(self)
            return
        self._writer.roll_back()
        if kind is None and self.fault is not None:
            raise self.fault

    def execute(self, sql: str, params: Parameters = ()) -> list[Row]:
        """Runs one statement and returns all its rows."""
        cursor = self._open_cursor()
        try:
            return list(cursor.execute(sql, params))
        except apsw.Error as error:
            raise self._writer.statement_fault(self, error, sql) from error

    def execute_many(self, sql: str, rows: Iterable[Parameters]) -> int:
        """Runs one statement for each row; returns how many table rows changed in all, triggers included."""
        cursor = self._open_cursor()
        connection = cursor.connection
        before = connection.total_changes()
        try:
            list(cursor.executemany(sql, rows))
        except apsw.Error as error:
            raise self._writer.statement_fault(self, error, sql) from error
        return connection.total_changes() - before

    def savepoint(self) -> Savepoint:
        """A part that is undone alone when it raises; may be nested."""
        return Savepoint(self)

    def _open_cursor(self) -> apsw.Cursor:
        if self.fault is not None:
            raise self.fault
        if self._cursor is None:
            raise RuntimeError("this transaction has ended")
        return self._cursor


class Savepoint:
    """A part of a transaction. An exception undoes the part and goes on its way."""

    __slots__ = ("_transaction",)

    def __init__(self, transaction: SQLiteTransaction) -> None:
        self._transaction = transaction

    def __enter__(self) -> None:
        self._transaction.execute("SAVEPOINT part")

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        transaction = self._transaction
        if kind is None:
            transaction.execute("RELEASE part")
        elif transaction.fault is None:
            transaction.undid = True
            transaction.execute("ROLLBACK TO part")
            transaction.execute("RELEASE part")
