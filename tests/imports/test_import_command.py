"""`codomyrmex workflows import` through the real door."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from codomyrmex.cli.door import run

RECORDING = json.dumps(
    {
        "name": "two steps.json",
        "workflow": {
            "specification": {"tasks": [{"id": "a", "parents": []}, {"id": "b", "parents": ["a"]}]},
            "execution": {
                "tasks": [
                    {"id": "a", "runtimeInSeconds": 1},
                    {"id": "b", "runtimeInSeconds": 1, "coreCount": 99},
                ]
            },
        },
    }
)
ACTIONS = "on: push\njobs:\n  a:\n    steps:\n      - uses: actions/checkout@v4\n      - run: echo hello\n"


@pytest.fixture
def call(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[..., tuple[int, str, str]]:
    """One command line in an empty project: its exit code, stdout and stderr."""
    (tmp_path / ".git").mkdir()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    Path("run.json").write_text(RECORDING)
    Path("run.json.gz").write_bytes(gzip.compress(RECORDING.encode()))
    Path("ci.yml").write_text(ACTIONS)

    def command(*words: str) -> tuple[int, str, str]:
        capsys.readouterr()
        code = run(words)
        told = capsys.readouterr()
        return code, told.out, told.err

    return command


def wfformat(*words: str) -> tuple[str, ...]:
    return ("workflows", "import", "--format", "wfformat", *words)


def test_an_imported_recording_runs(call: Callable[..., tuple[int, str, str]]) -> None:
    words = wfformat("run.json.gz", "--time-scale", "0", "--max-cpu", "1", "-o", "two.yaml")
    code, out, err = call(*words)
    assert (code, out) == (0, "")
    assert "two_steps: 2 steps, written to two.yaml; 1 thing not carried over" in err
    assert "99 CPUs of 'b' became 1" in err
    code, out, err = call("run", "two.yaml", "--json")
    assert json.loads(out)["data"]["tasks"]["completed"] == 2, err


def test_stdout_holds_the_workflow_and_nothing_else(call: Callable[..., tuple[int, str, str]]) -> None:
    code, out, err = call(*wfformat("run.json", "--name", "mine"))
    assert code == 0
    assert out.startswith("codomyrmex: 1\nname: mine\n")
    assert "2 steps" in err


def test_in_json_the_answer_lists_what_was_left_out(call: Callable[..., tuple[int, str, str]]) -> None:
    code, out, err = call(
        "--json", "workflows", "import", "--format", "github-actions", "ci.yml", "-o", "ci.json"
    )
    data: dict[str, Any] = json.loads(out)["data"]
    assert (code, err, data["steps"], data["workflow"]) == (0, "", 1, "ci")
    assert {"file": "ci.yml", "line": 5}.items() <= data["left_out"][1].items()
    assert json.loads(Path("ci.json").read_text())["steps"][0]["name"] == "a.step2"
    assert call("workflows", "validate", "ci.json")[0] == 0


@pytest.mark.parametrize(
    ("words", "code", "expected"),
    [
        (wfformat("ci.yml"), 2, "this is not JSON"),
        (wfformat("none.json"), 2, "there is no such file"),
        (wfformat("."), 2, "this is a folder"),
        (wfformat("run.json", "--time-scale", "-1"), 2, "--time-scale"),
        (wfformat("run.json", "--time-scale", "inf"), 2, "--time-scale"),
        (wfformat("run.json", "--max-memory", "lots"), 2, "a size is written"),
        (wfformat("run.json", "--name", "a b"), 2, "a name has letters"),
        (wfformat("run.json", "-o", "x.txt"), 2, "ends in .yaml, .yml or .json"),
        (wfformat("run.json", "-o", "ci.yml"), 6, "is there already"),
        (("workflows", "import", "--format", "argo", "run.json"), 2, "argo"),
    ],
)
def test_what_cannot_be_done_is_refused(
    call: Callable[..., tuple[int, str, str]], words: tuple[str, ...], code: int, expected: str
) -> None:
    ended = call(*words)
    assert ended[0] == code
    assert expected in ended[2]


def test_a_broken_archive_is_refused(call: Callable[..., tuple[int, str, str]]) -> None:
    Path("cut.json.gz").write_bytes(gzip.compress(RECORDING.encode())[:40])
    code, _, err = call(*wfformat("cut.json.gz"))
    assert (code, "cannot be unpacked" in err) == (2, True)
