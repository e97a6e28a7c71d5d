"""Importing actions into the engine, in an interpreter of its own where that leaves traces."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from codomyrmex.exceptions import ActionNotFound
from codomyrmex.logistics.orchestration.project.actions.loading import load_function


@pytest.fixture(autouse=True)
def imports_undone() -> Iterator[None]:
    """Puts `sys.path` and `sys.modules` back."""
    path, modules = list(sys.path), set(sys.modules)
    yield
    sys.path[:] = path
    for name in set(sys.modules) - modules:
        del sys.modules[name]


def test_a_module_of_the_root_is_imported_under_its_name(tmp_path: Path) -> None:
    (tmp_path / "loading_one.py").write_text("def go(): return __name__")

    assert load_function("loading_one", "go", [str(tmp_path)])() == "loading_one"
    assert load_function("./loading_one.py", "go", [str(tmp_path)])() == "loading_one"


def test_the_workflow_files_folder_comes_first(tmp_path: Path) -> None:
    (tmp_path / "flows").mkdir()
    (tmp_path / "loading_two.py").write_text("def go(): return 'root'")
    (tmp_path / "flows/loading_two.py").write_text("def go(): return 'beside'")

    found = load_function("./loading_two.py", "go", [str(tmp_path)], tmp_path / "flows/w.yaml")

    assert found() == "beside"


def test_a_file_of_the_project_wins_over_an_installed_module_without_hiding_it(tmp_path: Path) -> None:
    (tmp_path / "colorsys.py").write_text("def go(): return __name__")

    name = load_function("colorsys", "go", [str(tmp_path)])()

    import colorsys

    assert name.startswith("file_colorsys_")
    assert colorsys.rgb_to_hsv
    assert load_function("colorsys", "go", [str(tmp_path)])() == name


def test_a_file_whose_name_is_no_identifier_is_loaded_once(tmp_path: Path) -> None:
    (tmp_path / "my-steps.py").write_text("calls = []\ndef go(): calls.append(1); return len(calls)")

    assert load_function("./my-steps.py", "go", [str(tmp_path)])() == 1
    assert load_function("./my-steps.py", "go", [str(tmp_path)])() == 2


def test_built_ins_and_methods_are_loaded(tmp_path: Path) -> None:
    (tmp_path / "loading_three.py").write_text("class C:\n    @staticmethod\n    def go(): return 3")

    assert load_function("loading_three", "C.go", [str(tmp_path)])() == 3
    assert load_function("files", "checksum", []).__name__ == "checksum"


@pytest.mark.parametrize(
    ("module", "action", "message"),
    [
        ("loading_nowhere", "go", "there is no module 'loading_nowhere'; looked in"),
        ("./loading_nowhere.py", "go", "there is no file './loading_nowhere.py'; looked in"),
        ("loading_four", "goo", "has no function 'goo'; looked in .*; did you mean 'go'"),
        ("loading_four", "LIMIT", "is a int, not a function"),
        ("shell", "run", "runs in a worker process only"),
    ],
)
def test_what_cannot_be_loaded_says_why(tmp_path: Path, module: str, action: str, message: str) -> None:
    (tmp_path / "loading_four.py").write_text("LIMIT = 3\ndef go(): ...")

    with pytest.raises(ActionNotFound, match=message):
        load_function(module, action, [str(tmp_path)])


def test_an_error_inside_the_module_is_not_taken_for_a_missing_one(tmp_path: Path) -> None:
    (tmp_path / "loading_five.py").write_text("import loading_not_installed")

    with pytest.raises(ModuleNotFoundError, match="loading_not_installed"):
        load_function("loading_five", "go", [str(tmp_path)])


def test_the_script_that_runs_is_not_run_a_second_time(tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(
        "from codomyrmex.logistics.orchestration.project.actions.loading import load_function\n"
        "def go(): return __name__\n"
        "print(load_function(__file__, 'go', [])())\n"
    )

    done = subprocess.run([sys.executable, str(script)], capture_output=True, text=True, check=True)

    assert done.stdout == "__main__\n"
