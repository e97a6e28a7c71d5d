"""Workflows made in Python: `WorkflowStep`, and the `Workflow` builder with its `Step` handles.

Layer: pure (what runs a workflow is looked up when it is asked for). Nothing is called while a workflow is
built: a step holds the name of its action, and a handle's `.output["a"][0]` in another's parameters is
written as `${steps.x.output.a[0]}`, which makes the dependency. `to_document()` gives the canonical form
that files give too (see `workflow_document`); the functions themselves stay beside it in `functions`, so
closures run in memory only.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import KW_ONLY, InitVar, dataclass, field, fields, replace
from types import TracebackType
from typing import Any, Self

_PROJECT = "codomyrmex.logistics.orchestration.project"
_CO_COROUTINE = 0x80  # inspect.CO_COROUTINE, without the cost of inspect


@dataclass(slots=True)
class WorkflowStep:
    """A step, in the words of a workflow file: `resources={"cpu": 2, "memory": "1GiB"}`, `retry=2`.

    `timeout`, `max_retries` and `retry_count` are the old spellings of `timeout_s` and `retry`.
    """

    name: str
    module: str
    action: str
    parameters: dict[str, Any] = field(default_factory=dict)
    dependencies: list[str] = field(default_factory=list)
    _: KW_ONLY
    run_if: str | None = None
    foreach: Any = None
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
        found = {"name": self.name, "module": self.module, "action": self.action}
        for name, default in _OPTION_DEFAULTS:
            value = getattr(self, name)
            if value is not None and value != default:
                found[name] = value
        return found


_FIELD_DEFAULTS = {
    each.name: each.default_factory() if callable(each.default_factory) else each.default
    for each in fields(WorkflowStep)
}
_OPTION_DEFAULTS = tuple(
    (name, default)
    for name, default in _FIELD_DEFAULTS.items()
    if name not in ("name", "module", "action", "function")
)


class Reference:
    """`${...}` in the making: `steps.x.output` of a handle, or `parameters.p`; `[...]` goes deeper.

    Used as a whole value it keeps its type; in an f-string it becomes text.
    """

    __slots__ = ("_path", "_root")

    def __init__(self, root: Step | str, path: tuple[str | int, ...] = ()) -> None:
        self._root = root
        self._path = path

    def __getitem__(self, key: str | int) -> Reference:
        if not isinstance(key, (str, int)):
            raise TypeError(f"a reference goes deeper by a name or a number, got {key!r}")
        return Reference(self._root, (*self._path, key))

    def __iter__(self) -> Any:
        raise TypeError("an output is not there yet: fan out over it with Workflow.map(function, over=...)")

    def __str__(self) -> str:
        if isinstance(self._root, Step):
            self._root.fix_name()
        return self.render()

    __repr__ = __str__

    def render(self) -> str:
        """The text of the reference as it stands now: a step may still be renamed."""
        root = self._root
        if isinstance(root, Step):
            root = f"steps{_path_text(root.name)}.output"
        return "${" + root + "".join(map(_path_text, self._path)) + "}"


class Step:
    """A step as its builder holds it: `.output` stands for its result, `.options(...)` sets the rest."""

    __slots__ = ("_name_is_fixed", "definition", "workflow")

    def __init__(self, workflow: Workflow, definition: WorkflowStep) -> None:
        self.workflow = workflow
        self.definition = definition
        self._name_is_fixed = False

    @property
    def name(self) -> str:
        return self.definition.name

    @property
    def output(self) -> Reference:
        """What the step will return; using it in another step's parameters makes the dependency."""
        return Reference(self)

    def fix_name(self) -> None:
        """The name stands in a text now, so it can no longer change."""
        self._name_is_fixed = True

    def options(self, **changes: Any) -> Self:
        """Change the step in place: every field of `WorkflowStep`, and the short forms `needs` and `timeout`.

        `dependencies` takes handles as well as names. Returns the handle.
        """
        changes = long_options(changes)
        name = changes.get("name", self.name)
        if name != self.name and self._name_is_fixed:
            raise ValueError(f"step {self.name!r} cannot be renamed: its name already stands in a text")
        if "dependencies" in changes:
            parents = changes["dependencies"]
            named = [parents] if isinstance(parents, (str, Step)) else parents
            changes["dependencies"] = [each.name if isinstance(each, Step) else each for each in named]
            for parent in named:
                if isinstance(parent, Step):
                    parent.fix_name()
        self.workflow.names.discard(self.name)
        self.definition = replace(self.definition, **changes)
        self.workflow.names.add(self.name)
        return self

    def __repr__(self) -> str:
        return f"<Step {self.name!r} of {self.workflow.name!r}>"


