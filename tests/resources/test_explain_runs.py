"""Each kind of wait made for real and explained: by a real engine, from committed rows."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime
from pathlib import Path
from threading import Event
from typing import Any

import pytest

from codomyrmex.exceptions import TaskNotFound
from codomyrmex.logistics.orchestration.project import intent_store
from codomyrmex.logistics.orchestration.project.orchestration_engine import OrchestrationEngine
from codomyrmex.logistics.orchestration.project.run_reader import RunReader
from codomyrmex.logistics.orchestration.project.workflow import Workflow
from codomyrmex.logistics.storage.database import Database
from codomyrmex.logistics.storage.sqlite import SQLiteDatabase
from waiting import wait_until

GO, BEGAN = Event(), Event()


def hold(value: Any = None, **_more: Any) -> Any:
    """Keeps its slot and what it claimed until the test lets go."""
    BEGAN.set()
    GO.wait(20)
    return value


def work(value: Any = None, **_more: Any) -> Any:
    return value


def fail(message: str = "no", **_more: Any) -> None:
    raise ValueError(message)


@pytest.fixture(autouse=True)
def host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A machine of its own for each test; whoever holds something lets go at its end."""
    monkeypatch.setenv("CODOMYRMEX_HOST_DIR", str(tmp_path / "host"))
    GO.clear()
    BEGAN.clear()
    yield
    GO.set()


@contextmanager
def opened(state: Path, **options: Any) -> Iterator[OrchestrationEngine]:
    """An engine; what its runs hold is let go of before it closes."""
    state.parent.mkdir(exist_ok=True)
    with ExitStack() as stack:
        engine = stack.enter_context(OrchestrationEngine(state=state, root=state.parent, **options))
        stack.callback(GO.set)
        yield engine


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[OrchestrationEngine]:
    with opened(tmp_path / "state", cpu_count=2) as found:
        yield found


def made(name: str = "w", **steps: dict[str, Any]) -> Workflow:
    """A workflow of steps that call `call` (`work` if not said), each with its options."""
    workflow = Workflow(name)
    for step, options in steps.items():
        workflow.step(options.pop("call", work)).options(name=step, **options)
    return workflow


