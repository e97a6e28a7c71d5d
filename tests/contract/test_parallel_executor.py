"""A graph of tasks run here and now: order, failures, and timeouts that bound the wait."""

from __future__ import annotations

import asyncio
import json
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from codomyrmex.current_task import current_task
from codomyrmex.exceptions import EngineClosed, SettingsError, ValidationError
from codomyrmex.logistics.orchestration.project import (
    CycleDetectedError,
    DAGValidationError,
    ExecutionResult,
    ExecutionStatus,
    ParallelExecutor,
    Task,
    WorkflowManager,
    WorkflowStep,
    get_workflow_execution_order,
    validate_workflow_dependencies,
)

DUMP = {"module": "json", "action": "dumps", "parameters": {"obj": [1]}}
SLEEP = {"module": "shell", "action": "run", "parameters": {"command": ["sleep", "60"]}}


def fail() -> None:
    raise ValueError("it is broken")


@pytest.fixture
def executor() -> Iterator[ParallelExecutor]:
    with ParallelExecutor() as made:
        yield made


@pytest.fixture
def deaf() -> Iterator[Callable[[], None]]:
    """An action that does not hear that it should stop, until the test is over."""
    over = threading.Event()
    yield lambda: (over.wait(30), None)[1]
    over.set()


def statuses(results: dict[str, ExecutionResult]) -> dict[str, str]:
    return {name: result.status.value for name, result in results.items()}


def test_tasks_run_after_those_they_depend_on_and_results_pass(executor: ParallelExecutor) -> None:
    results = executor.execute_tasks(
        [
            {"name": "last", "action": lambda text: text * 2, "parameters": {"text": "${steps.b.output}"}},
            {"name": "b", **DUMP, "dependencies": ["a"]},
            {"name": "a", **DUMP},
        ],
        {"last": ["b"]},
    )
    assert list(results) == ["last", "b", "a"]
    assert statuses(results) == {"last": "completed", "b": "completed", "a": "completed"}
    last = results["last"]
    assert (last.result, last.error, last.success) == ("[1][1]", None, True)
    assert results["a"].end_time <= results["b"].start_time
    assert json.loads(json.dumps(last.to_dict()))["status"] == "completed"
    assert last["result"] == "[1][1]"


def test_what_depends_on_a_failure_is_cancelled_and_the_rest_goes_on(executor: ParallelExecutor) -> None:
    results = executor.execute_tasks(
        [{"name": "bad", "action": fail}, {"name": "after", **DUMP}, {"name": "beside", **DUMP}],
        {"after": ["bad"]},
    )
    assert statuses(results) == {"bad": "failed", "after": "cancelled", "beside": "completed"}
    assert results["bad"].error == "ValueError: it is broken"
    assert results["after"].error == "a task that it depends on did not complete"


def test_tasks_and_steps_are_taken_as_well_as_mappings(executor: ParallelExecutor) -> None:
    first = Task("first", **DUMP)
    results = executor.execute_tasks(
        [first, Task("second", **DUMP, dependencies=[first.id]), WorkflowStep("third", **DUMP)], {}
    )
    assert set(statuses(results).values()) == {"completed"}
    assert executor.execute_tasks({"named": DUMP}, None)["named"].success
    assert executor.execute_tasks([], {}) == {}


def test_a_group_gives_its_results_in_order(executor: ParallelExecutor) -> None:
    group = executor.execute_task_group([{"name": name, **DUMP} for name in "cab"])
    assert [result.task_name for result in group] == ["c", "a", "b"]


def test_no_more_run_at_once_than_there_are_workers() -> None:
    inside, most, lock = [0], [0], threading.Lock()
    met = threading.Barrier(3, timeout=30)

    def meet() -> None:
        with lock:
            inside[0] += 1
            most[0] = max(most[0], inside[0])
        met.wait()
        with lock:
            inside[0] -= 1

    with ParallelExecutor(max_workers=3) as executor:
        results = executor.execute_tasks([{"name": f"t{n}", "action": meet} for n in range(9)], {})
    assert {result.status for result in results.values()} == {ExecutionStatus.COMPLETED}
    assert most[0] == 3


def test_a_call_returns_when_its_time_is_over(executor: ParallelExecutor, deaf: Callable[[], None]) -> None:
    began = time.monotonic()
    results = executor.execute_tasks(
        [{"name": "deaf", "action": deaf}, {"name": "after", **DUMP}, {"name": "beside", **DUMP}],
        {"after": ["deaf"]},
        timeout=0.2,
    )
    assert time.monotonic() - began < 5
    assert statuses(results) == {"deaf": "timeout", "after": "cancelled", "beside": "completed"}
    assert results["after"].error == "it had not begun when the time was over"


def test_a_thread_that_outlasts_its_own_timeout_is_reported_and_asked_to_stop(
    executor: ParallelExecutor,
) -> None:
    asked = threading.Event()

    def listens() -> None:
        while not current_task().cancelled:
            time.sleep(0.002)
        asked.set()

    results = executor.execute_tasks(
        [{"name": "slow", "action": listens, "timeout_s": 0.05}, {"name": "after", **DUMP}],
        {"after": ["slow"]},
    )
    assert statuses(results) == {"slow": "timeout", "after": "cancelled"}
    assert asked.wait(30)


