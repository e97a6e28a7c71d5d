"""Attempts in warm workers: one thread looks after all of them, and what takes a wait leaves it."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from codomyrmex.logistics.orchestration.project.executors.process import ProcessExecutor
from codomyrmex.logistics.orchestration.project.orchestration_engine import OrchestrationEngine
from codomyrmex.logistics.orchestration.project.process_slots import ProcessSlots
from codomyrmex.logistics.orchestration.project.slots import Slots
from codomyrmex.testing import FinishedRun
from waiting import wait_until

LIMIT_S = 20.0
ACTIONS = """
import os, time
from codomyrmex.current_task import current_task

def nothing(): return None
def echo(text): return text
def long(n): return "x" * n
def size(text): return len(text)
def wait(folder, name):
    with open(os.path.join(folder, name), "a") as file: file.write(f"{os.getpid()}\\n")
    while not os.path.exists(os.path.join(folder, name + ".go")): time.sleep(0.002)
    return name
def wait_once(folder, name):
    path = os.path.join(folder, name)
    if os.path.exists(path): return "went on"
    wait(folder, name)
def tell():
    for done in range(3): current_task().metric("done", done)
    return "told"
"""


class Routes:
    """Counts the attempts that the one thread brought to their end, and those that left it."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.stayed: list[str] = []
        self.left: list[str] = []
        post, give, rest = ProcessSlots._post, Slots.give, Slots.give_rest

        def posted(slots: ProcessSlots, chunk: Any, entry: Any, outcome: Any) -> None:
            self.stayed.append(chunk.run.name_of(entry[0]))
            post(slots, chunk, entry, outcome)

        def given(slots: Slots, chunk: Any) -> None:
            self.left += [chunk.run.name_of(position) for position, _ in chunk.entries]
            give(slots, chunk)

        def rested(slots: Slots, chunk: Any, entry: Any, complete: Any) -> None:
            self.left.append(chunk.run.name_of(entry[0]))
            rest(slots, chunk, entry, complete)

        monkeypatch.setattr(ProcessSlots, "_post", posted)
        monkeypatch.setattr(Slots, "give", given)
        monkeypatch.setattr(Slots, "give_rest", rested)

    def forget(self) -> None:
        self.stayed.clear()
        self.left.clear()


@pytest.fixture
def routes(monkeypatch: pytest.MonkeyPatch) -> Routes:
    return Routes(monkeypatch)


@pytest.fixture
def engine(tmp_path: Path, routes: Routes) -> Iterator[OrchestrationEngine]:
    """An engine with two processors and two warm workers."""
    (tmp_path / "acts.py").write_text(ACTIONS)
    with OrchestrationEngine(state=tmp_path / "state", root=tmp_path, cpu_count=2) as made:
        warm(made, tmp_path)
        routes.forget()
        yield made


def step(name: str, action: str, *parents: str, **more: Any) -> dict[str, Any]:
    return {"name": name, "module": "acts", "action": action, "dependencies": list(parents), **more}


