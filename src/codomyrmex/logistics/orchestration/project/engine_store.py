"""Engines as rows and as locks: who is alive, and what the dead left behind.

Layer: above storage. An engine that opens inserts its row, whose number is its *epoch*, and takes an
exclusive `flock` on `run/engine-<epoch>.lock` before that row is committed; the kernel frees the lock when
the process dies, whatever kills it, and also while a thread of it holds the interpreter lock for long it
stays taken. So on one host there is no guessing: the lock is free, or the engine lives.

    open      INSERT engine, flock ............ epoch
    live      every drain: UPDATE engine SET commits, refused once ended_at is set
    dead      another engine finds the lock free: UPDATE engine SET ended_at   (the fence)
              then ends the processes that carry its token, then takes its runs
"""

from __future__ import annotations

import fcntl
import os
import socket
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any
from weakref import WeakSet

import msgspec

from codomyrmex.logistics.storage.database import Database, Transaction
from codomyrmex.logistics.storage.lock import open_with_mode
from codomyrmex.logistics.task.lease import LEASE_S, Holder, is_dead

INSERT = """
INSERT INTO engine (token, host, boot_id, pid, started_at, lease_until, limits) VALUES (?, ?, ?, ?, ?, ?, ?)
"""
FIND = "SELECT epoch FROM engine WHERE token = ?"
RENEW = "UPDATE engine SET lease_until = ? WHERE epoch = ? AND ended_at IS NULL"
END = "UPDATE engine SET ended_at = ? WHERE epoch = ? AND ended_at IS NULL"
OWNERS = """
SELECT DISTINCT engine.epoch, engine.token, engine.host, engine.boot_id, engine.pid, engine.lease_until, engine.ended_at
FROM run JOIN engine ON engine.epoch = run.epoch
WHERE run.status IN ('pending', 'running', 'paused') ORDER BY engine.epoch
"""
ENGINES = """
SELECT epoch, token, host, boot_id, pid, lease_until, ended_at FROM engine WHERE ended_at IS NULL ORDER BY epoch
"""
TREE = """
WITH top AS (SELECT coalesce(root, number) AS number FROM run WHERE id = ?)
SELECT id FROM run WHERE number = (SELECT number FROM top) OR root = (SELECT number FROM top) OR id = ?
"""
BELOW = """
WITH RECURSIVE below(number) AS (
    SELECT number FROM run WHERE id = ? UNION SELECT run.number FROM run JOIN below ON run.parent = below.number
) SELECT run.id FROM run JOIN below ON below.number = run.number
"""
TAKE_RUN = """
UPDATE run SET epoch = ? WHERE id = ? AND epoch = ? AND status IN ('pending', 'running', 'paused')
"""
# A fan-out goes on under its new owner; the attempts that died are given back by the first drain.
TAKE_RUNNING = """
UPDATE task SET epoch = ? WHERE state = 'running' AND run = (SELECT number FROM run WHERE id = ?)
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineRow:
    """One engine as its row tells of it."""

    epoch: int
    token: str
    host: str
    boot_id: str
    pid: int
    lease_until_us: int
    ended_at_us: int | None


class EngineLock:
    """The lock file of one living engine; `release` removes it. `mode`: who may ask whether it is free."""

    def __init__(self, path: Path, mode: int = 0o600) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self._path = path
        self._file = open_with_mode(str(path), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, mode)
        fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        _install_fork_hook()
        _held.add(self)

    def release(self) -> None:
        """Lets go of the lock and removes the file; idempotent."""
        if self._file >= 0:
            self._path.unlink(missing_ok=True)
            self.leave_to_parent()

    def leave_to_parent(self) -> None:
        """Closes this process's handle; the lock itself stays with whoever shares it."""
        file, self._file = self._file, -1
        if file >= 0:
            os.close(file)

    @staticmethod
    def is_free(path: Path) -> bool:
        """Tries the lock without keeping it. Never called for a lock of this process (see the fork hook)."""
        try:
            file = os.open(path, os.O_RDWR | os.O_CLOEXEC)
        except FileNotFoundError:
            return True
        except PermissionError:
            return False  # another user's; there it cannot be asked, so it is taken to be held
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            return False
        finally:
            os.close(file)
        return True


_held: WeakSet[EngineLock] = WeakSet()