class Workflow:
    """A workflow made in Python; it says the same as a workflow file and can be saved as one.

    `parameters` holds declarations (`{"root": {"type": "path", "default": "."}}`). As a context manager it
    checks itself when the block ends: `ValidationError` lists every fault.
    """

    item = Reference("item")
    index = Reference("index")

    def __init__(
        self,
        name: str,
        *,
        description: str = "",
        version: str | None = None,
        labels: Mapping[str, str] | None = None,
        parameters: Mapping[str, Mapping[str, Any]] | None = None,
        outputs: Mapping[str, Any] | None = None,
        env: Mapping[str, str] | None = None,
        working_dir: str | None = None,
        python: str | None = None,
        max_parallel: int | None = None,
        fail_fast: bool = False,
        steps: Iterable[WorkflowStep] = (),
    ) -> None:
        self.name = name
        self.description = description
        self.version = version
        self.labels = dict(labels or {})
        self.declarations = dict(parameters or {})
        self.outputs = dict(outputs or {})
        self.env = dict(env or {})
        self.working_dir = working_dir
        self.python = python
        self.max_parallel = max_parallel
        self.fail_fast = fail_fast
        self.isolation: str | None = "thread"
        self.handles: list[Step] = []
        self.names: set[str] = set()
        for step in steps:
            self.add(step)

    @property
    def steps(self) -> list[WorkflowStep]:
        """The steps in the order they were added."""
        return [handle.definition for handle in self.handles]

    @property
    def functions(self) -> dict[str, Callable[..., Any]]:
        """The function of each step that was made from one: what a run in this process calls."""
        return {step.name: step.function for step in self.steps if step.function is not None}

    @property
    def parameters(self) -> dict[str, Reference]:
        """A reference to each declared parameter: `wf.step(f, root=wf.parameters["root"])`."""
        return {name: Reference("parameters", (name,)) for name in self.declarations}

    def add(self, step: WorkflowStep) -> Step:
        """Add a step as it is; the handle that others refer to it by."""
        handle = Step(self, step)
        self.handles.append(handle)
        self.names.add(step.name)
        return handle

    def step(self, function: Callable[..., Any] | str, /, **parameters: Any) -> Step:
        """Add a step that calls `function` (or `"module:action"`) once with these parameters.

        A name that is taken gets a number: `parse`, `parse_2`.
        """
        if isinstance(function, str):
            module, _, action = function.rpartition(":")
            step = WorkflowStep(step_name(action), module, action, parameters)
        else:
            step = WorkflowStep.of(function, **parameters)
        step.name = self._free_name(step.name)
        return self.add(step)

    def map(self, function: Callable[..., Any] | str, /, *, over: Any, **parameters: Any) -> Step:
        """Add a step that calls `function` once for each item of `over`; its output is the list, in order.

        The item is passed as the first parameter of the function that is not given, unless `Workflow.item`
        stands in one that is.
        """
        handle = self.step(function, **parameters)
        step = handle.definition
        step.foreach = over.output if isinstance(over, Step) else over
        if not mentions(step.parameters, "item") and step.function is not None:
            free = next((name for name in positional_names(step.function) if name not in parameters), None)
            if free is not None:
                step.parameters = {free: self.item, **parameters}
        return handle

    def to_document(self) -> dict[str, Any]:
        """The canonical document (see `workflow_document`); ValidationError lists every fault."""
        from codomyrmex.logistics.orchestration.project.workflow_check import checked_document

        return checked_document(self.to_dict(), isolation=self.isolation, subject=f"workflow {self.name!r}")

    def to_dict(self) -> dict[str, Any]:
        """The workflow as a file has it, not checked; references are written out."""
        tree: dict[str, Any] = {"codomyrmex": 1, "name": self.name}
        for key in _WORKFLOW_KEYS:
            value = getattr(self, key)
            if value:
                tree["parameters" if key == "declarations" else key] = render(value)
        tree["steps"] = [render(step.to_dict()) for step in self.steps]
        return tree

    def save(self, path: Any) -> None:
        """Write the workflow file: YAML, or JSON for a name that ends in `.json`.

        ValidationError when it has faults.
        """
        from codomyrmex.logistics.orchestration.project.workflow_file import save_path

        save_path(self.to_document(), path)

    @classmethod
    def load(cls, path: Any) -> Workflow:
        """The workflow of a file; its steps name their actions, and run isolated as those of a file do."""
        from codomyrmex.logistics.orchestration.project.workflow_file import load_path

        return cls.from_document(load_path(path).document)

    @classmethod
    def from_document(cls, document: Mapping[str, Any]) -> Workflow:
        """The workflow of a canonical document."""
        from codomyrmex.logistics.orchestration.project.workflow_document import (
            TaggedParameters,
            has_tags,
            long_form,
        )

        tree = long_form(document)
        for step in tree["steps"]:
            if has_tags(step.get("parameters")):
                step["parameters"] = TaggedParameters(step["parameters"])
        options = {key: tree[key] for key in _WORKFLOW_KEYS if key in tree}
        steps = [WorkflowStep(**step) for step in tree["steps"]]
        workflow = cls(tree["name"], parameters=tree.get("parameters"), steps=steps, **options)
        workflow.isolation = document.get("isolation")
        return workflow

    def run(self, /, **parameters: Any) -> Any:
        """Run to the end on the shared engine and return the `WorkflowExecution`.

        `RunFailed` if it did not complete.
        """
        from codomyrmex.exceptions import RunFailed

        execution = _engine().execute_workflow(self, parameters=parameters)
        if not execution.success:
            raise RunFailed(f"run {execution.execution_id} of {self.name!r}: {execution.error}", execution)
        return execution

    def start(self, /, **parameters: Any) -> Any:
        """Start on the shared engine and return the `WorkflowExecution` at once."""
        return _engine().start_workflow(self, parameters=parameters)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is None:
            self.to_document()

    def __repr__(self) -> str:
        return f"<Workflow {self.name!r} of {len(self.handles)} steps>"

    def _free_name(self, name: str) -> str:
        number = 2
        free = name
        while free in self.names:
            free = f"{name}_{number}"
            number += 1
        return free


