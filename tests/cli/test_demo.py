"""The demo on a small workflow: a real kill, a real resumption, and a story that the journal bears out."""

from __future__ import annotations

from pathlib import Path

import pytest

from codomyrmex.cli import demo
from codomyrmex.exceptions import CodomyrmexError

FLOW = """
codomyrmex: 1
name: small
steps:
  - {name: mark, call: "./acts.py:mark"}
  - name: each
    needs: [mark]
    foreach: "${range(80)}"
    call: "./acts.py:work"
    with: {i: "${item}"}
    resources: {cpu: 0.5}
  - {name: report, call: "./acts.py:report", with: {done: "${steps.each.output}"}}
outputs: {html: "${steps.report.output}", files: 80}
"""

# The last items do not end under the engine that began the run, so that there is always something to kill.
ACTIONS = """
import os, time

def mark():
    with open("first_engine.txt", "w") as file:
        file.write(os.environ["CODOMYRMEX_ENGINE"])

def work(i):
    with open("begun.txt", "a") as file:
        file.write(f"{i} ")
    while i >= 60 and open("first_engine.txt").read() == os.environ["CODOMYRMEX_ENGINE"]:
        time.sleep(0.01)
    return i

def report(done):
    with open("report.html", "w") as file:
        file.write(str(len(done)))
    return "report.html"
"""


@pytest.fixture
def example(project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "example"
    folder.mkdir()
    (folder / "acts.py").write_text(ACTIONS)
    (folder / "workflow.yaml").write_text(FLOW)
    monkeypatch.setattr(demo, "example_file", lambda: folder / "workflow.yaml")
    return project


def test_the_demo_kills_its_engine_and_goes_on(cli, example: Path) -> None:
    ended = cli("demo", "--json")
    data = ended.document["data"]
    assert (ended.code, data["status"]) == (0, "completed")
    assert data["killed_pid"] is not None
    assert 41 <= data["recorded_at_kill"] <= 61
    assert data["begun_again_although_recorded"] == []
    assert data["report"] == str(example / "report.html")
    begun = (example / "begun.txt").read_text().split()
    repeated = {item for item in begun if begun.count(item) > 1}
    assert repeated <= {task.removeprefix("each[").rstrip("]") for task in data["repeated"]}
    assert set(begun) == {str(item) for item in range(80)}


def test_the_demo_tells_what_it_does(cli, example: Path) -> None:
    ended = cli("demo")
    assert "got SIGKILL with" in ended.err
    assert "codomyrmex resume" in ended.err
    assert "none of them ran again" in ended.out
    assert str(example / "report.html") in ended.out


def test_the_example_is_found_in_the_source_tree() -> None:
    assert demo.example_file().parts[-3:] == ("examples", "stdlib_audit", "workflow.yaml")


def test_an_installation_without_the_example_says_where_it_is(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(demo, "__file__", str(project / "a/b/c/d/demo.py"))
    with pytest.raises(CodomyrmexError, match="has no examples"):
        demo.example_file()
