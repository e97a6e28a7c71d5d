"""Following a page of the documents: its files are written, its commands run, its programs run.

A block with `title="NAME"` is a file. In a `console` block `$ ` begins a command; every line below it has to stand in
what the commands of the block print (`ID` is any id), and a command that ends in ` &` goes on beside the others until
the page ends or says `wait`. A `python` block without a title runs, and a `text` block right behind it is what it
prints.
"""

from __future__ import annotations

import contextlib
import io
import json
import re
import shlex
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from codomyrmex.cli.door import run
from waiting import wait_until

BLOCK = re.compile(r'^( *)```(\w+)(?: title="(.+?)")?\n(.*?)^\1```$\n*', re.MULTILINE | re.DOTALL)


@dataclass(frozen=True, slots=True)
class Block:
    """One fenced block; `follows` when nothing but blank lines stands between it and the one before."""

    kind: str
    title: str
    text: str
    follows: bool


def blocks(page: Path) -> list[Block]:
    """The fenced blocks of a page, in order."""
    found: list[Block] = []
    end = -1
    for match in BLOCK.finditer(page.read_text(encoding="utf-8")):
        _indent, kind, title, text = match.groups()
        found.append(Block(kind, title or "", textwrap.dedent(text), match.start() == end))
        end = match.end()
    return found


def follow(page: Path, folder: Path, capsys: pytest.CaptureFixture[str]) -> int:
    """Does what a page shows, in `folder`; the number of blocks that were executed."""
    found = blocks(page)
    for block in found:
        if block.title:
            (folder / block.title).parent.mkdir(parents=True, exist_ok=True)
            (folder / block.title).write_text(block.text)
    done = 0
    with _background() as beside:
        for number, block in enumerate(found):
            if block.kind == "console":
                _commands(block.text, beside, capsys)
                done += 1
            elif block.kind == "python" and not block.title:
                after = found[number + 1] if number + 1 < len(found) else None
                shown = after.text if after is not None and after.kind == "text" and after.follows else ""
                assert printed_by(block.text, folder) == shown
                done += 1
    return done


def printed_by(program: str, folder: Path) -> str:
    """What a program of a page prints when it is run as a script."""
    script = folder / "program.py"
    script.write_text(program)
    return subprocess.run([sys.executable, script], check=True, stdout=subprocess.PIPE, text=True).stdout


def _commands(
    console: str, beside: list[subprocess.Popen[bytes]], capsys: pytest.CaptureFixture[str]
) -> None:
    lines = console.splitlines()
    capsys.readouterr()
    for command in (line[2:] for line in lines if line.startswith("$ ")):
        words = shlex.split(command)
        if words[-1] == "&":
            beside.append(_started(words[:-1]))
        elif words == ["wait"]:
            assert [process.wait(30) for process in beside] == [0] * len(beside)
        elif words[0] == "codomyrmex":
            run(words[1:])
        else:
            print(subprocess.run(command, shell=True, check=True, capture_output=True, text=True).stdout)
    told = capsys.readouterr()
    printed = " ".join((told.out + told.err).split())
    for line in (line for line in lines if not line.startswith("$ ")):
        wanted = re.escape(" ".join(line.split())).replace("ID", r"\w{10}")
        assert re.search(wanted, printed), f"{line!r} is not in what was printed:\n{told.out}{told.err}"


def _started(words: list[str]) -> subprocess.Popen[bytes]:
    """A command beside the others, once its run waits for somebody."""
    assert words[0] == "codomyrmex"
    before = len(_open_questions())
    process = subprocess.Popen(
        [sys.executable, "-m", *words], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    wait_until(lambda: len(_open_questions()) > before, timeout_s=30)
    return process


def _open_questions() -> list[object]:
    told = io.StringIO()
    with contextlib.redirect_stdout(told):
        run(["--json", "approvals", "list"])
    answer = json.loads(told.getvalue())
    return list(answer["data"]["approvals"]) if answer["ok"] else []


@contextlib.contextmanager
def _background() -> Iterator[list[subprocess.Popen[bytes]]]:
    beside: list[subprocess.Popen[bytes]] = []
    try:
        yield beside
    finally:
        for process in beside:
            if process.poll() is None:
                process.terminate()
        for process in beside:
            process.wait(30)
