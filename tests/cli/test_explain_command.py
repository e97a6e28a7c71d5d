"""`codomyrmex explain` and `show`: why something waits, or ended as it did, as a person and a program read it."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

FLOW = """
codomyrmex: 1
name: flow
steps:
  - {name: fetch, call: "./acts.py:work"}
  - name: parse
    foreach: "${range(8)}"
    call: "./acts.py:broken"
    needs: [fetch]
    retry: {max_attempts: 2, delay_s: 0}
  - {name: pack, call: "./acts.py:work", needs: [parse]}
  - {name: deploy, call: "./acts.py:work", needs: [pack]}
  - {name: optional, call: "./acts.py:work", run_if: "1 > 2"}
on_failure:
  - {name: tell, call: "./acts.py:work"}
"""
ASKING = """
codomyrmex: 1
name: asking
concurrency: {key: main}
steps:
  - {name: ask, approval: {message: "Ship it?"}}
  - {name: ship, call: "./acts.py:work", needs: [ask]}
"""
# An engine that dies as soon as its runs wait: what it leaves behind is read by commands.
DYING = """
import os, sys
from codomyrmex import OrchestrationEngine
engine = OrchestrationEngine(root=os.getcwd())
for _ in range(int(sys.argv[1])):
    engine.start_workflow(os.path.abspath("asking.yaml"))
while engine.reader.tasks(engine.reader.runs()[0][-1].execution_id)[0].waiting is None:
    pass
