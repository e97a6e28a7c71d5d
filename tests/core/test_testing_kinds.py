"""`run_workflow` with steps that wait for somebody or something: stubs answer, time passes at once."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest

from codomyrmex.exceptions import CodomyrmexError, TaskNotFound
from codomyrmex.testing import FinishedRun, run_workflow

RETURN = {"module": "scripted_steps", "action": "act", "parameters": {"script": ["ok"]}}
FORM = {"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"]}


def document(*steps: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {"codomyrmex": 1, "name": "waits", "isolation": "thread", "steps": list(steps), **more}


def approve(**more: Any) -> dict[str, Any]:
    return {"name": "approve", "approval": {"message": "Ship it?", **more}}


def run(*steps: dict[str, Any], stubs: dict[str, Any] | None = None, **more: Any) -> FinishedRun:
    return run_workflow(document(*steps, **more), stubs=stubs, timeout_s=20)


@pytest.mark.parametrize(
    ("stub", "approved", "data"),
    [
        (True, True, None),
        ({"approved": True, "data": {"n": 2}}, True, {"n": 2}),
        ({"data": {"n": 2}}, True, {"n": 2}),
    ],
)
def test_a_stub_approves_with_the_data_of_the_form(stub: Any, approved: bool, data: Any) -> None:
    form = {"form": FORM} if data is not None else {}
    output = run(approve(**form), stubs={"approve": stub}).results["approve"]
    assert (output["approved"], output["data"], output["by"]) == (approved, data, "stub")


@pytest.mark.parametrize("stub", [False, {"approved": False, "comment": "too soon"}])
def test_a_stub_that_rejects_fails_the_step(stub: Any) -> None:
    found = run(approve(), {**RETURN, "name": "ship", "dependencies": ["approve"]}, stubs={"approve": stub})
    assert found.statuses() == {"approve": "failed", "ship": "cancelled"}
    assert found.error is not None
    assert "Rejected" in found.error


def test_an_answer_is_given_in_the_name_of_somebody_who_may() -> None:
    assert run(approve(who=["alice"]), stubs={"approve": True}).results["approve"]["by"] == "alice"
    with pytest.raises(CodomyrmexError, match="mallory"):
        run(approve(who=["alice"]), stubs={"approve": {"approved": True, "by": "mallory"}})


def test_an_answer_that_breaks_its_form_is_told_to_the_test() -> None:
    with pytest.raises(CodomyrmexError, match="n"):
        run(approve(form=FORM), stubs={"approve": {"approved": True, "data": {"n": "two"}}})


@pytest.mark.parametrize(
    ("step", "what"),
    [
        (approve(), "approve.*approval"),
        ({"name": "ready", "wait_for": {"signal": "go"}}, "ready.*signal"),
        ({**approve(), "foreach": [1, 2]}, r"approve\[0\].*approval"),
    ],
)
def test_what_would_wait_for_ever_is_named_at_once(step: dict[str, Any], what: str) -> None:
    began_s = time.monotonic()
    with pytest.raises(CodomyrmexError, match=what) as raised:
        run(step)
    assert time.monotonic() - began_s < 10
    assert "stubs=" in (raised.value.hint or "")


def test_the_data_of_a_signal_is_its_stub() -> None:
    ready = {"name": "ready", "wait_for": {"signal": "go"}}
    found = run(ready, stubs={"ready": {"files": [1, 2]}}, outputs={"files": "${steps.ready.output.files}"})
    assert found.outputs == {"files": [1, 2]}


@pytest.mark.parametrize("round", range(5))
def test_a_stub_answers_before_any_time_limit_passes(round: int) -> None:
    found = run(approve(timeout_s=0.5), timeout_s=1.0, stubs={"approve": True})
    assert found.results["approve"]["approved"] is True


def test_time_limits_and_sleeps_pass_at_once() -> None:
    began_s = time.monotonic()
    found = run(
        {**approve(timeout_s=86400.0, default=True)},
        {"name": "ready", "wait_for": {"signal": "go", "timeout_s": 3600.0}, "required": False},
        {"name": "rest", "sleep": 86400.0},
    )
    assert time.monotonic() - began_s < 10
    assert found.statuses() == {"approve": "completed", "ready": "failed", "rest": "completed"}
    assert found.results["approve"]["by"] == "default"
    assert found.duration is not None
    assert found.duration >= 86400


def test_a_child_run_is_stubbed_by_its_outputs() -> None:
    child = {"name": "child", "workflow": "not-there", "retry": {"max_attempts": 2}, "parameters": {"n": 3}}
    found = run(
        child, stubs={"child": [ConnectionError, {"path": "x"}]}, outputs={"p": "${steps.child.output.path}"}
    )
    assert found.outputs == {"p": "x"}
    assert found.attempts("child") == 2
    assert run(child, stubs={"child": lambda n: {"n": n}}).results["child"] == {"n": 3}


def test_handlers_and_compensations_have_stubs_and_an_order() -> None:
    steps = [
        {**RETURN, "name": "pay", "compensate": {"module": "bank", "action": "refund"}},
        {**RETURN, "name": "ship", "dependencies": ["pay"]},
    ]
    undone: list[str] = []
    found = run(
        *steps,
        on_failure=[{"name": "tell", "module": "mail", "action": "send"}],
        **{"finally": [{"name": "tidy", "module": "disk", "action": "clean"}]},
        stubs={
            "ship": ValueError("no"),
            "pay.compensate": lambda: undone.append("pay"),
            "tell": 1,
            "tidy": 2,
        },
    )
    assert undone == ["pay"]
    assert found.order == ["pay", "ship", "pay.compensate", "tell", "tidy"]
    assert found.status.value == "failed"


def test_until_leaves_out_what_comes_after_the_steps() -> None:
    last = {"name": "tidy", "module": "disk", "action": "clean"}
    made = document({**RETURN, "name": "a"}, {**RETURN, "name": "b"}, **{"finally": [last]})
    assert list(run_workflow(made, until="a").tasks) == ["a"]


@pytest.mark.parametrize(("name", "nearest"), [("aprove", "approve"), ("rest", "sleeps")])
def test_a_stub_that_cannot_be_is_refused(name: str, nearest: str) -> None:
    with pytest.raises((TaskNotFound, CodomyrmexError), match=nearest):
        run(approve(), {"name": "rest", "sleep": 1.0}, stubs={name: True})


def test_the_pytest_plugin_gives_an_engine_and_imports_none_before() -> None:
    import subprocess
    import sys

    code = (
        "import sys, codomyrmex.testing.fixtures;"
        "print([name for name in sys.modules if name.startswith('codomyrmex.logistics')])"
    )
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert said.stdout.strip() == "[]"


RESUMABLE = """
codomyrmex: 1
name: saga
steps:
  - {name: pay, call: "work:note", with: {what: pay}, compensate: {call: "work:note", with: {what: refund}}}
  - {name: ask, approval: {message: "Go on?"}, needs: [pay]}
  - {name: ship, call: "work:refuse", needs: [ask]}
finally:
  - {name: tidy, call: "work:note", with: {what: tidy}}
"""
WORK = """
import time
def note(what):
    time.sleep(0.02)
    return what
def refuse(): raise ValueError("no")
"""


def test_a_saga_with_a_question_survives_kills(tmp_path: Path) -> None:
    from codomyrmex.testing import assert_resumes

    (tmp_path / "work.py").write_text(WORK)
    path = tmp_path / "saga.yaml"
    path.write_text(RESUMABLE)
    found = assert_resumes(path, kills=3, answers={"ask": True})
    assert found.status.value == "failed"
    assert found.tasks["pay.compensate"].status == "completed"
    assert found.tasks["tidy"].status == "completed"
