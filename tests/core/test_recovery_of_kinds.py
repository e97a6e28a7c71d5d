"""Every kind of step and every phase is taken up by the next engine exactly where the dead one left it."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from dying_engine import drop, run_through_deaths

from codomyrmex.clock import VirtualClock
from codomyrmex.exceptions import Conflict
from codomyrmex.logistics.orchestration.project import approvals
from codomyrmex.logistics.orchestration.project.child_definition import child_id
from codomyrmex.logistics.orchestration.project.orchestration_engine import OrchestrationEngine
from codomyrmex.logistics.orchestration.project.run_control import RunControl
from codomyrmex.logistics.orchestration.project.run_reader import RunReader
from codomyrmex.logistics.storage.sqlite import SQLiteDatabase
from codomyrmex.testing import FinishedRun
from waiting import wait_until

LIMIT_S = 20.0
UNDO = {"module": "recoverable_steps", "action": "note"}


def step(name: str, action: str, folder: Path, *parents: str, **more: Any) -> dict[str, Any]:
    parameters = {"folder": str(folder), "name": name, **more.pop("parameters", {})}
    head = {"name": name, "module": "recoverable_steps", "action": action, "dependencies": list(parents)}
    return {**head, "parameters": parameters, **more}


def document(*steps: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {"codomyrmex": 1, "name": "kinds", "isolation": "thread", "steps": list(steps), **more}


def engine(state: Path, **more: Any) -> OrchestrationEngine:
    return OrchestrationEngine(state=state, root=Path(__file__).parent, cpu_count=4, **more)


def blocked(first: OrchestrationEngine, run_id: str, task: str) -> None:
    """Waits until a task is open."""
    wait_until(lambda: first.reader.task(run_id, task).status == "blocked", timeout_s=LIMIT_S)
    wait_until(
        lambda: any(
            each["event"] == "waiting" and each["task"] == task for each in first.reader.events(run_id)
        ),
        timeout_s=LIMIT_S,
    )


def finish(state: Path, run_id: str, **more: Any) -> FinishedRun:
    with engine(state, **more) as second:
        assert second.wait(run_id, LIMIT_S)
        return FinishedRun(second.reader, run_id)


def events_of(run: FinishedRun, *wanted: str) -> list[str]:
    return [event["event"] for event in run.events if event["event"] in wanted]


def question(first: OrchestrationEngine) -> approvals.Approval:
    (found,) = approvals.list_open(first._host.database)
    return found


ASK = {"name": "ask", "approval": {"message": "Go on?"}}
GO = {"name": "go", "wait_for": {"signal": "go"}}


def test_an_open_approval_is_still_the_same_question(tmp_path: Path) -> None:
    first = engine(tmp_path / "state")
    run_id = first.start_workflow(document(ASK, step("a", "note", tmp_path, "ask"))).execution_id
    blocked(first, run_id, "ask")
    before = question(first)
    drop(first)
    with engine(tmp_path / "state") as second:
        assert question(second) == before
        second.answer(run_id, "ask")
        assert second.wait(run_id, LIMIT_S)
        run = FinishedRun(second.reader, run_id)
        with pytest.raises(Conflict):
            second.answer(run_id, "ask", approved=False)
    assert run.success
    assert events_of(run, "waiting", "answered") == ["waiting", "answered"]


def test_an_answer_and_a_signal_that_came_while_no_engine_lived_count(tmp_path: Path) -> None:
    first = engine(tmp_path / "state")
    run_id = first.start_workflow(document(ASK, GO)).execution_id
    blocked(first, run_id, "ask")
    blocked(first, run_id, "go")
    drop(first)
    database = SQLiteDatabase.open_existing(tmp_path / "state" / "state.db")
    control = RunControl(
        database, tmp_path / "state", RunReader(database, tmp_path / "state"), now_us=VirtualClock().now_us
    )
    control.answer(run_id, "ask", comment="while nobody was there")
    control.answer(run_id, "ask", approved=False)
    control.signal(run_id, "go", {"n": 3})
    database.close()
    run = finish(tmp_path / "state", run_id)
    assert run.results["ask"]["comment"] == "while nobody was there"
    assert run.results["go"] == {"n": 3}
    assert events_of(run, "answered", "signalled") == ["answered", "signalled"]


def test_a_signal_that_was_sent_before_anybody_waited_is_kept(tmp_path: Path) -> None:
    what = document(step("a", "wait_for_go", tmp_path), {**GO, "dependencies": ["a"]})
    first = engine(tmp_path / "state")
    run_id = first.start_workflow(what).execution_id
    first.signal(run_id, "go", "sent early")
    wait_until(lambda: "signalled" in [event["event"] for event in first.reader.events(run_id)])
    drop(first)
    (tmp_path / "a.go").touch()
    assert finish(tmp_path / "state", run_id).results["go"] == "sent early"


def test_a_sleep_goes_on_from_where_it_was(tmp_path: Path) -> None:
    first = engine(tmp_path / "state")
    run_id = first.start_workflow(document({"name": "rest", "sleep": 3000.0})).execution_id
    blocked(first, run_id, "rest")
    drop(first)
    clock = VirtualClock()
    clock.skip(1500)
    run = finish(tmp_path / "state", run_id, clock=clock)
    assert run.success
    assert run.duration is not None
    assert 2999 < run.duration < 3100
    assert 2990 < clock.skipped_s < 3100  # time passes by itself too
    assert events_of(run, "waiting") == ["waiting"]


def test_a_deadline_of_the_run_holds_across_engines(tmp_path: Path) -> None:
    first = engine(tmp_path / "state")
    run_id = first.start_workflow(document(GO, timeout_s=1000.0)).execution_id
    blocked(first, run_id, "go")
    drop(first)
    clock = VirtualClock()
    clock.skip(900)
    run = finish(tmp_path / "state", run_id, clock=clock)
    assert (run.status.value, run.statuses()) == ("failed", {"go": "cancelled"})
    assert run.error == "the run took longer than its timeout"
    assert run.duration is not None
    assert 999 < run.duration < 1100


def test_a_question_that_came_of_age_while_no_engine_lived_has_its_default(tmp_path: Path) -> None:
    first = engine(tmp_path / "state")
    what = document({"name": "ask", "approval": {"message": "?", "timeout_s": 60.0, "default": True}})
    run_id = first.start_workflow(what).execution_id
    blocked(first, run_id, "ask")
    drop(first)
    clock = VirtualClock()
    clock.skip(5000)
    run = finish(tmp_path / "state", run_id, clock=clock)
    assert run.results["ask"]["by"] == "default"


def test_a_paused_run_stays_paused_until_it_is_resumed(tmp_path: Path) -> None:
    what = document(step("a", "wait_for_go", tmp_path), step("b", "note", tmp_path, "a"))
    first = engine(tmp_path / "state")
    run_id = first.start_workflow(what).execution_id
    wait_until((tmp_path / "a").exists)
    first.pause(run_id)
    (tmp_path / "a.go").touch()
    wait_until(lambda: first.reader.run(run_id).status == "paused")
    drop(first)
    with engine(tmp_path / "state") as second:
        assert not second.wait(run_id, 0.1)
        assert second.reader.run(run_id).status == "paused"
        assert not (tmp_path / "b").exists()
        second.resume(run_id)
        assert second.wait(run_id, LIMIT_S)
        assert second.reader.run(run_id).status == "completed"
    assert (tmp_path / "b").read_text() == "x"


def test_a_pause_that_was_asked_while_no_engine_lived_holds(tmp_path: Path) -> None:
    what = document({"name": "rest", "sleep": 0.05}, step("b", "note", tmp_path, "rest"))
    first = engine(tmp_path / "state")
    run_id = first.start_workflow(document(GO, *what["steps"])).execution_id
    blocked(first, run_id, "go")
    drop(first)
    database = SQLiteDatabase.open_existing(tmp_path / "state" / "state.db")
    reader = RunReader(database, tmp_path / "state")
    RunControl(database, tmp_path / "state", reader, now_us=VirtualClock().now_us).pause(run_id)
    database.close()
    with engine(tmp_path / "state") as second:
        wait_until(lambda: second.reader.run(run_id).status == "paused")
        second.signal(run_id, "go")
        second.resume(run_id)
        assert second.wait(run_id, LIMIT_S)
        assert second.reader.run(run_id).status == "completed"


# -- deaths at every commit ------------------------------------------------------------------------


def tree_of_runs(folder: Path) -> Path:
    """A fan-out of children, written as files."""
    child = document(
        {"name": "rest", "sleep": 5.0},
        step("work", "note", folder, "rest", parameters={"name": "work${parameters.n}"}),
        name="child",
        parameters={"n": {"type": "integer"}},
        outputs={"n": "${parameters.n}"},
    )
    items = {"name": "each", "workflow": "./child.json", "parameters": {"n": "${item}"}, "foreach": [0, 1]}
    root = document(items, step("last", "note", folder, "each"), outputs={"each": "${steps.each.output}"})
    for made in (child, root):
        made["defaults"] = {"isolation": made.pop("isolation")}
    (folder / "child.json").write_text(json.dumps(child))
    (folder / "root.json").write_text(json.dumps(root))
    return folder / "root.json"


def assert_once(run: FinishedRun) -> None:
    """No task was completed, opened or begun as a child more than once."""
    told = Counter((event["event"], event["task"]) for event in run.events)
    again = {
        key: count
        for key, count in told.items()
        if key[0] in ("completed", "waiting", "child_started") and count > 1
    }
    assert again == {}


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
def test_children_are_started_once_and_their_end_is_told_whichever_commit_is_the_last(
    tmp_path: Path, after: bool
) -> None:
    for number in range(1, 16):
        place = tmp_path / str(number)
        place.mkdir()
        run_through_deaths(place / "state", str(tree_of_runs(place)), [(number, after)])
        database = SQLiteDatabase.open_existing(place / "state" / "state.db")
        reader = RunReader(database, place / "state")
        run = FinishedRun(reader, reader.find("@last"))
        assert run.outputs == {"each": [{"n": 0}, {"n": 1}]}, number
        assert_once(run)
        ids = database.query("SELECT id FROM run WHERE parent IS NOT NULL ORDER BY parent_position")
        assert ids == [(child_id(run.execution_id, f"each[{n}]", 1),) for n in (0, 1)]
        database.close()


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
def test_a_saga_is_undone_once_and_handlers_run_whichever_commit_is_the_last(
    tmp_path: Path, after: bool
) -> None:
    a = step("a", "note", tmp_path, compensate={**UNDO, "parameters": {"folder": str(tmp_path), "name": "u"}})
    bad = step("bad", "wait_or_fail", tmp_path, "items")
    undo = {**UNDO, "parameters": {"folder": str(tmp_path), "name": "u${item}"}}
    items = step(
        "items", "note", tmp_path, "a", foreach=[0, 1], parameters={"name": "i${item}"}, compensate=undo
    )
    more = {
        "on_failure": [
            step("tell", "note", tmp_path),
            {"name": "rest", "sleep": 2.0, "dependencies": ["tell"]},
        ],
        "finally": [step("tidy", "note", tmp_path)],
    }
    what = document(a, items, bad, **more)
    wanted = ["items.compensate[1]", "items.compensate[0]", "a.compensate", "tell", "rest", "tidy"]
    for number in range(1, 19):
        run = run_through_deaths(tmp_path / f"state{number}", what, [(number, after)])
        assert run.status.value == "failed", number
        assert run.view.failed_step == "bad"
        assert_once(run)
        completed = [event["task"] for event in run.events if event["event"] == "completed"]
        undone = [task for task in completed if task in wanted]
        assert set(undone[:2]) == set(wanted[:2]), number  # which of the items ended last is open
        assert undone[2:] == wanted[2:], number


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
@pytest.mark.parametrize("policy", ["stop", "fail_fast"])
def test_items_that_never_began_stay_cancelled_whichever_commit_is_the_last(
    tmp_path: Path, policy: str, after: bool
) -> None:
    more: dict[str, Any] = {"fail_fast": True} if policy == "fail_fast" else {}
    over = {"foreach": ["bad", *range(6)], "max_parallel": 1, "parameters": {"name": "${item}"}}
    items = step("items", "wait_or_fail", tmp_path, **over)
    if policy == "stop":
        items["on_item_failure"] = "stop"
    what = document(items, **{"finally": [step("tidy", "note", tmp_path)]}, **more)
    wanted = {"items": "failed", "items[0]": "failed", "tidy": "completed"}
    wanted |= {f"items[{number}]": "cancelled" for number in range(1, 7)}
    for number in range(1, 9):
        run = run_through_deaths(tmp_path / f"state{number}", what, [(number, after)])
        assert run.statuses() == wanted, number
        assert run.status.value == "failed"
        assert_once(run)
