"""What thread attempts print is kept in their logs, and nobody else's output is touched."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from codomyrmex import OrchestrationEngine, Workflow
from codomyrmex.logistics.orchestration.project.executors.thread_output import captured


def speak(word: str) -> str:
    print("out", word)
    print("err", word, file=sys.stderr)
    return word


def test_what_a_thread_attempt_prints_is_its_log_and_what_others_print_is_not(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    workflow = Workflow("speaking")
    workflow.map(speak, over=["a", "b"], word="${item}")
    with captured(), OrchestrationEngine(state=tmp_path / "state", root=tmp_path) as engine:
        execution = engine.execute_workflow(workflow)
        print("mine")
        logs = {name: task.log_path for name, task in execution.tasks.items() if task.index is not None}
    assert {name: Path(str(path)).read_text() for name, path in logs.items()} == {
        "speak[0]": "out a\nerr a\n",
        "speak[1]": "out b\nerr b\n",
    }
    assert capsys.readouterr() == ("mine\n", "")


def test_an_engine_without_a_folder_leaves_printing_alone(capsys: pytest.CaptureFixture[str]) -> None:
    workflow = Workflow("speaking")
    workflow.step(speak, word="a")
    with captured(), OrchestrationEngine(state=":memory:") as engine:
        assert engine.execute_workflow(workflow).success
    assert capsys.readouterr() == ("out a\n", "err a\n")
