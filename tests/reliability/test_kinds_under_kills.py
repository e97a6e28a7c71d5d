"""`kill -9` of engines while fan-outs are expanded, children run, what completed is undone, somebody is asked, or
handlers clean up: the end is that of an undisturbed run, and nothing recorded is done again."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any

import kind_workflows
import pytest
from kind_course import Audit, KindCourse

MOST_KILLS_OF_ONE_RUN = 4
HALF_A_FAN_OUT = """
SELECT 1 FROM task WHERE run = 1 AND state = 'completed' LIMIT 1
"""
A_CHILD = "SELECT 1 FROM run WHERE parent IS NOT NULL AND status IN ('pending', 'running', 'paused') LIMIT 1"
UNDOING = "SELECT 1 FROM run WHERE phase = 'compensating' AND status = 'running'"
HANDLING = (
    "SELECT 1 FROM run WHERE phase IN ('on_failure', 'finally') AND status = 'running' AND parent IS NULL"
)
A_QUESTION = """
SELECT 1 FROM run WHERE status = 'running' AND (EXISTS (SELECT 1 FROM approval WHERE status = 'open')
OR EXISTS (SELECT 1 FROM task WHERE state = 'blocked' AND reason = 'signal'))
"""


@dataclass(frozen=True, kw_only=True)
class Form:
    """How many kills, on how much work."""

    kills: int
    full: bool


FORMS = [
    pytest.param(Form(kills=3, full=False), id="short"),
    pytest.param(Form(kills=30, full=True), id="full", marks=pytest.mark.reliability),
]
under_kills = pytest.mark.parametrize("form", FORMS)


@dataclass(kw_only=True)
class Trial:
    """Runs one workflow undisturbed, and then again and again until all kills were delivered at the aim."""

    folder: Path
    chance: Random
    write: Callable[[Path], Mapping[str, Mapping[str, Any]]]
    aim: str
    within_s: float
    answers: Mapping[str, Any]
    check: Callable[[Audit], None]

    def perform(self, kills: int) -> str:
        """The figures, in words; every contradiction fails the test."""
        undisturbed = self._run("undisturbed", 0)
        runs = delivered = others = tasks = repeats = 0
        while delivered < kills:
            wanted = min(self.chance.randint(1, MOST_KILLS_OF_ONE_RUN), kills - delivered)
            found = self._run(f"run{runs}", wanted)
            assert found.runs == undisturbed.runs
            runs, delivered, others = runs + 1, delivered + found.kills, others + found.other_kills
            tasks, repeats = tasks + found.tasks, repeats + found.repeats
        return (
            f"{delivered} kills at this moment and {others} at others in {runs} runs of {tasks} tasks in all: ends "
            f"that differ 0, recorded tasks begun again 0, processes left 0, unrecorded attempts repeated {repeats}"
        )

    def _run(self, name: str, kills: int) -> Audit:
        folder = self.folder / name
        file = kind_workflows.write_files(folder, self.write(folder))
        course = KindCourse(
            folder=folder,
            file=file,
            chance=self.chance,
            aim=self.aim,
            within_s=self.within_s,
            answers=self.answers,
        )
        audit = course.perform(kills)
        assert audit.faults == []
        self.check(audit)
        return audit


@pytest.fixture
def trial(tmp_path: Path, chance: Random) -> Callable[..., Trial]:
    """`trial(write, aim=..., within_s=..., check=...)`."""

    def make(write: Callable[[Path], Any], *, answers: Mapping[str, Any] | None = None, **more: Any) -> Trial:
        return Trial(folder=tmp_path, chance=chance, write=write, answers=answers or {}, **more)

    return make


@under_kills
def test_a_fan_out_survives_kills_while_it_is_expanded_and_runs(
    form: Form, trial: Callable[..., Trial], record: Callable[..., None]
) -> None:
    items = 10_000 if form.full else 200

    def check(audit: Audit) -> None:
        root = audit.runs[""]
        wanted = [{"value": 2 * number + 1} for number in range(items + 1)]
        assert (root.status, root.outputs) == ("completed", {"last": 2 * (items + 1) + 1})
        assert (root.results["items0"], root.results["items1"]) == (wanted, wanted)

    tried = trial(
        lambda folder: kind_workflows.fan_out(folder, items),
        aim=HALF_A_FAN_OUT,
        within_s=2.5 if form.full else 0.15,
        check=check,
    )
    figures = tried.perform(form.kills)
    record(f"`kill -9` while two fan-outs of {items} items are expanded and run", form.kills, figures)


@under_kills
def test_child_runs_go_on_where_they_were(
    form: Form, trial: Callable[..., Trial], record: Callable[..., None]
) -> None:
    items = 30 if form.full else 4

    def check(audit: Audit) -> None:
        root = audit.runs[""]
        assert root.status == "completed"
        assert root.outputs["each"] == [{"value": (number * 2 + 1) * 4 + 3} for number in range(items)]
        assert len(audit.runs) == 1 + 2 * items + 2
        assert {path for path in audit.runs if path.startswith("/again")} == {"/again#1", "/again#2"}
        assert audit.runs["/again#1"].status == "failed"

    tried = trial(
        lambda folder: kind_workflows.children(folder, items),
        aim=A_CHILD,
        within_s=0.6 if form.full else 0.15,
        check=check,
    )
    record(f"`kill -9` while {items} children with children run", form.kills, tried.perform(form.kills))


@under_kills
def test_what_completed_is_undone_once_and_in_reverse_order(
    form: Form, trial: Callable[..., Trial], record: Callable[..., None]
) -> None:
    steps, items = (14, 8) if form.full else (7, 4)

    def check(audit: Audit) -> None:
        assert audit.runs[""].status == "failed"
        assert_undone(audit, steps + items)

    tried = trial(
        lambda folder: kind_workflows.saga(folder, steps, items),
        aim=UNDOING,
        within_s=0.3 if form.full else 0.12,
        check=check,
    )
    record(
        f"`kill -9` while {steps + items} steps and items are undone", form.kills, tried.perform(form.kills)
    )


def assert_undone(audit: Audit, count: int) -> None:
    """Each compensation is recorded once, the last that completed first."""
    completed = [event["task"] for event in audit.events[""] if event["event"] == "completed"]
    undone = [task for task in completed if ".compensate" in task]
    ended = [
        (task.ended_at, number, task.name)
        for number, task in enumerate(audit.views[""])
        if task.name in completed and ".compensate" not in task.name and task.name != "items"
    ]
    wanted = [name for _ended_at, _number, name in sorted(ended, reverse=True)]
    assert [task.replace(".compensate", "") for task in undone if task != "items.compensate"] == wanted
    assert len(wanted) == count
    assert completed.count("items.compensate") == 1


@under_kills
def test_open_questions_survive_and_are_answered_once(
    form: Form, trial: Callable[..., Trial], record: Callable[..., None]
) -> None:
    items = 6 if form.full else 2
    answers: dict[str, Any] = {"ask": True, "signal:ready": {"n": 5}}
    for number in range(items):
        answers |= {f"each[{number}]": {"n": number * 10}, f"signal:part-{number}": number}

    def check(audit: Audit) -> None:
        root = audit.runs[""]
        assert root.outputs == {"last": 11, "late": 5, "parts": list(range(items))}
        said = [{key: answer[key] for key in ("by", "data")} for answer in root.results["each"]]
        assert said == [{"by": "alice", "data": {"n": number * 10}} for number in range(items)]

    tried = trial(
        lambda folder: kind_workflows.questions(folder, items),
        aim=A_QUESTION,
        within_s=0.08,
        answers=answers,
        check=check,
    )
    record(
        f"`kill -9` with open approvals and awaited signals, {2 * items + 3} of them",
        form.kills,
        tried.perform(form.kills),
    )


@under_kills
def test_on_failure_and_finally_go_on_where_they_were(
    form: Form, trial: Callable[..., Trial], record: Callable[..., None]
) -> None:
    items = 12 if form.full else 4

    def check(audit: Audit) -> None:
        root = audit.runs[""]
        assert (root.status, root.failed_step) == ("failed", "bad")
        assert root.results["close"] == {"value": 15}
        assert {root.tasks[name] for name in ("tell", "mail", "page", "calm", "sweep", "child", "rest")} == {
            "completed"
        }

    tried = trial(
        lambda folder: kind_workflows.handlers(folder, items), aim=HANDLING, within_s=0.2, check=check
    )
    record("`kill -9` while `on_failure` and `finally` clean up", form.kills, tried.perform(form.kills))
