"""The program as processes: killed and resumed, interrupted, watched, cancelled, on a terminal."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from own_terminal import on_a_terminal
from waiting import wait_until

SLOW = """
codomyrmex: 1
name: slow
parameters: {n: {type: integer, default: 8}, gate: {type: string, default: ""}}
steps:
  - {name: first, run: [echo, begun]}
  - name: each
    needs: [first]
    foreach: "${range(parameters.n)}"
    call: "./acts.py:work"
    with: {i: "${item}", gate: "${parameters.gate}"}
outputs: {n: "${steps.each.output}"}
"""

ACTIONS = """
import os, time

def work(i, gate):
    with open("begun.txt", "a") as file:
        file.write(f"{i}\\\\n")
    while gate and i >= 4 and not os.path.exists(gate):
        time.sleep(0.01)
    print("done", i)
    return i
""".replace("\\\\n", "\\n")


@pytest.fixture
def flows(project: Path) -> Path:
    (project / "acts.py").write_text(ACTIONS)
    (project / "slow.yaml").write_text(SLOW)
    return project


class Program:
    """One run of the program in a process of its own, ended with the test."""

    def __init__(self, *words: str) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-m", "codomyrmex", *words],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def ended(self) -> tuple[int, str, str]:
        out, err = self.process.communicate(timeout=30)
        return self.process.returncode, out, err


@pytest.fixture
def program() -> Iterator[type[Program]]:
    made: list[Program] = []

    class Kept(Program):
        def __init__(self, *words: str) -> None:
            super().__init__(*words)
            made.append(self)

    yield Kept
    for each in made:
        if each.process.poll() is None:
            each.process.kill()
        each.process.communicate()


def done_items(cli, status: str = "completed") -> int:
    ended = cli("tasks", "list", "@last", "--status", status, "--json")
    if ended.code:
        return 0
    return sum(task["index"] is not None for task in ended.document["data"]["tasks"])


def begun(flows: Path) -> list[str]:
    path = flows / "begun.txt"
    return path.read_text().split() if path.exists() else []


def test_a_killed_run_goes_on_where_it_was(cli, flows: Path, program: type[Program]) -> None:
    gate = flows / "gate"
    running = program("run", "slow.yaml", "-p", f"gate={gate}")
    wait_until(lambda: done_items(cli) >= 4 and "4" in begun(flows))
    running.process.send_signal(signal.SIGKILL)
    running.process.wait()

    assert "nobody" in cli("ps").out
    assert "resume --all" in cli("ps").err
    assert "waits to be resumed" in cli("show").out
    assert cli("watch").code == 6
    gate.touch()
    ended = cli("resume", "--json")
    assert (ended.code, ended.document["data"]["outputs"]) == (0, {"n": list(range(8))})
    starts = begun(flows)
    assert [starts.count(str(item)) for item in range(4)] == [1, 1, 1, 1]
    assert cli("resume").code == 0
    assert cli("resume", "slow").code == 0


def test_all_that_stopped_is_resumed_at_once(cli, flows: Path, program: type[Program]) -> None:
    gate = flows / "gate"
    for count in (1, 2):
        running = program("run", "slow.yaml", "-p", f"gate={gate}")
        wait_until(lambda count=count: begun(flows).count("4") >= count)
        running.process.send_signal(signal.SIGKILL)
        running.process.wait()
    gate.touch()
    several = cli("resume")
    assert (several.code, "2 runs wait to be resumed" in several.err) == (2, True)
    data = cli("resume", "--all", "--json").document["data"]
    assert [run["status"] for run in data["runs"]] == ["completed", "completed"]


def test_ctrl_c_cancels_and_is_130(cli, flows: Path, program: type[Program]) -> None:
    running = program("run", "slow.yaml", "-p", f"gate={flows / 'never'}", "--json")
    wait_until(lambda: "4" in begun(flows))
    running.process.send_signal(signal.SIGINT)
    code, out, _ = running.ended()
    document = json.loads(out)
    assert (code, document["error"]["code"], document["data"]["status"]) == (130, "interrupted", "cancelled")
    assert document["data"]["tasks"]["completed"] >= 4


def test_a_run_is_watched_and_cancelled_from_another_process(
    cli, flows: Path, program: type[Program]
) -> None:
    running = program("run", "slow.yaml", "-p", f"gate={flows / 'never'}", "-q")
    wait_until(lambda: "4" in begun(flows))
    watching = program("watch", "slow", "--json")
    following = program("logs", "slow", "-f")
    assert " pid " in cli("ps").out
    taken = cli("resume", "slow")
    assert (taken.code, "belongs to engine" in taken.err) == (6, True)

    cancelled = cli("cancel", "slow", "--kill")
    assert (cancelled.code, "cancelled" in cancelled.out) == (0, True)
    assert running.ended()[0] == 1
    code, out, err = watching.ended()
    records = [json.loads(line) for line in out.splitlines()]
    assert (code, err, records[-1]["event"], records[-1]["status"]) == (1, "", "run", "cancelled")
    assert "each[3] │ done 3" in following.ended()[1]
    assert cli("cancel", "slow").code == 0


def test_a_run_that_nobody_owns_is_cancelled_here(cli, flows: Path, program: type[Program]) -> None:
    running = program("run", "slow.yaml", "-p", f"gate={flows / 'never'}")
    wait_until(lambda: "4" in begun(flows))
    running.process.send_signal(signal.SIGKILL)
    running.process.wait()
    ended = cli("cancel", "slow")
    assert (ended.code, "■ cancelled" in ended.out) == (0, True)
    assert cli("ps").out == ""


def test_on_a_terminal_a_bar_moves_and_is_gone_at_the_end(flows: Path) -> None:
    code, written = on_a_terminal("run", "slow.yaml")
    assert code == 0
    assert "━" in written
    assert written.count("\x1b[?25l") == written.count("\x1b[?25h") == 1
    last = written.split("\x1b[?25h")[1]
    assert "✓ completed" in last
    assert "━" not in last
    plain = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", written)
    assert max(len(line) for line in re.split(r"[\r\n]", plain)) <= 80


def test_no_colour_and_no_signs_where_they_are_not_wanted(
    flows: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NO_COLOR", "1")
    assert "\x1b[3" not in on_a_terminal("doctor")[1]
    monkeypatch.setenv("PYTHONIOENCODING", "ascii")
    ended = subprocess.run([sys.executable, "-m", "codomyrmex", "doctor"], capture_output=True, check=False)
    assert ended.stdout.decode("ascii").startswith("ok ")
