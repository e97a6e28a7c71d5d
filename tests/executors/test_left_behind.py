"""An attempt has ended when nothing of it is left, and what it forked never answers in its place."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from codomyrmex.logistics.orchestration.project import values
from codomyrmex.logistics.orchestration.project.executors.attempt import Attempt, Outcome, OutcomeKind
from codomyrmex.logistics.orchestration.project.executors.process import ProcessExecutor
from codomyrmex.logistics.orchestration.project.executors.process_tree import find_marked

Make = Callable[..., Attempt]
ACTIONS = """
import os, subprocess, sys
def leave_child(): return [subprocess.Popen(["sleep", "60"], start_new_session=True).pid, os.getpid()][1]
def leave_orphan():
    subprocess.run(["sh", "-c", "setsid sleep 60 & exit 0"], check=True)
    return os.getpid()
def leave_and_fail():
    leave_orphan()
    raise ValueError("no")
def leave_zombie():
    child = subprocess.Popen(["true"])
    os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
    return os.getpid()
def forked(how):
    child = os.fork()
    if child == 0:
        if how == "raises": raise ValueError("in the child")
        if how == "leaves": sys.exit(5)
        return "from the child"
    return ["from the parent", os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])]
def pid(): return os.getpid()
"""


@pytest.fixture(autouse=True)
def family(project: Path) -> None:
    (project / "family.py").write_text(ACTIONS)


def value_of(outcome: Outcome) -> Any:
    assert outcome.kind is OutcomeKind.COMPLETED, outcome
    assert outcome.result is not None
    return values.decode(outcome.result)


@pytest.mark.parametrize("action", ["leave_child", "leave_orphan", "leave_and_fail"])
def test_processes_left_behind_are_gone_before_the_outcome_is_told(
    executor: ProcessExecutor, make: Make, action: str
) -> None:
    attempt = make(action, {"module": "family"})
    outcome = executor.run(attempt)
    assert outcome.kind is (OutcomeKind.FAILED if action == "leave_and_fail" else OutcomeKind.COMPLETED)
    assert find_marked("CODOMYRMEX_ATTEMPT", attempt.token) == []
    if outcome.result is not None:
        assert value_of(executor.run(make("pid", {"module": "family"}))) != value_of(outcome)


def test_a_child_that_has_ended_costs_no_worker(executor: ProcessExecutor, make: Make) -> None:
    first = value_of(executor.run(make("leave_zombie", {"module": "family"})))
    assert value_of(executor.run(make("pid", {"module": "family"}))) == first


@pytest.mark.parametrize(("how", "code"), [("returns", 0), ("leaves", 5), ("raises", 1)])
def test_a_forked_child_that_comes_out_of_the_action_ends_and_answers_nothing(
    executor: ProcessExecutor, make: Make, how: str, code: int
) -> None:
    attempt = make("forked", {"module": "family"}, how=how)
    assert value_of(executor.run(attempt)) == ["from the parent", code]
    assert find_marked("CODOMYRMEX_ATTEMPT", attempt.token) == []
    assert value_of(executor.run(make("pid", {"module": "family"})))
    if how == "raises":
        assert "ValueError: in the child" in Path(attempt.log_path or "").read_text()
