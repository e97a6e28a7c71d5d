"""The generated parts of the documents are as the code is today."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

TOOL = Path(__file__).resolve().parents[2] / "tools" / "generated_docs.py"


def generated(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, str(TOOL), *arguments], capture_output=True, text=True, check=False
    )


def test_every_document_is_up_to_date() -> None:
    done = generated("--check")
    assert done.returncode == 0, done.stdout + done.stderr


def test_a_stale_part_is_told_then_written_and_then_stays(tmp_path: Path) -> None:
    document = tmp_path / "page.md"
    names = ("task-states", "run-states", "layers")
    asked = "".join(f"<!-- generated: {name} -->\nstale words\n<!-- end generated -->\n" for name in names)
    document.write_text(f"before\n{asked}after\n")
    assert generated("--check", str(document)).returncode == 1
    assert generated(str(document)).returncode == 0
    assert generated("--check", str(document)).returncode == 0
    text = document.read_text()
    assert text.startswith("before\n")
    assert text.endswith("after\n")
    assert "stale words" not in text
    assert "RUNNING --> COMPLETED: completed" in text
    assert "COMPLETED --> [*]" in text
    assert "| PENDING | Ready; waits for a slot" in text
    assert "\nexceptions\n" in text


def test_a_part_that_nobody_generates_is_refused(tmp_path: Path) -> None:
    document = tmp_path / "page.md"
    document.write_text("<!-- generated: weather -->\n<!-- end generated -->\n")
    done = generated(str(document))
    assert done.returncode == 2
    assert "weather" in done.stderr