def document(*steps: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {"codomyrmex": 1, "name": "w", "steps": list(steps), **more}


def reasons(engine: OrchestrationEngine, run_id: str, task: str) -> list[dict[str, Any]]:
    """The reasons of one task as data; none for an item of which the run has not heard yet."""
    if not engine.reader.has_task(run_id, task):
        return []
    found = engine.reader.explanation(run_id, task).reasons[0].to_dict(datetime.now(UTC))
    return list(found["reasons"])


def reason(engine: OrchestrationEngine, run_id: str, task: str, kind: str) -> dict[str, Any]:
    """Its reason of this kind, once it has it."""

    def found() -> dict[str, Any] | None:
        return next((each for each in reasons(engine, run_id, task) if each["kind"] == kind), None)

    answer: dict[str, Any] | None = wait_until(found, what=f"{task} to wait because of {kind}")
    assert answer is not None
    return answer


def running(engine: OrchestrationEngine, run_id: str, *names: str) -> None:
    wait_until(
        lambda: {each.name for each in engine.reader.tasks(run_id, status="running")} >= set(names),
        what=f"{names} to run",
    )


def database_of(engine: OrchestrationEngine) -> Database:
    return engine._host.database


def add_resource(engine: OrchestrationEngine, name: str, capacity: float, **more: Any) -> None:
    """A named resource, under an id that is not its name."""
    whole = {"id": f"r-{name}", "name": name, "type": "custom", "capacity": capacity} | more
    assert engine.resources.add_resource(whole)


# -- what it depends on ------------------------------------------------------------------------------


def test_a_step_names_what_it_depends_on_and_how_that_stands(engine: OrchestrationEngine) -> None:
    workflow = made(
        a={"call": hold},
        b={"needs": ["a"]},
        c={"needs": ["a"]},
        d={"needs": ["a"]},
        last={"needs": ["b", "c", "d", "a"]},
    )
    run_id = engine.start_workflow(workflow).execution_id
    running(engine, run_id, "a")
    found = reason(engine, run_id, "last", "dependencies")
    assert [each["task"] for each in found["steps"]] == ["a", "b", "c"]
    assert found["more"] == 1
    assert found["sentence"] == "waits for a (running), b (waits for a), c (waits for a) and 1 more"


def test_steps_that_wait_for_the_same_are_told_of_as_one(engine: OrchestrationEngine) -> None:
    steps: dict[str, Any] = {f"s{number}": {"needs": ["a"]} for number in range(50)}
    run_id = engine.start_workflow(made("w", a={"call": hold}, **steps)).execution_id
    running(engine, run_id, "a")
    first, second = engine.reader.reasons(run_id)
    assert (first.task, first.status) == ("a", "running")
    assert (second.task, second.others, second.more) == ("s0", ("s1", "s2"), 47)
    assert "s0, s1, s2 and 47 more are blocked, each: waits for a (running)." in engine.explain(run_id)


# -- resources ---------------------------------------------------------------------------------------


def test_a_task_that_lacks_cpu_names_the_tasks_that_have_it(engine: OrchestrationEngine) -> None:
    big = {"call": hold, "resources": {"cpu": 0.75}}
    workflow = made(one=dict(big), two=dict(big), three={"resources": {"cpu": 1}, "priority": "low"})
    run_id = engine.start_workflow(workflow).execution_id
    running(engine, run_id, "one", "two")
    found = reason(engine, run_id, "three", "resource")
    assert {key: found[key] for key in ("resource", "unit", "asked", "free", "short_by", "capacity")} == {
        "resource": "sys-compute",
        "unit": "CPUs",
        "asked": 1,
        "free": 0.5,
        "short_by": 0.5,
        "capacity": 2,
    }
    assert {each["who"] for each in found["holders"]} == {"one", "two"}
    assert all(each["pid"] == os.getpid() and each["amount"] == 0.75 for each in found["holders"])
    assert "it asks for 1 CPU, 0.5 CPU of 2 CPUs are free; held by one (0.75 CPU" in found["sentence"]


def test_a_task_of_another_run_is_named_with_its_run(engine: OrchestrationEngine) -> None:
    first = engine.start_workflow(made("nightly", parse={"call": hold, "resources": {"cpu": 2}})).execution_id
    running(engine, first, "parse")
    second = engine.start_workflow(made(b={})).execution_id
    holder = reason(engine, second, "b", "resource")["holders"][0]
    assert (holder["who"], holder["workflow"]) == (f"{first}/parse", "nightly")


def test_a_fan_out_says_what_its_items_wait_for(engine: OrchestrationEngine) -> None:
    workflow = Workflow("w")
    workflow.map(hold, over=[1, 2, 3, 4, 5], value="${item}").options(name="each")
    run_id = engine.start_workflow(workflow).execution_id
    running(engine, run_id, "each[0]", "each[1]")
    found = engine.reader.explanation(run_id).reasons[0]
    assert found.note == "0 of 5 items have ended, 2 run, 3 wait"
    assert [each.kind for each in found.reasons] == ["resource"]
    one = reason(engine, run_id, "each[3]", "resource")
    assert {each["who"] for each in one["holders"]} == {"each[0]", "each[1]"}


def test_memory_is_short_by_the_figures_of_the_machine(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CODOMYRMEX_RESOURCES_MEMORY", "1GiB")
    big = {"run": ["sleep", "60"], "resources": {"cpu": 0.1, "memory": "600MiB"}}
    last = {"name": "c", "sleep": 1, "dependencies": ["a", "b"]}
    with opened(tmp_path / "state") as engine:
        run_id = engine.start_workflow(
            document({"name": "a", **big}, {"name": "b", **big}, last)
        ).execution_id
        running(engine, run_id, "a")
        found = reason(engine, run_id, "b", "resource")
        assert (found["resource"], found["unit"], found["short_by"]) == ("sys-memory", "bytes", 176 * 2**20)
        assert (
            "waits for memory: it asks for 600 MiB, 424 MiB of 1 GiB are free; held by a" in found["sentence"]
        )
        engine.cancel(run_id, kill=True)
        assert engine.wait(run_id, 10)


def test_a_lock_names_who_holds_it_and_since_when(engine: OrchestrationEngine) -> None:
    add_resource(engine, "deploy", 1)
    light = {"cpu": 0.1, "deploy": 1}
    workflow = made(
        one={"call": hold, "resources": light}, two={"resources": light, "needs": ["zero"]}, zero={}
    )
    run_id = engine.start_workflow(workflow).execution_id
    running(engine, run_id, "one")
    found = reason(engine, run_id, "two", "resource")
    assert (found["name"], found["asked"], found["free"], found["capacity"]) == ("deploy", 1, 0, 1)
    assert [each["who"] for each in found["holders"]] == ["one"]
    assert found["sentence"].startswith("waits for deploy, of which there is one; held by one (since ")


def test_a_holding_of_a_person_is_named_by_who_asked_for_it(engine: OrchestrationEngine) -> None:
    add_resource(engine, "licence", 3)
    assert engine.resources.allocate("r-licence", "alice", 2) is not None
    run_id = engine.start_workflow(made(a={"resources": {"licence": 2}})).execution_id
    found = reason(engine, run_id, "a", "resource")
    assert (found["short_by"], found["holders"][0]["who"], found["holders"][0]["amount"]) == (1, "alice", 2)


def test_a_resource_that_is_offline_says_so(engine: OrchestrationEngine) -> None:
    add_resource(engine, "rig", 1)
    with database_of(engine).transaction() as tx:
        tx.execute("UPDATE resource SET offline = 1 WHERE name = 'rig'")
    run_id = engine.start_workflow(made(a={"resources": {"rig": 1}})).execution_id
    found = reason(engine, run_id, "a", "resource")
    assert found["offline"] is True
    assert found["sentence"] == "waits for rig, which is offline (codomyrmex resources online rig)"


def test_a_quota_says_when_it_lets_the_task_through(engine: OrchestrationEngine) -> None:
    add_resource(engine, "openai", 2, type="api_quota", per_s=3600, burst=2)
    workflow = made(one={"resources": {"openai": 2}}, two={"resources": {"openai": 1}, "needs": ["one"]})
    run_id = engine.start_workflow(workflow).execution_id
    wait_until(lambda: engine.reader.task(run_id, "one").final)
    found = reason(engine, run_id, "two", "quota")
    ahead_s = (datetime.fromisoformat(found["retry_at"]) - datetime.now(UTC)).total_seconds()
    assert 1700 < ahead_s <= 1800
    assert (found["asked"], found["capacity"], found["per_s"]) == (1, 2, 3600)


def test_a_run_of_a_session_is_told_what_is_short_of_its_holding(engine: OrchestrationEngine) -> None:
    add_resource(engine, "licence", 5)
    held = engine.resources.allocate_resources("s1", {"cpu": 1, "r-licence": 2})
    assert held is not None
    needs = {"cpu": 0.6, "licence": 2}
    workflow = made(one={"call": hold, "resources": needs}, two={"resources": needs})
    run_id = engine.start_workflow(workflow, "s1").execution_id
    running(engine, run_id, "one")
    found: dict[str, dict[str, Any]] = {}

    def both() -> bool:
        found.update(
            {each["resource"]: each for each in reasons(engine, run_id, "two") if "resource" in each}
        )
        return set(found) == {"sys-compute", "r-licence"}

    wait_until(both)
    licence, cpu = found["r-licence"], found["sys-compute"]
    assert (licence["session"], licence["asked"], licence["free"], licence["capacity"]) == ("s1", 2, 0, 2)
    assert (cpu["session"], cpu["asked"], cpu["free"], cpu["capacity"]) == ("s1", 0.6, 0.4, 1)
    assert [each["who"] for each in (*licence["holders"], *cpu["holders"])] == ["one", "one"]
    assert "waits for CPU of session s1: it asks for 0.6 CPU, 0.4 CPU of 1 CPU" in cpu["sentence"]


def test_a_lock_is_told_across_the_engines_of_a_state(tmp_path: Path) -> None:
    state = tmp_path / "state"
    light = {"cpu": 0, "deploy": 1}
    with opened(state) as first, opened(state) as second:
        add_resource(first, "deploy", 1)
        one = first.start_workflow(made("first", a={"call": hold, "resources": light})).execution_id
        running(first, one, "a")
        two = second.start_workflow(made("second", b={"resources": light})).execution_id
        found = reason(second, two, "b", "resource")
        assert found["holders"][0]["who"] == f"{one}/a"
        assert (found["holders"][0]["workflow"], found["holders"][0]["engine"]) == ("first", first.epoch)
        GO.set()


def test_what_other_projects_have_of_the_machine_is_told_with_their_place(tmp_path: Path) -> None:
    with opened(tmp_path / "a" / "state", cpu_count=2) as first:
        busy = first.start_workflow(made(x={"call": hold, "resources": {"cpu": 2}})).execution_id
        running(first, busy, "x")
        with opened(tmp_path / "b" / "state", cpu_count=2) as second:
            run_id = second.start_workflow(made(y={})).execution_id
            found = reason(second, run_id, "y", "other_engines")
            assert (found["asked"], found["free"], found["capacity"]) == (1, 0, 2)
            other = found["engines"][0]
            assert (other["pid"], other["amount"]) == (os.getpid(), 2)
            assert other["state"] == str(tmp_path / "a" / "state")
            GO.set()


# -- how many at once --------------------------------------------------------------------------------


def test_max_workers_is_told_with_what_runs(tmp_path: Path) -> None:
    with opened(tmp_path / "state", cpu_count=4, max_workers=1) as engine:
        light = {"resources": {"cpu": 0}}
        run_id = engine.start_workflow(made(a={"call": hold, **light}, b=dict(light))).execution_id
        running(engine, run_id, "a")
        found = reason(engine, run_id, "b", "max_workers")
        assert (found["limit"], found["running"], found["tasks"]) == (1, 1, ["a"])


def test_max_parallel_of_step_run_and_root_are_told_apart(
    engine: OrchestrationEngine, tmp_path: Path
) -> None:
    light = {"resources": {"cpu": 0}}
    workflow = Workflow("w")
    workflow.map(hold, over=[1, 2], value="${item}").options(name="each", max_parallel=1, **light)
    of_step = engine.start_workflow(workflow).execution_id
    running(engine, of_step, "each[0]")
    found = reason(engine, of_step, "each[1]", "max_parallel")
    assert (found["scope"], found["limit"], found["of"], found["tasks"]) == ("step", 1, "each", ["each[0]"])

    workflow = Workflow("w", max_parallel=1)
    for name in ("a", "b"):
        workflow.step(hold).options(name=name, **light)
    of_run = engine.start_workflow(workflow).execution_id
    running(engine, of_run, "a")
    found = reason(engine, of_run, "b", "max_parallel")
    assert (found["scope"], found["limit"], found["tasks"]) == ("run", 1, ["a"])


def test_a_limit_of_the_run_at_the_top_holds_for_those_below_it(
    engine: OrchestrationEngine, tmp_path: Path
) -> None:
    wait = {"name": "x", "run": ["sleep", "60"], "resources": {"cpu": 0}}
    (tmp_path / "child.json").write_text(json.dumps({"codomyrmex": 1, "name": "child", "steps": [wait]}))
    subs = [{"name": name, "workflow": "./child.json"} for name in ("one", "two")]
    run_id = engine.start_workflow(document(*subs, max_parallel=1)).execution_id

    def behind() -> dict[str, Any] | None:
        children = [each.execution_id for each in engine.reader.runs()[0] if each.parent == run_id]
        found = [each for child in children for each in reasons(engine, child, "x")]
        return next((each for each in found if each["kind"] == "max_parallel"), None)

    found = wait_until(behind)
    assert found is not None
    assert (found["scope"], found["limit"], found["of"]) == ("root", 1, run_id)
    assert found["tasks"][0].startswith("child ")
    engine.cancel(run_id, kill=True)
    assert engine.wait(run_id, 10)


# -- the run -----------------------------------------------------------------------------------------


def test_a_run_behind_another_with_its_concurrency_key_names_it(engine: OrchestrationEngine) -> None:
    wait = document({"name": "ask", "approval": {"message": "Go?"}}, concurrency={"key": "main"})
    first = engine.start_workflow(wait).execution_id
    wait_until(lambda: engine.reader.run(first).status == "running")
    later = {"name": "x", "module": "files", "action": "glob", "parameters": {"pattern": "*"}}
    second = engine.start_workflow(document(later, concurrency={"key": "main"})).execution_id
    found = reason(engine, second, "x", "concurrency")
    assert (found["key"], found["run"], found["workflow"], found["status"]) == ("main", first, "w", "running")
    assert found["since"] is not None
    said = engine.explain(second)
    assert "CPU" not in " ".join(said)
    assert f"waits for run {first} of w, which has the concurrency key 'main' since" in said[0]
    engine.cancel(first)


def test_a_paused_run_says_since_when_and_who_asked(engine: OrchestrationEngine) -> None:
    workflow = made(a={"call": hold}, b={"needs": ["a"]})
    run_id = engine.start_workflow(workflow).execution_id
    running(engine, run_id, "a")
    with database_of(engine).transaction() as tx:
        intent_store.ask(tx, run=1, kind="pause", by="alice", now_us=time.time_ns() // 1000)
    wait_until(lambda: engine.reader.run(run_id).intent == "pause")
    GO.set()
    wait_until(lambda: engine.reader.run(run_id).status == "paused")
    assert " is paused since " in engine.explain(run_id)[0]
    found = reason(engine, run_id, "b", "paused")
    assert (found["by"], found["run"]) == ("alice", run_id)
    assert datetime.fromisoformat(found["since"]) <= datetime.now(UTC)
    assert f"codomyrmex resume {run_id} goes on" in engine.explain(run_id)[0]


DYING = """
import json, os, sys
from codomyrmex import OrchestrationEngine
engine = OrchestrationEngine(state=sys.argv[1], root=os.path.dirname(sys.argv[1]))
engine.start_workflow({"codomyrmex": 1, "name": "w", "steps": json.loads(sys.argv[2])})
while any(task.waiting is None for task in engine.reader.tasks(engine.reader.find("w"))[:2]):
    pass
os._exit(9)
"""


@contextmanager
def after_its_death(folder: Path, *steps: dict[str, Any]) -> Iterator[tuple[RunReader, Database]]:
    """A run of these steps whose engine died when the first two waited; read without an engine."""
    script, state = folder / "dying.py", folder / "state"
    script.write_text(DYING)
    command = [sys.executable, str(script), str(state), json.dumps(steps)]
    assert subprocess.run(command, check=False).returncode == 9
    database = SQLiteDatabase.open_existing(state / "state.db")
    try:
        yield RunReader(database, state), database
    finally:
        database.close()


def test_a_run_whose_engine_is_dead_says_how_to_go_on(tmp_path: Path) -> None:
    naps = [{"name": name, "sleep": "1h"} for name in ("a", "b")]
    with after_its_death(tmp_path, *naps) as (reader, _database):
        run_id = reader.find("w")
        found = reader.explanation(run_id)
        assert [each.kind for each in found.holds] == ["no_owner"]
        assert f"is gone; codomyrmex resume {run_id} goes on where it was" in found.about[0]
        assert [each.kind for each in found.reasons[0].reasons] == ["timer", "no_owner"]


def test_an_answer_and_a_signal_that_the_run_has_not_read_are_told_of(tmp_path: Path) -> None:
    steps = ({"name": "ask", "approval": {"message": "Go?"}}, {"name": "hear", "wait_for": {"signal": "go"}})
    with after_its_death(tmp_path, *steps) as (reader, database):
        now_us = time.time_ns() // 1000
        answer = {"task": "ask", "approved": True, "by": "alice (as claimed by bob)"}
        with database.transaction() as tx:
            intent_store.ask(tx, run=1, kind="answer", by="alice", now_us=now_us, payload=answer)
            signal = {"name": "go", "data": None}
            intent_store.ask(tx, run=1, kind="signal", by="bob", now_us=now_us, payload=signal)
        run_id = reader.find("w")
        said = reader.explain(run_id, "ask")[1]
        assert "alice (as claimed by bob) has answered (Go?), and the run has not read it yet" in said
        assert "bob has sent signal go, and the run has not read it yet" in reader.explain(run_id, "hear")[1]
        waiting = reader.task(run_id, "ask").waiting
        assert waiting is not None
        assert waiting.recorded_by == "alice (as claimed by bob)"


# -- steps without a slot ----------------------------------------------------------------------------


def test_an_approval_a_signal_and_a_sleep_say_what_would_end_the_wait(engine: OrchestrationEngine) -> None:
    workflow = document(
        {"name": "ask", "approval": {"message": "Ship it?", "who": ["alice"], "timeout": "1h"}},
        {"name": "hear", "wait_for": {"signal": "go"}},
        {"name": "nap", "sleep": "1h"},
        {"name": "last", "sleep": 1, "dependencies": ["ask", "nap"]},
    )
    run_id = engine.start_workflow(workflow).execution_id
    question = reason(engine, run_id, "ask", "approval")
    assert (question["question"], question["who"]) == ("Ship it?", ["alice"])
    assert f"codomyrmex approvals answer {run_id} ask" in question["sentence"]
    assert reason(engine, run_id, "hear", "signal")["name"] == "go"
    assert reason(engine, run_id, "nap", "timer")["why"] == "sleep"
    steps = reason(engine, run_id, "last", "dependencies")["steps"]
    assert [each["waits_for"].partition(" until")[0] for each in steps] == ["waits for an answer", "sleeps"]
    engine.cancel(run_id)


def test_a_retry_says_which_attempt_failed_how_and_when_the_next_follows(engine: OrchestrationEngine) -> None:
    workflow = made(a={"call": fail, "retry": {"max_attempts": 2, "delay_s": 600}})
    run_id = engine.start_workflow(workflow).execution_id
    found = reason(engine, run_id, "a", "timer")
    assert (found["why"], found["attempt"], found["error"]) == ("retry", 1, "ValueError: no")
    assert "attempt 1 failed (ValueError: no), the next follows at" in found["sentence"]
    engine.cancel(run_id)


def test_a_step_that_started_a_run_says_what_that_one_waits_for(
    engine: OrchestrationEngine, tmp_path: Path
) -> None:
    child = {"codomyrmex": 1, "name": "child", "steps": [{"name": "nap", "wait_for": {"signal": "wake"}}]}
    (tmp_path / "child.json").write_text(json.dumps(child))
    run_id = engine.start_workflow(document({"name": "sub", "workflow": "./child.json"})).execution_id

    def told() -> dict[str, Any] | None:
        found = reason(engine, run_id, "sub", "child")
        return found if found["waits"] else None

    found = wait_until(told)
    assert found is not None
    assert (found["workflow"], found["status"]) == ("child", "running")
    assert found["waits"] == ["nap waits for signal wake"]
    inner = engine.start_workflow(document({"name": "sub", "workflow": "./child.json"}, max_parallel=1))
    assert reason(engine, inner.execution_id, "sub", "child")["run"] != found["run"]
    engine.cancel(run_id)
    engine.cancel(inner.execution_id)


def test_items_of_questions_beyond_max_parallel_wait_for_those_that_are_open(
    engine: OrchestrationEngine,
) -> None:
    each = {"name": "each", "foreach": [1, 2, 3], "approval": {"message": "Go?"}, "max_parallel": 2}
    run_id = engine.start_workflow(document(each)).execution_id
    found = reason(engine, run_id, "each[2]", "max_parallel")
    assert (found["scope"], found["limit"], found["tasks"]) == ("step", 2, ["each[0]", "each[1]"])
    engine.cancel(run_id)


# -- other parts of a run ----------------------------------------------------------------------------


def test_a_handler_that_was_not_wanted_says_when_it_would_run(engine: OrchestrationEngine) -> None:
    handler = {"module": "files", "action": "glob", "parameters": {"pattern": "*"}}
    workflow = document(
        {"name": "ask", "approval": {"message": "Go?"}},
        on_failure=[{"name": "tell", **handler}],
        **{"finally": [{"name": "tidy", **handler}]},
    )
    run_id = engine.start_workflow(workflow).execution_id
    reason(engine, run_id, "ask", "approval")
    assert reason(engine, run_id, "tell", "phase")["phase"] == "on_failure"
    assert reason(engine, run_id, "tidy", "phase")["sentence"] == "it runs when all else of the run has ended"
    assert [each.task for each in engine.reader.reasons(run_id)] == ["ask"]
    engine.cancel(run_id)


def test_a_thread_that_was_asked_to_stop_says_that_it_runs_on(engine: OrchestrationEngine) -> None:
    run_id = engine.start_workflow(made(a={"call": hold})).execution_id
    assert BEGAN.wait(10)  # before that it would be taken back, and be cancelled at once
    engine.cancel(run_id)
    wait_until(lambda: "; it was asked to end (cancel) at " in engine.explain(run_id)[0])
    found = reason(engine, run_id, "a", "stopping")
    assert found["isolation"] == "thread"


def test_a_task_that_is_not_there_is_refused_with_the_nearest(engine: OrchestrationEngine) -> None:
    run_id = engine.execute_workflow(made(parse={})).execution_id
    with pytest.raises(TaskNotFound, match="parse"):
        engine.explain(run_id, "prase")


def test_what_is_to_be_undone_waits_for_what_completed_after_it(engine: OrchestrationEngine) -> None:
    quick = {"module": "files", "action": "glob", "parameters": {"pattern": "*"}}
    slow = {"run": ["sleep", "60"], "resources": {"cpu": 0}}
    workflow = document(
        {"name": "a", **quick, "compensate": quick},
        {"name": "b", **quick, "compensate": slow, "dependencies": ["a"]},
        {"name": "c", "wait_for": {"signal": "go", "timeout": "20ms"}, "dependencies": ["b"]},
    )
    run_id = engine.start_workflow(workflow).execution_id
    running(engine, run_id, "b.compensate")
    assert reason(engine, run_id, "a.compensate", "order")["after"] == "b.compensate"
    failure = engine.reader.explanation(run_id).failure
    assert failure is not None
    assert failure.roots[0].task == "c"
    engine.cancel(run_id, kill=True)
    assert engine.wait(run_id, 10)


# -- what has ended ----------------------------------------------------------------------------------


def ended(engine: OrchestrationEngine, run_id: str, task: str) -> str:
    return engine.explain(run_id, task)[1]


def test_what_was_skipped_names_its_condition_or_who_was_before_it(engine: OrchestrationEngine) -> None:
    workflow = Workflow("w")
    workflow.step(work, value=1).options(name="a")
    workflow.step(work).options(name="b", run_if="steps.a.output > 99", needs=["a"])
    workflow.step(work).options(name="c", needs=["b"])
    workflow.step(work).options(name="d", needs=["b"], trigger_rule="one_success")
    run_id = engine.execute_workflow(workflow).execution_id
    assert ended(engine, run_id, "b") == "b is skipped: its run_if said no: steps.a.output > 99."
    assert ended(engine, run_id, "c") == "c is skipped: what it depends on did not succeed: b (skipped)."
    assert (
        ended(engine, run_id, "d") == "d is skipped: its trigger_rule one_success was not met: b (skipped)."
    )
    assert ended(engine, run_id, "a") == "a is completed: in attempt 1."


def test_a_cancel_says_who_asked_and_when(engine: OrchestrationEngine) -> None:
    run_id = engine.start_workflow(document({"name": "ask", "approval": {"message": "Go?"}})).execution_id
    reason(engine, run_id, "ask", "approval")
    with database_of(engine).transaction() as tx:
        intent_store.ask(tx, run=1, kind="cancel", by="alice", now_us=time.time_ns() // 1000)
    wait_until(lambda: engine.reader.run(run_id).final)
    assert "the run was cancelled by alice at " in ended(engine, run_id, "ask")
    assert " is cancelled by alice at " in engine.explain(run_id)[0]
    other = engine.start_workflow(document({"name": "ask", "approval": {"message": "Go?"}})).execution_id
    reason(engine, other, "ask", "approval")
    engine.cancel(other)
    wait_until(lambda: engine.reader.run(other).final)
    assert "the run was cancelled at " in ended(engine, other, "ask")


def test_a_failure_tells_its_root_apart_from_its_cascade(engine: OrchestrationEngine) -> None:
    workflow = Workflow("w", on_failure=[])
    workflow.step(work).options(name="fetch")
    workflow.step(fail, message="bad header\nmore").options(
        name="parse", needs=["fetch"], retry={"max_attempts": 2, "delay_s": 0}
    )
    workflow.step(fail).options(name="probe", required=False)
    for number in range(12):
        workflow.step(work).options(
            name=f"later{number}", needs=["parse" if not number else f"later{number - 1}"]
        )
    workflow.step(work).options(name="no", run_if="steps.fetch.output == 9", needs=["fetch"])
    workflow.step(work).options(name="after-no", needs=["no"])
    run_id = engine.execute_workflow(workflow).execution_id
    failure = engine.reader.explanation(run_id).failure
    assert failure is not None
    root = failure.roots[0]
    assert (len(failure.roots), failure.more_roots) == (1, 0)
    assert (root.task, root.failed.attempts, root.failed.type) == ("parse", 2, "ValueError")
    assert root.failed.message == "bad header\nmore"
    assert str(root.failed.frame).endswith("fail")
    cascade = failure.cascade[0]
    assert (cascade.why, cascade.steps, cascade.names) == ("upstream", 12, ("later0", "later1", "later2"))
    said = engine.explain(run_id)
    assert said[1].startswith("parse failed in attempt 2: ValueError: bad header, at ")
    assert "Because of it 12 steps did not run (later0, later1, later2 and 9 more)." in said
    rest = [each.task for each in engine.reader.reasons(run_id)]
    assert rest == ["probe", "no", "after-no"]
    assert ended(engine, run_id, "later11") == (
        "later11 is cancelled: what it depends on did not succeed: later10 (cancelled)."
    )


def test_items_that_fail_are_the_roots_and_those_that_were_stopped_are_counted(
    engine: OrchestrationEngine,
) -> None:
    workflow = Workflow("w")
    workflow.map(fail, over=list(range(500)), message="no").options(
        name="each", on_item_failure="stop", max_parallel=1
    )
    workflow.step(work).options(name="last", needs=["each"])
    run_id = engine.execute_workflow(workflow).execution_id
    failure = engine.reader.explanation(run_id).failure
    assert failure is not None
    assert failure.roots[0].task == "each[0]"
    counted = {each.why: (each.steps, each.items) for each in failure.cascade}
    stopped = 500 - len(failure.roots) - failure.more_roots
    assert counted == {"upstream": (1, 0), "item_failed": (0, stopped)}
    assert stopped > 400


def test_fail_fast_and_a_time_limit_are_told_as_what_stopped_the_rest(engine: OrchestrationEngine) -> None:
    questions = [{"name": f"q{number}", "approval": {"message": "Go?"}} for number in range(3)]
    wait = {"name": "hear", "wait_for": {"signal": "go", "timeout": "50ms"}}
    fast = engine.execute_workflow(document(wait, *questions, fail_fast=True)).execution_id
    failure = engine.reader.explanation(fast).failure
    assert failure is not None
    assert (failure.roots[0].task, failure.roots[0].failed.outcome) == ("hear", "timed_out")
    assert [(each.why, each.steps) for each in failure.cascade] == [("fail_fast", 3)]
    late = engine.execute_workflow(document(*questions, timeout="50ms")).execution_id
    failure = engine.reader.explanation(late).failure
    assert failure is not None
    assert (failure.type, failure.roots) == ("RunTimedOut", ())
    assert [(each.why, each.steps) for each in failure.cascade] == [("timeout", 3)]


def test_handlers_that_ran_because_of_the_failure_are_named(engine: OrchestrationEngine) -> None:
    handler = {"module": "files", "action": "glob", "parameters": {"pattern": "*"}}
    workflow = document(
        {"name": "made", **handler, "compensate": handler},
        {"name": "hear", "wait_for": {"signal": "go", "timeout": "50ms"}, "dependencies": ["made"]},
        on_failure=[{"name": "tell", **handler}],
        **{"finally": [{"name": "tidy", **handler}]},
    )
    run_id = engine.execute_workflow(workflow).execution_id
    failure = engine.reader.explanation(run_id).failure
    assert failure is not None
    assert [(each.phase, each.status) for each in failure.handlers] == [
        ("compensating", "completed"),
        ("on_failure", "completed"),
    ]
    assert any(
        said.startswith("After it ran: ") and "tell (completed)" in said for said in engine.explain(run_id)
    )


# -- size --------------------------------------------------------------------------------------------


def test_a_run_of_100_000_tasks_is_explained_in_no_more_than_a_second(engine: OrchestrationEngine) -> None:
    each = {"name": "each", "foreach": "${range(100000)}", "approval": {"message": "Go?"}, "max_parallel": 5}
    steps = [{"name": f"s{number}", "sleep": 1, "dependencies": ["each"]} for number in range(1000)]
    run_id = engine.start_workflow(document(each, *steps)).execution_id
    reason(engine, run_id, "each[0]", "approval")
    began_s = time.thread_time()
    found = engine.reader.explanation(run_id)
    took_s = time.thread_time() - began_s
    assert [(each.task, each.more) for each in found.reasons] == [("each", 0), ("s0", 997)]
    assert found.reasons[0].note == "0 of 100,000 items have ended, 100,000 wait"
    assert took_s < 3 * 0.3  # measured at 0.2 s
    engine.cancel(run_id)
