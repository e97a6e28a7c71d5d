"""Where the root is found, and what a state folder is made of."""

from __future__ import annotations

from pathlib import Path

import pytest

from codomyrmex.exceptions import CodomyrmexError, SettingsError
from codomyrmex.workspace import find_workspace


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    (tmp_path / "home/work/deep/deeper").mkdir(parents=True)
    return tmp_path / "home/work"


def root_from(folder: Path, **more: str) -> tuple[Path, str]:
    home = folder
    while home.name != "home":
        home = home.parent
    found = find_workspace(current=folder, environ={"HOME": str(home), **more})
    return found.root, found.root_evidence


@pytest.mark.parametrize(
    ("mark", "evidence"),
    [
        (".codomyrmex/", "has .codomyrmex"),
        ("codomyrmex.yaml", "has codomyrmex.yaml"),
        ("pyproject.toml", "has [tool.codomyrmex] in pyproject.toml"),
        (".git/", "has .git"),
        (".git", "has .git"),
    ],
)
def test_the_root_is_the_first_folder_upwards_that_says_so(tree: Path, mark: str, evidence: str) -> None:
    if mark.endswith("/"):
        (tree / mark).mkdir()
    else:
        (tree / mark).write_text("[tool.codomyrmex]\n")
    assert root_from(tree / "deep/deeper") == (tree, evidence)


def test_without_a_mark_the_current_folder_is_the_root(tree: Path) -> None:
    (tree / "pyproject.toml").write_text("[tool.other]\n")
    assert root_from(tree / "deep") == (tree / "deep", "the current folder")


def test_the_home_folder_is_never_found_by_looking_upwards(tree: Path) -> None:
    (tree.parent / ".git").mkdir()
    assert root_from(tree / "deep") == (tree / "deep", "the current folder")


def test_the_root_is_looked_for_from_the_workflow_file(tree: Path) -> None:
    (tree / "deep/.git").mkdir()
    found = find_workspace(file="deep/deeper/flow.yaml", current=tree, environ={})
    assert found.root == tree / "deep"
    assert found.database == tree / "deep/.codomyrmex/state.db"


def test_what_is_asked_for_wins_over_variables_and_these_over_marks(tree: Path) -> None:
    (tree / ".git").mkdir()
    environ = {"CODOMYRMEX_ROOT": str(tree / "deep"), "CODOMYRMEX_STATE": "kept"}
    found = find_workspace(current=tree, environ=environ)
    assert (found.root, found.state) == (tree / "deep", tree / "kept")
    found = find_workspace(current=tree, root="deep/deeper", state="here", environ=environ)
    assert (found.root, found.state) == (tree / "deep/deeper", tree / "here")


def test_a_root_that_is_no_folder_is_refused(tree: Path) -> None:
    with pytest.raises(SettingsError, match="is not a folder"):
        find_workspace(current=tree, root="nowhere", environ={})


def test_a_state_on_a_server_says_that_it_is_not_there_yet(tree: Path) -> None:
    with pytest.raises(SettingsError, match="postgresql:// is not there yet"):
        find_workspace(current=tree, state="postgresql://host/db", environ={})


def test_finding_creates_nothing_and_preparing_ignores_itself_in_git(tree: Path) -> None:
    found = find_workspace(current=tree, environ={})
    assert not found.state.exists()
    found.prepare()
    found.prepare()
    assert found.state.stat().st_mode & 0o777 == 0o700
    assert (found.state / ".gitignore").read_text().endswith("\n*\n")
    assert not found.exists
    assert found.log_path("r1", "parse[3]", 2) == tree / ".codomyrmex/runs/r1/parse[3].2.log"


def test_a_file_in_the_place_of_the_state_folder_is_explained(tree: Path) -> None:
    (tree / "taken").write_text("")
    with pytest.raises(CodomyrmexError, match="is a file") as caught:
        find_workspace(current=tree, state="taken", environ={}).prepare()
    assert "--state" in (caught.value.hint or "")
