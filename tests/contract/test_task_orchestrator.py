"""Tasks submitted one by one: what waits for what, what becomes of them, and what outlives a process."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from threading import Event, Lock, Thread
from typing import Any

import pytest

from codomyrmex.exceptions import (
    Conflict,
    EngineClosed,
    ResourceRefused,
    SettingsError,
    TaskNotFound,
    ValidationError,
)
from codomyrmex.logistics.orchestration.project import (
    OrchestrationEngine,
    Task,
    TaskOrchestrator,
    TaskPriority,
    TaskResource,
    TaskResult,
    TaskStatus,
    create_task,
    create_workflow_steps,
)
from waiting import wait_until


def add(a: int, b: int = 1) -> int:
    return a + b


def fail() -> None:
    raise ValueError("it is broken")


class Gate:
    """An action that waits to be let through, and who came."""

    def __init__(self) -> None:
        self.open = Event()
        self.came: list[str] = []
        self.most_at_once = 0
        self._inside = 0
        self._lock = Lock()

    def task(self, name: str, **options: Any) -> Task:
        def wait() -> str:
            with self._lock:
                self.came.append(name)
                self._inside += 1
                self.most_at_once = max(self.most_at_once, self._inside)
            self.open.wait(30)
            with self._lock:
                self._inside -= 1
            return name

        return Task(name, function=wait, **options)


@pytest.fixture
def gate() -> Iterator[Gate]:
    made = Gate()
    yield made
    made.open.set()


@pytest.fixture
def tasks(gate: Gate) -> Iterator[TaskOrchestrator]:
    made = TaskOrchestrator(max_workers=2)
    yield made
    gate.open.set()
    made.stop_execution()


def test_a_task_runs_and_its_result_says_how(tasks: TaskOrchestrator) -> None:
    result = tasks.execute_task(Task("add", __name__, "add", {"a": 1}))
    assert (result.success, result.output, result.error, result.attempt) == (True, 2, None, 1)
    assert result.status is TaskStatus.COMPLETED
    assert (result["success"], result["result"], result["error"]) == (True, 2, None)
    assert result["execution_time"] == result.duration
    assert result.started_at is not None
    assert result.ended_at is not None
    assert result.started_at <= result.ended_at
    assert result.to_dict()["ended_at"] == result.ended_at.isoformat()


def test_a_task_that_fails_is_a_result_and_not_an_exception(tasks: TaskOrchestrator) -> None:
    result = tasks.execute_task(Task("broken", function=fail))
    assert (result.success, result.status) == (False, TaskStatus.FAILED)
    assert result.error == "ValueError: it is broken"


@pytest.mark.parametrize(
    ("task", "said"),
    [
        ({"module": "json", "action": "dumpz", "parameters": {"obj": 1}}, "no function 'dumpz'"),
        ({"module": "json", "action": "dumps", "paramters": {}}, "did you mean 'parameters'"),
        (
            {"module": "json", "action": "dumps", "parameters": {"obj": 1}, "resources": {"gpu": 4096}},
            "asks for 4096 GPUs",
        ),
        (
            {"module": "json", "action": "dumps", "parameters": {"obj": 1}, "resources": {"licence": 1}},
            "there is no resource 'licence'",
        ),
        ({"module": "json", "action": "dumps", "resources": {"ram": 1}}, "did you mean 'memory'"),
        ({"module": "json", "action": "dumps", "parameters": {"obj": 1}, "resources": {"cpu": 999}}, "999"),
        ({"module": "json", "action": "dumps", "name": "not a name"}, "not a name"),
        ({"name": "a", "function": fail, "dependencies": ["nobody"]}, "no task 'nobody'"),
        ({"module": "json", "action": "dumps", "metadata": {"x": object()}}, "metadata"),
        ({"action": 3}, "action must be"),
        (3, "a task is a Task or a mapping"),
    ],
)
def test_a_task_that_is_refused_is_a_result_of_execute_and_an_error_of_submit(
    tasks: TaskOrchestrator, task: Any, said: str
) -> None:
    result = tasks.execute_task(task)
    assert not result.success
    assert said in str(result.error)
    with pytest.raises((ValidationError, ResourceRefused), match=said.replace("(", ".")):
        tasks.submit_task(task)
    assert tasks.list_tasks() == []


def test_a_task_waits_for_those_it_depends_on_also_while_they_run(
    tasks: TaskOrchestrator, gate: Gate
) -> None:
    first = tasks.submit_task(gate.task("first"))
    wait_until(lambda: gate.came)
    second = tasks.submit_task(Task("second", function=add, parameters={"a": 1}, dependencies=[first]))
    third = tasks.submit_task(Task("third", function=add, parameters={"a": 2}, dependencies=[second, first]))
    assert tasks.get_task(first).status is TaskStatus.RUNNING
    assert tasks.get_task(third).status is TaskStatus.BLOCKED
    waits = ", ".join(sorted([f"{first} (running)", f"{second} (blocked)"]))
    assert tasks.explain(third) == [f"Task {third} (third) is blocked: waits for {waits}."]
    assert tasks.get_task_result(third) is None
    assert not tasks.wait_for_completion(timeout=0.01)
    gate.open.set()
    assert tasks.wait_for_completion(timeout=30)
    assert [tasks.get_task_result(each).output for each in (first, second, third)] == ["first", 2, 3]


def test_what_depends_on_a_task_goes_on_though_nobody_waits(tasks: TaskOrchestrator, gate: Gate) -> None:
    began = Event()
    first = tasks.submit_task(gate.task("first"))
    tasks.submit_task(Task("second", function=began.set, dependencies=[first]))
    gate.open.set()
    assert began.wait(30)


def test_a_dependency_that_fails_cancels_all_that_waits_for_it(tasks: TaskOrchestrator) -> None:
    broken = Task("broken", function=fail)
    after = Task("after", function=add, parameters={"a": 1}, dependencies=[broken.id])
    last = Task("last", function=add, parameters={"a": 1}, dependencies=[after])
    assert tasks.submit_tasks([last, after, broken]) == [last.id, after.id, broken.id]
    assert tasks.wait_for_completion(30)
    assert [each.status.value for each in (broken, after, last)] == ["failed", "cancelled", "cancelled"]
    assert after.result is not None
    assert after.result.error == f"task {broken.id!r}, which it depends on, is failed"
    late = tasks.execute_task(Task("late", function=add, parameters={"a": 1}, dependencies=[last.id]))
    assert late.status is TaskStatus.CANCELLED


def test_no_more_tasks_run_at_once_than_there_are_workers(tasks: TaskOrchestrator, gate: Gate) -> None:
    tasks.submit_tasks([gate.task(f"t{number}") for number in range(6)])
    wait_until(lambda: len(gate.came) == 2)
    gate.open.set()
    assert tasks.wait_for_completion(30)
    assert gate.most_at_once == 2
    assert len(gate.came) == 6


def test_the_more_urgent_task_goes_first(gate: Gate) -> None:
    with TaskOrchestrator(max_workers=1) as tasks:
        tasks.submit_task(gate.task("first"))
        wait_until(lambda: gate.came)
        for priority in TaskPriority:
            tasks.submit_task(gate.task(priority.value, priority=priority))
        gate.open.set()
        assert tasks.wait_for_completion(30)
    assert gate.came == ["first", "critical", "high", "normal", "low"]


def test_a_task_is_tried_again_as_its_retry_says(tasks: TaskOrchestrator) -> None:
    tries: list[int] = []

    def second_time() -> int:
        tries.append(1)
        if len(tries) < 2:
            raise ConnectionError("not yet")
        return len(tries)

    assert tasks.execute_task(Task("old spelling", retry_count=1)).error is not None  # the name is refused
    result = tasks.execute_task(Task("again", function=second_time, max_retries=2))
    assert (result.output, result.attempt) == (2, 2)


def test_a_timeout_ends_the_process_of_a_task(tasks: TaskOrchestrator) -> None:
    sleep = {"module": "shell", "action": "run", "parameters": {"command": ["sleep", "60"]}, "timeout": 0.2}
    result = tasks.execute_task(sleep)
    assert not result.success
    assert "ran past its timeout of 0.2 s" in str(result.error)


def test_a_waiting_task_is_cancelled_at_once_and_a_running_one_is_asked(
    tasks: TaskOrchestrator, gate: Gate
) -> None:
    running = tasks.submit_task(gate.task("running"))
    waiting = tasks.submit_task(Task("waiting", function=add, parameters={"a": 1}, dependencies=[running]))
    wait_until(lambda: gate.came)
    assert tasks.cancel_task(waiting)
    assert not tasks.cancel_task(waiting)
    assert tasks.get_task(waiting).status is TaskStatus.CANCELLED
    assert tasks.cancel_task(running)
    assert tasks.get_task(running).status is TaskStatus.RUNNING
    gate.open.set()
    assert tasks.wait_for_completion(30)
    assert tasks.get_task(running).status is TaskStatus.COMPLETED
    assert not tasks.cancel_task(running)
    assert not tasks.cancel_task("nobody")


def test_a_process_task_that_is_cancelled_ends(tasks: TaskOrchestrator) -> None:
    task_id = tasks.submit_task(
        {"module": "shell", "action": "run", "parameters": {"command": ["sleep", "60"]}, "name": "sleeps"}
    )
    wait_until(lambda: tasks.get_task(task_id).status is TaskStatus.RUNNING)
    assert tasks.cancel_task(task_id)
    assert tasks.wait_for_completion(30)
    assert tasks.get_task_result(task_id).status is TaskStatus.CANCELLED


def test_statistics_count_every_task_once(tasks: TaskOrchestrator, gate: Gate) -> None:
    assert tasks.get_execution_stats()["total_tasks"] == 0
    tasks.execute_task(Task("good", function=add, parameters={"a": 1}))
    tasks.execute_task(Task("broken", function=fail))
    first = tasks.submit_task(gate.task("first"))
    wait_until(lambda: gate.came)
    tasks.submit_task(Task("second", function=add, parameters={"a": 1}, dependencies=[first]))
    stats = tasks.get_execution_stats()
    counts = {name: stats[name] for name in ("total_tasks", "completed", "failed", "running", "blocked")}
    assert counts == {"total_tasks": 4, "completed": 1, "failed": 1, "running": 1, "blocked": 1}
    assert [task.name for task in tasks.list_tasks("failed")] == ["broken"]


def test_an_id_is_taken_once(tasks: TaskOrchestrator) -> None:
    assert tasks.submit_task(Task("one", function=add, parameters={"a": 1}, id="mine")) == "mine"
    with pytest.raises(Conflict, match="'mine' was submitted before"):
        tasks.submit_task(Task("two", function=add, parameters={"a": 1}, id="mine"))
    with pytest.raises(ValidationError, match="letters, digits"):
        tasks.submit_task(Task("two", function=add, parameters={"a": 1}, id="../etc"))
    assert tasks.wait_for_completion(30)


def test_many_threads_submit_at_once(tasks: TaskOrchestrator) -> None:
    def submit() -> None:
        for number in range(10):
            first = tasks.submit_task(Task("first", function=add, parameters={"a": number}))
            tasks.submit_task(Task("then", function=add, parameters={"a": number}, dependencies=[first]))

    threads = [Thread(target=submit) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert tasks.wait_for_completion(30)
    assert tasks.get_execution_stats()["completed"] == 160


def test_a_stopped_orchestrator_takes_nothing_until_it_is_started_again(
    tasks: TaskOrchestrator, gate: Gate
) -> None:
    running = gate.task("running", isolation="thread")
    waiting = Task("waiting", function=add, parameters={"a": 1}, dependencies=[running.id])
    tasks.submit_tasks([running, waiting])
    wait_until(lambda: gate.came)
    Thread(target=gate.open.set).start()
    tasks.stop_execution()
    tasks.stop_execution()
    assert waiting.status is TaskStatus.CANCELLED
    assert running.status in (TaskStatus.COMPLETED, TaskStatus.CANCELLED)
    with pytest.raises(EngineClosed, match="was stopped"):
        tasks.submit_task(Task("late", function=add, parameters={"a": 1}))
    assert tasks.get_task_result("unknown") is None
    tasks.start_processing()
    assert tasks.execute_task(Task("again", function=add, parameters={"a": 1})).output == 2


def test_nobody_knows_a_task_that_was_never_submitted(tasks: TaskOrchestrator) -> None:
    assert tasks.get_task("nobody") is None
    assert tasks.get_task_result("nobody") is None
    with pytest.raises(TaskNotFound):
        tasks.explain("nobody")


def test_an_engine_has_its_own_workers_and_state() -> None:
    with (
        OrchestrationEngine(state=":memory:", cpu_count=2) as engine,
        pytest.raises(SettingsError, match="that engine's"),
    ):
        TaskOrchestrator(2, engine=engine)
    with pytest.raises(SettingsError, match="at least 1"):
        TaskOrchestrator(0)


def test_an_engine_executes_tasks_and_refuses_sessions() -> None:
    with OrchestrationEngine(state=":memory:", cpu_count=2) as engine:
        result = engine.execute_task(Task("add", function=add, parameters={"a": 1}))
        assert result["result"] == 2
        assert engine.tasks.get_task_result(str(result.task_id)) is result
        with pytest.raises(ValidationError, match="no such session"):
            engine.execute_task(Task("add", function=add, parameters={"a": 1}), "s1")


def test_what_was_submitted_is_there_when_the_process_is_not(tmp_path: Path) -> None:
    done = Task("done", "json", "dumps", {"obj": [1]}, metadata={"for": "${nobody}"})
    with TaskOrchestrator(max_workers=2, state=tmp_path / "state") as first:
        assert first.execute_task(done).success
    with TaskOrchestrator(max_workers=2, state=tmp_path / "state") as second:
        result = second.get_task_result(done.id)
        assert result is not None
        assert (result.output, result.status) == ("[1]", TaskStatus.COMPLETED)
        assert "completed" in second.explain(done.id)[0]
        with pytest.raises(Conflict):
            second.submit_task(Task("done", "json", "dumps", {"obj": [1]}, id=done.id))


def test_a_task_that_was_running_when_its_engine_ended_is_taken_up_again(tmp_path: Path) -> None:
    go, began = tmp_path / "go", tmp_path / "began"
    wait = [
        "sh",
        "-c",
        ': > "$2"; until test -e "$1"; do sleep 0.01; done; echo done',
        "sh",
        str(go),
        str(began),
    ]
    task = Task("waits", "shell", "run", {"command": wait}, metadata={"of": "mine"})
    with TaskOrchestrator(max_workers=2, state=tmp_path / "state") as first:
        first.submit_task(task)
        wait_until(began.exists)
        assert first.get_task(task.id).status is TaskStatus.RUNNING
    go.touch()
    with TaskOrchestrator(max_workers=2, state=tmp_path / "state") as second:
        found = second.get_task(task.id)
        assert found is not None
        assert (found.name, found.metadata, found.parameters) == ("waits", {"of": "mine"}, {"command": wait})
        assert second.wait_for_completion(30)
        assert second.get_task(task.id).result.output["stdout"] == "done\n"


def test_the_data_classes_read_their_own_mappings() -> None:
    task = create_task(
        "add", __name__, "add", parameters={"a": 1}, priority="high", resources=[TaskResource("cpu", 0.5)]
    )
    again = Task.of(task.to_dict())
    assert again.to_dict() == task.to_dict()
    assert again.to_step().resources == {"cpu": 0.5}
    assert TaskResource("memory", "1GiB").to_dict()["amount"] == "1GiB"
    assert TaskResult().to_dict()["success"] is False
    assert dict(TaskResult(success=True, output=3))["result"] == 3


def test_steps_of_mappings_are_refused_with_every_fault() -> None:
    steps = create_workflow_steps([{"name": "a", "module": "json", "action": "dumps", "timeout": 3}])
    assert steps[0].timeout_s == 3
    with pytest.raises(ValidationError) as refused:
        create_workflow_steps([{"module": "m"}, {"name": "b", "module": "m", "action": "x", "color": "red"}])
    assert [fault.path for fault in refused.value.faults] == ["steps[0]", "steps[1]"]
