"""ParallelExecutor: a graph of tasks run at once, here and now, on a store in memory.

Layer: above the run starter, below the workflow manager. The graph becomes one run, so order, retries and
failures are those of workflows; nothing of it outlives the executor. Results pass as in a workflow: a
parameter `"${steps.a.output}"` is what task `a` returned.

Timeouts bound the *wait*. A task in a process is ended with all it started. A thread cannot be: a task that
outlasts its time there is reported TIMEOUT, asked to stop, and what depends on it is CANCELLED; it holds its
worker until it returns.
"""

from __future__ import annotations

import functools
import os
from collections.abc import Callable, Collection, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from threading import Lock, Thread
from time import monotonic
from typing import Any, Self

from codomyrmex.exceptions import EngineClosed, RunNotFound, SettingsError
from codomyrmex.logistics.orchestration.project.engine_host import HostSettings
from codomyrmex.logistics.orchestration.project.run_orchestrator import LiveRun
from codomyrmex.logistics.orchestration.project.run_reader import failure_text
from codomyrmex.logistics.orchestration.project.run_starter import RunStarter
from codomyrmex.logistics.orchestration.project.run_views import TaskView
from codomyrmex.logistics.orchestration.project.states import RunIntent
from codomyrmex.logistics.orchestration.project.task import ExecutionResult, ExecutionStatus, Task
from codomyrmex.logistics.orchestration.project.workflow import Workflow
from codomyrmex.logistics.orchestration.project.workflow_dag import WorkflowDAG
from codomyrmex.logistics.orchestration.project.workflow_preparation import Definition
from codomyrmex.logistics.orchestration.project.workflow_step import WorkflowStep, is_coroutine_function

Tasks = Iterable[Any] | Mapping[str, Any]
DEFAULT_WORKERS = 4
DEFAULT_TIMEOUT_S = 300.0
WATCH_S = 0.02
"""How often threads with a time limit are looked at; nothing is where there is none."""


class ParallelExecutor:
    """See the module. `timeout` is seconds for a whole call; a task's own is its `timeout_s`.

    A task is a mapping `{name, module, action, parameters, dependencies, timeout_s}` (a callable may stand
    as `action` or `function`), a `Task` or a `WorkflowStep`. Tasks claim no CPU: `max_workers` bounds them.
    """

    def __init__(self, max_workers: int = DEFAULT_WORKERS, timeout: float = DEFAULT_TIMEOUT_S) -> None:
        if max_workers < 1:
            raise SettingsError(f"max_workers must be at least 1, got {max_workers}")
        self.max_workers = max_workers
        self.default_timeout = timeout
        self._lock = Lock()
        self._starter: RunStarter | None = None
        self._closed = False

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.shutdown()

    def execute_tasks(
        self,
        tasks: Tasks,
        dependencies: Mapping[str, Iterable[str]] | None = None,
        timeout: float | None = None,
    ) -> dict[str, ExecutionResult]:
        """Runs tasks, each after those it depends on, and waits; results by name, in the order given.

        `dependencies` adds to what the tasks say themselves. Raises `DAGValidationError`, `ValidationError`
        and `ResourceRefused` before anything has begun; a task that fails is a result.
        """
        limit_s = self.default_timeout if timeout is None else timeout
        return run_graph(self._open(), tasks, dependencies, timeout_s=limit_s)

    def execute_task_group(self, tasks: Tasks, timeout: float | None = None) -> list[ExecutionResult]:
        """Runs tasks side by side and waits; results in the order given."""
        return list(self.execute_tasks(tasks, None, timeout).values())

    def wait_for_dependencies(self, task: Any, completed: Collection[str]) -> bool:
        """Whether all that a task depends on is in `completed`: names, or results by name that succeeded."""
        needed = task.get("dependencies") if isinstance(task, Mapping) else task.dependencies
        if isinstance(completed, Mapping):
            results = completed
            completed = {name for name, each in results.items() if getattr(each, "success", bool(each))}
        return all(name in completed for name in needed or ())

    def shutdown(self, wait: bool = True) -> None:
        """Ends the engine; with `wait` after what runs has had its grace. Idempotent."""
        with self._lock:
            self._closed = True
            starter, self._starter = self._starter, None
        if starter is None:
            return
        if wait:
            starter.host.close()
        else:
            Thread(target=starter.host.close, name="codomyrmex-shutdown", daemon=True).start()

    def _open(self) -> RunStarter:
        with self._lock:
            if self._closed:
                raise EngineClosed("this executor was shut down", hint="make a new ParallelExecutor")
            if self._starter is None:
                self._starter = RunStarter.open(settings=HostSettings(max_workers=self.max_workers))
            return self._starter


