"""The Python names that users rely on: each is there, or stands in a list with the issue that brings it.

The tables say what the contract says. A name of `NOT_BUILT` that is there after all fails too: whoever builds
it takes it off the list.
"""

from __future__ import annotations

import dataclasses
import importlib
import inspect
import re
from collections.abc import Callable, Iterator
from enum import Enum
from pathlib import Path
from threading import Barrier, Thread
from typing import Any

import pytest

import codomyrmex
from codomyrmex import exceptions

PROJECT = importlib.import_module("codomyrmex.logistics.orchestration.project")

NOT_BUILT = {
    "OrchestrationEngine.retry": 6,
    "OrchestrationEngine.fork": 6,
    "OrchestrationSession": 7,
    "OrchestrationContext": 7,
    "SessionStatus": 7,
    "OrchestrationEngine.create_session": 7,
    "OrchestrationEngine.get_session": 7,
    "OrchestrationEngine.list_sessions": 7,
    "OrchestrationEngine.pause_session": 7,
    "OrchestrationEngine.resume_session": 7,
    "OrchestrationEngine.close_session": 7,
    "OrchestrationEngine.execute_complex_workflow": 7,
    "OrchestrationEngine.execute_project_workflow": 7,
    "OrchestrationEngine.get_metrics": 7,
    "OrchestrationEngine.get_system_status": 7,
    "OrchestrationEngine.get_health_status": 7,
    "OrchestrationEngine.health_check": 7,
    "Project": 9,
    "ProjectManager": 9,
    "ProjectStatus": 9,
    "ProjectTemplate": 9,
    "ProjectType": 9,
    "create_project": 9,
    "get_project_manager": 9,
    "DocumentationGenerator": 10,
    "get_documentation_generator": 10,
    "execute_mcp_tool": 11,
    "get_mcp_tool_definitions": 11,
    "get_mcp_tools": 11,
}

ENUMS = {
    "WorkflowStatus": "PENDING RUNNING PAUSED COMPLETED FAILED CANCELLED",
    "TaskStatus": "PENDING BLOCKED RUNNING COMPLETED FAILED CANCELLED SKIPPED",
    "TaskPriority": "LOW NORMAL HIGH CRITICAL",
    "ProjectStatus": "PLANNING ACTIVE PAUSED COMPLETED ARCHIVED",
    "ProjectType": (
        "WEB_APPLICATION DATA_PIPELINE AI_ANALYSIS ML_MODEL DOCUMENTATION RESEARCH LIBRARY CLI CUSTOM"
    ),
    "ResourceType": "CPU MEMORY GPU DISK NETWORK API_QUOTA CUSTOM",
    "ResourceStatus": "AVAILABLE ALLOCATED EXHAUSTED OFFLINE",
    "SessionStatus": "INITIALIZING ACTIVE PAUSED COMPLETED ERROR CANCELLED",
    "OrchestrationMode": "SEQUENTIAL PARALLEL PRIORITY RESOURCE_AWARE",
    "ExecutionStatus": "PENDING RUNNING COMPLETED FAILED CANCELLED TIMEOUT",
}

# Data classes: what can be given by keyword, and what can be read besides.
DATA_CLASSES = {
    "WorkflowStep": (
        "name module action parameters dependencies run_if foreach trigger_rule priority resources timeout_s"
        " retry required isolation max_parallel env working_dir cache compensate",
        "",
    ),
    "Task": (
        "name module action parameters dependencies priority resources timeout_s retry isolation metadata id",
        "status result",
    ),
    "TaskResource": ("resource_type amount resource_id", ""),
    "TaskResult": ("success output error duration task_id status attempt started_at ended_at", ""),
    "ExecutionResult": ("task_name status result error start_time end_time duration", ""),
    "Resource": ("id name type capacity description limits", "allocated available status"),
    "ResourceAllocation": ("allocation_id resource_id requester_id amount expires_at", ""),
    "ResourceUsage": (
        "resource_id total_capacity allocated_amount available_amount allocation_count"
        " utilization_percentage peak_amount",
        "",
    ),
    "ResourceLimits": ("", ""),
    "Project": (
        "name description tasks resources path type status config owner version created_at updated_at",
        "",
    ),
    "ProjectTemplate": ("", ""),
    "OrchestrationSession": (
        "session_id name user_id mode max_parallel_tasks max_parallel_workflows timeout_seconds"
        " resource_requirements metadata status context",
        "from_dict",
    ),
    "OrchestrationContext": ("parameters history", ""),
}

