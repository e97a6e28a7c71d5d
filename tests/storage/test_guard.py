"""Nothing else in a process opens the files of a state that is open there; and what happens if it does."""

from __future__ import annotations

import os
import shutil
import sqlite3
import tarfile
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from codomyrmex.exceptions import StateFileGuarded
from codomyrmex.logistics.storage import guard
from codomyrmex.logistics.storage.guard import is_state_path
from codomyrmex.logistics.storage.sqlite import SQLiteDatabase


def open_by_name(path: Path | bytes) -> None:
    with open(path, "rb"):
        pass


def tar(path: Path) -> None:
    with tarfile.open(path.parent.parent / "all.tar", "w") as archive:
        archive.add(path.parent)


def open_from_folder(path: Path) -> None:
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.close(os.open(path.name, os.O_RDONLY, dir_fd=folder))
    finally:
        os.close(folder)


def unlink_from_folder(path: Path) -> None:
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.unlink(path.name, dir_fd=folder)
    finally:
        os.close(folder)


def open_by_relative_name(path: Path) -> None:
    with open(path, "rb", opener=lambda name, flags: os.open(os.path.relpath(name), flags)):
        pass


def open_by_symbolic_link(path: Path) -> None:
    link = path.parent.parent / "innocent"
    link.symlink_to(path)
    link.read_bytes()


def move_over(path: Path) -> None:
    other = path.parent.parent / "other"
    other.write_text("")
    other.replace(path)


WAYS: dict[str, Callable[[Path], object]] = {
    "open": open_by_name,
    "open bytes": lambda path: open_by_name(os.fsencode(path)),
    "os.open": lambda path: os.open(path, os.O_RDONLY),
    "read_bytes": lambda path: path.read_bytes(),
    "log": lambda path: Path(f"{path}-wal").read_bytes(),
    "index": lambda path: Path(f"{path}-shm").read_bytes(),
    "lock": lambda path: path.with_suffix(".lock").read_bytes(),
    "sqlite3": sqlite3.connect,
    "sqlite3 uri": lambda path: sqlite3.connect(f"file:{path}?mode=ro", uri=True),
    "tar": tar,
    "unlinked by a walk": unlink_from_folder,
    "copy": lambda path: shutil.copy(path, path.parent.parent / "copy"),
    "copytree": lambda path: shutil.copytree(path.parent, path.parent.parent / "copy"),
    "rmtree": lambda path: shutil.rmtree(path.parent),
    "dir_fd": open_from_folder,
    "relative": open_by_relative_name,
    "dotted": lambda path: (path.parent / ".." / path.parent.name / path.name).read_bytes(),
    "symbolic link": open_by_symbolic_link,
    "hard link": lambda path: os.link(path, path.parent.parent / "hard"),
    "unlink": Path.unlink,
    "rename": lambda path: path.rename(path.parent / "other"),
    "rename folder": lambda path: path.parent.rename(path.parent.parent / "other"),
    "move over": move_over,
    "truncate": lambda path: os.truncate(path, 0),
}


@pytest.mark.parametrize("way", WAYS)
def test_no_way_leads_to_the_files_of_an_open_state(state: SQLiteDatabase, path: Path, way: str) -> None:
    with state.transaction() as transaction:
        transaction.execute("INSERT INTO meta VALUES ('a', 'x')")
    with pytest.raises((StateFileGuarded, shutil.Error), match="was refused") as caught:
        WAYS[way](path)
    assert "locks are gone and commits are lost" in str(caught.value)
    assert state.query("SELECT key FROM meta") == [("a",)]
    assert path.exists()


def test_the_refusal_says_what_to_do_and_is_a_permission_error(state: SQLiteDatabase, path: Path) -> None:
    with pytest.raises(PermissionError) as caught:
        path.read_bytes()
    assert isinstance(caught.value, StateFileGuarded)
    assert "through codomyrmex" in (caught.value.hint or "")


