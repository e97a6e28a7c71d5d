"""Questions, signals, pauses and phases as the command line shows them, each through the real engine."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from getpass import getuser
from pathlib import Path
from typing import Any

import pytest

from codomyrmex.cli.answer_form import field_text, form_text, missing_fields, read_answer
from codomyrmex.clock import SystemClock
from codomyrmex.logistics.orchestration.project.run_control import RunControl
from codomyrmex.logistics.orchestration.project.run_reader import RunReader
from codomyrmex.logistics.storage.sqlite import SQLiteDatabase
from waiting import wait_until

FORM = {
    "type": "object",
    "required": ["amount"],
    "properties": {
        "amount": {"type": "integer", "minimum": 1, "title": "How much"},
        "kind": {"enum": ["red", "blue"]},
        "tags": {"type": "array", "items": {"type": "string"}},
        "sure": {"type": "boolean"},
    },
}

SHIP = """
codomyrmex: 1
name: ship
labels: {team: infra}
steps:
  - {name: each, foreach: "${range(8)}", call: "./acts.py:work", with: {i: "${item}"}, on_item_failure: continue}
  - name: ask
    needs: [each]
    approval:
      message: "Ship it?"
      who: [WHO, bob]
      form: {type: object, required: [amount], properties: {amount: {type: integer, minimum: 1}}}
  - {name: sub, needs: [ask], workflow: ./child.yaml}
outputs: {amount: "${steps.ask.output.data.amount}"}
finally:
  - {name: tidy, call: "./acts.py:work", with: {i: 0}}
"""

CHILD = """
codomyrmex: 1
name: child
steps:
  - {name: nap, wait_for: wake}