# What a caller may pass, in this order; more is allowed by keyword only. `...` is a default of any value.
SIGNATURES = {
    "WorkflowStep.of": "function, /, **parameters",
    "Workflow": "name, *, parameters=None",
    "Workflow.step": "function, /, **parameters",
    "Workflow.map": "function, /, *, over, **parameters",
    "Workflow.run": "**parameters",
    "Workflow.start": "**parameters",
    "Workflow.save": "path",
    "Workflow.load": "path",
    "WorkflowManager": "config_dir=None",
    "WorkflowManager.create_workflow": "name, steps, description='', parameters=None, save=False",
    "WorkflowManager.load_workflow": "path",
    "WorkflowManager.get_workflow": "name",
    "WorkflowManager.list_workflows": "",
    "WorkflowManager.execute_workflow": "what, /, session_id=None, parameters=None, **more",
    "WorkflowManager.start_workflow": "what, /, session_id=None, parameters=None, **more",
    "WorkflowManager.validate_workflow": "what",
    "WorkflowManager.get_execution_status": "execution_id",
    "WorkflowManager.create_workflow_dag": "tasks",
    "WorkflowManager.validate_workflow_dependencies": "tasks",
    "WorkflowManager.get_workflow_execution_order": "tasks",
    "WorkflowManager.execute_parallel_workflow": "workflow",
    "WorkflowManager.get_performance_summary": "",
    "WorkflowDAG": "tasks=None",
    "WorkflowDAG.add_task": "task",
    "WorkflowDAG.add_dependency": "task, depends_on",
    "WorkflowDAG.validate_dag": "",
    "WorkflowDAG.get_execution_order": "",
    "WorkflowDAG.get_task_dependencies": "name",
    "WorkflowDAG.get_dependent_tasks": "name",
    "WorkflowDAG.get_task": "name",
    "WorkflowDAG.get_all_tasks": "",
    "WorkflowDAG.critical_path": "durations=None",
    "WorkflowDAG.visualize": "",
    "WorkflowDAG.to_dot": "",
    "WorkflowDAG.to_dict": "",
    "TaskOrchestrator": "max_workers=None",
    "TaskOrchestrator.submit_task": "task",
    "TaskOrchestrator.submit_tasks": "tasks",
    "TaskOrchestrator.execute_task": "task",
    "TaskOrchestrator.get_task": "task_id",
    "TaskOrchestrator.list_tasks": "status=...",
    "TaskOrchestrator.get_task_result": "task_id",
    "TaskOrchestrator.cancel_task": "task_id",
    "TaskOrchestrator.wait_for_completion": "timeout=None",
    "TaskOrchestrator.explain": "task_id",
    "TaskOrchestrator.get_execution_stats": "",
    "TaskOrchestrator.start_processing": "",
    "TaskOrchestrator.stop_execution": "",
    "TaskOrchestrator.__enter__": "",
    "ParallelExecutor": "max_workers=4, timeout=300.0",
    "ParallelExecutor.execute_tasks": "tasks, dependencies=..., timeout=None",
    "ParallelExecutor.execute_task_group": "tasks, timeout=None",
    "ParallelExecutor.wait_for_dependencies": "task, completed",
    "ParallelExecutor.shutdown": "wait=True",
    "ParallelExecutor.__enter__": "",
    "validate_workflow_dependencies": "tasks",
    "get_workflow_execution_order": "tasks",
    "ResourceManager": "",
    "ResourceManager.add_resource": "resource",
    "ResourceManager.remove_resource": "resource_id",
    "ResourceManager.get_resource": "resource_id",
    "ResourceManager.get_resource_by_name": "name",
    "ResourceManager.list_resources": "type_filter=None",
    "ResourceManager.allocate": "resource_id, requester_id, amount=1.0, wait_s=0, ttl_s=None",
    "ResourceManager.allocate_resources": "requester_id, requirements, wait_s=0, ttl_s=None",
    "ResourceManager.release": "allocation_id",
    "ResourceManager.deallocate_resources": "requester_id",
    "ResourceManager.get_usage": "resource_id",
    "ResourceManager.cleanup_expired_allocations": "",
    "OrchestrationEngine": (
        "config=None, *, state=None, durability='barrier', executor='local', max_workers=None, recover=True"
    ),
    "OrchestrationEngine.__enter__": "",
    "OrchestrationEngine.create_session": "user_id='system', **more",
    "OrchestrationEngine.get_session": "session_id",
    "OrchestrationEngine.list_sessions": "",
    "OrchestrationEngine.pause_session": "session_id",
    "OrchestrationEngine.resume_session": "session_id",
    "OrchestrationEngine.close_session": "session_id",
    "OrchestrationEngine.execute_workflow": "what, /, session_id=None, parameters=None, **more",
    "OrchestrationEngine.start_workflow": "what, /, session_id=None, parameters=None, **more",
    "OrchestrationEngine.execute_task": "task, session_id=None",
    "OrchestrationEngine.execute_project_workflow": "project, workflow",
    "OrchestrationEngine.execute_complex_workflow": "definition",
    "OrchestrationEngine.cancel": "run_id, kill=False",
    "OrchestrationEngine.pause": "run_id",
    "OrchestrationEngine.resume": "run_id",
    "OrchestrationEngine.retry": "run_id, from_step=None, parameters=None",
    "OrchestrationEngine.fork": "run_id, from_step, parameters=None, definition=None",
    "OrchestrationEngine.signal": "run_id, name, data=...",
    "OrchestrationEngine.recover": "",
    "OrchestrationEngine.explain": "run_id",
    "OrchestrationEngine.register_event_handler": "event, handler",
    "OrchestrationEngine.get_metrics": "",
    "OrchestrationEngine.get_system_status": "",
    "OrchestrationEngine.get_health_status": "",
    "OrchestrationEngine.health_check": "",
    "OrchestrationEngine.shutdown": "",
    "ProjectManager": "projects_root=None",
    "ProjectManager.create_project": (
        "name, type=..., description='', template=None, variables=None, path=None"
    ),
    "ProjectManager.get_project": "name",
    "ProjectManager.list_projects": "",
    "ProjectManager.update_project_status": "name, status",
    "ProjectManager.update_project": "name",
    "ProjectManager.check_project": "name",
    "ProjectManager.archive_project": "name",
    "ProjectManager.restore_project": "name",
    "DocumentationGenerator": "templates_dir=None",
    "DocumentationGenerator.scan": "path",
    "DocumentationGenerator.check": "path",
    "DocumentationGenerator.generate_all_documentation": "path",
    "get_mcp_tools": "",
    "get_mcp_tool_definitions": "tier='core'",
    "execute_mcp_tool": "tool_name, arguments=None, /, **params",
    "create_task": "name, module, action, **fields",
    "create_project": "name",
    "create_workflow_steps": "steps",
    "execute_workflow": "what, /, session_id=None, parameters=None, **more",
    "execute_task": "task, session_id=None",
    "configure": "**options",
    "close_orchestration_engine": "",
    "current_task": "",
    "action": "*, effects='idempotent', resources=None, timeout_s=None, isolation=None, name=None",
}

