"""What paths and patterns mean, and when a file is read again."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from codomyrmex.logistics.orchestration.project.file_hashes import FileHashes, InputMissing


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "data" / "deep" / "__pycache__").mkdir(parents=True)
    for name in ("a.csv", "data/b.csv", "data/deep/c.csv", "data/.hidden", "data/deep/__pycache__/x.csv"):
        (tmp_path / name).write_text(name)
    return tmp_path


@pytest.mark.parametrize(
    ("named", "found"),
    [
        (["a.csv"], ["a.csv"]),
        (["./data/../a.csv"], ["a.csv"]),
        (["data"], ["data/b.csv", "data/deep/c.csv"]),
        (["data/*.csv"], ["data/b.csv"]),
        (["**/[bc].csv"], ["data/b.csv", "data/deep/c.csv"]),
        (["data/*.csv", "a.csv", "data/b.csv"], ["a.csv", "data/b.csv"]),
    ],
)
def test_paths_folders_and_patterns_mean_files_in_order(
    folder: Path, named: list[str], found: list[str]
) -> None:
    assert list(FileHashes().of_all(named, str(folder))) == found


@pytest.mark.parametrize("named", ["gone.csv", "*.gone", "data/empty", ""])
def test_what_matches_nothing_is_refused(folder: Path, named: str) -> None:
    (folder / "data" / "empty").mkdir()
    with pytest.raises(InputMissing):
        FileHashes().of_all([named], str(folder))


def test_a_pipe_and_the_state_are_refused_and_not_opened(folder: Path) -> None:
    os.mkfifo(folder / "pipe")
    (folder / ".codomyrmex").mkdir()
    (folder / ".codomyrmex" / "state.db").write_text("not to be touched")
    for name in ("pipe", ".codomyrmex/state.db"):
        with pytest.raises(InputMissing):
            FileHashes().of_all([name], str(folder))


def test_a_file_that_nobody_touched_is_read_once(folder: Path) -> None:
    path = folder / "a.csv"
    os.utime(path, ns=(10**18, 10**18))
    hashes = FileHashes()
    before = hashes.of(str(path))
    assert hashes.of(str(path)) == before
    stamp = path.stat()
    path.write_text("b.csv")  # as long as before
    os.utime(path, ns=(stamp.st_atime_ns, stamp.st_mtime_ns))
    assert hashes.of(str(path)) != before, "the time of its last change of status tells"


def test_a_name_that_looks_like_a_pattern_but_is_there_is_the_file(folder: Path) -> None:
    (folder / "odd[1].csv").write_text("x")
    assert list(FileHashes().of_all(["odd[1].csv"], str(folder))) == ["odd[1].csv"]
