"""Where the ledger of the host lies, and what is done when its file is of no use.

Layer: the engine's shell, above storage. On a machine that was prepared for it (`/var/lib/codomyrmex` exists and may
be written) each group of users has one; otherwise each user has. The file is never synced, so a power cut may leave
it damaged; nothing in it outlives its holders, so it is put aside and begun anew, but only when no holder lives.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from codomyrmex.exceptions import StoreBusy, StoreCorrupt, StoreError, StoreIOError, StoreTooNew
from codomyrmex.logging_monitoring import get_logger
from codomyrmex.logistics.orchestration.project.engine_store import EngineLock
from codomyrmex.logistics.storage import guard
from codomyrmex.logistics.storage.database import Database, Durability
from codomyrmex.logistics.storage.lock import FileLock
from codomyrmex.logistics.storage.migrations import LEDGER
from codomyrmex.logistics.storage.sqlite import MemoryDatabase, SQLiteDatabase

VARIABLE = "CODOMYRMEX_HOST_DIR"
SHARED_DIRECTORY = Path("/var/lib/codomyrmex")
_GROUP_FILE, _GROUP_FOLDER = 0o660, 0o770
# A transaction here takes a tenth of a millisecond. Who waits longer waits for a process that was stopped in one, and
# an engine goes on with what it has meanwhile.
_BUSY_TIMEOUT_S = 5.0

logger = get_logger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class LedgerPlace:
    """The files of one ledger; `mode` is that of its files."""

    path: Path
    holders: Path
    mode: int = 0o600

    def lock_path(self, holder: int) -> Path:
        """What this holder keeps locked while it lives."""
        return self.holders / f"{holder}.lock"


def ledger_directory(environ: Mapping[str, str]) -> Path:
    """The folder of the ledger that a process with this environment uses."""
    if given := environ.get(VARIABLE):
        return Path(os.path.abspath(os.path.expanduser(given)))
    if os.access(SHARED_DIRECTORY, os.W_OK | os.X_OK):
        return SHARED_DIRECTORY
    base = Path(environ.get("XDG_STATE_HOME", ""))
    if not base.is_absolute():
        home = environ.get("HOME")
        base = (Path(home) if home else Path.home()) / ".local" / "state"
    return base / "codomyrmex"


def ledger_place(directory: Path) -> LedgerPlace:
    """The files of the ledger in a folder; in the shared one each group has its own."""
    if directory == SHARED_DIRECTORY:
        group = os.getegid()
        return LedgerPlace(
            path=directory / f"ledger-{group}.db", holders=directory / f"holders-{group}", mode=_GROUP_FILE
        )
    return LedgerPlace(path=directory / "ledger.db", holders=directory / "holders")


def open_ledger(place: LedgerPlace | None) -> Database:
    """Opens (or makes) a ledger; None is one in memory. Raises a `StoreError` that says the way out."""
    if place is None:
        return MemoryDatabase(kind=LEDGER)
    before = _inode(place.path)
    try:
        database = _opened(place)
    except StoreCorrupt as error:
        # Only what the driver calls damaged: a sound database of another kind is somebody's.
        if error.__cause__ is None:
            raise StoreCorrupt(
                f"{place.path} is a database, but not the ledger of a host",
                hint=f"move it away, or name another folder with {VARIABLE}",
            ) from error
        _put_aside(place, before)
        database = _opened(place)
    _make_holders(place)
    return database


def _opened(place: LedgerPlace) -> Database:
    try:
        database = SQLiteDatabase.open(
            place.path,
            Durability.PROCESS,
            busy_timeout_s=_BUSY_TIMEOUT_S,
            kind=replace(LEDGER, mode=place.mode),
        )
    except StoreTooNew as error:
        raise StoreTooNew(
            f"the ledger of this host, {place.path}, was written by a newer codomyrmex",
            hint="use that version here too, or delete the ledger when no engine runs on this host",
        ) from error
    except StoreIOError as error:
        raise StoreIOError(
            f"the ledger of this host cannot be used: {error}",
            hint=(
                f"name a folder on a local disk with {VARIABLE}, or leave the other engines of this host out of"
                " account: resources.scope = project"
            ),
        ) from error
    try:
        found = database.query("PRAGMA quick_check(1)")
        if found != [("ok",)]:
            raise StoreCorrupt(f"{place.path} is damaged ({found[0][0]})") from StoreError(str(found))
    except BaseException:
        database.close()
        raise
    return database


def _put_aside(place: LedgerPlace, seen: int | None) -> None:
    """Moves a damaged ledger away; `seen` is the file that was found damaged."""
    lock = FileLock(os.path.splitext(place.path)[0] + ".lock", place.mode)
    try:
        if not lock.acquire(_BUSY_TIMEOUT_S):
            raise StoreBusy(f"another process keeps the ledger of this host, {place.path}, to itself")
        if _inode(place.path) != seen:
            return  # somebody else has just done it
        if any(not EngineLock.is_free(path) for path in place.holders.glob("*.lock")):
            raise StoreCorrupt(
                f"the ledger of this host, {place.path}, is damaged, and there are engines that use it",
                hint="end all engines on this host, then delete it (with its -wal and -shm)",
            )
        aside = f"{place.path}.damaged"
        with guard.permitted():
            for ending in ("-wal", "-shm", ""):
                if os.path.lexists(f"{place.path}{ending}"):
                    os.replace(f"{place.path}{ending}", f"{aside}{ending}")
        logger.warning("the ledger of this host was damaged and is begun anew; the old one is %s", aside)
    finally:
        lock.close()


def _make_holders(place: LedgerPlace) -> None:
    folder_mode = _GROUP_FOLDER if place.mode == _GROUP_FILE else 0o700
    try:
        if not place.holders.is_dir():
            place.holders.mkdir(mode=0o700, exist_ok=True)
            place.holders.chmod(folder_mode)
    except OSError as error:
        raise StoreIOError(
            f"{place.holders} cannot be made: {error}", hint=f"name another folder with {VARIABLE}"
        ) from error


def _inode(path: Path) -> int | None:
    try:
        return path.stat().st_ino
    except (FileNotFoundError, NotADirectoryError):
        return None