def validate_workflow_dependencies(tasks: Iterable[Any]) -> list[str]:
    """What is wrong with the dependencies of `tasks`, one sentence each; an empty list when nothing is."""
    return WorkflowDAG(tasks).validate_dag()[1]


def get_workflow_execution_order(tasks: Iterable[Any]) -> list[list[str]]:
    """The levels of `tasks`: everything in one may run at the same time. Raises `DAGValidationError`."""
    return WorkflowDAG(tasks).get_execution_order()


def execute_parallel(starter: RunStarter, workflow: Mapping[str, Any]) -> dict[str, Any]:
    """Runs `{tasks, dependencies, max_parallel, timeout}` and sums up; `task_results` are plain mappings."""
    results = run_graph(
        starter,
        workflow.get("tasks", ()),
        workflow.get("dependencies"),
        timeout_s=workflow.get("timeout", DEFAULT_TIMEOUT_S),
        max_parallel=workflow.get("max_parallel") or DEFAULT_WORKERS,
    )
    completed = sum(result.success for result in results.values())
    status = "partial_failure" if completed else "failed"
    return {
        "status": "completed" if completed == len(results) else status,
        "total_tasks": len(results),
        "completed_tasks": completed,
        "failed_tasks": len(results) - completed,
        "task_results": {name: result.to_dict() for name, result in results.items()},
    }


def run_graph(
    starter: RunStarter,
    tasks: Tasks,
    dependencies: Mapping[str, Iterable[str]] | None = None,
    *,
    timeout_s: float | None,
    max_parallel: int | None = None,
) -> dict[str, ExecutionResult]:
    """One run of these tasks, waited for at most `timeout_s`; see `ParallelExecutor.execute_tasks`."""
    steps = _steps(tasks, dependencies or {})
    if not steps:
        return {}
    watch = _Watch()
    workflow = Workflow("parallel")
    for step in steps:
        workflow.add(watch.limited(step))
    ready = starter.ready(Definition.of_workflow(workflow), {}, max_parallel=max_parallel)
    live = starter.begin(ready)
    deadline_s = None if timeout_s is None else monotonic() + timeout_s
    in_time = watch.wait(starter, live, deadline_s)
    if not in_time:
        _stop(starter, live)
    return _results(starter, live, watch)


def _steps(tasks: Tasks, dependencies: Mapping[str, Iterable[str]]) -> list[WorkflowStep]:
    """The steps of tasks in any form, with all their dependencies by name."""
    listed: Iterable[Any] = tasks
    if isinstance(tasks, Mapping):
        listed = ({"name": name, **task} for name, task in tasks.items())
    given = [task if isinstance(task, WorkflowStep) else Task.of(task) for task in listed]
    graph = WorkflowDAG(given)
    for name, parents in dependencies.items():
        for parent in parents:
            graph.add_dependency(name, parent)
    graph.get_execution_order()  # raises what is wrong
    names = {task.id: task.name for task in given if isinstance(task, Task)} | {
        name: name for name in graph.tasks
    }
    steps = []
    for task in graph.get_all_tasks():
        parents = list(dict.fromkeys(names[name] for name in task.dependencies))
        if isinstance(task, Task):
            steps.append(task.to_step(cpu=0).options(dependencies=parents))
        else:
            steps.append(task.options(dependencies=parents, resources={"cpu": 0, **task.resources}))
    return steps