SINGLETONS = (
    "get_workflow_manager",
    "get_task_orchestrator",
    "get_project_manager",
    "get_resource_manager",
    "get_documentation_generator",
    "get_orchestration_engine",
)

# What can be read from objects of these classes.
ATTRIBUTES = {
    "WorkflowExecution": (
        "execution_id workflow_name status parameters results tasks error started_at ended_at duration success"
        " to_dict __getitem__"
    ),
    "WorkflowDAG": "tasks",
    "ParallelExecutor": "max_workers default_timeout",
    "WorkflowStep": "of options to_dict",
    "Workflow": "__enter__ __exit__",
}

ERRORS = {
    "CodomyrmexError": Exception,
    "ValidationError": exceptions.CodomyrmexError,
    "WorkflowNotFound": ValueError,
    "TaskNotFound": exceptions.CodomyrmexError,
    "ActionNotFound": exceptions.CodomyrmexError,
    "IllegalTransition": exceptions.CodomyrmexError,
    "RunFailed": exceptions.CodomyrmexError,
    "ResourceRefused": exceptions.CodomyrmexError,
    "Conflict": exceptions.CodomyrmexError,
    "NotResumable": exceptions.CodomyrmexError,
    "StoreError": exceptions.CodomyrmexError,
    "EngineForked": exceptions.CodomyrmexError,
    "DAGValidationError": exceptions.ValidationError,
    "CycleDetectedError": exceptions.ValidationError,
}

