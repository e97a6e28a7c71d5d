"""The state in a file: how it is made, found, opened, closed, and what its faults say."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable
from pathlib import Path

import apsw
import pytest

from codomyrmex.exceptions import (
    StoreBusy,
    StoreCorrupt,
    StoreError,
    StoreFull,
    StoreIOError,
    StoreTooNew,
)
from codomyrmex.logistics.storage.database import Durability, StoreConstraint, Transaction
from codomyrmex.logistics.storage.faults import translated
from codomyrmex.logistics.storage.location import file_system, refuse_network_file_system
from codomyrmex.logistics.storage.migrations import APPLICATION_ID, known_migrations
from codomyrmex.logistics.storage.sqlite import SQLiteDatabase

PUT = "INSERT INTO meta(key, value) VALUES (?, ?)"


def test_a_new_state_is_readable_by_its_owner_only(state: SQLiteDatabase, path: Path) -> None:
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    modes = {file.name: stat.S_IMODE(file.stat().st_mode) for file in path.parent.iterdir()}
    assert modes == dict.fromkeys(("state.db", "state.db-shm", "state.db-wal", "state.lock"), 0o600)


def test_a_state_keeps_what_it_was_given_when_opened_again(path: Path) -> None:
    for number in range(3):
        state = SQLiteDatabase.open(path)
        assert len(state.query("SELECT * FROM meta")) == number
        with state.transaction() as transaction:
            transaction.execute(PUT, (str(number), "x"))
        state.close()


def test_the_last_engine_to_leave_leaves_one_tidy_file(path: Path) -> None:
    SQLiteDatabase.open(path).close()
    assert sorted(os.listdir(path.parent)) == ["state.db", "state.lock"]


def test_two_databases_on_one_file_see_each_other(path: Path) -> None:
    one, two = SQLiteDatabase.open(path), SQLiteDatabase.open(path)
    before = two.version()
    with one.transaction() as transaction:
        transaction.execute(PUT, ("a", "x"))
    assert two.version() != before
    assert two.query("SELECT key FROM meta") == [("a",)]
    one.close()
    with two.transaction() as transaction:
        transaction.execute(PUT, ("b", "x"))
    two.close()


def test_a_client_reads_and_writes_a_state_and_leaves_the_log_alone(
    state: SQLiteDatabase, path: Path
) -> None:
    with state.transaction() as transaction:
        transaction.execute(PUT, ("a", "x"))
    client = SQLiteDatabase.open_existing(path)
    assert client.query("SELECT key FROM meta") == [("a",)]
    with client.transaction(barrier=True) as transaction:
        transaction.execute(PUT, ("b", "x"))
    state.close()
    client.close()
    assert (path.parent / "state.db-wal").stat().st_size > 0
    again = SQLiteDatabase.open(path)
    assert again.query("SELECT count(*) FROM meta") == [(2,)]
    again.close()


def test_a_client_makes_no_state(path: Path) -> None:
    with pytest.raises(StoreIOError, match="there is no state"):
        SQLiteDatabase.open_existing(path)
    assert not path.parent.exists()


def test_a_query_cannot_write(state: SQLiteDatabase) -> None:
    with pytest.raises(StoreError):
        state.query(PUT, ("a", "x"))
    assert state.query("SELECT * FROM meta") == []


def test_a_commit_of_another_connection_does_not_move_a_reader_back(state: SQLiteDatabase) -> None:
    for number in range(50):
        with state.transaction() as transaction:
            transaction.execute(PUT, (str(number), "x"))
        assert state.query("SELECT count(*) FROM meta") == [(number + 1,)]
        assert state.checkpoint() == 0


def test_a_log_that_grew_too_long_is_emptied(
    state: SQLiteDatabase, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("codomyrmex.logistics.storage.sqlite._LOG_LIMIT_PAGES", 10)
    log = Path(f"{path}-wal")
    sizes = []
    for _ in range(5):
        with state.transaction() as transaction:
            transaction.execute_many(
                "INSERT OR REPLACE INTO meta VALUES (?, ?)", [(str(n), "x" * 900) for n in range(100)]
            )
        assert state.checkpoint() == 0
        sizes.append(log.stat().st_size)
    assert len(set(sizes[1:])) == 1


# -- faults


def test_a_full_disk_is_told_and_takes_nothing_back(state: SQLiteDatabase) -> None:
    with state.transaction() as transaction:
        transaction.execute(PUT, ("a", "x"))
        ((pages,),) = transaction.execute("PRAGMA page_count")
    with state.transaction() as transaction:
        transaction.execute(f"PRAGMA max_page_count={pages + 2}")
    with pytest.raises(StoreFull, match="no space left") as caught, state.transaction() as transaction:
        transaction.execute(PUT, ("b", "y" * 100_000))
    assert "free some space" in (caught.value.hint or "")
    assert state.query("SELECT key FROM meta") == [("a",)]
    with state.transaction() as transaction:
        transaction.execute("PRAGMA max_page_count=1000000")
        transaction.execute(PUT, ("b", "y" * 100_000))
    assert state.query("SELECT key FROM meta") == [("a",), ("b",)]


def write_on_after_a_fault(transaction: Transaction) -> None:
    transaction.execute(PUT, ("a", "x"))
    with pytest.raises(StoreConstraint):
        transaction.execute("INSERT OR ROLLBACK INTO meta VALUES ('b', NULL)")
    with pytest.raises(StoreConstraint):
        transaction.execute(PUT, ("c", "x"))
    with pytest.raises(StoreConstraint), transaction.savepoint():
        pass


def test_after_sqlite_ended_a_transaction_it_writes_no_more_and_its_end_says_so(
    state: SQLiteDatabase,
) -> None:
    with pytest.raises(StoreConstraint, match="NOT NULL"), state.transaction() as transaction:
        write_on_after_a_fault(transaction)
    assert state.query("SELECT * FROM meta") == []


def test_a_file_that_is_no_database_is_named_as_such(path: Path) -> None:
    path.parent.mkdir()
    path.write_bytes(b"this is not a database at all, but long enough to be read as one" * 100)
    with pytest.raises(StoreCorrupt, match=r"state\.db is damaged, or not a state") as caught:
        SQLiteDatabase.open(path)
    assert "move it away" in (caught.value.hint or "")
    assert path.read_bytes().startswith(b"this is not")


def test_a_damaged_page_is_told_when_it_is_read(path: Path) -> None:
    state = SQLiteDatabase.open(path)
    with state.transaction() as transaction:
        transaction.execute_many(PUT, [(str(n), "x" * 500) for n in range(100)])
    state.close()
    content = bytearray(path.read_bytes())
    for page in range(60, len(content) // 2048):  # those before hold the schema
        content[page * 2048 : page * 2048 + 200] = b"\xff" * 200
    path.write_bytes(content)
    state = SQLiteDatabase.open(path)
    with pytest.raises(StoreCorrupt):
        state.query("SELECT * FROM meta")
    state.close()


@pytest.mark.parametrize(
    "sql", ["CREATE TABLE theirs(a)", "PRAGMA application_id=7", "PRAGMA user_version=7"]
)
def test_a_database_of_another_program_is_refused_and_left_as_it_was(path: Path, sql: str) -> None:
    path.parent.mkdir()
    other = apsw.Connection(str(path))
    list(other.execute(sql))
    other.close()
    before = path.read_bytes()
    for opening in (SQLiteDatabase.open, SQLiteDatabase.open_existing):
        with pytest.raises(StoreCorrupt, match="another program"):
            opening(path)
    assert path.read_bytes() == before


def test_a_state_of_a_newer_version_is_refused_and_left_as_it_was(path: Path) -> None:
    path.parent.mkdir()
    newer = apsw.Connection(str(path))
    list(newer.execute(f"PRAGMA application_id={APPLICATION_ID}; PRAGMA user_version=99; CREATE TABLE a(b)"))
    newer.close()
    before = path.read_bytes()
    for opening in (SQLiteDatabase.open, SQLiteDatabase.open_existing):
        with pytest.raises(StoreTooNew, match=f"schema 99.*up to {len(known_migrations())}"):
            opening(path)
    assert path.read_bytes() == before


def test_a_symbolic_link_is_no_state_but_may_stand_above_one(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "folder").symlink_to(tmp_path / "real")
    state = SQLiteDatabase.open(tmp_path / "folder" / "state.db")
    assert state.path == str((tmp_path / "real" / "state.db").resolve())
    state.close()
    (tmp_path / "state.db").symlink_to(tmp_path / "real" / "state.db")
    with pytest.raises(StoreIOError, match="symbolic link"):
        SQLiteDatabase.open(tmp_path / "state.db")


def test_a_place_that_cannot_be_made_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreIOError, match="cannot be made"):
        SQLiteDatabase.open(tmp_path / "file" / "state.db")


def test_a_lock_that_is_not_had_in_time_is_told_without_the_drivers_words(path: Path) -> None:
    holder = SQLiteDatabase.open(path)
    waiter = SQLiteDatabase.open(path, busy_timeout_s=0.05)
    with holder.transaction() as transaction:
        transaction.execute(PUT, ("a", "x"))
        with pytest.raises(StoreBusy, match="kept the state") as caught, waiter.transaction():
            pass
        assert "database is locked" not in str(caught.value)
    with waiter.transaction() as transaction:
        transaction.execute(PUT, ("b", "x"))
    waiter.close()
    holder.close()


MOUNTS = b"""\
22 1 254:0 / / rw,relatime - ext4 /dev/vda rw
30 22 0:40 / /home rw,relatime shared:1 - nfs4 server:/home rw
31 30 8:1 / /home/local rw - xfs /dev/sda1 rw
32 22 0:41 / /mnt/with\\040space rw - fuse.sshfs host: rw
33 22 0:42 / /hidden rw - ext4 /dev/a rw
34 22 0:43 / /hidden rw - cifs //b rw
"""


@pytest.mark.parametrize(
    ("place", "kind"),
    [
        ("/state.db", "ext4"),
        ("/homes/state.db", "ext4"),
        ("/home/me/state.db", "nfs4"),
        ("/home/local/p/state.db", "xfs"),
        ("/mnt/with space/state.db", "fuse.sshfs"),
        ("/hidden/state.db", "cifs"),
    ],
)
def test_the_file_system_of_a_place_is_that_of_the_nearest_mount(
    tmp_path: Path, place: str, kind: str
) -> None:
    (tmp_path / "mountinfo").write_bytes(MOUNTS)
    assert file_system(place, str(tmp_path / "mountinfo")) == kind
    assert file_system(place, str(tmp_path / "none")) is None


def test_a_network_file_system_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("codomyrmex.logistics.storage.location.file_system", lambda path: "nfs4")
    with pytest.raises(StoreIOError, match=r"/p is on a network file system \(nfs4\)"):
        refuse_network_file_system("/p/state.db")


@pytest.mark.parametrize(
    ("error", "number", "expected"),
    [
        (apsw.BusyError("database is locked"), 0, StoreBusy),
        (apsw.LockedError(), 0, StoreBusy),
        (apsw.ProtocolError(), 0, StoreBusy),
        (apsw.FullError(), 0, StoreFull),
        (apsw.IOError(), 28, StoreFull),
        (apsw.IOError(), 27, StoreFull),
        (apsw.IOError(), 5, StoreIOError),
        (apsw.CantOpenError(), 13, StoreIOError),
        (apsw.ReadOnlyError(), 0, StoreIOError),
        (apsw.CorruptError(), 0, StoreCorrupt),
        (apsw.NotADBError(), 0, StoreCorrupt),
        (apsw.SQLError("no such table"), 0, StoreError),
        (apsw.NoMemError(), 0, StoreError),
    ],
)
def test_each_error_of_the_driver_has_a_name_of_ours(
    error: apsw.Error, number: int, expected: type[StoreError]
) -> None:
    fault = translated(error, "/p/state.db", system_errno=number)
    assert type(fault) is expected
    assert "/p/state.db" in str(fault)
    assert "database is locked" not in str(fault)


def test_durability_is_read_from_its_name() -> None:
    assert [Durability(name) for name in ("process", "barrier", "power")] == list(Durability)


def test_another_process_finds_the_state_up_to_date(path: Path, script: Callable[..., str]) -> None:
    opens = """
        import sys
        from codomyrmex.logistics.storage.sqlite import SQLiteDatabase
        state = SQLiteDatabase.open(sys.argv[1])
        print(*state.query("PRAGMA user_version")[0])
        state.close()
    """
    latest = str(known_migrations()[-1].number)
    assert [script(opens, path) for _ in range(2)] == [latest, latest]
