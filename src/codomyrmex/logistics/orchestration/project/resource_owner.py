"""Who holds resources for the people of a process: an engine, or a manager that has none.

Layer: above `engine_store`. Whatever is held belongs to the *epoch* of its owner and comes back when that is
found dead, as with every engine: its row, its lock file, its lease. `StateOwner` is an owner that runs no
work; it enters a state exactly as an engine does, and renews its lease in a thread of its own.

Freeing what the dead hold, each step harmless to repeat:

    1. end    every process that carries the token of the dead engine: what it held is still in use there
    2. free   in one transaction its row gets `ended_at`, so nothing of it writes any more, and its rows go
"""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from threading import Event, Lock, Thread
from typing import Protocol

from codomyrmex.clock import Clock, SystemClock
from codomyrmex.exceptions import CodomyrmexError, StoreError
from codomyrmex.logging_monitoring import get_logger
from codomyrmex.logistics.orchestration.project import engine_store, resource_store
from codomyrmex.logistics.orchestration.project.host_ledger import HostLedger, ledger_directory
from codomyrmex.logistics.orchestration.project.machine import Gpu, Machine
from codomyrmex.logistics.storage.database import Database
from codomyrmex.logistics.task.lease import RENEW_EVERY_S
from codomyrmex.settings import Settings

ENDED_HOLDERS = """
SELECT DISTINCT engine.epoch, engine.token, engine.boot_id FROM allocation
JOIN engine ON engine.epoch = allocation.epoch WHERE engine.ended_at IS NOT NULL
"""
CHECKPOINT_EVERY = 1000
"""Changes; nobody else moves the log of a state on which no engine runs."""

logger = get_logger(__name__)


class Owner(Protocol):
    """What a manager needs of an engine."""

    @property
    def database(self) -> Database:
        """The state."""

    @property
    def epoch(self) -> int:
        """The number that its rows carry."""

    @property
    def clock(self) -> Clock:
        """The engine's."""

    @property
    def state_dir(self) -> Path | None:
        """The folder of the state; None where it is in memory."""

    def capacities(self, *, gpu: bool = False) -> dict[str, int]:
        """What this machine has, by resource id; its devices only with `gpu`."""

    @property
    def ledger(self) -> HostLedger:
        """Who holds what of the machine."""

    def uses_holding(self, requester: str) -> bool:
        """Whether attempts run on what a session holds of the machine: then it cannot be given back."""

    def resources_changed(self) -> None:
        """Something was claimed or given back: a claim of a task may fit now, or no longer."""


def free_the_dead(database: Database, state_dir: Path | None, *, epoch: int, now_us: int) -> bool:
    """Frees what dead engines of this state hold; True if there were any. `epoch` is who asks.

    Those that have ended and still hold something count too: whoever found them dead may have died over it.
    """
    if state_dir is None:
        return False
    dead = [
        each
        for each in engine_store.living(database)
        if each.epoch != epoch and engine_store.dead(each, state_dir, now_us=now_us)
    ]
    ends = [(each.epoch, each.token, each.boot_id) for each in dead]
    ends += [tuple(row) for row in database.query(ENDED_HOLDERS)]
    for other, token, boot_id in ends:
        same_boot = boot_id == engine_store.boot_id()
        bury(database, state_dir, other, token, same_boot=same_boot, now_us=now_us)
    return bool(ends)


def bury(
    database: Database, state_dir: Path, epoch: int, token: str, *, same_boot: bool, now_us: int
) -> None:
    """Ends every process that a dead engine left behind, then fences it and frees what it held.

    In this order, because what is freed may be taken at once by somebody else. Harmless to repeat.
    """
    from codomyrmex.logistics.orchestration.project.nudge import socket_path

    if same_boot:
        _end_left_behind(token)
    with database.transaction(barrier=True) as tx:
        engine_store.end(tx, epoch=epoch, now_us=now_us)
        resource_store.release_engine(tx, epoch=epoch)
    if same_boot:
        engine_store.lock_path(state_dir, epoch).unlink(missing_ok=True)
        socket_path(state_dir, epoch).unlink(missing_ok=True)


def _end_left_behind(token: str) -> None:
    from codomyrmex.logistics.orchestration.project.executors.process_tree import kill_left_behind

    kill_left_behind(token)


