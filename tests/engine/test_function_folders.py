"""The modules beside a script are found by worker processes too, wherever the project's root is."""

from __future__ import annotations

import os
import runpy
import sys
import textwrap
from pathlib import Path

import pytest

from codomyrmex.logistics.orchestration.project.function_folders import function_folders


def test_installed_and_built_in_functions_need_no_folder() -> None:
    assert function_folders([textwrap.fill, os.abort, len, pytest.fixture]) == ()


def test_a_module_and_a_package_tell_the_folder_they_are_imported_from(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    package = tmp_path / "folder_of_package" / "inner"
    package.mkdir(parents=True)
    (package.parent / "__init__.py").write_text("def top(): pass\n")
    (package / "__init__.py").touch()
    (package / "deep.py").write_text("def deep(): pass\n")
    monkeypatch.syspath_prepend(tmp_path)
    import folder_of_package.inner.deep as deep  # type: ignore[import-not-found]

    top = sys.modules["folder_of_package"].top  # type: ignore[attr-defined]
    assert function_folders([deep.deep, top]) == (str(tmp_path),)


def test_a_script_tells_its_own_folder_and_what_was_typed_none(tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text("def f(): pass\n")
    run = runpy.run_path(str(script), run_name="__main__")
    typed: dict[str, object] = {"__name__": "__main__", "__file__": "<stdin>"}
    exec("def g(): pass", typed)
    assert function_folders([run["f"], typed["g"]]) == (str(tmp_path),)  # type: ignore[list-item]
