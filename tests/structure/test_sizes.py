"""Sizes: 600 lines for a module, 70 for a function, no exceptions."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

TOOL = Path(__file__).resolve().parents[2] / "tools" / "size_ratchet.py"


def ratchet(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, str(TOOL), *arguments], capture_output=True, text=True, check=False
    )


def test_nothing_in_the_source_is_over_its_limit() -> None:
    done = ratchet()
    assert done.returncode == 0, done.stderr


def test_a_long_function_and_a_long_module_are_named_with_their_place(tmp_path: Path) -> None:
    (tmp_path / "fine.py").write_text("@decorated\ndef exactly():\n" + "    pass\n" * 69)
    (tmp_path / "long.py").write_text("class A:\n    async def over(self):\n" + "        pass\n" * 70)
    (tmp_path / "module.py").write_text("x = 1\n" * 601)
    done = ratchet(str(tmp_path))
    assert done.returncode == 1
    assert [line.removeprefix(f"{tmp_path}/") for line in done.stderr.splitlines()] == [
        "long.py:2: over has 71 lines, 70 allowed",
        "module.py: 601 lines, 600 allowed",
    ]


def test_an_empty_folder_is_no_success(tmp_path: Path) -> None:
    assert ratchet(str(tmp_path)).returncode == 2