class StateOwner:
    """See the module. Made by `open`; `close` gives back everything that it holds."""

    def __init__(
        self, database: Database, state_dir: Path | None, root: Path, settings: Settings, clock: Clock
    ) -> None:
        self.database = database
        self.state_dir = state_dir
        self.clock = clock
        self._root = root
        self._settings = settings
        self._machine: Machine | None = None
        self._gpus: tuple[Gpu, ...] | None = None
        self._finding = Lock()
        self._changes = 0
        self._closed = Event()
        self._lock: engine_store.EngineLock | None = None
        self.epoch, self._token = self._enter()
        shared = state_dir is not None and settings.resources_scope == "host"
        self.ledger = HostLedger.open(
            ledger_directory(os.environ) if shared else None,
            clock=clock,
            token=self._token,
            state=str(state_dir or ""),
            on_dead=_end_left_behind,
        )
        self._thread: Thread | None = None
        if state_dir is not None:
            self._thread = Thread(target=self._renew, name="codomyrmex-lease", daemon=True)
            self._thread.start()

    @classmethod
    def open(cls, state: str | os.PathLike[str] | None, *, clock: Clock | None = None) -> StateOwner:
        """Enters the state in the folder `state`, which is made if missing; None is one in memory."""
        from codomyrmex.logistics.storage.sqlite import MEMORY, SQLiteDatabase
        from codomyrmex.settings import load_settings
        from codomyrmex.workspace import find_workspace

        in_memory = state is None or os.fspath(state) == MEMORY
        workspace = find_workspace(state=None if in_memory else os.fspath(state or ""))
        if not in_memory:
            workspace.prepare()
        database = SQLiteDatabase.open(MEMORY if in_memory else workspace.database)
        try:
            state_dir = None if in_memory else workspace.state
            settings = load_settings(root=workspace.root, state=state_dir)
            return cls(database, state_dir, workspace.root, settings, clock or SystemClock())
        except BaseException:
            database.close()
            raise

    def capacities(self, *, gpu: bool = False) -> dict[str, int]:
        """What this machine has, found at the first call; its devices only with `gpu`."""
        from codomyrmex.logistics.orchestration.project.machine_detection import (
            detect_gpus,
            detect_machine,
            overrides_of,
        )

        with self._finding:
            if self._machine is None:
                self._machine = detect_machine(self._root, overrides=overrides_of(self._settings))
            if gpu and self._gpus is None:
                self._gpus = detect_gpus(overrides=overrides_of(self._settings))
            return replace(self._machine, gpus=self._gpus or ()).capacities()

    def uses_holding(self, requester: str) -> bool:
        """There are no attempts here."""
        return False

    def resources_changed(self) -> None:
        """Nobody else waits here; now and then the log is moved into the state's file."""
        self._changes += 1
        if self._changes % CHECKPOINT_EVERY == 0:
            try:
                self.database.checkpoint()
            except StoreError as error:
                logger.warning("a checkpoint failed: %s", error)

    def close(self) -> None:
        """Gives back everything, leaves the state; idempotent."""
        if self._closed.is_set():
            return
        self._closed.set()
        if self._thread is not None:
            self._thread.join()
        self.ledger.close()
        try:
            with self.database.transaction(barrier=True) as tx:
                resource_store.release_engine(tx, epoch=self.epoch)
                engine_store.end(tx, epoch=self.epoch, now_us=self.clock.now_us())
        except StoreError as error:
            logger.warning("the end of owner %d could not be recorded: %s", self.epoch, error)
        if self._lock is not None:
            self._lock.release()
        self.database.close()

    def _enter(self) -> tuple[int, str]:
        try:
            with self.database.transaction(barrier=True) as tx:
                epoch, token = engine_store.insert(tx, now_us=self.clock.now_us())
                if self.state_dir is not None:
                    self._lock = engine_store.EngineLock(engine_store.lock_path(self.state_dir, epoch))
        except BaseException:
            if self._lock is not None:
                self._lock.release()
            raise
        return epoch, token

    def _renew(self) -> None:
        while not self._closed.wait(RENEW_EVERY_S):
            try:
                with self.database.transaction() as tx:
                    alive = engine_store.renew(tx, epoch=self.epoch, now_us=self.clock.now_us())
            except CodomyrmexError as error:
                logger.warning("the lease of owner %d could not be renewed: %s", self.epoch, error)
                continue
            if not alive:
                logger.warning("owner %d was declared dead by another; it holds nothing any more", self.epoch)
                return
