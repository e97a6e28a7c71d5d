"""A state in one SQLite file, or in memory, through `apsw`.

Layer: `logistics.storage`. All writing goes through one connection (`writer`); each query has a connection
of its own from a small pool and sees what is committed, never waiting for a writer. The log (WAL) is moved
into the main file by `checkpoint`, never inside a commit. A state in memory has one connection for both,
and no locks but its mutex.

While a file is open here nothing else in the process may open it (`guard` says why, and sees to it), and a
child made by fork() can use none of this: its locks stayed with the parent.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from threading import Lock
from typing import Any
from weakref import WeakSet

import apsw

from codomyrmex.exceptions import CodomyrmexError, EngineClosed, EngineForked, StoreIOError
from codomyrmex.logistics.storage import guard
from codomyrmex.logistics.storage.database import Durability, Parameters, Row
from codomyrmex.logistics.storage.faults import translated
from codomyrmex.logistics.storage.location import refuse_network_file_system, resolved
from codomyrmex.logistics.storage.lock import FileLock, open_with_mode
from codomyrmex.logistics.storage.migrations import (
    STATE,
    Kind,
    Migration,
    known_migrations,
    migrate,
    pending_migrations,
)
from codomyrmex.logistics.storage.writer import SQLiteTransaction, Writer

MEMORY = ":memory:"
BUSY_TIMEOUT_S = 30.0

# A commit of one task changes a few bytes in three pages, and writes (and sums up) whole pages to the log.
_PAGE_BYTES = 2048
# Beyond 64 MiB the log is emptied with writers held back for the last few pages.
_LOG_LIMIT_PAGES = 64 * 1024 * 1024 // _PAGE_BYTES
_IDLE_READERS = 4
_STATEMENTS_KEPT = 128
_OPEN_FLAGS = apsw.SQLITE_OPEN_READWRITE | apsw.SQLITE_OPEN_NOFOLLOW

# No limit to the log's file: a file over one is cut inside a commit, which held writers back for over 100 ms. It is
# written again from its beginning after each checkpoint, and goes when the last engine closes.
_WRITER_PRAGMAS = (
    "PRAGMA synchronous=NORMAL; PRAGMA wal_autocheckpoint=0; PRAGMA journal_size_limit=-1;"
    "PRAGMA cache_size=-65536; PRAGMA temp_store=memory; PRAGMA mmap_size=0;"
    "PRAGMA foreign_keys=ON; PRAGMA trusted_schema=OFF;"
    # macOS keeps the promise of fsync only when asked with F_FULLFSYNC.
    + ("PRAGMA fullfsync=1; PRAGMA checkpoint_fullfsync=1;" if sys.platform == "darwin" else "")
)
# For a file that nothing outlives. It stays small, so moving its log costs less than a call of `checkpoint`.
_VOLATILE_PRAGMAS = "PRAGMA synchronous=OFF; PRAGMA wal_autocheckpoint=512;"
_READER_PRAGMAS = (
    "PRAGMA query_only=ON; PRAGMA cache_size=-8192; PRAGMA temp_store=memory; PRAGMA mmap_size=0;"
    "PRAGMA trusted_schema=OFF;"
)
_MEMORY_PRAGMAS = "PRAGMA foreign_keys=ON; PRAGMA temp_store=memory; PRAGMA trusted_schema=OFF;"


class MemoryDatabase:
    """A state that is gone with this object: one connection under one mutex for reading and writing."""

    def __init__(self, *, migrations: Sequence[Migration] | None = None, kind: Kind = STATE) -> None:
        self.path = MEMORY
        self.durability = Durability.PROCESS
        self._writer = Writer(
            MEMORY, _connect_memory, lock=None, durability=Durability.PROCESS, busy_timeout_s=BUSY_TIMEOUT_S
        )
        with self._writer.held() as connection:
            migrate(connection, MEMORY, _known(migrations, kind), kind)
        _watch_forks(self)

    def transaction(self, *, barrier: bool = False) -> SQLiteTransaction:
        """See `Database.transaction`."""
        return SQLiteTransaction(self._writer, barrier)

    def query(self, sql: str, params: Parameters = ()) -> list[Row]:
        """See `Database.query`."""
        with self._writer.held(sql) as connection:
            return list(connection.execute(sql, params))

    def version(self) -> int:
        """See `Database.version`."""
        self._writer.check()
        return self._writer.commits

    def barrier(self) -> None:
        """Nothing here survives a power cut."""
        self._writer.check()

    def checkpoint(self) -> int:
        """There is no log."""
        self._writer.check()
        return 0

    def close(self) -> None:
        """See `Database.close`."""
        self._writer.close(_closed(MEMORY))

    def leave_to_parent(self) -> list[object]:
        """For a child made by fork()."""
        return self._writer.leave(_forked(MEMORY))


class SQLiteDatabase:
    """A state in a file. Made by `open` (an engine) or `open_existing` (a client)."""

    def __init__(
        self,
        path: str,
        durability: Durability,
        *,
        busy_timeout_s: float,
        tidies: bool,
        vfs: str | None,
        kind: Kind = STATE,
    ) -> None:
        self.path = path
        self._kind = kind
        self.durability = durability
        self._busy_timeout_s = busy_timeout_s
        self._tidies = tidies
        self._vfs = vfs
        self._lock = FileLock(f"{os.path.splitext(path)[0]}.lock", kind.mode)
        self._writer = Writer(
            path, self._connect_writer, lock=self._lock, durability=durability, busy_timeout_s=busy_timeout_s
        )
        self._idle: list[apsw.Cursor] = []
        self._watcher: apsw.Cursor | None = None
        self._watching = Lock()
        guard.protect(self.files)
        _watch_forks(self)

    @classmethod
    def open(
        cls,
        path: str | os.PathLike[str],
        durability: Durability = Durability.BARRIER,
        *,
        busy_timeout_s: float = BUSY_TIMEOUT_S,
        migrations: Sequence[Migration] | None = None,
        vfs: str | None = None,
        kind: Kind = STATE,
    ) -> SQLiteDatabase | MemoryDatabase:
        """The state at `path` (":memory:" for one of its own), made or brought up to date if need be.

        Raises `StoreTooNew`, `StoreCorrupt`, and `StoreIOError` for a link or a network file system. `vfs`
        names another layer between SQLite and the disk; `kind` a database of ours that is no state.
        """
        if path == MEMORY:
            return MemoryDatabase(migrations=migrations, kind=kind)
        place = resolved(path)
        try:
            os.makedirs(os.path.dirname(place), mode=0o700, exist_ok=True)
        except OSError as error:
            raise _unmakable(place, error) from error
        refuse_network_file_system(place)
        database = cls(place, durability, busy_timeout_s=busy_timeout_s, tidies=True, vfs=vfs, kind=kind)
        database._begin_use(migrations, make=True)
        return database

    @classmethod
    def open_existing(
        cls,
        path: str | os.PathLike[str],
        durability: Durability = Durability.BARRIER,
        *,
        busy_timeout_s: float = BUSY_TIMEOUT_S,
        migrations: Sequence[Migration] | None = None,
    ) -> SQLiteDatabase:
        """A state for a client: never made here, cheap to open and to close.

        The writing side is opened by the first transaction, and `close` leaves the log to the engines. A
        state that an older version wrote is brought up to date. Raises `StoreIOError` if there is none.
        """
        database = cls(resolved(path), durability, busy_timeout_s=busy_timeout_s, tidies=False, vfs=None)
        database._begin_use(migrations, make=False)
        return database

    @property
    def files(self) -> tuple[str, ...]:
        """Every file that belongs to this state's database."""
        return (self.path, f"{self.path}-wal", f"{self.path}-shm", self._lock.path)

    def transaction(self, *, barrier: bool = False) -> SQLiteTransaction:
        """See `Database.transaction`."""
        return SQLiteTransaction(self._writer, barrier)

    def query(self, sql: str, params: Parameters = ()) -> list[Row]:
        """See `Database.query`. A statement that writes is refused."""
        self._writer.check()
        with self._reader(sql) as reader:
            return list(reader.execute(sql, params))

    def version(self) -> int:
        """See `Database.version`."""
        self._writer.check()
        with self._watching:
            try:
                if self._watcher is None:
                    self._watcher = self._connect_reader()
                number: Any = self._watcher.execute("PRAGMA data_version").get
            except apsw.Error as error:
                raise translated(error, self.path) from error
        return int(number)

    def barrier(self) -> None:
        """See `Database.barrier`; at level `process` nothing is ever synced for a commit, here neither."""
        self._writer.check()
        if not self._writer.has_unsynced:
            return
        if self._writer.log_is_durable and self._vfs is None and sys.platform == "linux":
            self._sync_log()
            return
        with self.transaction(barrier=True):
            pass

    def _sync_log(self) -> None:
        """What SQLite does for a barrier, but without keeping writers waiting while the disk works.

        What is committed lies in the log, which is a plain file for the kernel; SQLite keeps no lock on it that
        closing this handle could drop. It is opened each time because a log may give way to a new one.
        """
        commits = self._writer.commits
        try:
            with guard.permitted():
                descriptor = os.open(f"{self.path}-wal", os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC)
            try:
                os.fdatasync(descriptor)
            finally:
                os.close(descriptor)
        except OSError as error:
            raise StoreIOError(
                f"the log of the state {self.path} could not be synced: {error}",
                hint="check the disk, then resume",
            ) from error
        self._writer.synced(commits)

    def checkpoint(self) -> int:
        """See `Database.checkpoint`. Writers go on meanwhile, except at the end of a log that grew too long.

        Returns 0 too when another process is at it.
        """
        self._writer.check()
        with self._reader() as reader:
            in_log, moved = _move_log(reader.connection)
            if in_log > moved and in_log > _LOG_LIMIT_PAGES:
                with self._writer.held():
                    in_log, moved = _move_log(reader.connection)
        return in_log - moved

    def close(self) -> None:
        """See `Database.close`. An engine that is the last to leave moves the log into the main file."""
        self._close_readers()
        with self._watching:
            watcher, self._watcher = self._watcher, None
            _end(watcher)
        if self._writer.close(_closed(self.path)):
            guard.release(self.files)
        self._close_readers()

    def leave_to_parent(self) -> list[object]:
        """For a child made by fork()."""
        kept = [*self._idle, self._watcher, *self._writer.leave(_forked(self.path))]
        self._idle, self._watcher, self._watching = [], None, Lock()
        return kept

    def _begin_use(self, migrations: Sequence[Migration] | None, *, make: bool) -> None:
        known = _known(migrations, self._kind)
        try:
            if not os.path.exists(self.path) and not make:
                raise StoreIOError(
                    f"there is no state {self.path}",
                    hint="run a workflow first, or name the place with --state",
                )
            if not (os.path.exists(self.path) and self._is_ready(known)):
                self._make_ready(known)
            guard.refresh()
        except apsw.Error as error:
            self.close()
            raise translated(error, self.path) from error
        except BaseException:
            self.close()
            raise

    def _is_ready(self, known: Sequence[Migration]) -> bool:
        with self._reader() as reader:
            mode = reader.execute("PRAGMA journal_mode").get
            return not pending_migrations(reader.connection, self.path, known, self._kind) and mode == "wal"

    def _make_ready(self, known: Sequence[Migration]) -> None:
        self._create()
        with self._writer.held() as connection:
            pending_migrations(connection, self.path, known, self._kind)  # refuses before anything is changed
            list(connection.execute(f"PRAGMA page_size={_PAGE_BYTES}"))  # has an effect on a new file only
            if not self._kind.volatile:
                list(connection.execute("PRAGMA synchronous=FULL"))
            self._use_log(connection)
            migrate(connection, self.path, known, self._kind)
            if not self._kind.volatile:
                list(connection.execute("PRAGMA synchronous=NORMAL"))

    def _create(self) -> None:
        """Makes an empty file that only its owner (or group) may read. An existing one is not opened (see `guard`)."""
        flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW
        try:
            with guard.permitted():
                os.close(open_with_mode(self.path, flags, self._kind.mode))
        except FileExistsError:
            pass
        except OSError as error:
            raise _unmakable(self.path, error) from error

    def _use_log(self, connection: apsw.Connection) -> None:
        """Switches to the write-ahead log. SQLite does not wait for a reader who just looks in, so we do."""
        deadline = time.monotonic() + self._busy_timeout_s
        while True:
            try:
                list(connection.execute("PRAGMA journal_mode=WAL"))
                return
            except (apsw.BusyError, apsw.LockedError):
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.001)

    def _connect(self, pragmas: str) -> apsw.Connection:
        connection = apsw.Connection(
            self.path, flags=_OPEN_FLAGS, vfs=self._vfs, statementcachesize=_STATEMENTS_KEPT
        )
        connection.set_busy_timeout(round(self._busy_timeout_s * 1000))
        list(connection.execute(pragmas))
        return connection

    def _connect_writer(self) -> apsw.Connection:
        connection = self._connect(_WRITER_PRAGMAS + (_VOLATILE_PRAGMAS if self._kind.volatile else ""))
        if not self._tidies:
            connection.config(apsw.SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 1)
        return connection

    def _connect_reader(self) -> apsw.Cursor:
        connection = self._connect(_READER_PRAGMAS)
        connection.config(apsw.SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 1)
        return connection.cursor()

    @contextmanager
    def _reader(self, sql: str | None = None) -> Iterator[apsw.Cursor]:
        """A reading connection for one thread; a few are kept, none that failed, and none after `close`."""
        reader = None
        try:
            reader = self._idle_reader() or self._connect_reader()
            yield reader
        except apsw.Error as error:
            number = reader.connection.system_errno if reader is not None else 0
            _end(reader)
            raise translated(error, self.path, sql=sql, system_errno=number) from error
        except BaseException:
            _end(reader)
            raise
        self._idle.append(reader)
        # Looked at after the append, so that a `close` in another thread misses no reader.
        if len(self._idle) > _IDLE_READERS or self._writer.refusal is not None:
            self._close_readers()

    def _idle_reader(self) -> apsw.Cursor | None:
        try:
            return self._idle.pop()
        except IndexError:
            return None

    def _close_readers(self) -> None:
        while (reader := self._idle_reader()) is not None:
            _end(reader)


