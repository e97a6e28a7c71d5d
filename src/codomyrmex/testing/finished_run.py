"""A workflow run from a test, in memory and in virtual time.

Layer: testing. Virtual time is the machine's time with the waiting left out: while something runs it passes
as ever, and when everything only waits for a time (the next retry, a sleep, a time limit), that moment is
now. So nothing that works in real time behaves differently, it is only over sooner.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from codomyrmex.exceptions import CodomyrmexError
from codomyrmex.logistics.orchestration.project.item_outputs import ItemOutputs
from codomyrmex.logistics.orchestration.project.orchestration_engine import OrchestrationEngine
from codomyrmex.logistics.orchestration.project.run_reader import RunReader
from codomyrmex.logistics.orchestration.project.run_views import RunView, TaskView
from codomyrmex.logistics.orchestration.project.workflow_execution import WorkflowExecution
from codomyrmex.logistics.orchestration.project.workflow_manager import WorkflowLike
from codomyrmex.logistics.storage.database import Database
from codomyrmex.testing.answers import AnsweringClock, Answers
from codomyrmex.testing.stubs import answers_in, stubbed
from codomyrmex.testing.stubs import until as only_until
from codomyrmex.testing.supply import supply
from codomyrmex.workspace import find_workspace


class FinishedRun(WorkflowExecution):
    """A run as it stood when it was read: it needs no engine any more."""

    def __init__(self, reader: RunReader, execution_id: str) -> None:
        super().__init__(reader, execution_id)
        self._view = reader.run(execution_id)
        self._outputs = dict(super().outputs)
        self._results = {
            name: list(output) if isinstance(output, ItemOutputs) else output
            for name, output in reader.results(execution_id).items()
        }
        self._tasks = {task.name: task for task in reader.tasks(execution_id)}
        self.events = list(reader.events(execution_id))
        """The journal, in the order of commits; see `RunReader.events`."""

    @property
    def view(self) -> RunView:
        """The run as it was read."""
        return self._view

    @property
    def outputs(self) -> Mapping[str, Any]:
        """The workflow's declared outputs; empty where it has not completed."""
        return self._outputs

    @property
    def results(self) -> Mapping[str, Any]:
        """The outputs of completed steps by name; a fan-out's is the list of its items' in order."""
        return self._results

    @property
    def tasks(self) -> Mapping[str, TaskView]:
        """Every task by name (`name`, `name[i]`), in the order of the definition."""
        return self._tasks

    @property
    def order(self) -> list[str]:
        """The tasks that began, each once, in the order in which they first did.

        What holds no slot (an approval, a child run) begins when it is opened.
        """
        began = ("started", "waiting")
        return list(dict.fromkeys(event["task"] for event in self.events if event["event"] in began))

    def attempts(self, step: str) -> int:
        """How many attempts a task has had; those of all items for a fan-out step."""
        items = [task for task in self._tasks.values() if task.step == step and task.index is not None]
        return sum(task.attempt for task in items) if items else self._tasks[step].attempt

    def statuses(self) -> dict[str, str]:
        """The status of every task by name."""
        return {name: task.status for name, task in self._tasks.items()}


def run_workflow(
    workflow: WorkflowLike,
    parameters: Mapping[str, Any] | None = None,
    stubs: Mapping[str, Any] | None = None,
    until: str | None = None,
    *,
    root: str | os.PathLike[str] | None = None,
    max_workers: int | None = None,
    database: Database | None = None,
    timeout_s: float = 60.0,
) -> FinishedRun:
    """Runs a workflow (a path, a `Workflow`, a document) to its end, in memory and in virtual time.

    `stubs` replaces the actions of steps, and child runs: by a value, a function of the step's parameters, an
    exception, or a list with one of these per attempt. What undoes step `a` is stubbed as `a.compensate`. The
    stub of an approval is True, False or `{"approved", "data", "by", "comment"}`, that of a signal its data.

    With `until` only that step and what it needs are run. `root` is the folder of the project, for a file the
    one that it lies in. `database` is used instead of an empty one in memory
    (`FaultyDatabase`), and closed. Returns also when the run failed; raises `ValidationError`, `TaskNotFound`
    for a step that is not there, and `CodomyrmexError` when it takes longer than `timeout_s` real seconds or,
    at once, when a step waits for somebody and has neither a stub nor a time limit.
    """
    if isinstance(workflow, (str, os.PathLike)) and Path(workflow).is_file():
        workflow = Path(workflow).resolve()
        root = root or find_workspace(file=workflow).root
    clock = AnsweringClock()
    with OrchestrationEngine(
        state=":memory:", root=root, clock=clock, max_workers=max_workers, database=database
    ) as engine:
        definition = engine.workflows.definition(workflow)
        if until is not None:
            definition = only_until(definition, until)
        answers = Answers(engine, definition.document["name"], answers_in(definition, stubs or {}))
        clock.answers = answers
        definition = stubbed(definition, stubs or {})
        supply(engine, definition.document)
        execution = engine.start_workflow(definition, parameters)
        ended = execution.wait(timeout_s)
        if answers.fault is not None:
            raise answers.fault
        if not ended:
            waiting = " ".join(engine.explain(execution.execution_id))
            raise CodomyrmexError(f"the run did not end within {timeout_s:g} s: {waiting}")
        return FinishedRun(engine.reader, execution.execution_id)
