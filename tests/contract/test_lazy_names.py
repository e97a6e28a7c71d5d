"""Names cost nothing until they are asked for."""

from __future__ import annotations

import subprocess
import sys

import pytest

PROJECT = "codomyrmex.logistics.orchestration.project"
DOORS = {
    "import codomyrmex": ("",),
    "import codomyrmex.cli.command_line": ("",),
    f"from {PROJECT} import OrchestrationEngine": (
        ".task",
        ".task_orchestrator",
        ".parallel_executor",
        ".shared_engine",
    ),
}


@pytest.mark.parametrize("door", DOORS)
def test_a_door_loads_only_what_it_needs(door: str) -> None:
    names = [PROJECT + name for name in DOORS[door]]
    code = f"{door}\nimport sys\nprint([name for name in {names!r} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