os._exit(9)
"""


@pytest.fixture
def flows(project: Path) -> Path:
    (project / "acts.py").write_text(
        'def work(): return 1\ndef broken():\n    print("about to fail")\n    raise ValueError("bad header")\n'
    )
    (project / "flow.yaml").write_text(FLOW)
    (project / "asking.yaml").write_text(ASKING)
    (project / "dying.py").write_text(DYING)
    return project


@pytest.fixture
def left_behind(flows: Path) -> Callable[[int], None]:
    """Runs that wait for an answer, of an engine that is dead."""

    def leave(count: int) -> None:
        assert subprocess.run([sys.executable, "dying.py", str(count)], check=False).returncode == 9

    return leave


def lines(text: str) -> list[str]:
    """Sentences, put together again where they were wrapped."""
    return text.replace("\n  ", " ").splitlines()


def test_a_failed_run_is_explained_root_first(cli: Any, flows: Path) -> None:
    assert cli("run", "flow.yaml", "-q").code == 1
    said = lines(cli("explain").out)
    assert said[0].endswith("of 'flow' has failed.")
    assert said[1].startswith("parse[")
    assert "failed in attempt 2: ValueError: bad header, at " in said[1]
    assert "acts.py:4 broken" in said[1]
    assert said[4].startswith("The log of parse[")
    assert said[5:] == [
        "5 more tasks failed by themselves.",
        "Because of it 2 steps did not run (pack and deploy).",
        "After it ran: tell (completed).",
        "optional is skipped: its run_if said no: 1 > 2.",
    ]


def test_the_answer_as_data_has_reasons_and_the_failure(cli: Any, flows: Path) -> None:
    cli("run", "flow.yaml", "-q")
    data = cli("explain", "flow", "--json").document["data"]
    assert (data["workflow"], data["status"], data["task"]) == ("flow", "failed", None)
    assert data["run"] == data["execution_id"]
    root = data["failure"]["roots"][0]
    assert (root["failed"]["type"], root["failed"]["message"]) == ("ValueError", "bad header")
    assert root["failed"]["attempts"] == 2
    assert Path(root["failed"]["log_path"]).read_text() == "about to fail\n"
    assert data["failure"]["cascade"] == [
        {"why": "upstream", "steps": 2, "items": 0, "names": ["pack", "deploy"]}
    ]
    assert [each["task"] for each in data["reasons"]] == ["optional"]
    assert data["sentences"][0].startswith("Run ")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["parse[3]"], "parse[3] failed in attempt 2: ValueError: bad header, at "),
        (["flow", "parse[3]"], "parse[3] failed in attempt 2: ValueError: bad header, at "),
        (["@last", "deploy"], "deploy is cancelled: what it depends on did not succeed: pack (cancelled)."),
        (["deploy"], "deploy is cancelled: what it depends on did not succeed: pack (cancelled)."),
        (["parse"], "parse has failed: 8 of 8 items failed."),
        (["tell"], "tell is completed: in attempt 1."),
    ],
)
def test_a_step_or_an_item_is_explained_with_its_run_or_alone(
    cli: Any, flows: Path, words: list[str], said: str
) -> None:
    cli("run", "flow.yaml", "-q")
    assert said in " ".join(lines(cli("explain", *words).out))


def test_a_word_that_is_neither_run_nor_step_is_5(cli: Any, flows: Path) -> None:
    cli("run", "flow.yaml", "-q")
    assert cli("explain", "nothing").code == 5
    ended = cli("explain", "flow", "prase")
    assert (ended.code, "did you mean 'parse'?" in ended.err) == (5, True)


def test_sentences_are_wrapped_for_the_terminal(
    cli: Any, flows: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cli("run", "flow.yaml", "-q")
    monkeypatch.setenv("COLUMNS", "80")
    told = cli("explain").out.splitlines()
    assert all(len(line) <= 80 or " " not in line.strip() for line in told)
    assert any(line.startswith("  ") for line in told)


def test_a_run_behind_another_says_the_concurrency_key_of_its_steps(
    cli: Any, left_behind: Callable[[int], None]
) -> None:
    left_behind(2)
    data = cli("explain", "@last", "--json").document["data"]
    assert [each["kind"] for each in data["holds"]] == ["no_owner", "concurrency"]
    step = cli("explain", "@last", "ask", "--json").document["data"]["reasons"][0]
    held = next(each for each in step["reasons"] if each["kind"] == "concurrency")
    assert held["key"] == "main"
    assert "CPU" not in json.dumps(step)
    assert "which has the concurrency key 'main' since" in " ".join(lines(cli("explain", "ask").out))


def test_an_answer_that_is_recorded_but_not_read_is_told_by_explain_and_show(
    cli: Any, left_behind: Callable[[int], None]
) -> None:
    left_behind(1)
    assert "waits for an answer: Ship it?" in " ".join(lines(cli("explain", "ask").out))
    assert cli("approvals", "answer", "-q").code == 0
    assert "has answered (Ship it?), and the run has not read it yet" in " ".join(
        lines(cli("explain", "ask").out)
    )
    assert "has answered; its run has not read it yet" in cli("show").out
    shown = cli("show", "--json").document["data"]["steps"][0]["waiting"]
    assert shown["recorded_by"]


def test_a_state_that_does_not_exist_is_5(cli: Any, project: Path) -> None:
    assert cli("explain").code == 5
    assert cli("explain", "anything").code == 5
    assert not (project / ".codomyrmex").exists()


def test_a_task_that_is_misspelt_is_told_the_nearest_of_the_last_run(cli: Any, flows: Path) -> None:
    cli("run", "flow.yaml")
    ended = cli("explain", "pakc")
    assert ended.code == 5
    assert "no run 'pakc'; did you mean 'pack'?\n  that is a task of the last run" in ended.err
    assert "did you mean" not in cli("explain", "zzzzzz").err


def test_the_frame_of_a_built_in_action_is_nobody_s_to_look_at(cli: Any, flows: Path) -> None:
    (flows / "shell.yaml").write_text("codomyrmex: 1\nname: shell\nsteps:\n  - {name: no, run: 'exit 3'}\n")
    cli("run", "shell.yaml")
    told = cli("explain").out
    assert "CommandFailed" in told
    assert "builtins_shell" not in told


def test_a_step_of_the_last_run_is_meant_rather_than_the_beginning_of_an_id(cli: Any, flows: Path) -> None:
    first = ""
    while not first[:1].isalpha():  # the name of a step does not begin with a digit
        cli("run", "flow.yaml")
        first = cli("runs", "list", "--json").document["data"]["runs"][0]["execution_id"]
    (flows / "short.yaml").write_text(
        f"codomyrmex: 1\nname: short\nsteps:\n  - {{name: {first[:3]!r}, run: 'echo hi'}}\n"
    )
    cli("run", "short.yaml")
    assert cli("explain", first[:3]).out.splitlines()[0].endswith("of 'short' is completed.")
    assert "of 'flow' has failed." in cli("explain", first[:4]).out
    assert "of 'flow' has failed." in cli("explain", "flow").out