def _move_log(connection: apsw.Connection) -> tuple[int, int]:
    """The pages in the log, and how many of them are in the main file now."""
    try:
        return connection.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_PASSIVE)
    except apsw.BusyError:
        return 0, 0


def _end(cursor: apsw.Cursor | None) -> None:
    if cursor is not None:
        cursor.connection.close(True)


_live: WeakSet[SQLiteDatabase | MemoryDatabase] = WeakSet()
_left_to_parent: list[object] = []


def _watch_forks(database: SQLiteDatabase | MemoryDatabase) -> None:
    _install_fork_hook()
    _live.add(database)


@cache
def _install_fork_hook() -> None:
    os.register_at_fork(after_in_child=_leave_all_to_parent)


def _leave_all_to_parent() -> None:
    # Kept for ever: freeing a connection would run SQLite's end-of-use work on files that the parent uses.
    for database in list(_live):
        _left_to_parent.extend(database.leave_to_parent())
    guard.reset_after_fork()


def _connect_memory() -> apsw.Connection:
    connection = apsw.Connection(MEMORY, statementcachesize=_STATEMENTS_KEPT)
    list(connection.execute(_MEMORY_PRAGMAS))
    return connection


def _known(migrations: Sequence[Migration] | None, kind: Kind) -> Sequence[Migration]:
    return known_migrations(kind.folder) if migrations is None else migrations


def _unmakable(path: str, error: OSError) -> StoreIOError:
    return StoreIOError(f"the state {path} cannot be made: {error}", hint="name another place with --state")


def _closed(path: str) -> Callable[[], CodomyrmexError]:
    return lambda: EngineClosed(f"the state {path} has been closed", hint="open it again")


def _forked(path: str) -> Callable[[], CodomyrmexError]:
    return lambda: EngineForked(
        f"the state {path} was opened by process {os.getppid()}, from which this one was forked",
        hint="open the state (or an engine) in the child itself",
    )
