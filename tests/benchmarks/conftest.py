"""The measurements stand outside the package; their tests import them from their folder."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
DATA = ROOT.parent / "shared" / "data"

sys.path.insert(0, str(ROOT / "benchmarks"))


@pytest.fixture
def psplib_data() -> Path:
    """The folder of the projects; skips the test where there is none (on the build machine that fails)."""
    return _needed("psplib")


@pytest.fixture
def recordings() -> Path:
    """The folder of the recorded workflows; likewise."""
    return _needed("wfinstances")


def _needed(name: str) -> Path:
    path = DATA / name
    if not path.exists():
        pytest.skip(f"the test material {name} is not beside the project")
    return path
