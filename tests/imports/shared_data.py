"""Where the recorded workflows and the files of other tools are, for tests that read them."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import pytest

DATA = Path(__file__).resolve().parents[2].parent / "shared" / "data"


def needed(*parts: str) -> Path:
    """A path of the test material; skips the test where there is none (on the build machine that fails)."""
    path = DATA.joinpath(*parts)
    if not path.exists():
        pytest.skip(f"the test material {'/'.join(parts)} is not beside the project")
    return path


def recordings() -> list[Path]:
    """All recorded workflows, the smallest first."""
    return sorted(needed("wfinstances").glob("*.json*"), key=lambda path: (len(text_of(path)), path.name))


def text_of(path: Path) -> str:
    """What a file holds, unpacked."""
    data = path.read_bytes()
    return (gzip.decompress(data) if path.suffix == ".gz" else data).decode()


def edges_of(path: Path) -> set[tuple[str, str]]:
    """The edges of a recording as (parent, child), from its `parents`; read without any code of ours."""
    tasks: list[dict[str, Any]] = json.loads(text_of(path))["workflow"]["specification"]["tasks"]
    return {(parent, task["id"]) for task in tasks for parent in task["parents"]}
