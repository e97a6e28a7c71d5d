"""The interpreter that a project wants, and the evidence for it."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from codomyrmex.exceptions import SettingsError
from codomyrmex.logistics.orchestration.project.executors.interpreter import choose_interpreter


def environment(folder: Path) -> Path:
    python = folder / "bin" / "python"
    python.parent.mkdir(parents=True)
    python.symlink_to(sys.executable)
    return python


def test_the_more_particular_wish_wins(tmp_path: Path) -> None:
    own, active = environment(tmp_path / ".venv"), environment(tmp_path / "active")
    other = environment(tmp_path / "other")
    variables = {"VIRTUAL_ENV": str(active.parent.parent)}
    root = str(tmp_path)
    chosen = choose_interpreter("other/bin/python", root=root, configured=".venv", environment=variables)
    assert (chosen.path, chosen.evidence) == (str(other), "python of the workflow: other/bin/python")
    chosen = choose_interpreter(None, root=root, configured=".venv", environment=variables)
    assert (chosen.path, chosen.evidence) == (str(own), "setting worker.python: .venv")
    assert choose_interpreter(None, root=root, environment=variables).path == str(active)
    assert choose_interpreter(None, root=root, environment={}).path == str(own)
    assert choose_interpreter(None, root=str(tmp_path / "bare"), environment={}).path == sys.executable


def test_a_name_is_looked_for_on_the_path(tmp_path: Path) -> None:
    python = environment(tmp_path / "x")
    python.rename(python.with_name("python9"))
    found = choose_interpreter("python9", root="/", environment={"PATH": str(python.parent)})
    assert found.path == str(python.with_name("python9"))


def test_one_that_was_asked_for_and_is_not_there_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"there is no interpreter 'python0\.1'"):
        choose_interpreter("python0.1", root=str(tmp_path), environment={})
