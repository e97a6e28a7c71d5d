"""The one engine that a process shares, and the functions that hand out its parts.

Layer: above the engine. It is opened at the first call, on the state found from the current folder then, or
as `configure` said; it adopts no other runs. All functions are safe for several threads; each `get_*` returns
the same object until `close_orchestration_engine`, which the end of the process calls too.
"""

from __future__ import annotations

import atexit
from collections.abc import Mapping
from threading import Lock
from typing import TYPE_CHECKING, Any

from codomyrmex.exceptions import SettingsError
from codomyrmex.logistics.orchestration.project.orchestration_engine import OrchestrationEngine
from codomyrmex.logistics.orchestration.project.task import Task, TaskResult
from codomyrmex.logistics.orchestration.project.task_orchestrator import TaskOrchestrator
from codomyrmex.logistics.orchestration.project.workflow_execution import WorkflowExecution
from codomyrmex.logistics.orchestration.project.workflow_manager import WorkflowLike, WorkflowManager

if TYPE_CHECKING:
    from codomyrmex.logistics.orchestration.project.resource_manager import ResourceManager


class _Shared:
    """What this process shares."""

    def __init__(self) -> None:
        self.lock = Lock()
        self.options: dict[str, Any] = {}
        self.engine: OrchestrationEngine | None = None


_shared = _Shared()


def configure(**options: Any) -> None:
    """Sets what the shared engine is opened with (the keywords of `OrchestrationEngine`); before its first use."""
    with _shared.lock:
        if _shared.engine is not None:
            raise SettingsError(
                "the shared engine is open already", hint="call configure() before the first get_*()"
            )
        _shared.options = dict(options)


def get_orchestration_engine() -> OrchestrationEngine:
    """The shared engine of this process, opened at the first call."""
    with _shared.lock:
        if _shared.engine is None:
            _shared.engine = OrchestrationEngine(**{"recover": False, **_shared.options})
            atexit.register(close_orchestration_engine)
        return _shared.engine


def get_workflow_manager() -> WorkflowManager:
    """The manager of the shared engine."""
    return get_orchestration_engine().workflows


def get_task_orchestrator() -> TaskOrchestrator:
    """The task orchestrator of the shared engine."""
    return get_orchestration_engine().tasks


def get_resource_manager() -> ResourceManager:
    """The resource manager of the shared engine."""
    return get_orchestration_engine().resources


def close_orchestration_engine() -> None:
    """Shuts the shared engine down; the next `get_*` opens a new one. Idempotent."""
    with _shared.lock:
        engine, _shared.engine = _shared.engine, None
    if engine is not None:
        engine.shutdown()


def execute_workflow(
    what: WorkflowLike,
    /,
    session_id: str | Mapping[str, Any] | None = None,
    parameters: Mapping[str, Any] | None = None,
    **more: Any,
) -> WorkflowExecution:
    """Runs a workflow on the shared engine and waits; see `OrchestrationEngine.execute_workflow`."""
    return get_orchestration_engine().execute_workflow(what, session_id, parameters, **more)


def execute_task(task: Task | Mapping[str, Any], session_id: str | None = None) -> TaskResult:
    """Runs one task on the shared engine and waits; see `OrchestrationEngine.execute_task`."""
    return get_orchestration_engine().execute_task(task, session_id)
