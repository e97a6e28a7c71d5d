"""The how-to page on the cache and on parts, command by command: what it shows is what is printed."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path

import pytest

from codomyrmex.cli.door import run

PAGE = Path(__file__).resolve().parents[2] / "docs" / "how-to" / "cache-and-partial-runs.md"
BLOCK = re.compile(r'^```(\w+)(?: title="(.+?)")?\n(.*?)^```$', re.MULTILINE | re.DOTALL)
FRESH = """
codomyrmex: 1
name: fresh
steps:
  - {name: first, run: ["true"]}
  - {name: second, run: ["true"], needs: [first]}
"""


def test_the_page_shows_what_happens(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in [name for name in os.environ if name.startswith(("CODOMYRMEX", "XDG_"))]:
        monkeypatch.delenv(name)
    for name in ("FORCE_COLOR", "COLUMNS", "VIRTUAL_ENV"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    folder = tmp_path / "project"
    folder.mkdir()
    monkeypatch.chdir(folder)
    (folder / "fresh.yaml").write_text(FRESH)
    blocks = BLOCK.findall(PAGE.read_text())
    for _kind, title, text in blocks:
        if title:
            (folder / title).write_text(text)
    consoles = [text for kind, _title, text in blocks if kind == "console"]
    assert len(consoles) >= 8
    for console in consoles:
        _follow(console, capsys)


def _follow(console: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Runs the commands of one block; every line that it shows stands in what was printed, whatever the ids."""
    lines = console.splitlines()
    shown = [line for line in lines if not line.startswith("$ ")]
    capsys.readouterr()
    for command in (line[2:] for line in lines if line.startswith("$ ")):
        if command.startswith("codomyrmex "):
            run(command.split()[1:])
        else:
            subprocess.run(command, shell=True, check=True)
    told = capsys.readouterr()
    printed = " ".join((told.out + told.err).split())
    for line in shown:
        wanted = re.escape(" ".join(line.split())).replace("ID", r"\w{10}")
        assert re.search(wanted, printed), (
            f"{line!r} was not printed after {lines[0]!r}:\n{told.out}{told.err}"
        )
