"""What reaches the disk at a commit, seen by a layer below SQLite that counts and fails syncs."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import apsw
import pytest

from codomyrmex.exceptions import StoreFull, StoreIOError
from codomyrmex.logistics.storage.database import Durability
from codomyrmex.logistics.storage.sqlite import SQLiteDatabase

PUT = "INSERT INTO meta(key, value) VALUES (?, ?)"


class WatchedFile(apsw.VFSFile):
    """A file of the log or the database; `disk` hears of its syncs and writes."""

    def __init__(self, disk: Disk, name: Any, flags: list[int]) -> None:
        super().__init__("", name, flags)
        self.disk = disk
        self.kind = "log" if flags[0] & apsw.SQLITE_OPEN_WAL else "main"

    def xSync(self, flags: int) -> None:
        self.disk.hear("sync", self.kind)
        super().xSync(flags)

    def xWrite(self, data: bytes, offset: int) -> None:
        self.disk.hear("write", self.kind)
        super().xWrite(data, offset)


class Disk(apsw.VFS):
    """Counts syncs; `failure` says which call raises what."""

    def __init__(self) -> None:
        super().__init__("watched", "")
        self.syncs: dict[str, int] = {"log": 0, "main": 0}
        self.failure: tuple[str, str, type[apsw.Error]] | None = None

    def xOpen(self, name: Any, flags: list[int]) -> WatchedFile:
        return WatchedFile(self, name, flags)

    def hear(self, what: str, kind: str) -> None:
        if self.failure is not None and self.failure[:2] == (what, kind):
            raise self.failure[2]()
        if what == "sync":
            self.syncs[kind] += 1

    def syncs_in(self, act: Callable[[], object]) -> int:
        """How often the log was synced while `act` ran."""
        before = self.syncs["log"]
        act()
        return self.syncs["log"] - before


@pytest.fixture
def disk() -> Iterator[Disk]:
    made = Disk()
    yield made
    made.unregister()


def opened(path: Path, durability: str) -> SQLiteDatabase:
    state = SQLiteDatabase.open(path, Durability(durability), vfs="watched")
    assert isinstance(state, SQLiteDatabase)
    with state.transaction() as transaction:
        transaction.execute(PUT, ("first", "x"))
    return state


def writing(state: SQLiteDatabase, *, barrier: bool = False) -> Callable[[], None]:
    def act() -> None:
        with state.transaction(barrier=barrier) as transaction:
            transaction.execute("INSERT OR REPLACE INTO meta VALUES ('n', 'x')")

    return act


@pytest.mark.parametrize(
    ("durability", "plain", "at_barrier"), [("process", 0, 0), ("barrier", 0, 1), ("power", 1, 1)]
)
def test_a_commit_is_synced_as_its_level_says(
    disk: Disk, path: Path, durability: str, plain: int, at_barrier: int
) -> None:
    state = opened(path, durability)
    assert [disk.syncs_in(writing(state)) for _ in range(3)] == [plain] * 3
    assert [disk.syncs_in(writing(state, barrier=True)) for _ in range(2)] == [at_barrier] * 2
    assert disk.syncs_in(writing(state)) == plain
    state.close()


@pytest.mark.parametrize(("durability", "number"), [("process", "1"), ("barrier", "1"), ("power", "2")])
def test_the_setting_is_in_force_inside_the_transaction(path: Path, durability: str, number: str) -> None:
    state = SQLiteDatabase.open(path, Durability(durability))
    with state.transaction() as transaction:
        assert transaction.execute("PRAGMA synchronous") == [(int(number),)]
        assert transaction.execute("PRAGMA journal_mode") == [("wal",)]
        assert transaction.execute("PRAGMA wal_autocheckpoint") == [(0,)]
        assert transaction.execute("PRAGMA mmap_size") in ([], [(0,)])
    with state.transaction(barrier=True) as transaction:
        assert transaction.execute("PRAGMA synchronous") == [(1 if durability == "process" else 2,)]
    state.close()


def test_a_barrier_syncs_once_what_is_open_and_then_nothing(disk: Disk, path: Path) -> None:
    state = opened(path, "barrier")
    assert disk.syncs_in(state.barrier) == 1
    assert disk.syncs_in(state.barrier) == 0
    writing(state)()
    assert disk.syncs_in(state.barrier) == 1
    state.close()


@pytest.mark.parametrize("durability", ["process", "power"])
def test_a_barrier_is_free_where_it_cannot_add_anything(disk: Disk, path: Path, durability: str) -> None:
    state = opened(path, durability)
    writing(state)()
    assert disk.syncs_in(state.barrier) == 0
    state.close()


def test_a_barrier_transaction_that_wrote_nothing_still_syncs_what_came_before(
    disk: Disk, path: Path
) -> None:
    state = opened(path, "barrier")

    def nothing() -> None:
        with state.transaction(barrier=True) as transaction:
            transaction.execute("UPDATE meta SET value = 'y' WHERE key = 'missing'")

    def undone() -> None:
        with state.transaction(barrier=True) as transaction:
            part = transaction.savepoint()
            part.__enter__()
            transaction.execute(PUT, ("undone", "x"))
            part.__exit__(ValueError, ValueError(), None)

    for act in (nothing, undone):
        writing(state)()
        assert disk.syncs_in(act) == 1
    state.close()


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux keeps its word with fdatasync")
def test_commits_go_on_while_a_barrier_waits_for_the_disk(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    state = SQLiteDatabase.open(path, Durability.BARRIER)
    synced: list[str] = []

    def sync(descriptor: int) -> None:
        synced.append(os.readlink(f"/proc/self/fd/{descriptor}"))
        if len(synced) == 1:
            writing(state)()  # would wait for ever if the barrier held writers back

    monkeypatch.setattr(os, "fdatasync", sync)
    writing(state, barrier=True)()  # the first sync is SQLite's own: it also syncs the log's name
    assert synced == []
    writing(state)()
    for expected in (1, 2, 2):  # what was committed meanwhile still has to be synced; then there is nothing
        state.barrier()
        assert synced == [f"{path}-wal"] * expected
    state.close()


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux keeps its word with fdatasync")
def test_a_barrier_that_failed_says_so_and_is_tried_again(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    state = SQLiteDatabase.open(path, Durability.BARRIER)
    writing(state, barrier=True)()
    writing(state)()

    def fail(_descriptor: int) -> None:
        raise OSError(5, "Input/output error")

    with monkeypatch.context() as broken:
        broken.setattr(os, "fdatasync", fail)
        with pytest.raises(StoreIOError, match="could not be synced"):
            state.barrier()
    synced: list[int] = []
    monkeypatch.setattr(os, "fdatasync", synced.append)
    state.barrier()
    assert len(synced) == 1
    state.close()


def test_no_commit_moves_the_log_and_a_checkpoint_does(disk: Disk, path: Path) -> None:
    state = opened(path, "barrier")
    before = disk.syncs["main"]
    with state.transaction() as transaction:
        transaction.execute_many(PUT, [(str(n), "x" * 3000) for n in range(3000)])
    assert disk.syncs["main"] == before
    assert state.checkpoint() == 0
    assert disk.syncs["main"] > before
    state.close()


def test_a_commit_whose_sync_failed_says_that_its_outcome_is_unknown(disk: Disk, path: Path) -> None:
    state = opened(path, "barrier")
    disk.failure = ("sync", "log", apsw.IOError)
    with pytest.raises(StoreIOError) as caught:
        writing(state, barrier=True)()
    assert caught.value.outcome_unknown
    disk.failure = None
    writing(state, barrier=True)()
    assert state.query("SELECT key FROM meta ORDER BY key") == [("first",), ("n",)]
    state.close()


@pytest.mark.parametrize(("error", "named"), [(apsw.FullError, StoreFull), (apsw.IOError, StoreIOError)])
def test_a_commit_that_cannot_be_written_leaves_the_state_as_it_was(
    disk: Disk, path: Path, error: type[apsw.Error], named: type[Exception]
) -> None:
    state = opened(path, "barrier")
    disk.failure = ("write", "log", error)
    with pytest.raises(named):
        writing(state)()
    assert state.query("SELECT key FROM meta") == [("first",)]
    disk.failure = None
    writing(state)()
    state.close()
    again = SQLiteDatabase.open(path)
    assert again.query("SELECT count(*) FROM meta") == [(2,)]
    again.close()