@dataclass(slots=True)
class _Watch:
    """The time limits of tasks that run in threads: nobody else can hold them to it."""

    limits_s: dict[str, float] = field(default_factory=dict)
    begun_s: dict[str, float] = field(default_factory=dict)
    """When the present attempt of a limited task began (monotonic); gone when it has returned."""
    late: set[str] = field(default_factory=set)

    def limited(self, step: WorkflowStep) -> WorkflowStep:
        """The step itself, or in a thread with a timeout one whose function keeps it."""
        in_thread = step.isolation in ("thread", "async") or (
            step.function is not None and not step.isolation
        )
        if step.timeout_s is None or not in_thread:
            return step
        function = step.function or _imported(step)
        self.limits_s[step.name] = step.timeout_s
        wrap = self._limit_coroutine if is_coroutine_function(function) else self._limit
        return step.options(function=wrap(step.name, function), timeout_s=None)

    def wait(self, starter: RunStarter, live: LiveRun, deadline_s: float | None) -> bool:
        """Waits for the end of the run; False when the time was over, or only late threads were left."""
        while True:
            left_s = None if deadline_s is None else max(0.0, deadline_s - monotonic())
            pause_s = left_s
            if self.limits_s:
                pause_s = WATCH_S if left_s is None else min(WATCH_S, left_s)
            if starter.host.orchestrator.wait(live, pause_s):
                return True
            if (left_s is not None and left_s <= 0) or self._only_late(starter, live):
                return False

    def _only_late(self, starter: RunStarter, live: LiveRun) -> bool:
        """Asks threads past their limit to stop; True when nothing else of the run is under way."""
        run, now_s = live.state, monotonic()
        for name, began_s in list(self.begun_s.items()):
            if now_s - began_s > self.limits_s[name] and name not in self.late:
                self.late.add(name)
                starter.host.runner.stop(run, run.workflow.index[name], kill=False)
        return bool(self.late) and run.running == len(self.late & self.begun_s.keys())

    def _limit(self, name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(function)
        def within(*arguments: Any, **parameters: Any) -> Any:
            self.begun_s[name] = monotonic()
            try:
                return function(*arguments, **parameters)
            finally:
                self._check(name)

        return within

    def _limit_coroutine(self, name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(function)
        async def within(*arguments: Any, **parameters: Any) -> Any:
            import asyncio

            self.begun_s[name] = monotonic()
            try:
                return await asyncio.wait_for(function(*arguments, **parameters), self.limits_s[name])
            finally:
                self._check(name)

        return within

    def _check(self, name: str) -> None:
        """Refuses what came too late, so that nothing goes on from it."""
        if name in self.late or monotonic() - self.begun_s[name] > self.limits_s[name]:
            self.late.add(name)
        del self.begun_s[name]
        if name in self.late:
            raise TimeoutError(f"ran past its timeout of {self.limits_s[name]:g} s")


def _imported(step: WorkflowStep) -> Callable[..., Any]:
    """The function of a step that is to run in a thread of this process."""
    from codomyrmex.logistics.orchestration.project.actions.loading import load_function

    return load_function(step.module, step.action, (os.getcwd(),), None)


def _stop(starter: RunStarter, live: LiveRun) -> None:
    """Asks the run to end, and waits until nothing of it can begin any more."""
    with suppress(RunNotFound):  # it has ended since
        starter.host.orchestrator.stop(live.state.id)
    for _ in range(100):
        if starter.host.orchestrator.wait(live, 0.01) or live.state.intent is not RunIntent.NONE:
            return


def _results(starter: RunStarter, live: LiveRun, watch: _Watch) -> dict[str, ExecutionResult]:
    run_id = live.state.id
    late = watch.late | {
        event["task"]
        for event in starter.reader.events(run_id)
        if event["event"] == "failed" and "timed_out" in event["details"]
    }
    outputs = starter.reader.results(run_id)
    found = {}
    for task in starter.reader.tasks(run_id):
        result = ExecutionResult(
            task_name=task.name,
            status=_status(task, late),
            start_time=task.started_at,
            end_time=task.ended_at,
            duration=task.duration_s,
        )
        if result.success:
            result.result = outputs[task.name]
        else:
            result.error = _error(task, result.status)
        found[task.name] = result
    return found


def _status(task: TaskView, late: Collection[str]) -> ExecutionStatus:
    if task.status == "completed":
        return ExecutionStatus.COMPLETED
    if task.status == "running" or task.name in late:
        return ExecutionStatus.TIMEOUT
    return ExecutionStatus.FAILED if task.status == "failed" else ExecutionStatus.CANCELLED


def _error(task: TaskView, status: ExecutionStatus) -> str:
    if task.error:
        return failure_text(task.error) or status.value
    if status is ExecutionStatus.TIMEOUT:
        return "TimeoutError: it still runs past its time and was asked to stop"
    if task.reason == "upstream":
        return "a task that it depends on did not complete"
    return "it had not begun when the time was over"
