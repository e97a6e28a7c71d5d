"""What every test here may use: an engine in memory, and the folder of a project."""

from __future__ import annotations

from pathlib import Path

import pytest

from codomyrmex.testing import codomyrmex_engine

__all__ = ["codomyrmex_engine"]


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder that is the current one and a root."""
    (tmp_path / ".codomyrmex").mkdir()
    monkeypatch.chdir(tmp_path)
    return tmp_path