@cache
def _install_fork_hook() -> None:
    # A child made by fork() shares the lock and would keep a dead engine alive in the eyes of others.
    os.register_at_fork(after_in_child=_leave_all_to_parent)


def _leave_all_to_parent() -> None:
    for lock in list(_held):
        lock.leave_to_parent()


def boot_id() -> str:
    """What tells apart two boots of a host and two process namespaces: flock is only asked where it is equal."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
        return f"{boot}:{os.readlink('/proc/self/ns/pid')}"
    except OSError:
        return socket.gethostname()


def lock_path(state_dir: Path, epoch: int) -> Path:
    """The lock file of an engine."""
    return state_dir / "run" / f"engine-{epoch}.lock"


def insert(tx: Transaction, *, now_us: int, limits: Mapping[str, Any] | None = None) -> tuple[int, str]:
    """A row for this process; returns its epoch and its token. `limits` tells readers what it may use."""
    token = os.urandom(16).hex()
    lease_until_us = now_us + round(LEASE_S * 1_000_000)
    told = msgspec.json.encode(limits or {}).decode()
    tx.execute(INSERT, (token, socket.gethostname(), boot_id(), os.getpid(), now_us, lease_until_us, told))
    return int(tx.execute(FIND, (token,))[0][0]), token


def tell_limits(tx: Transaction, *, epoch: int, limits: Mapping[str, Any]) -> None:
    """Tells readers anew what an engine may use."""
    tx.execute("UPDATE engine SET limits = ? WHERE epoch = ?", (msgspec.json.encode(limits).decode(), epoch))


def renew(tx: Transaction, *, epoch: int, now_us: int) -> bool:
    """Extends the lease; False when another engine has declared this one dead."""
    return tx.execute_many(RENEW, [(now_us + round(LEASE_S * 1_000_000), epoch)]) == 1


def end(tx: Transaction, *, epoch: int, now_us: int) -> bool:
    """Marks an engine as ended; False when it was already."""
    return tx.execute_many(END, [(now_us, epoch)]) == 1


def owners(database: Database) -> list[EngineRow]:
    """The engines whose runs are not terminal, oldest first."""
    return list(_rows(database, OWNERS))


def living(database: Database) -> list[EngineRow]:
    """The engines that have not been marked as ended, oldest first."""
    return list(_rows(database, ENGINES))


def take_run(tx: Transaction, *, run_id: str, from_epoch: int, epoch: int) -> bool:
    """Makes this engine the owner of a run; False when somebody else already is."""
    if tx.execute_many(TAKE_RUN, [(epoch, run_id, from_epoch)]) != 1:
        return False
    tx.execute(TAKE_RUNNING, (epoch, run_id))
    return True


def trees_of(database: Database, run_ids: Iterable[str]) -> set[str]:
    """The ids of all runs of the trees that these runs belong to."""
    found: set[str] = set()
    for run_id in run_ids:
        found.add(run_id)
        found.update(row[0] for row in database.query(TREE, (run_id, run_id)))
    return found


def below(database: Database, run_ids: Iterable[str]) -> set[str]:
    """The ids of these runs and of all that they started."""
    found: set[str] = set()
    for run_id in run_ids:
        found.add(run_id)
        found.update(row[0] for row in database.query(BELOW, (run_id,)))
    return found


def dead(engine: EngineRow, state_dir: Path | None, *, now_us: int) -> bool:
    """True when an engine can hold nothing any more."""
    same_boot = engine.boot_id == boot_id()
    free = (
        EngineLock.is_free(lock_path(state_dir, engine.epoch))
        if same_boot and state_dir is not None
        else None
    )
    holder = Holder(
        epoch=engine.epoch,
        same_boot=same_boot,
        ended=engine.ended_at_us is not None,
        lock_is_free=free,
        lease_until_us=engine.lease_until_us,
    )
    return is_dead(holder, now_us=now_us)


def _rows(database: Database, sql: str) -> Iterator[EngineRow]:
    for epoch, token, host, boot, pid, lease_until, ended_at in database.query(sql):
        yield EngineRow(
            epoch=epoch,
            token=token,
            host=host,
            boot_id=boot,
            pid=pid,
            lease_until_us=lease_until,
            ended_at_us=ended_at,
        )
