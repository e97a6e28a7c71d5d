"""TaskOrchestrator: tasks submitted one by one, each a run of one step.

Layer: above the run starter, below the workflow manager. The machine that schedules every run of an engine
is `run_orchestrator`; this one only knows ids, and which task waits for which.

A task that waits for nothing is stored before `submit_task` returns: it survives this process, is recovered
with the runs of its engine, and its id is the id of its run. A task whose dependencies are still open waits
*in memory*: it is checked when submitted and its run is stored once the last of them has completed. So an
engine's death forgets tasks that were waiting for others, and nothing else.

    submitted ── all dependencies COMPLETED ──> its run begins ──> as the run's step ends
        └─────── one FAILED or CANCELLED ─────> CANCELLED, and so are those that wait for it
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from threading import Event, RLock
from time import monotonic
from typing import TYPE_CHECKING, Any, Self
from weakref import WeakMethod

from codomyrmex.exceptions import (
    CodomyrmexError,
    Conflict,
    EngineClosed,
    Fault,
    NotFound,
    ResourceRefused,
    RunNotFound,
    SettingsError,
    TaskNotFound,
    ValidationError,
)
from codomyrmex.logging_monitoring import get_logger
from codomyrmex.logistics.orchestration.project.engine_host import HostSettings
from codomyrmex.logistics.orchestration.project.run_orchestrator import LiveRun
from codomyrmex.logistics.orchestration.project.run_starter import ReadyRun, RunStarter
from codomyrmex.logistics.orchestration.project.session_holdings import check_session
from codomyrmex.logistics.orchestration.project.states import (
    STATUSES,
    RunMove,
    TaskStatus,
)
from codomyrmex.logistics.orchestration.project.task import Task, TaskResult
from codomyrmex.logistics.orchestration.project.task_runs import (
    definition_of,
    of_task,
    stored_result,
    task_of,
)

if TYPE_CHECKING:
    from codomyrmex.logistics.orchestration.project.orchestration_engine import OrchestrationEngine

TERMINAL = frozenset({TaskStatus.COMPLETED, TaskStatus.FAILED, TaskStatus.CANCELLED, TaskStatus.SKIPPED})
RUN_ENDS = (RunMove.COMPLETED, RunMove.FAILED, RunMove.CANCELLED)
STOPPED = "the orchestrator was stopped before the task ended"
REFUSALS = (ValidationError, NotFound, ResourceRefused, Conflict)
"""What `execute_task` returns as a result; anything else says that the engine cannot work."""
BETWEEN_S = 0.02

logger = get_logger(__name__)


@dataclass(slots=True, eq=False)
class _Entry:
    """A task that was submitted here. `ready` is there until its run begins, `live` from then on."""

    task: Task
    ready: ReadyRun | None
    open_parents: set[str] = field(default_factory=set)
    live: LiveRun | None = None
    unwanted: bool = False
    """Cancelled while its run was just beginning."""
    ended: Event = field(default_factory=Event)


class TaskOrchestrator:
    """See the module. Safe for several threads.

    Alone it has an engine of its own: in memory, or on the folder `state`; or it works on `engine`. With
    `max_workers` so many tasks run at once and none claims a CPU unless it asks for one; without it a task
    claims one CPU, as a step does. Tasks that the engine took over from a dead one are known again.
    """

    def __init__(
        self,
        max_workers: int | None = None,
        *,
        engine: OrchestrationEngine | None = None,
        state: str | os.PathLike[str] | None = None,
    ) -> None:
        if engine is not None and (max_workers is not None or state is not None):
            raise SettingsError(
                "an orchestrator on a given engine has that engine's state and workers",
                hint="give max_workers and state to OrchestrationEngine(...)",
            )
        if max_workers is not None and max_workers < 1:
            raise SettingsError(f"max_workers must be at least 1, got {max_workers}")
        self.max_workers = max_workers
        self._state = state
        self._engine = engine
        self._starter = engine.workflows.starter if engine is not None else None
        self._stopped = False
        self._lock = RLock()
        self._entries: dict[str, _Entry] = {}
        self._waiting_for: dict[str, list[_Entry]] = {}
        self._told_by: RunStarter | None = None
        if self._starter is not None:
            self._take_up(self._starter)

    def __enter__(self) -> Self:
        self.start_processing()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop_execution()

    def start_processing(self) -> None:
        """Opens the engine if it is not open; the first task submitted does so too. Idempotent."""
        with self._lock:
            self._stopped = False
            self._open()

    def stop_execution(self) -> None:
        """Begins nothing more; tasks that wait for others are CANCELLED. Idempotent.

        An engine of its own is shut down: in memory its tasks are cancelled, on a state folder what has not
        ended stays there and can be resumed. On a given engine what has begun goes on.
        """
        with self._lock:
            self._stopped = True
            starter = self._starter
            for entry in [each for each in self._entries.values() if each.ready is not None]:
                self._end(entry, TaskResult(status=TaskStatus.CANCELLED, error=STOPPED))
        if starter is None or self._engine is not None:
            return
        if starter.host.state_dir is None:
            self._cancel_all(starter)
        starter.host.close()
        with self._lock:
            self._starter = self._told_by = None
            for entry in self._open_entries():
                if starter.host.state_dir is None:
                    self._end(entry, TaskResult(status=TaskStatus.CANCELLED, error=STOPPED))

    # -- submitting ------------------------------------------------------------------------------

    def submit_task(self, task: Task | Mapping[str, Any], *, session_id: str | None = None) -> str:
        """Accepts a task and returns its id; see the module for what is durable then.

        A task of a session is served out of what the session holds.

        Raises `ValidationError` (also for a dependency that was not submitted before), `ResourceRefused`,
        and `Conflict` for an id that is taken.
        """
        task = Task.of(task)
        with self._lock:
            if self._stopped:
                raise EngineClosed("the orchestrator was stopped", hint="start_processing() opens it again")
            starter = self._open()
        cpu = 0 if self.max_workers is not None else None
        try:
            ready = starter.ready(definition_of(task, cpu=cpu), {}, run_id=task.id)
        except ValidationError as error:
            raise of_task(error, task) from None
        if session_id is not None:
            check_session(starter.host, session_id, ready.run.workflow)
            ready.run.options = replace(ready.run.options, session=session_id)
        entry = _Entry(task=task, ready=ready)
        with self._lock:
            self._refuse_taken(starter, task)
            failed = self._link(entry)
            self._entries[task.id] = entry
            task.status, task.result = TaskStatus.PENDING, None
            if failed is not None:
                self._end(entry, _upstream(failed))
            if entry.open_parents:
                task.status = TaskStatus.BLOCKED
                self._listen(starter)
        try:
            self._begin(starter, entry)
        except CodomyrmexError:
            with self._lock:
                del self._entries[task.id]
            raise
        return task.id

    def submit_tasks(self, tasks: Iterable[Task | Mapping[str, Any]]) -> list[str]:
        """Submits tasks, each after those of the list that it depends on; their ids in the order given.

        What is refused raises; tasks of the list that were accepted before it stay submitted.
        """
        given = [Task.of(each) for each in tasks]
        for task in _in_order(given):
            self.submit_task(task)
        return [task.id for task in given]

    def execute_task(self, task: Task | Mapping[str, Any], *, session_id: str | None = None) -> TaskResult:
        """Submits a task and waits for its end; returns also when it failed or was refused."""
        try:
            task_id = self.submit_task(task, session_id=session_id)
        except REFUSALS as refusal:
            refused = task.id if isinstance(task, Task) else None
            return TaskResult(task_id=refused, status=TaskStatus.FAILED, error=str(refusal))
        entry = self._entries[task_id]
        self._wait(entry, None)
        assert entry.task.result is not None
        return entry.task.result

    # -- asking ----------------------------------------------------------------------------------

    def get_task(self, task_id: str) -> Task | None:
        """The task that was submitted here, its status and result as they are now; or None."""
        entry = self._entries.get(task_id)
        return self._fresh(entry).task if entry is not None else None

    def list_tasks(self, status: TaskStatus | str | None = None) -> list[Task]:
        """The tasks that were submitted here, in that order; only those with this status, if given."""
        tasks = [self._fresh(entry).task for entry in list(self._entries.values())]
        return tasks if status is None else [task for task in tasks if task.status == TaskStatus(status)]

    def get_task_result(self, task_id: str) -> TaskResult | None:
        """What became of a task, also of one that an earlier process submitted; None while it is open."""
        task = self.get_task(task_id)
        if task is not None:
            return task.result
        starter = self._readable()
        if starter is not None:
            with suppress(RunNotFound):
                return stored_result(starter, task_id)
        return None

    def cancel_task(self, task_id: str) -> bool:
        """Asks for a task to end; True where it was open. A thread is only asked, and may still complete."""
        entry = self._entries.get(task_id)
        if entry is None:
            return False
        with self._lock:
            if self._fresh(entry).ended.is_set():
                return False
            if entry.ready is not None:
                self._end(entry, TaskResult(status=TaskStatus.CANCELLED, error="cancelled before it began"))
            entry.unwanted = True
        self._stop_unwanted(entry)
        return True

    def wait_for_completion(self, timeout: float | None = None) -> bool:
        """Waits until every task submitted so far has ended; False when `timeout` seconds were over first."""
        deadline_s = None if timeout is None else monotonic() + timeout
        return all(self._wait(entry, deadline_s) for entry in list(self._entries.values()))

    def explain(self, task_id: str) -> list[str]:
        """Sentences: what a task waits for, or why it ended as it did. Raises `TaskNotFound`."""
        entry, starter = self._entries.get(task_id), self._readable()
        if entry is not None and (starter is None or self._fresh(entry).live is None):
            return [self._sentence(entry)]
        if starter is not None:
            with suppress(RunNotFound):
                return starter.reader.explain(task_id)
        raise TaskNotFound(task_id, hint="list_tasks() shows what was submitted here")

    def get_execution_stats(self) -> dict[str, Any]:
        """How many tasks there are in all and in each status, and the seconds they took together."""
        tasks = self.list_tasks()
        counts = {status.value: 0 for status in TaskStatus}
        for task in tasks:
            counts[task.status.value] += 1
        ended = [task.result for task in tasks if task.result is not None]
        total_s = sum(result.duration or 0.0 for result in ended)
        return {"total_tasks": len(tasks), **counts, "total_duration": total_s}

    # -- inside ----------------------------------------------------------------------------------

    def _open(self) -> RunStarter:
        """The engine's starter, opened if need be; with the lock held."""
        if self._starter is None:
            settings = HostSettings(max_workers=self.max_workers)
            self._starter = RunStarter.open(self._state, settings=settings)
            self._starter.host.recover()
            self._take_up(self._starter)
        return self._starter

    def _take_up(self, starter: RunStarter) -> None:
        """Knows again the tasks that were taken over from dead engines."""
        for live in starter.host.orchestrator.live_runs():
            task = task_of(starter, live)
            if task is not None:
                self._entries[task.id] = _Entry(task=task, ready=None, live=live)

    def _readable(self) -> RunStarter | None:
        """The starter, if it is open or may be opened to look into the store."""
        with self._lock:
            return self._starter if self._stopped else self._open()

    def _refuse_taken(self, starter: RunStarter, task: Task) -> None:
        if not task.id or not all(letter.isalnum() or letter in "_-." for letter in task.id):
            message = "the id of a task is made of letters, digits, `_`, `-` and `.`"
            raise ValidationError([Fault(message=message, path="id", got=repr(task.id))])
        taken = task.id in self._entries
        if not taken:
            with suppress(RunNotFound):
                starter.reader.run(task.id)
                taken = True
        if taken:
            raise Conflict(
                f"a task with id {task.id!r} was submitted before", hint="leave the id out: one is made"
            )

    def _link(self, entry: _Entry) -> Task | None:
        """Notes what a task waits for; returns a dependency that will never be met. With the lock held."""
        unknown = [name for name in entry.task.dependencies if name not in self._entries]
        if unknown:
            faults = [_unknown_dependency(name, self._entries) for name in unknown]
            raise ValidationError(faults, subject=f"task {entry.task.name!r}")
        failed = None
        for name in dict.fromkeys(entry.task.dependencies):
            parent = self._fresh(self._entries[name])
            if not parent.ended.is_set():
                entry.open_parents.add(name)
                self._waiting_for.setdefault(name, []).append(entry)
            elif parent.task.status is not TaskStatus.COMPLETED:
                failed = failed or parent.task
        return failed

    def _begin(self, starter: RunStarter, entry: _Entry) -> None:
        """Begins the run of a task that waits for nothing any more; does nothing otherwise."""
        with self._lock:
            if entry.ready is None or entry.open_parents:
                return
            ready, entry.ready = entry.ready, None
        entry.live = starter.begin(ready)
        self._stop_unwanted(entry)
        if self._told_by is not None:
            self._fresh(entry)  # its end may have been told before it was known to have begun

    def _stop_unwanted(self, entry: _Entry) -> None:
        """Asks the run of a cancelled task to end, once there is one."""
        if entry.unwanted and entry.live is not None and self._starter is not None:
            with suppress(RunNotFound):  # it has ended since
                self._starter.host.orchestrator.stop(entry.task.id)

    def _begin_waiting(self, entry: _Entry) -> None:
        """The same where nobody stands by to hear of a refusal."""
        if self._starter is None:
            return
        try:
            self._begin(self._starter, entry)
        except CodomyrmexError as error:
            logger.warning("task %s could not begin: %s", entry.task.id, error)
            self._end(entry, TaskResult(status=TaskStatus.FAILED, error=str(error)))

    def _listen(self, starter: RunStarter) -> None:
        """From the first task on that waits for another one, hears of the ends of runs."""
        if self._told_by is starter:
            return
        self._told_by = starter
        handler = _weakly(self._told)
        for move in RUN_ENDS:
            starter.host.orchestrator.teller.register(move.value, handler)

    def _told(self, data: Mapping[str, Any]) -> None:
        entry = self._entries.get(data["run_id"])
        if entry is not None:
            self._fresh(entry)

    def _fresh(self, entry: _Entry) -> _Entry:
        """Brings the task of an entry up to date; what waits for it follows when it has ended."""
        live = entry.live
        if entry.ended.is_set() or live is None or self._starter is None:
            return entry
        status = live.state.status
        if status.terminal:
            self._end(entry, stored_result(self._starter, entry.task.id))
        elif live.error is not None and not isinstance(live.error, EngineClosed):
            self._end(entry, TaskResult(status=TaskStatus.FAILED, error=str(live.error)))
        else:
            entry.task.status = STATUSES[live.state.state[0]]
        return entry

    def _end(self, entry: _Entry, result: TaskResult | None) -> None:
        """Records the end of a task once, and moves on what waits for it, however deep."""
        if result is None:
            return
        ready: list[_Entry] = []
        with self._lock:
            ending = [(entry, result)]
            while ending:
                current, outcome = ending.pop()
                if current.ended.is_set():
                    continue
                task = current.task
                outcome.task_id = task.id
                task.status = outcome.status or TaskStatus.FAILED
                task.result = outcome
                current.ready = None
                current.ended.set()
                for child in self._waiting_for.pop(task.id, ()):
                    child.open_parents.discard(task.id)
                    if task.status is not TaskStatus.COMPLETED:
                        ending.append((child, _upstream(task)))
                    elif not child.open_parents:
                        ready.append(child)
        for child in ready:
            self._begin_waiting(child)

    def _wait(self, entry: _Entry, deadline_s: float | None) -> bool:
        """Waits for the end of one task; what it waits for is looked after meanwhile."""
        while not self._fresh(entry).ended.is_set():
            left_s = None if deadline_s is None else deadline_s - monotonic()
            if left_s is not None and left_s <= 0:
                return False
            live = self._begun_above(entry)
            if live is None:
                entry.ended.wait(BETWEEN_S if left_s is None else min(left_s, BETWEEN_S))
                continue
            starter = self._starter
            if starter is None:
                raise EngineClosed("the orchestrator was stopped; its state can be resumed")
            starter.host.orchestrator.wait(live, left_s)
        return True

    def _begun_above(self, entry: _Entry) -> LiveRun | None:
        """A run whose end brings this task nearer to its own, or None while one is just beginning."""
        with self._lock:
            while entry.live is None and entry.open_parents:
                entry = self._entries[next(iter(entry.open_parents))]
            self._fresh(entry)
            return None if entry.ended.is_set() else entry.live

    def _open_entries(self) -> list[_Entry]:
        return [entry for entry in self._entries.values() if not entry.ended.is_set()]

    def _cancel_all(self, starter: RunStarter) -> None:
        """Asks every task to end and gives them the grace to."""
        for entry in self._open_entries():
            with suppress(RunNotFound):
                starter.host.orchestrator.stop(entry.task.id)
        deadline_s = monotonic() + starter.host.settings.grace_s
        with suppress(CodomyrmexError):
            for entry in self._open_entries():
                self._wait(entry, deadline_s)

    def _sentence(self, entry: _Entry) -> str:
        task = entry.task
        head = f"Task {task.id} ({task.name}) is {task.status.value}"
        if entry.open_parents:
            waits = [
                f"{name} ({self._entries[name].task.status.value})" for name in sorted(entry.open_parents)
            ]
            more = f" and {len(waits) - 5} more" if len(waits) > 5 else ""
            return f"{head}: waits for {', '.join(waits[:5])}{more}."
        return f"{head}: {task.result.error}." if task.result and task.result.error else f"{head}."


