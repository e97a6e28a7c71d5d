"""Secrets are planted wherever a step can put them, and afterwards looked for in everything that was kept or said."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from random import Random

import pytest
from planted_secrets import ACTIONS, STEPS, echo_server, left_behind, value_of, watched_arguments, workflow_of

from codomyrmex.cli.door import run
from codomyrmex.logistics.orchestration.project.executors.thread_output import captured
from codomyrmex.logistics.orchestration.project.orchestration_engine import OrchestrationEngine
from codomyrmex.logistics.orchestration.project.secret_store import SecretStore
from waiting import wait_until

ENDINGS = {name: ending for name, ending, _ in STEPS}


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    folder = tmp_path / "project"
    folder.mkdir()
    (folder / "acts.py").write_text(ACTIONS)
    monkeypatch.chdir(folder)
    return folder


def hide_and_seek(project: Path, chance: Random, count: int, capsys: pytest.CaptureFixture[str]) -> int:
    """Runs workflows that spill `count` secrets; the number of attempts that did."""
    state = project / ".codomyrmex"
    store = SecretStore(state, environ={})
    values = {f"S{number}": value_of(chance) for number in range(count)}
    for name, value in values.items():
        store.set(name, value)
    every, steps, ids, attempts = list(values.values()), list(ENDINGS), [], 0
    with (
        echo_server() as url,
        watched_arguments(every) as seen,
        captured(),
        OrchestrationEngine(state=state, root=project) as engine,
    ):
        for first in range(0, count, len(steps)):
            names = dict(zip(steps, list(values)[first : first + len(steps)], strict=False))
            file = project / f"planted{first}.json"
            file.write_text(json.dumps(workflow_of(names, url)))
            execution = engine.execute_workflow(file)
            ids.append(execution.execution_id)
            ended = {name: str(task.status) for name, task in execution.tasks.items()}
            assert ended == {name: ENDINGS[name] for name in names}
            attempts += sum(task.attempt for task in execution.tasks.values())
            if first == 0:
                assert left_behind(every, state, project.parent / "patterns") == ""
    assert seen == []
    assert left_behind(every, state, project.parent / "patterns") == ""
    said = [capsys.readouterr()]
    for run_id in ids:
        for words in (
            ["show", run_id, "--json"],
            ["logs", run_id],
            ["explain", run_id],
            ["show", run_id, "-v"],
        ):
            run(words)
        said.append(capsys.readouterr())
    text = "".join(each.out + each.err for each in said)
    assert "***S0***" in text
    (project.parent / "said").mkdir()
    (project.parent / "said" / "text").write_text(text)
    assert left_behind(every, project.parent / "said", project.parent / "patterns") == ""
    return attempts


def test_thirty_planted_secrets_are_found_nowhere(
    project: Path, chance: Random, capsys: pytest.CaptureFixture[str]
) -> None:
    assert hide_and_seek(project, chance, 30, capsys) >= 30


@pytest.mark.reliability
@pytest.mark.timeout(900)
def test_a_thousand_planted_secrets_are_found_nowhere(
    project: Path, chance: Random, capsys: pytest.CaptureFixture[str], record: Callable[..., None]
) -> None:
    attempts = hide_and_seek(project, chance, 1000, capsys)
    record(
        "secrets planted in parameters, output, errors, results, notes", 1000, f"{attempts} attempts; 0 found"
    )


def test_an_engine_that_is_killed_leaves_no_value_behind(
    project: Path, chance: Random, tmp_path: Path
) -> None:
    state, value = project / ".codomyrmex", value_of(chance)
    SecretStore(state, environ={}).set("S0", value)
    (project / "hold.py").write_text(
        "import os, time\n"
        "def hold(token):\n"
        "    print('holding', token)\n"
        "    while not os.path.exists('go'): time.sleep(0.01)\n"
        "    raise ValueError(token)\n"
    )
    document = {
        "codomyrmex": 1,
        "name": "held",
        "steps": [{"name": "hold", "call": "./hold.py:hold", "with": {"token": "${secrets.S0}"}}],
    }
    (project / "held.json").write_text(json.dumps(document))
    command = [sys.executable, "-m", "codomyrmex", "run", "held.json"]
    engine = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        wait_until(lambda: any(log.read_text() for log in state.glob("runs/*/hold.1.log")), timeout_s=20)
    finally:
        os.kill(engine.pid, signal.SIGKILL)
        engine.wait()
    assert left_behind([value], state, tmp_path / "patterns") == ""
    (project / "go").touch()
    assert run(["resume"]) == 1
    assert left_behind([value], state, tmp_path / "patterns") == ""
    assert any("***S0***" in log.read_text() for log in state.glob("runs/*/hold.*.log"))
