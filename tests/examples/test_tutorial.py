"""The ten programs of the tutorial run as scripts, in a notebook and here, and print what the page shows."""

from __future__ import annotations

import json
import os
import re
import runpy
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]
PROGRAMS = sorted((ROOT / "examples" / "tutorial").glob("[01]*.py"))
PAGE = (ROOT / "docs" / "tutorial.md").read_text(encoding="utf-8")
LONGEST_LINES = 60
NAMES = [program.name for program in PROGRAMS]


def blocks_of(name: str) -> tuple[str, str]:
    """The program and its output as they stand on the page, below the program's name."""
    found = re.search(rf"\[{re.escape(name)}\].*?```python\n(.*?)```.*?```text\n(.*?)```", PAGE, re.DOTALL)
    assert found is not None, f"docs/tutorial.md shows no {name}"
    return found[1], found[2]


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """That of a person who has set nothing up, with a home of its own."""
    home = tmp_path_factory.mktemp("home")
    clean = {
        name: value
        for name, value in os.environ.items()
        if name not in ("CODOMYRMEX_STATE", "CODOMYRMEX_ROOT")
    }
    return {
        **clean,
        "HOME": str(home),
        "IPYTHONDIR": str(home / "ipython"),
        "JUPYTER_RUNTIME_DIR": str(home / "run"),
    }


@pytest.fixture(scope="module")
def in_cells(environment: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    return in_a_kernel("cells", PROGRAMS, environment, tmp_path_factory.mktemp("notebook"))


@pytest.fixture(scope="module")
def as_scripts(
    environment: dict[str, str], tmp_path_factory: pytest.TempPathFactory
) -> dict[str, tuple[str, str, list[Path]]]:
    """What each program printed to both streams and left in its folder; they run side by side."""
    folders = {program: tmp_path_factory.mktemp(program.stem) for program in PROGRAMS}
    processes = {
        program: subprocess.Popen(
            [sys.executable, str(program)],
            cwd=folder,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for program, folder in folders.items()
    }
    ended = {program: process.communicate() for program, process in processes.items()}
    return {program.name: (*ended[program], list(folder.iterdir())) for program, folder in folders.items()}


def in_a_kernel(mode: str, files: list[Path], environment: dict[str, str], folder: Path) -> dict[str, Any]:
    script = [sys.executable, str(Path(__file__).with_name("notebook_kernel.py")), str(folder), mode]
    done = subprocess.run(
        [*script, *map(str, files)], env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert list(folder.iterdir()) == []
    return json.loads(done.stdout)  # type: ignore[no-any-return]


def test_there_are_ten_programs_and_each_is_short() -> None:
    assert [name[:2] for name in NAMES] == [f"{number:02}" for number in range(1, 11)]
    lengths = {program.name: len(program.read_text(encoding="utf-8").splitlines()) for program in PROGRAMS}
    assert all(15 <= length <= LONGEST_LINES for length in lengths.values()), lengths


@pytest.mark.parametrize("program", PROGRAMS, ids=NAMES)
def test_the_page_shows_the_program_as_it_is(program: Path) -> None:
    assert blocks_of(program.name)[0] == program.read_text(encoding="utf-8")


@pytest.mark.parametrize("name", NAMES)
def test_as_a_script_it_prints_what_the_page_shows_and_leaves_no_file(
    name: str, as_scripts: dict[str, tuple[str, str, list[Path]]]
) -> None:
    assert as_scripts[name] == (blocks_of(name)[1], "", [])


@pytest.mark.parametrize("program", PROGRAMS, ids=NAMES)
def test_from_a_test_it_prints_the_same(
    program: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    runpy.run_path(str(program), run_name="__main__")
    assert capsys.readouterr().out == blocks_of(program.name)[1]


@pytest.mark.parametrize("name", NAMES)
def test_in_a_notebook_its_cells_print_the_same(name: str, in_cells: dict[str, Any]) -> None:
    told = in_cells[name]
    assert told["errors"] == []
    assert (told["stdout"], told["stderr"]) == (blocks_of(name)[1], "")


@pytest.mark.reliability
def test_in_a_notebook_each_program_runs_as_one_cell(environment: dict[str, str], tmp_path: Path) -> None:
    told = in_a_kernel("whole", PROGRAMS, environment, tmp_path)
    assert {name: (each["errors"], each["stdout"]) for name, each in told.items()} == {
        name: ([], blocks_of(name)[1]) for name in NAMES
    }
