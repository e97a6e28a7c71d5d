"""A task as a run of one step: into it, and back from what is stored.

Layer: above the run starter, below the task orchestrator. The id of the run is that of the task; what a step
cannot say (dependencies on other tasks, metadata) stands in a label of the definition.
"""

from __future__ import annotations

import json
from dataclasses import replace

from codomyrmex.exceptions import Fault, ValidationError
from codomyrmex.logistics.orchestration.project import definition_store
from codomyrmex.logistics.orchestration.project.run_orchestrator import LiveRun
from codomyrmex.logistics.orchestration.project.run_reader import failure_text
from codomyrmex.logistics.orchestration.project.run_starter import RunStarter
from codomyrmex.logistics.orchestration.project.states import TaskPriority, TaskStatus
from codomyrmex.logistics.orchestration.project.task import Task, TaskResult
from codomyrmex.logistics.orchestration.project.workflow import Workflow
from codomyrmex.logistics.orchestration.project.workflow_preparation import Definition

TASK_LABEL = "codomyrmex.task"
"""The label of a run that is a task: JSON of its dependencies and metadata, as far as it has any."""


def definition_of(task: Task, *, cpu: float | None) -> Definition:
    """The workflow of one step that does a task, which claims `cpu` unless it says so itself.

    Raises `ValidationError`.
    """
    facts = {"dependencies": task.dependencies, "metadata": task.metadata}
    try:
        label = json.dumps({key: value for key, value in facts.items() if value})
    except (TypeError, ValueError) as error:
        fault = Fault(message=f"metadata must be what JSON can hold: {error}", path="metadata")
        raise ValidationError([fault], subject=f"task {task.name!r}") from None
    workflow = Workflow(task.name, labels={TASK_LABEL: label.replace("${", "$${")})
    workflow.add(task.to_step(cpu=cpu))
    return Definition.of_workflow(workflow)


def task_of(starter: RunStarter, live: LiveRun) -> Task | None:
    """The task that a run was made of, or None where it was made of something else."""
    compiled = live.state.workflow
    label = compiled.document.get("labels", {}).get(TASK_LABEL)
    if label is None or len(compiled) != 1:
        return None
    try:
        facts = json.loads(label.replace("$${", "${"))
    except ValueError:
        return None  # somebody gave this label to a workflow of their own
    step = Workflow.from_document(definition_store.read(starter.host.database, compiled.hash)).steps[0]
    return Task(
        step.name,
        step.module or "",
        step.action or "",
        step.parameters,
        dependencies=facts.get("dependencies", []),
        priority=TaskPriority(step.priority),
        resources=step.resources,  # type: ignore[arg-type]  # a mapping does as well
        timeout_s=step.timeout_s,
        retry=step.retry,
        isolation=step.isolation,
        metadata=facts.get("metadata", {}),
        id=live.state.id,
    )


def stored_result(starter: RunStarter, run_id: str) -> TaskResult | None:
    """What is recorded of a task, or None while it is open. Raises `RunNotFound`."""
    view = starter.reader.run(run_id)
    if not view.final:
        return None
    task = starter.reader.tasks(run_id, limit=1)[0]
    status = TaskStatus(task.status) if task.final else TaskStatus.CANCELLED
    success = status is TaskStatus.COMPLETED
    return TaskResult(
        success=success,
        output=starter.reader.results(run_id)[task.name] if success else None,
        error=None if success else failure_text(task.error or {}) or view.error or status.value,
        duration=task.duration_s,
        task_id=run_id,
        status=status,
        attempt=task.attempt,
        started_at=task.started_at,
        ended_at=task.ended_at or view.ended_at,
    )


def of_task(error: ValidationError, task: Task) -> ValidationError:
    """The faults of the workflow of one step as those of its task."""
    head = f"steps[0] {task.name!r}"
    faults = [replace(fault, path=fault.path.removeprefix(head).lstrip(".")) for fault in error.faults]
    return ValidationError(faults, subject=f"task {task.name!r}", hint=error.hint)
