"""Tasks submitted alone, what they return, and what a parallel execution returns: plain data.

Layer: beside `workflow`; no I/O, no threads (an id is made by chance when a `Task` is, so that another one
can name it before either is submitted). A `Task` speaks the words of a step: its parameters are those of a
step (`${env.X}` is a reference, `$${` a literal), its retry and its isolation too.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import KW_ONLY, InitVar, dataclass, field, fields, replace
from datetime import datetime
from enum import Enum
from typing import Any, ClassVar

from codomyrmex.exceptions import Fault, ValidationError
from codomyrmex.logistics.orchestration.project.amounts import read_rate_bps
from codomyrmex.logistics.orchestration.project.identifiers import new_id
from codomyrmex.logistics.orchestration.project.states import ResourceType, TaskPriority, TaskStatus
from codomyrmex.logistics.orchestration.project.step_resources import MACHINE_WORDS, WORD_OF_ID
from codomyrmex.logistics.orchestration.project.workflow_step import WorkflowStep


class ExecutionStatus(str, Enum):
    """What became of a task given to a `ParallelExecutor`."""

    PENDING = "pending"
    """It has not begun."""
    RUNNING = "running"
    """It is under way."""
    COMPLETED = "completed"
    """It returned; its result is there."""
    FAILED = "failed"
    """It raised, or its process died."""
    CANCELLED = "cancelled"
    """It never began, because something it needs did not complete or the time was over; or it gave up."""
    TIMEOUT = "timeout"
    """It took longer than it was given. A thread is asked to stop and may still be at it."""


class ResultMapping(Mapping[str, Any]):
    """A result that also reads as a mapping, by the keys of the original API and by those of `to_dict()`."""

    __slots__ = ()
    RETURNED: ClassVar[str] = "result"
    """The field that holds what the action returned."""

    def to_dict(self) -> dict[str, Any]:
        """Every field; instants as ISO 8601 texts."""
        return _plain_fields(self)

    def original_keys(self) -> dict[str, Any]:
        """`success`, `error`, `result`, `execution_time`."""
        fields = {
            "success": "success",
            "error": "error",
            "result": self.RETURNED,
            "execution_time": "duration",
        }
        return {key: getattr(self, field) for key, field in fields.items()}

    def __getitem__(self, key: str) -> Any:
        known = self.original_keys()
        return known[key] if key in known else self.to_dict()[key]

    def __iter__(self) -> Iterator[str]:
        return iter({**self.original_keys(), **self.to_dict()})

    def __len__(self) -> int:
        return len({**self.original_keys(), **self.to_dict()})


@dataclass(slots=True)
class TaskResource:
    """How much of what a task needs.

    Cores for `cpu`; bytes (or text like `1GiB`) for `memory` and `disk`, the same per second for `network`;
    devices for `gpu`; units for `api_quota` and `custom`. `resource_id` names a resource of the state, which
    `custom` needs; without it the machine's own is meant, and for `api_quota` the quota `api-global`.
    """

    resource_type: ResourceType | str
    amount: float | str = 1
    resource_id: str | None = None

    def to_dict(self) -> dict[str, Any]:
        """The three fields."""
        kind = _word(self.resource_type)
        return {"resource_type": kind, "amount": self.amount, "resource_id": self.resource_id}


@dataclass(slots=True, kw_only=True, eq=False)
class TaskResult(ResultMapping):
    """What became of a task. `duration` is seconds, `error` one line; instants are aware UTC."""

    RETURNED: ClassVar[str] = "output"

    success: bool = False
    output: Any = None
    error: str | None = None
    duration: float | None = None
    task_id: str | None = None
    status: TaskStatus | None = None
    attempt: int = 0
    started_at: datetime | None = None
    ended_at: datetime | None = None


@dataclass(slots=True, kw_only=True, eq=False)
class ExecutionResult(ResultMapping):
    """What became of one task of a `ParallelExecutor`. `duration` is seconds; instants are aware UTC."""

    task_name: str
    status: ExecutionStatus = ExecutionStatus.PENDING
    result: Any = None
    error: str | None = None
    start_time: datetime | None = None
    end_time: datetime | None = None
    duration: float | None = None

    @property
    def success(self) -> bool:
        """True where it is COMPLETED."""
        return self.status is ExecutionStatus.COMPLETED


@dataclass(slots=True, eq=False)
class Task:
    """One piece of work to submit alone; `dependencies` are the ids of other tasks.

    `function` may stand in place of `module` and `action`. `resources` is a list of `TaskResource`, or a
    mapping as in a workflow file (`{"cpu": 2, "memory": "1GiB", "licence": 1}`). `status` and `result` are set by the
    orchestrator: the status when it is asked for, the result when the task has ended. `timeout`,
    `max_retries` and `retry_count` are the old spellings of `timeout_s` and `retry`.
    """

    name: str
    module: str = ""
    action: str = ""
    parameters: dict[str, Any] = field(default_factory=dict)
    dependencies: list[str] = field(default_factory=list)
    priority: TaskPriority = TaskPriority.NORMAL
    resources: list[TaskResource] = field(default_factory=list)
    timeout_s: float | None = None
    retry: int | dict[str, Any] | None = None
    isolation: str | None = None
    metadata: dict[str, Any] = field(default_factory=dict)
    id: str = field(default_factory=new_id)
    _: KW_ONLY
    function: Callable[..., Any] | None = field(default=None, repr=False)
    status: TaskStatus = field(default=TaskStatus.PENDING)
    result: TaskResult | None = field(default=None, repr=False)
    timeout: InitVar[float | None] = None
    max_retries: InitVar[int | None] = None
    retry_count: InitVar[int | None] = None

    def __post_init__(self, timeout: float | None, max_retries: int | None, retry_count: int | None) -> None:
        if self.timeout_s is None:
            self.timeout_s = timeout
        if self.retry is None:
            self.retry = max_retries if max_retries is not None else retry_count
        if callable(self.action) and self.function is None:
            self.function, self.action = self.action, ""
        given: list[Any] = self.dependencies
        self.dependencies = [each.id if isinstance(each, Task) else each for each in given]

    @classmethod
    def of(cls, what: Task | Mapping[str, Any]) -> Task:
        """`what` itself, or the task of a mapping with the names of the fields.

        Raises `ValidationError` with every fault.
        """
        if isinstance(what, Task):
            return what
        if not isinstance(what, Mapping):
            raise ValidationError([Fault(message="a task is a Task or a mapping", got=repr(what))])
        known = {each.name for each in fields(cls)} | set(_OLD_SPELLINGS)
        unknown = [name for name in what if name not in known]
        faults = [_unknown_key(name, known) for name in unknown]
        if not isinstance(what.get("action", ""), str) and not callable(what["action"]):
            faults.append(Fault(message="action must be the name of a function", path="action"))
        if faults:
            raise ValidationError(faults, subject=f"task {what.get('name')!r}")
        given = {name: value for name, value in what.items() if name not in ("status", "result")}
        return cls(**{"name": _default_name(given), **given})

    def to_step(self, *, cpu: float | None = None) -> WorkflowStep:
        """The step that does this task; `cpu` is what it claims unless it says so itself.

        Raises `ValidationError` for resources that cannot be asked for like that.
        """
        resources = self._amounts()
        if cpu is not None:
            resources.setdefault("cpu", cpu)
        options: dict[str, Any] = {
            "priority": TaskPriority(self.priority).value if self.priority is not None else "normal",
            "resources": resources,
            "timeout_s": self.timeout_s,
            "retry": self.retry,
        }
        if self.isolation is not None:
            options["isolation"] = self.isolation
        if self.function is not None:
            try:
                step = WorkflowStep.of(self.function, **self.parameters)
            except TypeError as error:
                fault = Fault(message=str(error), path="function")
                raise ValidationError([fault], subject=f"task {self.name!r}") from None
            return step.options(name=self.name, **options)
        return WorkflowStep(self.name, self.module, self.action, dict(self.parameters), **options)

    def to_dict(self) -> dict[str, Any]:
        """Every field but the function; `Task.of` reads it again, as a task that has not begun."""
        found = {each.name: getattr(self, each.name) for each in fields(self) if each.name != "function"}
        found["priority"] = TaskPriority(self.priority).value
        found["status"] = self.status.value
        found["resources"] = self._resource_form()
        found["result"] = self.result.to_dict() if self.result is not None else None
        return found

    def _resource_form(self) -> Any:
        if isinstance(self.resources, Mapping):
            return {_word(name): amount for name, amount in self.resources.items()}
        return [_resource(each).to_dict() for each in self.resources]

    def _amounts(self) -> dict[str, Any]:
        """What the task asks for, as a step says it."""
        if isinstance(self.resources, Mapping):
            return {_word(name): amount for name, amount in self.resources.items()}
        found: dict[str, Any] = {}
        faults = []
        for number, each in enumerate(self.resources):
            asked = _resource(each)
            try:
                name, amount = _asked(asked)
                if name in found:
                    raise _NotAsked(f"{name} is asked for twice")
                found[name] = amount
            except _NotAsked as error:
                faults.append(replace(error.fault, path=f"resources[{number}]"))
        if faults:
            raise ValidationError(faults, subject=f"task {self.name!r}")
        return found


class _NotAsked(Exception):
    """A `TaskResource` that says nothing that a step could say."""

    def __init__(self, message: str, **more: Any) -> None:
        super().__init__(message)
        self.fault = Fault(message=message, **more)


_SIZED = frozenset({ResourceType.MEMORY, ResourceType.DISK, ResourceType.NETWORK})


def _asked(asked: TaskResource) -> tuple[str, Any]:
    """The word of `resources` and the amount that a `TaskResource` stands for; raises `_NotAsked`."""
    word, name = _word(asked.resource_type), asked.resource_id
    try:
        kind = ResourceType(word)
    except ValueError:
        if name is None:
            return word, asked.amount  # as a step says it: the name of a resource
        near = _close_to(word, [each.value for each in ResourceType])
        raise _NotAsked(
            f"unknown type of resource {word!r}", code="wrong_value", got=word, nearest=near
        ) from None
    if name is None:
        if kind is ResourceType.CUSTOM:
            advice = "name it: TaskResource('custom', 1, 'licence')"
            raise _NotAsked("which one is asked for?", code="missing_key", advice=advice)
        return word, asked.amount
    if WORD_OF_ID.get(name) == word:
        return word, asked.amount
    if name in WORD_OF_ID or (name in MACHINE_WORDS and name != word):
        raise _NotAsked(f"{name!r} is no resource of type {word!r}", nearest=WORD_OF_ID.get(name))
    if isinstance(asked.amount, str) and kind in _SIZED:
        try:
            return name, read_rate_bps(asked.amount)
        except ValueError as error:
            raise _NotAsked(str(error), code="wrong_value") from None
    return name, asked.amount


def _word(kind: ResourceType | str) -> str:
    return str(kind.value) if isinstance(kind, Enum) else str(kind)


_OLD_SPELLINGS = ("timeout", "max_retries", "retry_count")


def create_task(name: str, module: str, action: str, **fields: Any) -> Task:
    """A `Task`; `fields` are its other fields, and anything else raises `ValidationError`."""
    return Task.of({"name": name, "module": module, "action": action, **fields})


def create_workflow_steps(steps: Iterable[WorkflowStep | Mapping[str, Any]]) -> list[WorkflowStep]:
    """The steps of mappings with the fields of `WorkflowStep`, in order; steps are kept as they are.

    Raises `ValidationError` with a fault for each mapping that is no step.
    """
    made: list[WorkflowStep] = []
    faults: list[Fault] = []
    for number, each in enumerate(steps):
        try:
            made.append(each if isinstance(each, WorkflowStep) else WorkflowStep(**each))
        except TypeError as error:
            text = str(error).replace("WorkflowStep.__init__()", "a step")
            faults.append(Fault(message=text, path=f"steps[{number}]"))
    if faults:
        raise ValidationError(faults, subject="the list of steps")
    return made


def _default_name(given: Mapping[str, Any]) -> str:
    """The name of a task that has none: that of its action."""
    action = given.get("action") or given.get("function")
    text = action if isinstance(action, str) else getattr(action, "__name__", "")
    last = str(text).rpartition(".")[2].rpartition(":")[2]
    return last if last.isidentifier() else "task"


def _resource(each: Any) -> TaskResource:
    return TaskResource(**each) if isinstance(each, Mapping) else each


def _unknown_key(name: Any, known: Iterable[str]) -> Fault:
    message = f"a task has no {name!r}"
    return Fault(
        message=message, path=str(name), code="unknown_key", nearest=_close_to(str(name), list(known))
    )


def _close_to(name: str, known: list[str]) -> str | None:
    from difflib import get_close_matches

    return next(iter(get_close_matches(name, known, n=1)), None)


def _plain_fields(result: Any) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for each in fields(result):
        value = getattr(result, each.name)
        if isinstance(value, datetime):
            value = value.isoformat()
        elif isinstance(value, Enum):
            value = value.value
        found[each.name] = value
    return found