def test_what_comes_too_late_is_not_used(executor: ParallelExecutor) -> None:
    """The late task ends while another one still keeps the call waiting: it stays late."""
    late = threading.Event()

    def too_slow() -> int:
        time.sleep(0.06)
        late.set()
        return 1

    def longer() -> bool:
        return late.wait(30)

    results = executor.execute_tasks(
        [
            {"name": "slow", "action": too_slow, "timeout_s": 0.02},
            {"name": "longer", "action": longer},
            {"name": "after", **DUMP},
        ],
        {"after": ["slow"]},
    )
    assert statuses(results) == {"slow": "timeout", "longer": "completed", "after": "cancelled"}
    assert results["slow"].error == "TimeoutError: ran past its timeout of 0.02 s"


def test_a_coroutine_is_ended_in_time(executor: ParallelExecutor) -> None:
    async def forever() -> None:
        await asyncio.sleep(60)

    async def at_once() -> int:
        return 3

    results = executor.execute_tasks(
        [
            {"name": "forever", "action": forever, "timeout_s": 0.05},
            {"name": "at_once", "action": at_once, "timeout_s": 30},
        ],
        {},
    )
    assert statuses(results) == {"forever": "timeout", "at_once": "completed"}
    assert results["at_once"].result == 3


def test_a_process_is_ended_in_time(executor: ParallelExecutor) -> None:
    results = executor.execute_tasks([{"name": "sleeps", **SLEEP, "timeout_s": 0.2}], {})
    assert statuses(results) == {"sleeps": "timeout"}
    assert "ran past its timeout of 0.2 s" in str(results["sleeps"].error)


def test_a_graph_that_cannot_be_run_is_refused_before_anything_runs(executor: ParallelExecutor) -> None:
    with pytest.raises(CycleDetectedError, match="a -> b -> a"):
        executor.execute_tasks([{"name": "a", **DUMP}, {"name": "b", **DUMP}], {"a": ["b"], "b": ["a"]})
    with pytest.raises(DAGValidationError, match="nobody"):
        executor.execute_tasks([{"name": "a", **DUMP}], {"a": ["nobody"]})
    with pytest.raises(ValidationError, match="'dumpz'"):
        executor.execute_tasks([{"name": "a", "module": "json", "action": "dumpz"}], {})


def test_dependencies_are_met_when_all_are_among_the_completed(executor: ParallelExecutor) -> None:
    task = {"name": "c", "dependencies": ["a", "b"]}
    assert not executor.wait_for_dependencies(task, {"a"})
    assert executor.wait_for_dependencies(task, ["a", "b"])
    done = ExecutionResult(task_name="a", status=ExecutionStatus.COMPLETED)
    failed = ExecutionResult(task_name="b", status=ExecutionStatus.FAILED)
    assert not executor.wait_for_dependencies(task, {"a": done, "b": failed})
    assert executor.wait_for_dependencies({"name": "free"}, set())


def test_an_executor_that_was_shut_down_says_so() -> None:
    for wait in (True, False):
        executor = ParallelExecutor(max_workers=2, timeout=5)
        assert (executor.max_workers, executor.default_timeout) == (2, 5)
        assert executor.execute_tasks([{"name": "a", **DUMP}], {})["a"].success
        executor.shutdown(wait=wait)
        executor.shutdown()
        with pytest.raises(EngineClosed, match="was shut down"):
            executor.execute_tasks([{"name": "a", **DUMP}], {})
    with pytest.raises(SettingsError):
        ParallelExecutor(max_workers=0)


def test_the_module_functions_tell_order_and_faults() -> None:
    tasks: list[dict[str, Any]] = [{"name": "b", "dependencies": ["a"]}, {"name": "a"}, {"name": "c"}]
    assert get_workflow_execution_order(tasks) == [["a", "c"], ["b"]]
    assert validate_workflow_dependencies(tasks) == []
    assert "unknown task 'z'" in validate_workflow_dependencies([{"name": "a", "dependencies": ["z"]}])[0]


def test_a_manager_sums_up_a_parallel_workflow() -> None:
    with WorkflowManager() as manager:
        summed = manager.execute_parallel_workflow(
            {
                "tasks": [{"name": "bad", "action": fail}, {"name": "good", **DUMP}],
                "dependencies": {},
                "max_parallel": 1,
            }
        )
        assert {key: summed[key] for key in summed if key != "task_results"} == {
            "status": "partial_failure",
            "total_tasks": 2,
            "completed_tasks": 1,
            "failed_tasks": 1,
        }
        assert json.loads(json.dumps(summed))["task_results"]["good"]["result"] == "[1]"
        assert (
            manager.execute_parallel_workflow({"tasks": [{"name": "good", **DUMP}]})["status"] == "completed"
        )
        assert (
            manager.execute_parallel_workflow({"tasks": [{"name": "b", "action": fail}]})["status"]
            == "failed"
        )
        assert manager.execute_parallel_workflow({"tasks": []})["status"] == "completed"
