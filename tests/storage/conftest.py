"""What the tests of the store share: a database of each kind, and Python scripts run on their own."""

from __future__ import annotations

import subprocess
import sys
import textwrap
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from codomyrmex.logistics.storage.database import Database
from codomyrmex.logistics.storage.sqlite import SQLiteDatabase


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "state" / "state.db"


@pytest.fixture(params=["file", "memory"])
def database(request: pytest.FixtureRequest, path: Path) -> Iterator[Database]:
    opened = SQLiteDatabase.open(path if request.param == "file" else ":memory:")
    yield opened
    opened.close()


@pytest.fixture
def state(path: Path) -> Iterator[SQLiteDatabase]:
    """A database in a file."""
    opened = SQLiteDatabase.open(path)
    assert isinstance(opened, SQLiteDatabase)
    yield opened
    opened.close()


@pytest.fixture
def script() -> Callable[..., str]:
    """Runs a Python script in a process of its own and returns what it printed; it must exit with 0."""

    def run(source: str, *arguments: object) -> str:
        command = [sys.executable, "-c", textwrap.dedent(source), *map(str, arguments)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()

    return run


@pytest.fixture
def begin() -> Callable[..., subprocess.Popen[str]]:
    """Starts a Python script in a process of its own."""

    def start(source: str, *arguments: object) -> subprocess.Popen[str]:
        command = [sys.executable, "-c", textwrap.dedent(source), *map(str, arguments)]
        return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    return start