NAMES = sorted(
    {
        name.partition(".")[0]
        for name in (*SIGNATURES, *ENUMS, *DATA_CLASSES, *SINGLETONS, *ATTRIBUTES, *ERRORS)
    }
)


def built(name: str) -> bool:
    return name not in NOT_BUILT and name.partition(".")[0] not in NOT_BUILT


def find(name: str) -> Any:
    head, _, rest = name.partition(".")
    found = getattr(PROJECT, head)
    return getattr(found, rest) if rest else found


@pytest.mark.parametrize("name", [name for name in NAMES if built(name)])
def test_a_name_of_the_contract_imports_from_the_project_and_from_the_top(name: str) -> None:
    assert name in PROJECT.__all__
    short, found = getattr(codomyrmex, name), find(name)
    # The module `current_task` shadows the function of that name, so it can be called itself.
    assert short is found or (inspect.ismodule(short) and callable(short))


def test_every_exported_name_is_there() -> None:
    assert [name for name in PROJECT.__all__ if not hasattr(PROJECT, name)] == []


@pytest.mark.parametrize("name", NOT_BUILT)
def test_what_is_there_does_not_stand_in_the_list_of_what_is_not(name: str) -> None:
    head, _, rest = name.partition(".")
    there = hasattr(PROJECT, head) and (not rest or hasattr(getattr(PROJECT, head), rest))
    assert not there, f"{name} is built: take it off NOT_BUILT"


def test_the_list_of_what_is_not_built_names_only_what_the_contract_has() -> None:
    assert [name for name in NOT_BUILT if name not in SIGNATURES and name not in NAMES] == []


@pytest.mark.parametrize("name", [name for name in ENUMS if built(name)])
def test_an_enum_has_its_members_in_order_with_lower_case_values(name: str) -> None:
    enum = find(name)
    assert issubclass(enum, Enum)
    assert [member.name for member in enum] == ENUMS[name].split()
    assert [member.value for member in enum] == [member.lower() for member in ENUMS[name].split()]


def test_priorities_are_ordered() -> None:
    low, *middle, critical = PROJECT.TaskPriority
    assert all(low < each < critical and critical > each > low for each in middle)
    assert max(critical, low) is max(low, critical) is critical
    assert low <= low <= critical >= critical


@pytest.mark.parametrize("name", [name for name in DATA_CLASSES if built(name)])
def test_a_data_class_takes_its_fields_by_keyword_and_gives_itself_as_a_mapping(name: str) -> None:
    made: Any = find(name)
    fields, more = (text.split() for text in DATA_CLASSES[name])
    assert dataclasses.is_dataclass(find(name))
    parameters = {each.name for each in parameters_of(made)}
    assert [field for field in fields if field not in parameters] == []
    assert [each for each in (*more, "to_dict") if not hasattr(made, each)] == []
    for field in dataclasses.fields(made):
        if re.fullmatch(r"(list|dict)\[.*\]", str(field.type)):
            assert field.default_factory in (list, dict), f"{field.name} defaults to empty"