def workflow(*steps: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {"codomyrmex": 1, "name": "processes", "isolation": "process", "steps": list(steps), **more}


def waiting(folder: Path, name: str, *parents: str, action: str = "wait", **more: Any) -> dict[str, Any]:
    return step(name, action, *parents, parameters={"folder": str(folder), "name": name}, **more)


def warm(engine: OrchestrationEngine, folder: Path) -> None:
    """Two workers at once, so that both are there afterwards."""
    running = engine.start_workflow(workflow(waiting(folder, "w1"), waiting(folder, "w2")))
    for name in ("w1", "w2"):
        pid_in(folder, name)
    for name in ("w1", "w2"):
        (folder / f"{name}.go").touch()
    assert engine.wait(running.execution_id, LIMIT_S)


def pid_in(folder: Path, name: str) -> int:
    """The process in which a step waits, once it does."""
    path = folder / name
    return int(wait_until(lambda: path.exists() and path.read_text().split(), timeout_s=LIMIT_S)[-1])


def finished(engine: OrchestrationEngine, what: Any) -> FinishedRun:
    running = engine.start_workflow(what)
    assert engine.wait(running.execution_id, LIMIT_S)
    return FinishedRun(engine.reader, running.execution_id)


def test_with_warm_workers_one_thread_runs_a_graph_in_order(
    engine: OrchestrationEngine, routes: Routes
) -> None:
    names = [[f"s{layer}_{index}" for index in range(6)] for layer in range(6)]
    steps = [step(name, "nothing") for name in names[0]]
    for above, layer in pairwise(names):
        steps += [step(name, "nothing", above[i], above[(i + 1) % 6]) for i, name in enumerate(layer)]
    parents = {each["name"]: each["dependencies"] for each in steps}
    run = finished(engine, workflow(*steps))
    assert run.success
    assert sorted(routes.stayed) == sorted(parents)
    assert routes.left == []
    places = {(event["task"], event["event"]): i for i, event in enumerate(run.events) if "task" in event}
    assert all(
        places[parent, "completed"] < places[name, "started"] for name in parents for parent in parents[name]
    )


def test_an_attempt_begins_after_its_start_and_its_parents_end_are_committed(
    engine: OrchestrationEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    found: list[tuple[str, list[str]]] = []
    begin = ProcessExecutor.begin

    def watched(executor: ProcessExecutor, attempt: Any) -> Any:
        states = {task.name: task.status for task in engine.reader.tasks(attempt.run_id)}
        number = "abcdef".index(attempt.task)
        found.append((states[attempt.task], [states[name] for name in "abcdef"[:number]]))
        return begin(executor, attempt)

    monkeypatch.setattr(ProcessExecutor, "begin", watched)
    steps = [step(name, "nothing", *"abcdef"[max(0, i - 1) : i]) for i, name in enumerate("abcdef")]
    assert finished(engine, workflow(*steps)).success
    assert found == [("running", ["completed"] * i) for i in range(6)]


def test_results_parameters_and_notes_pass(engine: OrchestrationEngine, routes: Routes) -> None:
    steps = (
        step("a", "tell"),
        step("b", "echo", parameters={"text": "${steps.a.output}"}),
        step("c", "echo", parameters={"text": "${steps.b.output}!"}),
    )
    run = finished(engine, workflow(*steps, outputs={"all": "${steps.c.output}"}))
    assert run.outputs == {"all": "told!"}
    assert routes.stayed == ["a", "b", "c"]


@pytest.mark.parametrize("size", [60_000, 70_000, 3_000_000])
def test_large_results_and_parameters_are_left_to_threads_that_may_wait(
    engine: OrchestrationEngine, routes: Routes, size: int
) -> None:
    steps = (
        step("a", "long", parameters={"n": size}),
        step("b", "size", parameters={"text": "${steps.a.output}"}),
        step("c", "nothing", "b"),
    )
    run = finished(engine, workflow(*steps, outputs={"size": "${steps.b.output}"}))
    assert run.outputs == {"size": size}
    assert "b" in routes.left
    assert ("a" in routes.left) is (size > 65_536)
    assert routes.stayed[-1] == "c"


def test_a_parameter_that_cannot_be_resolved_fails_its_step_only(engine: OrchestrationEngine) -> None:
    steps = (
        step("a", "echo", parameters={"text": {"no": "such key"}}),
        step("b", "echo", "a", parameters={"text": "${steps.a.output.yes}"}),
        step("c", "nothing"),
    )
    run = finished(engine, workflow(*steps))
    assert run.statuses() == {"a": "completed", "b": "failed", "c": "completed"}


def test_a_running_attempt_is_cancelled_and_its_neighbour_is_not(
    engine: OrchestrationEngine, tmp_path: Path, routes: Routes
) -> None:
    ended = engine.start_workflow(workflow(waiting(tmp_path, "ended"), waiting(tmp_path, "never", "ended")))
    other = engine.start_workflow(workflow(waiting(tmp_path, "other")))
    pid = pid_in(tmp_path, "ended")
    pid_in(tmp_path, "other")
    assert [task.name for task in engine.running(ended.execution_id)] == ["ended"]
    engine.cancel(ended.execution_id)
    assert engine.wait(ended.execution_id, LIMIT_S)
    assert not Path(f"/proc/{pid}").exists()
    assert FinishedRun(engine.reader, ended.execution_id).statuses() == {
        "ended": "cancelled",
        "never": "cancelled",
    }
    (tmp_path / "other.go").touch()
    assert engine.wait(other.execution_id, LIMIT_S)
    assert FinishedRun(engine.reader, other.execution_id).success
    assert routes.stayed == ["other"]


def test_a_worker_that_is_killed_takes_one_attempt_with_it_and_is_replaced(
    engine: OrchestrationEngine, tmp_path: Path, routes: Routes
) -> None:
    steps = [
        waiting(tmp_path, "killed", action="wait_once", retry={"max_attempts": 2}),
        waiting(tmp_path, "beside"),
    ]
    running = engine.start_workflow(workflow(*steps, step("after", "nothing", "killed", "beside")))
    pid_in(tmp_path, "beside")
    os.kill(pid_in(tmp_path, "killed"), signal.SIGKILL)
    (tmp_path / "beside.go").touch()
    assert engine.wait(running.execution_id, LIMIT_S)
    run = FinishedRun(engine.reader, running.execution_id)
    assert run.success
    assert {name: run.attempts(name) for name in ("killed", "beside", "after")} == {
        "killed": 2,
        "beside": 1,
        "after": 1,
    }
    assert "killed" in routes.left
    assert "beside" in routes.stayed


def test_a_worker_that_died_idle_costs_no_attempt(engine: OrchestrationEngine, tmp_path: Path) -> None:
    for name in ("w1", "w2"):
        pid = pid_in(tmp_path, name)
        os.kill(pid, signal.SIGKILL)
        wait_until(lambda pid=pid: not Path(f"/proc/{pid}").exists())
    run = finished(engine, workflow(step("a", "nothing"), step("b", "nothing", "a")))
    assert run.success
    assert [run.attempts(name) for name in ("a", "b")] == [1, 1]


def test_an_edited_module_is_run_as_it_is_now(
    engine: OrchestrationEngine, tmp_path: Path, routes: Routes
) -> None:
    (tmp_path / "acts.py").write_text(
        ACTIONS.replace("def nothing(): return None", "def nothing(): return 'new'")
    )
    time.sleep(0.025)  # the worker looks again only after 20 ms; nothing else can be waited for
    run = finished(engine, workflow(step("a", "nothing"), outputs={"a": "${steps.a.output}"}))
    assert run.outputs == {"a": "new"}
    assert run.attempts("a") == 1
    assert routes.left == ["a"]


def test_more_steps_than_slots_use_no_more_workers_or_threads_than_needed(
    engine: OrchestrationEngine, tmp_path: Path
) -> None:
    threads = threading.active_count()
    pids = {pid_in(tmp_path, name) for name in ("w1", "w2")}
    names = [f"p{i}" for i in range(5)]
    running = engine.start_workflow(workflow(*(waiting(tmp_path, name) for name in names)))
    for name in names:
        pids.add(pid_in(tmp_path, name))
        assert len(engine.running(running.execution_id)) <= 2
        (tmp_path / f"{name}.go").touch()
    assert engine.wait(running.execution_id, LIMIT_S)
    assert len(pids) == 2
    assert threading.active_count() == threads


def test_a_shutdown_ends_what_runs_and_a_later_engine_goes_on(
    engine: OrchestrationEngine, tmp_path: Path
) -> None:
    steps = [waiting(tmp_path, name, action="wait_once") for name in ("a", "b", "c")]
    running = engine.start_workflow(workflow(*steps))
    pids = [pid_in(tmp_path, name) for name in ("a", "b")]
    engine.shutdown()
    assert not any(Path(f"/proc/{pid}").exists() for pid in pids)
    assert not any(thread.name.startswith("codomyrmex") for thread in threading.enumerate())
    (tmp_path / "c.go").touch()
    with OrchestrationEngine(state=tmp_path / "state", root=tmp_path, cpu_count=2) as second:
        assert second.wait(running.execution_id, LIMIT_S)
        run = FinishedRun(second.reader, running.execution_id)
    assert run.success
    assert {name: run.attempts(name) for name in ("a", "b", "c")} == {"a": 2, "b": 2, "c": 1}