def test_a_hard_link_made_before_is_known_for_what_it_is(state: SQLiteDatabase, path: Path) -> None:
    with guard.permitted():
        os.link(path, path.parent / "hard")
    with pytest.raises(StateFileGuarded):
        (path.parent / "hard").read_bytes()


def test_another_thread_is_refused_too(state: SQLiteDatabase, path: Path) -> None:
    raised: list[BaseException] = []

    def step() -> None:
        try:
            sqlite3.connect(path)
        except StateFileGuarded as error:
            raised.append(error)

    thread = threading.Thread(target=step)
    thread.start()
    thread.join()
    assert len(raised) == 1


def test_everything_beside_the_files_stays_open_to_all(
    state: SQLiteDatabase, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    elsewhere = path.parent.parent / "elsewhere"
    elsewhere.mkdir()
    monkeypatch.chdir(elsewhere)
    Path("state.db").write_text("of somebody else")
    os.close(os.open("state.db", os.O_RDONLY))
    sqlite3.connect("file::memory:", uri=True).close()
    sqlite3.connect(":memory:").close()
    (path.parent / "notes.txt").write_text("beside the state")
    assert {"state.db", "notes.txt"} <= set(os.listdir(path.parent))
    os.close(os.open(path.parent, os.O_RDONLY))
    Path("state.db").unlink()
    shutil.rmtree(elsewhere)


def test_after_the_state_was_closed_its_files_are_ordinary(path: Path) -> None:
    one, two = SQLiteDatabase.open(path), SQLiteDatabase.open(path)
    one.close()
    with pytest.raises(StateFileGuarded):
        path.read_bytes()
    two.close()
    assert path.read_bytes().startswith(b"SQLite format 3")


def test_files_of_others_can_be_put_under_the_rule(tmp_path: Path) -> None:
    lock = str(tmp_path / "engine.lock")
    guard.protect([lock])
    with pytest.raises(StateFileGuarded):
        Path(lock).write_text("")
    guard.release([lock])
    Path(lock).write_text("")


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        (".codomyrmex", True),
        ("/p/.codomyrmex/state.db", True),
        ("p/.codomyrmex/runs/x.log", True),
        ("/p/codomyrmex/state.db", False),
        ("/p/.codomyrmex.yaml", False),
        ("", False),
    ],
)
def test_whoever_walks_through_folders_leaves_out_the_folder_of_the_state(path: str, expected: bool) -> None:
    assert is_state_path(path) is expected


def test_an_open_state_elsewhere_is_left_out_by_its_name(state: SQLiteDatabase, path: Path) -> None:
    assert is_state_path(path)
    assert not is_state_path(path.parent / "notes.txt")


LOSS = """
    import os, sqlite3, sys
    from codomyrmex.exceptions import StateFileGuarded
    from codomyrmex.logistics.storage import guard
    from codomyrmex.logistics.storage.sqlite import SQLiteDatabase

    def put(key):
        with state.transaction(barrier=True) as transaction:
            transaction.execute("INSERT INTO meta VALUES (?, 'x')", (key,))

    def look_in():
        other = sqlite3.connect(sys.argv[1])
        other.execute("SELECT * FROM meta").fetchall()
        other.close()

    state = SQLiteDatabase.open(sys.argv[1])
    put("before")
    if sys.argv[2] == "guarded":
        try:
            look_in()
        except StateFileGuarded:
            print("refused")
    else:
        with guard.permitted():
            look_in()
        print("looked in")
    put("after")
    print("committed", flush=True)
    os._exit(0)
"""


@pytest.mark.parametrize(
    ("way", "said", "kept"),
    [
        ("guarded", ["refused", "committed"], [("after",), ("before",)]),
        ("unguarded", ["looked in", "committed"], [("before",)]),
    ],
)
def test_without_the_guard_a_look_by_the_standard_library_loses_a_commit(
    path: Path, script: Callable[..., str], way: str, said: list[str], kept: list[tuple[str]]
) -> None:
    assert script(LOSS, path, way).split("\n") == said
    state = SQLiteDatabase.open(path)
    assert state.query("SELECT key FROM meta ORDER BY key") == kept
    state.close()