_WORKFLOW_KEYS = (
    "version", "description", "labels", "declarations", "outputs", "env", "working_dir", "python",
    "max_parallel", "fail_fast",
)  # fmt: skip


def _engine() -> Any:
    """The shared engine, which stands above this layer.

    Looked up by name so that nothing here depends on it.
    """
    from importlib import import_module

    return import_module(f"{_PROJECT}.orchestration_engine").get_orchestration_engine()


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
        module = getattr(function, "__globals__", {}).get("__file__", module)
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
    return [each.name for each in inspect.signature(function).parameters.values() if each.kind in kinds]


def mentions(value: Any, root: str) -> bool:
    """Whether a reference to `${item}` or `${index}` (`root`) stands anywhere in a tree."""
    if isinstance(value, Mapping):
        return any(mentions(each, root) for each in value.values())
    if isinstance(value, (list, tuple)):
        return any(mentions(each, root) for each in value)
    text = value.render() if isinstance(value, Reference) else value
    return isinstance(text, str) and f"${{{root}" in text


def render(value: Any) -> Any:
    """A tree with its handles and references written out as `${...}`; other values stay as they are."""
    if isinstance(value, Reference):
        return value.render()
    if isinstance(value, Step):
        return value.output.render()
    if type(value) is dict:
        return {key: render(each) for key, each in value.items()}
    if type(value) is list:
        return [render(each) for each in value]
    if type(value) is tuple:
        return tuple(render(each) for each in value)
    return value


def _path_text(part: str | int) -> str:
    if isinstance(part, int):
        return f"[{part}]"
    if part.isidentifier() and part.isascii():
        return f".{part}"
    escaped = part.replace("\\", "\\\\").replace("'", "\\'")
    return f"['{escaped}']"
