"""What the tests of the command line share: a folder of their own, no settings of the machine, one door."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from dataclasses import dataclass
from io import StringIO
from pathlib import Path
from typing import Any

import pytest

from codomyrmex.cli.door import run
from codomyrmex.cli.terminal import Terminal


@dataclass(frozen=True)
class Ended:
    """What a command line left behind."""

    code: int
    out: str
    err: str

    @property
    def document(self) -> dict[str, Any]:
        """stdout, which has to be exactly one JSON document."""
        found: dict[str, Any] = json.loads(self.out)
        return found


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder to stand in, and a home without settings."""
    for name in [name for name in os.environ if name.startswith(("CODOMYRMEX", "XDG_"))]:
        monkeypatch.delenv(name)
    for name in ("NO_COLOR", "FORCE_COLOR", "COLUMNS", "VIRTUAL_ENV", "CI"):
        monkeypatch.delenv(name, raising=False)
    home = tmp_path / "home"
    folder = tmp_path / "project"
    home.mkdir()
    folder.mkdir()
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.chdir(folder)
    return folder


@pytest.fixture
def cli(project: Path, capsys: pytest.CaptureFixture[str]) -> Callable[..., Ended]:
    """Runs one command line in the project, in this process."""

    def call(*words: str) -> Ended:
        capsys.readouterr()
        code = run(words)
        told = capsys.readouterr()
        return Ended(code, told.out, told.err)

    return call


class Screen(StringIO):
    """A terminal that remembers what was written to it."""

    encoding = "utf-8"

    def __init__(self, *, tty: bool) -> None:
        super().__init__()
        self._tty = tty

    def isatty(self) -> bool:
        return self._tty


@pytest.fixture
def screen(monkeypatch: pytest.MonkeyPatch) -> Terminal:
    """A terminal of 80 columns without colour."""
    monkeypatch.setenv("COLUMNS", "80")
    return Terminal(Screen(tty=True), {"NO_COLOR": "1"})


@pytest.fixture
def pipe(monkeypatch: pytest.MonkeyPatch) -> Terminal:
    """No terminal at all."""
    monkeypatch.delenv("COLUMNS", raising=False)
    return Terminal(Screen(tty=False), {})
