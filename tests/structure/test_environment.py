"""`make` sets its environment up once, and again when what it depends on has changed."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).resolve().parents[2]


def environment_of(folder: Path) -> ModuleType:
    """The tool as it stands in a clone of its own; nothing is installed by loading it."""
    (folder / "tools").mkdir(parents=True)
    for name in ("pyproject.toml", "constraints.txt", "tools/environment.py"):
        (folder / name).write_bytes((ROOT / name).read_bytes())
    spec = importlib.util.spec_from_file_location("environment", folder / "tools" / "environment.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "a clone"


def made_ready(folder: Path, environment: ModuleType) -> None:
    (folder / ".venv" / "bin").mkdir(parents=True)
    (folder / ".venv" / "bin" / "python").symlink_to(sys.executable)
    (folder / ".venv" / "environment.stamp").write_text(environment.fingerprint())


def test_an_environment_that_is_up_to_date_is_left_alone(folder: Path) -> None:
    made_ready(folder, environment_of(folder))
    command = [sys.executable, str(folder / "tools" / "environment.py")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


@pytest.mark.parametrize("name", ["pyproject.toml", "constraints.txt"])
def test_a_changed_declaration_makes_it_stale(folder: Path, name: str) -> None:
    environment = environment_of(folder)
    made_ready(folder, environment)
    assert environment.is_ready(environment.fingerprint())
    with open(folder / name, "a") as declared:
        declared.write("\n# changed\n")
    assert not environment.is_ready(environment.fingerprint())


def test_an_environment_that_was_moved_or_lost_its_python_is_made_anew(folder: Path) -> None:
    environment = environment_of(folder)
    assert environment.is_foreign()
    made_ready(folder, environment)
    (folder / ".venv" / "bin" / "pip").write_text("#!/somewhere/else/.venv/bin/python\n")
    assert environment.is_foreign()


def test_every_development_tool_is_pinned(folder: Path) -> None:
    pinned = (ROOT / "constraints.txt").read_text().lower().replace("_", "-")
    assert [
        tool
        for tool in environment_of(folder).development_tools()
        if f"\n{tool.split('>')[0].lower()}==" not in pinned
    ] == []


def test_pins_are_names_and_versions_only() -> None:
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    assert all(line.startswith("#") or line.count("==") == 1 for line in lines)
    assert not any(
        sign in line for line in lines for sign in ("@", "/", ":", " ;") if not line.startswith("#")
    )
