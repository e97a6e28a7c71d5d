"""Orchestration of the work of a project: workflows, their runs, and the engine that executes them.

Every public name is exported here and looked up when first asked for (PEP 562), so that importing this
package, or one module of it, costs nothing that is not used.
"""

from __future__ import annotations

from typing import Any

_PROJECT = "codomyrmex.logistics.orchestration.project"
_HOMES = {
    # The engine, and the one that a process shares
    "OrchestrationEngine": f"{_PROJECT}.orchestration_engine",
    "close_orchestration_engine": f"{_PROJECT}.shared_engine",
    "configure": f"{_PROJECT}.shared_engine",
    "get_orchestration_engine": f"{_PROJECT}.shared_engine",
    # Workflows
    "Workflow": f"{_PROJECT}.workflow",
    "WorkflowManager": f"{_PROJECT}.workflow_manager",
    "WorkflowStep": f"{_PROJECT}.workflow_step",
    "create_workflow_steps": f"{_PROJECT}.task",
    "execute_workflow": f"{_PROJECT}.shared_engine",
    "get_workflow_manager": f"{_PROJECT}.shared_engine",
    # Tasks
    "Task": f"{_PROJECT}.task",
    "TaskOrchestrator": f"{_PROJECT}.task_orchestrator",
    "TaskResource": f"{_PROJECT}.task",
    "TaskResult": f"{_PROJECT}.task",
    "create_task": f"{_PROJECT}.task",
    "execute_task": f"{_PROJECT}.shared_engine",
    "get_task_orchestrator": f"{_PROJECT}.shared_engine",
    # Parallel execution
    "ExecutionResult": f"{_PROJECT}.task",
    "ExecutionStatus": f"{_PROJECT}.task",
    "ParallelExecutor": f"{_PROJECT}.parallel_executor",
    "get_workflow_execution_order": f"{_PROJECT}.parallel_executor",
    "validate_workflow_dependencies": f"{_PROJECT}.parallel_executor",
    # Runs
    "RunView": f"{_PROJECT}.run_views",
    "TaskView": f"{_PROJECT}.run_views",
    "WorkflowExecution": f"{_PROJECT}.workflow_execution",
    # Resources
    "Resource": f"{_PROJECT}.resources",
    "ResourceAllocation": f"{_PROJECT}.resources",
    "ResourceLimits": f"{_PROJECT}.resources",
    "ResourceManager": f"{_PROJECT}.resource_manager",
    "ResourceUsage": f"{_PROJECT}.resources",
    "get_resource_manager": f"{_PROJECT}.shared_engine",
    # Graphs
    "CycleDetectedError": f"{_PROJECT}.workflow_dag",
    "DAGValidationError": f"{_PROJECT}.workflow_dag",
    "WorkflowDAG": f"{_PROJECT}.workflow_dag",
    # States
    "ResourceStatus": f"{_PROJECT}.states",
    "ResourceType": f"{_PROJECT}.states",
    "OrchestrationMode": f"{_PROJECT}.states",
    "TaskPriority": f"{_PROJECT}.states",
    "TaskStatus": f"{_PROJECT}.states",
    "TriggerRule": f"{_PROJECT}.states",
    "WorkflowStatus": f"{_PROJECT}.states",
    # Inside an action
    "action": "codomyrmex.current_task",
    "current_task": "codomyrmex.current_task",
    "register_codec": f"{_PROJECT}.executors.value_files",
    # Errors
    "ActionNotFound": "codomyrmex.exceptions",
    "CodomyrmexError": "codomyrmex.exceptions",
    "Conflict": "codomyrmex.exceptions",
    "EngineForked": "codomyrmex.exceptions",
    "IllegalTransition": "codomyrmex.exceptions",
    "NotAllowed": "codomyrmex.exceptions",
    "NotResumable": "codomyrmex.exceptions",
    "ResourceRefused": "codomyrmex.exceptions",
    "RunFailed": "codomyrmex.exceptions",
    "StoreError": "codomyrmex.exceptions",
    "TaskNotFound": "codomyrmex.exceptions",
    "ValidationError": "codomyrmex.exceptions",
    "WorkflowNotFound": "codomyrmex.exceptions",
}

__all__ = list(_HOMES)


def __getattr__(name: str) -> Any:
    from importlib import import_module

    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module {_PROJECT!r} has no attribute {name!r}")
    return getattr(import_module(home), name)


def __dir__() -> list[str]:
    return sorted(__all__)
