"""`files.*` stay inside their root, follow no link, and leave the state alone."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from codomyrmex.logistics.orchestration.project import values
from codomyrmex.logistics.orchestration.project.actions import files
from codomyrmex.logistics.orchestration.project.executors.attempt import Attempt
from codomyrmex.logistics.orchestration.project.executors.process import ProcessExecutor
from codomyrmex.logistics.orchestration.project.executors.thread import ThreadExecutor


@pytest.fixture(autouse=True)
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "root"
    (folder / "a" / "deep").mkdir(parents=True)
    (folder / "a" / "one.txt").write_text("one")
    (folder / "a" / "deep" / "two.txt").write_text("two")
    (folder / "a" / ".hidden").write_text("h")
    (folder / ".codomyrmex").mkdir()
    (folder / ".codomyrmex" / "state.db").write_text("state")
    (folder / "a" / ".codomyrmex").mkdir()
    (folder / "a" / ".codomyrmex" / "state.db").write_text("state")
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside" / "secret.txt").write_text("secret")
    (folder / "link").symlink_to(tmp_path / "outside")
    (folder / "link.txt").symlink_to(tmp_path / "outside" / "secret.txt")
    monkeypatch.chdir(folder)
    return folder


def test_read_write_and_checksum(root: Path) -> None:
    assert files.write("new/x.txt", "é\n") == {"path": "new/x.txt", "size_bytes": 3}
    assert files.read("new/x.txt") == {"path": "new/x.txt", "content": "é\n", "size_bytes": 3}
    assert files.read(str(root / "new" / "x.txt"), encoding=None)["content"] == "é\n".encode()
    assert files.write("new/x.txt", b"more", append=True)["size_bytes"] == 4
    expected = hashlib.sha256("é\nmore".encode()).hexdigest()
    assert files.checksum("new/x.txt")["checksum"] == expected
    assert os.listdir(root / "new") == ["x.txt"]
    with pytest.raises(FileExistsError):
        files.write("new/x.txt", "again", overwrite=False)
    with pytest.raises(ValueError, match="max_bytes"):
        files.read("new/x.txt", max_bytes=3)


def test_copy_and_move_of_files_and_folders(root: Path) -> None:
    assert files.copy("a", "b") == {"path": "b", "files": 3, "size_bytes": 7}
    assert not (root / "b" / ".codomyrmex").exists()
    assert (root / "b" / "deep" / "two.txt").read_text() == "two"
    files.move("b/one.txt", "c/renamed.txt")
    assert (root / "c" / "renamed.txt").read_text() == "one"
    with pytest.raises(FileExistsError):
        files.copy("c/renamed.txt", "b/deep/two.txt")
    files.copy("c/renamed.txt", "b/deep/two.txt", overwrite=True)
    assert (root / "b" / "deep" / "two.txt").read_text() == "one"
    with pytest.raises(IsADirectoryError):
        files.move("c", "b", overwrite=True)
    with pytest.raises(files.PathRefused, match="inside it"):
        files.move("b", "b/deep/b")
    with pytest.raises(FileNotFoundError):
        files.copy("absent", "made/for/nothing")
    assert not (root / "made").exists()


def test_remove_wants_to_be_told_of_folders_and_takes_links_not_their_targets(
    root: Path, tmp_path: Path
) -> None:
    files.copy("a", "b")
    with pytest.raises(OSError, match="not empty"):
        files.remove("b")
    assert files.remove("b", recursive=True) == {"path": "b", "removed": 5}
    assert files.remove("link")["removed"] == 1
    assert (tmp_path / "outside" / "secret.txt").exists()
    assert files.remove("b", missing_ok=True)["removed"] == 0
    with pytest.raises(FileNotFoundError):
        files.remove("b")


def test_a_folder_that_holds_the_state_is_not_removed(root: Path) -> None:
    with pytest.raises(files.PathRefused):
        files.remove("a", recursive=True)
    assert (root / "a" / ".codomyrmex" / "state.db").exists()
    assert (root / "a" / "deep" / "two.txt").exists()


@pytest.mark.parametrize(
    ("pattern", "found"),
    [
        ("a/*.txt", ["a/one.txt"]),
        ("**/*.txt", ["a/deep/two.txt", "a/one.txt", "link.txt"]),
        ("a/**", ["a/deep/two.txt", "a/one.txt"]),
        ("**/.h*", ["a/.hidden"]),
        ("absent/*", []),
        ("*", ["link", "link.txt"]),
    ],
)
def test_glob_lists_matching_files_without_entering_links_or_the_state(
    pattern: str, found: list[str]
) -> None:
    assert files.glob(pattern) == {"files": found, "count": len(found)}


def test_glob_can_list_folders_too() -> None:
    assert "a/deep" in files.glob("a/*", include_folders=True)["files"]


@pytest.mark.parametrize(
    "path",
    ["../outside/secret.txt", "/etc/passwd", "a/../../x", "link/secret.txt", ".codomyrmex/state.db", "a\0b"],
)
@pytest.mark.parametrize(
    "use",
    [
        files.read,
        files.checksum,
        files.remove,
        lambda path: files.write(path, "x"),
        lambda path: files.copy("a/one.txt", path),
        lambda path: files.copy(path, "got"),
        lambda path: files.move(path, "got"),
        lambda path: files.move("a/one.txt", path),
    ],
)
def test_no_path_leads_out_or_to_the_state(
    path: str, use: Callable[[str], Any], root: Path, tmp_path: Path
) -> None:
    with pytest.raises(files.PathRefused):
        use(path)
    assert (tmp_path / "outside" / "secret.txt").read_text() == "secret"
    assert os.listdir(tmp_path / "outside") == ["secret.txt"]
    assert (root / ".codomyrmex" / "state.db").read_text() == "state"
    assert not (root / "got").exists()


@pytest.mark.parametrize("use", [files.read, files.checksum])
def test_a_link_is_not_read(use: Callable[[str], Any]) -> None:
    with pytest.raises(files.PathRefused, match="symbolic link"):
        use("link.txt")


def test_writing_over_a_link_replaces_the_link(root: Path, tmp_path: Path) -> None:
    files.write("link.txt", "mine")
    assert (root / "link.txt").read_text() == "mine"
    assert (tmp_path / "outside" / "secret.txt").read_text() == "secret"


def test_the_root_itself_cannot_be_removed_or_moved() -> None:
    for use in (lambda: files.remove(".", recursive=True), lambda: files.move(".", "x")):
        with pytest.raises(files.PathRefused):
            use()


def test_the_root_is_the_attempts_folder_in_a_thread_and_in_a_worker(
    make: Callable[..., Attempt], executor: ProcessExecutor, project: Path
) -> None:
    options = {"module": "codomyrmex.logistics.orchestration.project.actions.files"}
    written = ThreadExecutor().run(make("write", options, path="t.txt", content="x"))
    assert written.error is None
    found = executor.run(make("glob", {"module": "files"}, pattern="*.txt"))
    assert values.decode(found.result or b"") == {"files": ["t.txt"], "count": 1}
    assert (project / "t.txt").exists()
