"""The steps between schemas: applied once and in order, each whole or not at all, after a copy."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import apsw
import pytest

from codomyrmex.exceptions import StoreError
from codomyrmex.logistics.storage.database import Durability
from codomyrmex.logistics.storage.migrations import Migration, known_migrations
from codomyrmex.logistics.storage.sqlite import SQLiteDatabase

Steps = Callable[..., list[Migration]]


@pytest.fixture
def steps(tmp_path: Path) -> Steps:
    """The first steps of a made-up history, written out as files."""

    def write(*scripts: str) -> list[Migration]:
        folder = tmp_path / "steps"
        folder.mkdir(exist_ok=True)
        for number, script in enumerate(scripts, start=1):
            (folder / f"{number:04}_step.sql").write_text(script)
        return known_migrations(str(folder))

    return write


ONE = "CREATE TABLE a(x); INSERT INTO a VALUES (1);"
TWO = "ALTER TABLE a ADD COLUMN y; UPDATE a SET y = x + 1;"


def test_our_own_steps_are_numbered_without_a_gap() -> None:
    known = known_migrations()
    assert known[0].name == "initial"
    assert all("BEGIN IMMEDIATE" not in step.sql() for step in known)


def test_steps_with_a_gap_are_refused(tmp_path: Path) -> None:
    (tmp_path / "0002_late.sql").write_text("")
    with pytest.raises(ValueError, match="not numbered"):
        known_migrations(str(tmp_path))


@pytest.mark.parametrize("opening", ["engine", "client"])
def test_an_older_state_is_brought_up_to_date_after_a_copy(path: Path, steps: Steps, opening: str) -> None:
    SQLiteDatabase.open(path, migrations=steps(ONE)).close()
    both = steps(ONE, TWO)
    state = (SQLiteDatabase.open if opening == "engine" else SQLiteDatabase.open_existing)(
        path, migrations=both
    )
    assert state.query("SELECT x, y FROM a") == [(1, 2)]
    assert state.query("PRAGMA user_version") == [(2,)]
    state.close()
    copy = apsw.Connection(str(path.parent / "state.db.schema-1"), flags=apsw.SQLITE_OPEN_READONLY)
    assert list(copy.execute("SELECT * FROM a")) == [(1,)]
    assert list(copy.execute("PRAGMA user_version")) == [(1,)]
    copy.close()


def test_a_copy_can_be_put_back_and_is_brought_up_to_date_again(path: Path, steps: Steps) -> None:
    SQLiteDatabase.open(path, migrations=steps(ONE)).close()
    SQLiteDatabase.open(path, migrations=steps(ONE, TWO)).close()
    (path.parent / "state.db.schema-1").rename(path)
    state = SQLiteDatabase.open(path, migrations=steps(ONE, TWO))
    assert state.query("SELECT x, y FROM a") == [(1, 2)]
    with state.transaction() as transaction:
        assert transaction.execute("PRAGMA journal_mode") == [("wal",)]
    state.close()


def test_a_new_state_takes_all_steps_and_no_copy(path: Path, steps: Steps) -> None:
    state = SQLiteDatabase.open(path, migrations=steps(ONE, TWO))
    assert state.query("SELECT * FROM a") == [(1, 2)]
    state.close()
    assert not list(path.parent.glob("*schema*"))


def test_a_step_that_fails_leaves_the_state_at_the_step_before(path: Path, steps: Steps) -> None:
    SQLiteDatabase.open(path, migrations=steps(ONE)).close()
    with pytest.raises(StoreError, match="nowhere"):
        SQLiteDatabase.open(
            path, migrations=steps(ONE, TWO, "CREATE TABLE b(z); INSERT INTO nowhere VALUES (1);")
        )
    state = SQLiteDatabase.open(path, Durability.BARRIER, migrations=steps(ONE, TWO, "CREATE TABLE c(z);"))
    assert state.query("SELECT name FROM sqlite_schema ORDER BY name") == [("a",), ("c",)]
    state.close()


def test_memory_takes_the_same_steps(steps: Steps) -> None:
    state = SQLiteDatabase.open(":memory:", migrations=steps(ONE, TWO))
    assert state.query("SELECT * FROM a") == [(1, 2)]
    state.close()