@pytest.mark.parametrize("name", [name for name in SIGNATURES if built(name)])
def test_a_call_takes_its_parameters_in_order_with_their_defaults(name: str) -> None:
    wanted = parameters_of(eval(f"lambda {SIGNATURES[name]}: None"))
    given = parameters_of(find(name))
    if "." in name and inspect.isfunction(find(name)):
        given = given[1:]  # self
    positional = [each for each in wanted if each.kind in POSITIONAL]
    assert [each.name for each in given if each.kind in POSITIONAL][: len(positional)] == [
        each.name for each in positional
    ]
    by_name = {each.name: each for each in given}
    for each in wanted:
        if each.kind is inspect.Parameter.VAR_KEYWORD:
            assert any(other.kind is each.kind for other in given), f"**{each.name}"
            continue
        there = by_name[each.name]
        if each.kind is inspect.Parameter.POSITIONAL_ONLY:
            assert there.kind is each.kind
        if each.default is ...:
            assert there.default is not inspect.Parameter.empty
        else:
            assert there.default == each.default, each.name
    for other in given[len(positional) :]:
        assert other.kind not in POSITIONAL or other.default is not inspect.Parameter.empty


POSITIONAL = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)


def parameters_of(function: Callable[..., Any]) -> list[inspect.Parameter]:
    return list(inspect.signature(function).parameters.values())


@pytest.mark.parametrize("name", ATTRIBUTES)
def test_an_object_has_what_is_read_from_it(name: str) -> None:
    made = find(name)
    source = inspect.getsource(made)
    missing = [
        each for each in ATTRIBUTES[name].split() if not hasattr(made, each) and f"self.{each}" not in source
    ]
    assert missing == []


@pytest.mark.parametrize("name", ERRORS)
def test_an_error_stands_under_the_one_base(name: str) -> None:
    error = find(name)
    assert issubclass(error, ERRORS[name])
    assert name == "CodomyrmexError" or issubclass(error, exceptions.CodomyrmexError)


@pytest.fixture
def shared_engine(tmp_path: Path) -> Iterator[None]:
    PROJECT.configure(state=tmp_path / "state", cpu_count=2)
    try:
        yield
    finally:
        PROJECT.close_orchestration_engine()
        PROJECT.configure()


@pytest.mark.usefixtures("shared_engine")
@pytest.mark.parametrize("name", [name for name in SINGLETONS if built(name)])
def test_a_singleton_is_one_object_for_sixteen_threads_at_once(name: str) -> None:
    get, found = find(name), []
    start = Barrier(16)

    def ask() -> None:
        start.wait()
        found.append(get())

    threads = [Thread(target=ask) for _ in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 16
    assert all(each is found[0] for each in found)
    assert get() is found[0]


@pytest.mark.usefixtures("shared_engine")
def test_the_shared_parts_belong_to_one_engine_and_a_closed_one_is_followed_by_another() -> None:
    engine = PROJECT.get_orchestration_engine()
    assert PROJECT.get_workflow_manager() is engine.workflows
    assert PROJECT.get_task_orchestrator() is engine.tasks
    with pytest.raises(exceptions.SettingsError, match="open already"):
        PROJECT.configure(state=":memory:")
    PROJECT.close_orchestration_engine()
    assert PROJECT.get_orchestration_engine() is not engine


@pytest.mark.usefixtures("shared_engine")
def test_the_functions_run_on_the_shared_engine() -> None:
    result = PROJECT.execute_task({"module": "json", "action": "dumps", "parameters": {"obj": [1]}})
    assert result["success"]
    assert result["result"] == "[1]"
    assert PROJECT.get_task_orchestrator().get_task(result.task_id).status == "completed"
    steps = PROJECT.create_workflow_steps(
        [{"name": "a", "module": "json", "action": "dumps", "parameters": {"obj": "${parameters.what}"}}]
    )
    manager = PROJECT.get_workflow_manager()
    assert manager.create_workflow("dumping", steps, parameters={"what": {"type": "integer"}})
    assert PROJECT.execute_workflow("dumping", what=3).results["a"] == "3"
