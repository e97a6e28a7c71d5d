"""Several engines on one state: all get through, none touches what a living one owns."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest
from run_audit import journal_faults, opened

from waiting import wait_until

ACTIONS = """
import ctypes, os, time

def note(word):
    file = os.open(os.environ["EFFECTS"], os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    os.write(file, f"{word} {os.getpid()}\\n".encode())
    os.close(file)

def hold(seconds):
    '''Keeps the interpreter lock, like a C extension that never lets go of it.'''
    note("begin")
    ctypes.PyDLL(None).sleep(seconds)
    note("end")
    return os.getpid()

def fork_and_wait(seconds):
    '''A child made by fork() shares every descriptor of the engine.'''
    child = os.fork()
    if child == 0:
        time.sleep(seconds)
        os._exit(0)
    note(f"child-{child}")
    time.sleep(seconds)

def double(value):
    return value * 2
"""


@dataclass(frozen=True, kw_only=True)
class Form:
    """Engines at once, rounds, steps of each run; seconds for which the interpreter lock is held."""

    engines: int = 2
    rounds: int = 1
    steps: int = 6
    hold_s: int = 2


def full(**given: int) -> object:
    return pytest.param(Form(**given), id="full", marks=pytest.mark.reliability)


class Project:
    """A folder with workflows, and the command line on it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.effects = folder / "effects.txt"
        (folder / "held_actions.py").write_text(ACTIONS)

    def workflow(self, name: str, steps: Sequence[Mapping[str, object]]) -> Path:
        file = self.folder / f"{name}.json"
        file.write_text(json.dumps({"codomyrmex": 1, "name": name, "steps": steps}))
        return file

    def start(self, state: Path, *words: str) -> subprocess.Popen[str]:
        command = [
            sys.executable,
            "-m",
            "codomyrmex",
            *words,
            "--state",
            str(state),
            "--root",
            str(self.folder),
            "--json",
        ]
        return subprocess.Popen(
            command,
            cwd=self.folder,
            env={**os.environ, "EFFECTS": str(self.effects)},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def call(self, state: Path, *words: str) -> tuple[int, dict[str, object], str]:
        return answer(self.start(state, *words))


def answer(process: subprocess.Popen[str]) -> tuple[int, dict[str, object], str]:
    """Exit code, the document on stdout, and everything that was said."""
    said, complained = process.communicate(timeout=120)
    return process.returncode, json.loads(said or "{}"), said + complained


@pytest.fixture
def project(tmp_path: Path) -> Project:
    return Project(tmp_path)


@pytest.mark.parametrize(
    "form", [pytest.param(Form(engines=3), id="short"), full(engines=8, rounds=10, steps=40)]
)
def test_runs_that_begin_at_once_on_a_new_state_all_finish(
    form: Form, project: Project, record: Callable[..., None]
) -> None:
    kinds: tuple[dict[str, object], ...] = (
        {"run": ["true"]},
        {"call": "held_actions:double", "with": {"value": 2}, "isolation": "thread"},
    )
    steps = [{"name": f"s{number}", **kinds[number % 2]} for number in range(form.steps)]
    file = project.workflow("crowd", steps)
    began_s = time.monotonic()
    for number in range(form.rounds):
        state = project.folder / f"state{number}"
        engines = [project.start(state, "run", str(file)) for _ in range(form.engines)]
        for code, document, said in map(answer, engines):
            assert code == 0, said
            assert "locked" not in said
            assert document["data"]["tasks"]["completed"] == form.steps  # type: ignore[index]
        with opened(state) as (_database, reader):
            runs = reader.runs()[0]
            assert [run.status for run in runs] == ["completed"] * form.engines
            assert [journal_faults(list(reader.events(run.execution_id))) for run in runs] == [
                []
            ] * form.engines
    record(
        f"{form.engines} `codomyrmex run` at once on one new state",
        form.rounds,
        f"{form.engines * form.rounds} runs of {form.steps} steps, all completed; "
        f"`database is locked` seen 0 times; {time.monotonic() - began_s:.0f} s",
    )


@pytest.mark.parametrize("form", [pytest.param(Form(), id="short"), full(hold_s=10)])
def test_an_engine_whose_interpreter_is_held_keeps_its_run(
    form: Form, project: Project, record: Callable[..., None]
) -> None:
    state = project.folder / "state"
    hold = {
        "name": "hold",
        "call": "held_actions:hold",
        "with": {"seconds": form.hold_s},
        "isolation": "thread",
    }
    after = {"name": "after", "call": "held_actions:double", "with": {"value": "${steps.hold.output}"}}
    file = project.workflow("held", [hold, {**after, "isolation": "thread"}])
    other = project.workflow("other", [{"name": "only", "run": ["true"]}])
    holder = project.start(state, "run", str(file))
    wait_until(project.effects.exists, timeout_s=20)
    began_s = time.monotonic()
    with opened(state) as (_database, reader):
        run_id = reader.find("held")
        owner = reader.run(run_id).owner
    tries = 0
    while project.effects.read_text().count("end") == 0 and time.monotonic() - began_s < form.hold_s:
        code, _document, said = project.call(state, "resume", run_id)
        still_held = "end" not in project.effects.read_text()
        if still_held:
            tries += 1
            assert code == 6, said
            assert owner is not None
            assert owner in said
            assert project.call(state, "resume", "--all")[1]["data"]["runs"] == [], said  # type: ignore[index]
    assert tries > 0
    assert project.call(state, "run", str(other))[0] == 0
    code, _document, said = answer(holder)
    assert code == 0, said
    assert project.effects.read_text().splitlines() == [f"begin {holder.pid}", f"end {holder.pid}"]
    record(
        f"an engine whose interpreter lock is held for {form.hold_s} s keeps its run",
        tries,
        f"{tries} tries of others to take it, refused naming its owner; another run went through beside it",
    )


def test_a_child_that_a_thread_action_forked_does_not_keep_a_dead_engine_alive(project: Project) -> None:
    state = project.folder / "state"
    fork = {
        "name": "fork",
        "call": "held_actions:fork_and_wait",
        "with": {"seconds": 30},
        "isolation": "thread",
    }
    engine = project.start(state, "run", str(project.workflow("forks", [fork])))
    wait_until(project.effects.exists, timeout_s=20)
    child = int(project.effects.read_text().split("-")[1].split()[0])
    try:
        engine.kill()
        engine.wait()
        assert Path(f"/proc/{child}").exists()
        with opened(state) as (_database, reader):
            assert reader.run(reader.find("@last")).owner == "nobody"
    finally:
        os.kill(child, signal.SIGKILL)
        engine.communicate()