"""


@pytest.fixture
def flows(project: Path) -> Path:
    (project / "acts.py").write_text(
        "def work(i):\n    if i in (1, 2, 3, 4, 5, 6):\n        raise ValueError(f'bad {i}')\n    return i\n"
    )
    (project / "ship.yaml").write_text(SHIP.replace("WHO", getuser()))
    (project / "child.yaml").write_text(CHILD)
    return project


@pytest.fixture
def hosted(flows: Path) -> Iterator[Any]:
    """Starts `run FILE` in a process of its own, which ends with the test; told.txt has its stderr."""
    made: list[subprocess.Popen[str]] = []

    def start(*words: str) -> subprocess.Popen[str]:
        with (flows / "told.txt").open("w") as told:
            process = subprocess.Popen(
                [sys.executable, "-m", "codomyrmex", "run", *words],
                stdout=subprocess.PIPE,
                stderr=told,
                text=True,
            )
        made.append(process)
        return process

    yield start
    for process in made:
        if process.poll() is None:
            process.kill()
        process.communicate()


def inbox(cli: Any) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = cli("approvals", "list", "--json").document["data"]["approvals"]
    return found


def told(flows: Path) -> str:
    return (flows / "told.txt").read_text()


def pause(flows: Path, name: str) -> None:
    state = flows / ".codomyrmex"
    database = SQLiteDatabase.open_existing(state / "state.db")
    reader = RunReader(database, state)
    RunControl(database, state, reader, now_us=SystemClock().now_us).pause(reader.find(name))
    database.close()


def test_a_run_asks_and_goes_on_with_the_answer_and_the_signal(
    cli: Any, flows: Path, hosted: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    running = hosted("ship.yaml")
    asked = wait_until(lambda: inbox(cli))[0]
    assert (asked["task"], asked["message"], asked["status"]) == ("ask", "Ship it?", "open")
    # Before it is answered: a question that was open for a moment only need not be told.
    wait_until(lambda: f"approvals answer {asked['execution_id']} ask" in told(flows))
    monkeypatch.setenv("COLUMNS", "80")
    shown = cli("show", "ship").out
    assert "6 failed" in shown
    assert "each[5]" in shown
    assert "each[6]" not in shown
    assert f"asks {getuser()}, bob: Ship it?" in shown
    assert "amount: integer" in cli("approvals", "list").out
    assert "asks" in cli("ps").out
    assert "1 approval to be answered" in cli("status").err
    assert all(len(line) <= 80 for words in (("show",), ("ps",)) for line in cli(*words).out.splitlines())
    wrong = cli("approvals", "answer", "-p", "amount=none")
    assert (wrong.code, "data.amount" in wrong.err) == (2, True)
    missing = cli("approvals", "answer", "ship", "ask", "--json")
    assert (missing.code, missing.document["error"]["code"]) == (2, "validation")
    assert cli("approvals", "answer", "--as", "eve", "-p", "amount=1").code == 2
    assert cli("approvals", "answer", "nowhere", "ask").code == 5
    unknown = cli("approvals", "answer", "ship", "asked")
    assert (unknown.code, "did you mean 'ask'" in unknown.err) == (5, True)

    answered = cli("approvals", "answer", "-p", "amount=3", "--as", "bob", "--comment", "go", "--json")
    assert (answered.code, answered.document["data"]["delivered"]) == (0, True)
    assert answered.document["data"]["by"] == f"bob (as claimed by {getuser()})"
    assert cli("approvals", "answer", "ship", "ask", "-p", "amount=3").code == 6
    assert "approved" in cli("approvals", "list", "--all").out
    child = wait_until(lambda: cli("tasks", "show", "ship", "sub", "--json").document["data"]["child"])
    wait_until(lambda: cli("show", child).code == 0)
    assert f"parent   {asked['execution_id']}" in cli("show", child).out
    assert "↳ child" in cli("runs", "list").out
    assert cli("runs", "list", "--roots", "--json").document["data"]["total"] == 1
    assert cli("runs", "list", "--label", "team=other", "--json").document["data"]["total"] == 0
    assert "team=infra" in cli("runs", "list", "-v", "--label", "team=infra").out
    wait_until(lambda: "waits for signal wake" in cli("show", child).out)
    wait_until(lambda: f"runs signal {child} wake" in told(flows))
    bad = cli("runs", "signal", child, "wakes")
    assert (bad.code, "it waits for wake" in bad.err) == (2, True)
    assert cli("runs", "signal", child, "wake", "--data", "{").code == 2
    assert cli("runs", "signal", child, "wake", "-p", "n:=1").code == 0
    out, _ = running.communicate(timeout=20)
    assert running.returncode == 0, out
    assert "amount  3" in out
    assert "finally:" in cli("show", "ship").out
    assert cli("runs", "signal", child, "wake").code == 6


def test_what_is_said_to_a_run_without_an_engine_is_kept_until_it_is_resumed(cli: Any, hosted: Any) -> None:
    running = hosted("ship.yaml", "-q")
    wait_until(lambda: inbox(cli))
    running.kill()
    running.wait()
    answered = cli("approvals", "answer", "--reject", "--comment", "not today")
    assert (answered.code, "resume" in answered.err) == (0, True)
    assert inbox(cli) == []
    again = cli("approvals", "answer", "ship", "ask", "-p", "amount=1")
    assert (again.code, "already" in again.err) == (6, True)
    resumed = cli("resume", "ship", "--json").document
    assert resumed["data"]["failed_step"] == "ask"
    assert "not today" in resumed["error"]["message"]


def test_resume_of_a_paused_run_lets_it_go_on_where_it_is(cli: Any, flows: Path, hosted: Any) -> None:
    running = hosted("ship.yaml")
    wait_until(lambda: inbox(cli))
    pause(flows, "ship")
    wait_until(lambda: "paused" in cli("ps").out)
    assert "nothing new starts; codomyrmex resume" in cli("show", "ship").out
    assert "is paused: codomyrmex resume" in cli("resume").err
    wait_until(lambda: "the run is paused" in told(flows))
    resumed = cli("resume", "ship")
    assert (resumed.code, "it goes on in engine" in resumed.err) == (0, True)
    assert cli("runs", "list", "--json").document["data"]["runs"][0]["status"] == "running"
    assert cli("cancel", "ship", "--kill").code == 0
    assert running.wait(timeout=20) == 1


def test_an_answer_without_a_question_is_a_conflict(cli: Any, project: Path) -> None:
    assert cli("approvals", "list").code == 0
    assert cli("approvals", "answer").code == 6
    assert cli("runs", "signal", "x", "go").code == 5


def test_a_bad_cursor_and_a_bad_label_are_usage(cli: Any, project: Path) -> None:
    assert cli("runs", "list", "--cursor", "xx").code == 2
    assert cli("runs", "list", "--label", "xx").code == 2


def test_one_word_is_a_task_of_the_last_run_and_a_missing_attempt_is_named(cli: Any, project: Path) -> None:
    (project / "flow.yaml").write_text(
        "codomyrmex: 1\nname: flow\nsteps:\n  - {name: one, cache: true, run: 'echo 1'}\n"
    )
    cli("run", "flow.yaml")
    assert "one is completed" in cli("explain", "one").out
    missing = cli("logs", "one", "--attempt", "9")
    assert (missing.code, "there is: 1" in missing.err) == (2, True)
    assert "cached" in cli("run", "flow.yaml").err
    assert "cached" in cli("show").out
    assert "was in the cache" in cli("explain", "one").out


def test_a_run_that_takes_longer_than_its_timeout_says_so(cli: Any, project: Path) -> None:
    (project / "timed.yaml").write_text(
        "codomyrmex: 1\nname: timed\ntimeout: 50ms\nsteps:\n  - {name: a, sleep: 1h}\n"
    )
    ended = cli("run", "timed.yaml")
    assert (ended.code, "the run took longer than its timeout" in ended.err) == (1, True)


def test_words_are_read_by_the_types_of_the_form() -> None:
    given = {"amount": "3", "kind": "red", "tags": "a", "sure": "yes", "other": "x"}
    assert read_answer(FORM, given) == {"amount": 3, "kind": "red", "tags": ["a"], "sure": True, "other": "x"}
    assert read_answer(FORM, {"amount": "many", "tags": ["a", "b"]}) == {"amount": "many", "tags": ["a", "b"]}
    assert missing_fields(FORM, {"kind": "red"}) == ["amount"]
    assert form_text(FORM) == "amount: integer, kind?: red|blue, tags?: array, sure?: boolean"
    assert field_text("amount", FORM["properties"]["amount"]) == "How much (integer)"  # type: ignore[index]
