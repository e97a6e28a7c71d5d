"""`WorkflowStep`: one step of a workflow made in Python, and how a function is named so that it is found again.

Layer: pure. A step calls an action (`module` and `action`), or is one of the kinds that wait: `workflow`,
`approval`, `wait_for`, `sleep`. It holds what a workflow file says of it, in the same words; whether that
is right is checked when its workflow is (`workflow_check`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import KW_ONLY, InitVar, dataclass, field, fields, replace
from typing import TYPE_CHECKING, Any, Self

from codomyrmex.logistics.orchestration.project.workflow_kinds import COMPENSATION, ITEM_FAILURES

if TYPE_CHECKING:
    from codomyrmex.logistics.orchestration.project.workflow import Workflow

_CO_COROUTINE = 0x80  # inspect.CO_COROUTINE, without the cost of inspect


@dataclass(slots=True)
class WorkflowStep:
    """A step, in the words of a workflow file: `resources={"cpu": 2, "memory": "1GiB"}`, `retry=2`.

    `timeout`, `max_retries` and `retry_count` are the old spellings of `timeout_s` and `retry`. `workflow`
    is the name of a workflow or a `Workflow`; `compensate` a step (its name is not used), a mapping as in a
    file, or a function, which is then given the output of the step as its first parameter.
    """

    name: str
    module: str = ""
    action: str = ""
    parameters: dict[str, Any] = field(default_factory=dict)
    dependencies: list[str] = field(default_factory=list)
    _: KW_ONLY
    workflow: str | Workflow | None = None
    approval: str | dict[str, Any] | None = None
    wait_for: str | dict[str, Any] | None = None
    sleep: float | str | None = None
    run_if: str | None = None
    foreach: Any = None
    on_item_failure: str = ITEM_FAILURES[0]
    trigger_rule: str = "all_success"
    priority: str = "normal"
    resources: dict[str, Any] = field(default_factory=dict)
    timeout_s: float | None = None
    retry: int | dict[str, Any] | None = None
    required: bool = True
    isolation: str | None = None
    max_parallel: int | None = None
    env: dict[str, str] = field(default_factory=dict)
    working_dir: str | None = None
    python: str | None = None
    effects: str | None = None
    cache: bool | dict[str, Any] | None = None
    compensate: WorkflowStep | dict[str, Any] | Callable[..., Any] | None = None
    description: str = ""
    function: Callable[..., Any] | None = field(default=None, repr=False, compare=False)
    timeout: InitVar[float | None] = None
    max_retries: InitVar[int | None] = None
    retry_count: InitVar[int | None] = None

    def __post_init__(self, timeout: float | None, max_retries: int | None, retry_count: int | None) -> None:
        if self.timeout_s is None:
            self.timeout_s = timeout
        if self.retry is None:
            self.retry = max_retries if max_retries is not None else retry_count
        if callable(self.compensate):
            self.compensate = _undoing(self.compensate)

    @classmethod
    def of(cls, function: Callable[..., Any], /, **parameters: Any) -> Self:
        """The step that calls this function with these parameters; its name is the function's."""
        module, action = locate_function(function)
        isolation = "async" if is_coroutine_function(function) else None
        name = step_name(action)
        return cls(name, module, action, parameters, function=function, isolation=isolation)

    def options(self, **changes: Any) -> Self:
        """A copy with other options: every field above, and the short forms `needs` and `timeout`."""
        return replace(self, **long_options(changes))

    def to_dict(self) -> dict[str, Any]:
        """The step as a workflow file has it: what equals its default is left out."""
        found: dict[str, Any] = {"name": self.name}
        for name, default in _OPTION_DEFAULTS:
            value = getattr(self, name)
            if value is None or value == default:
                continue
            if name == "timeout_s" and isinstance(value, str):
                name = "timeout"
            elif name in _LISTED:
                value = as_lists(value)
            found[name] = value
        if not isinstance(self.workflow, (str, type(None))):
            found["workflow"] = self.workflow.name
        if isinstance(self.compensate, WorkflowStep):
            found[COMPENSATION] = self.compensate.to_dict()
            del found[COMPENSATION]["name"]
        return found


def _undoing(function: Callable[..., Any]) -> WorkflowStep:
    """The step that calls a function with what is to be undone."""
    names = positional_names(function)
    return WorkflowStep.of(function, **dict.fromkeys(names[:1], "${output}"))


_LISTED = frozenset({"foreach", "approval", "wait_for", "cache"})


def as_lists(value: Any) -> Any:
    """Tuples and ranges as lists, where a workflow file has nothing else."""
    if type(value) is tuple or type(value) is range:
        return [as_lists(each) for each in value] if type(value) is tuple else list(value)
    if type(value) is list:
        return [as_lists(each) for each in value]
    return {key: as_lists(each) for key, each in value.items()} if type(value) is dict else value


_FIELD_DEFAULTS = {
    each.name: each.default_factory() if callable(each.default_factory) else each.default
    for each in fields(WorkflowStep)
}
_OPTION_DEFAULTS = tuple(
    (name, default) for name, default in _FIELD_DEFAULTS.items() if name not in ("name", "function")
)


def step_options() -> frozenset[str]:
    """The names that `Step.options` takes."""
    return frozenset(_FIELD_DEFAULTS) | frozenset(_SHORT_OPTIONS)


def long_options(changes: Mapping[str, Any]) -> dict[str, Any]:
    """Options with `needs` and `timeout` spelt out; TypeError names one that no step has."""
    spelt = {_SHORT_OPTIONS.get(key, key): value for key, value in changes.items()}
    unknown = next((key for key in spelt if key not in _FIELD_DEFAULTS), None)
    if unknown is not None:
        raise TypeError(f"a step has no option {unknown!r}; it has {', '.join(sorted(_FIELD_DEFAULTS))}")
    return spelt


_SHORT_OPTIONS = {
    "needs": "dependencies",
    "timeout": "timeout_s",
    "with": "parameters",
    "max_retries": "retry",
}


def locate_function(function: Callable[..., Any]) -> tuple[str, str]:
    """Module and qualified name by which a function can be found again.

    A script's own are recorded as its file.
    """
    action = getattr(function, "__qualname__", None)
    module = getattr(function, "__module__", None)
    if not isinstance(action, str) or not isinstance(module, str):
        raise TypeError(f"a step is made from a function, got {function!r}; wrap it in one")
    if module == "__main__":
        file = getattr(function, "__globals__", {}).get("__file__")
        if isinstance(file, str) and not file.startswith("<"):  # `python -` has no file, but a name for it
            module = file
    return module, action


def is_coroutine_function(function: Callable[..., Any]) -> bool:
    code = getattr(function, "__code__", None)
    return code is not None and bool(code.co_flags & _CO_COROUTINE)


def step_name(action: str) -> str:
    """A step's name from an action's: the last part, `lambda` for a lambda."""
    last = action.rpartition(".")[2]
    return last if last.isidentifier() else "lambda"


def positional_names(function: Callable[..., Any]) -> list[str]:
    """The names of the parameters that can be given by position."""
    import inspect

    kinds = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    try:
        signature = inspect.signature(function)
    except ValueError:
        raise TypeError(
            f"{function!r} does not tell the names of its parameters; wrap it in a function of your own"
        ) from None
    return [each.name for each in signature.parameters.values() if each.kind in kinds]