def _weakly(method: Callable[[Mapping[str, Any]], None]) -> Callable[[str, dict[str, Any]], None]:
    """A handler that does not keep the orchestrator alive."""
    reference = WeakMethod(method)

    def told(_event: str, data: dict[str, Any]) -> None:
        alive = reference()
        if alive is not None:
            alive(data)

    return told


def _upstream(parent: Task) -> TaskResult:
    error = f"task {parent.id!r}, which it depends on, is {parent.status.value}"
    return TaskResult(status=TaskStatus.CANCELLED, error=error)


def _unknown_dependency(name: str, known: Iterable[str]) -> Fault:
    from difflib import get_close_matches

    near = get_close_matches(str(name), list(known)[-5000:], n=1)
    return Fault(
        message=f"no task {name!r} was submitted before",
        path="dependencies",
        code="unknown_task",
        got=str(name),
        nearest=near[0] if near else None,
        advice="dependencies are ids of tasks; submit those first, or all with submit_tasks()",
    )


def _in_order(tasks: list[Task]) -> list[Task]:
    """Tasks after those of the list that they depend on; raises `ValidationError` for a cycle."""
    from codomyrmex.logistics.orchestration.project.workflow_dag import Graph

    place = {task.id: number for number, task in enumerate(tasks)}
    if len(place) < len(tasks):
        raise ValidationError([Fault(message="two tasks have the same id", path="id")], subject="the tasks")
    inside = ([place[name] for name in dict.fromkeys(task.dependencies) if name in place] for task in tasks)
    order = Graph.build([task.id for task in tasks], inside).order()
    return [tasks[number] for number in order]
