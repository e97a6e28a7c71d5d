"""`Workflow`: a workflow made in Python, step by step, each with a handle that others refer to it by.

Layer: pure (what runs a workflow is looked up when it is asked for). Nothing is called while a workflow is
built: a step holds the name of its action, and a handle's `.output["a"][0]` in another's parameters is
written as `${steps.x.output.a[0]}`, which makes the dependency. `to_document()` gives the canonical form
that files give too (see `workflow_document`); the functions themselves stay beside it in `functions`, and
workflows that are run as children in `children`, so closures run in memory only.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from types import TracebackType
from typing import Any, Self

from codomyrmex.logistics.orchestration.project.step_handles import Reference, Step, mentions, render
from codomyrmex.logistics.orchestration.project.workflow_kinds import compensation_name
from codomyrmex.logistics.orchestration.project.workflow_step import (
    WorkflowStep,
    as_lists,
    positional_names,
    step_name,
    step_options,
)

__all__ = ["Reference", "Step", "Workflow", "WorkflowStep", "step_options"]

_PROJECT = "codomyrmex.logistics.orchestration.project"
_Action = Callable[..., Any] | str


class Workflow:
    """A workflow made in Python; it says the same as a workflow file and can be saved as one.

    Steps of `on_failure` run when the run has failed, those of `finally_` at the end of every run.
    `parameters` holds declarations (`{"root": {"type": "path", "default": "."}}`). As a context manager it
    checks itself when the block ends: `ValidationError` lists every fault.
    """

    item = Reference("item")
    index = Reference("index")
    output = Reference("output")
    """In a compensation: what the step, or the item, returned."""

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
        timeout: float | str | None = None,
        concurrency: Mapping[str, str] | str | None = None,
        fail_fast: bool = False,
        steps: Iterable[WorkflowStep] = (),
        on_failure: Iterable[WorkflowStep] = (),
        finally_: Iterable[WorkflowStep] = (),
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
        self.timeout = timeout
        self.concurrency = dict(concurrency) if isinstance(concurrency, Mapping) else concurrency
        self.fail_fast = fail_fast
        self.isolation: str | None = "thread"
        self.handles: list[Step] = []
        self.failure_handles: list[Step] = []
        self.final_handles: list[Step] = []
        self.names: set[str] = set()
        for held, given in (
            (self.handles, steps),
            (self.failure_handles, on_failure),
            (self.final_handles, finally_),
        ):
            for step in given:
                self._hold(held, step)

    @property
    def steps(self) -> list[WorkflowStep]:
        """The steps in the order they were added, without those of `on_failure` and `finally_`."""
        return [handle.definition for handle in self.handles]

    @property
    def all_steps(self) -> list[WorkflowStep]:
        """The steps, then those of `on_failure`, then those of `finally_`."""
        return [each.definition for each in (*self.handles, *self.failure_handles, *self.final_handles)]

    @property
    def functions(self) -> dict[str, Callable[..., Any]]:
        """The function of each step that was made from one: what a run in this process calls.

        The function of a compensation has the name `STEP.compensate`.
        """
        found: dict[str, Callable[..., Any]] = {}
        for step in self.all_steps:
            if step.function is not None:
                found[step.name] = step.function
            if isinstance(step.compensate, WorkflowStep) and step.compensate.function is not None:
                found[compensation_name(step.name)] = step.compensate.function
        return found

    @property
    def children(self) -> dict[str, Workflow]:
        """The workflows made in Python that steps run as children, by name; not those of the children.

        ValueError when two have the same name.
        """
        found: dict[str, Workflow] = {}
        for step in self.all_steps:
            child = step.workflow
            if isinstance(child, Workflow) and found.setdefault(child.name, child) is not child:
                raise ValueError(f"two children of {self.name!r} have the name {child.name!r}")
        return found

    @property
    def parameters(self) -> dict[str, Reference]:
        """A reference to each declared parameter: `wf.step(f, root=wf.parameters["root"])`."""
        return {name: Reference("parameters", (name,)) for name in self.declarations}

    def add(self, step: WorkflowStep) -> Step:
        """Add a step as it is; the handle that others refer to it by."""
        return self._hold(self.handles, step)

    def step(self, function: _Action, /, **parameters: Any) -> Step:
        """Add a step that calls `function` (or `"module:action"`) once with these parameters.

        A name that is taken gets a number: `parse`, `parse_2`.
        """
        return self.add(self._calling(function, parameters))

    def on_failure(self, function: _Action | WorkflowStep, /, **parameters: Any) -> Step:
        """Add a step that runs when the run has failed: a function as in `step`, or a `WorkflowStep`."""
        return self._hold(self.failure_handles, self._calling(function, parameters))

    def finally_(self, function: _Action | WorkflowStep, /, **parameters: Any) -> Step:
        """Add a step that runs at the end of every run: a function as in `step`, or a `WorkflowStep`."""
        return self._hold(self.final_handles, self._calling(function, parameters))

    def child(self, workflow: Workflow | str, /, **parameters: Any) -> Step:
        """Add a step that runs another workflow; its output is the mapping of that one's outputs."""
        name = workflow if isinstance(workflow, str) else workflow.name
        if name.startswith("."):
            name = name.replace("\\", "/").rpartition("/")[2].partition(".")[0]
        step = WorkflowStep(self._free_name(name), workflow=workflow, parameters=parameters)
        return self.add(step)

    def approval(
        self,
        name: str,
        message: Any,
        *,
        who: str | Sequence[str] = (),
        form: Mapping[str, Any] | None = None,
        timeout: float | str | None = None,
        default: Any = ...,
    ) -> Step:
        """Add a step that waits until a person says yes or no.

        Its output is `{approved, by, at, data, comment}`. When `timeout` is over, `default` is the answer:
        True, False, or data of the form; without one the step fails.
        """
        asked: dict[str, Any] = {"message": message}
        if who:
            asked["who"] = [who] if isinstance(who, str) else list(who)
        if form:
            asked["form"] = dict(form)
        return self.add(WorkflowStep(self._free_name(name), approval=asked | _until(timeout, default)))

    def wait_for(
        self, name: str, signal: Any = None, *, timeout: float | str | None = None, default: Any = ...
    ) -> Step:
        """Add a step that waits until the run is sent a signal (`name`, if none); its output is the data.

        When `timeout` is over, `default` stands for the data; without one the step fails.
        """
        waits: dict[str, Any] = {"signal": name if signal is None else signal}
        return self.add(WorkflowStep(self._free_name(name), wait_for=waits | _until(timeout, default)))

    def sleep(self, name: str, duration: Any) -> Step:
        """Add a step that waits, without a slot: seconds, a text like `"5m"`, or a reference to either."""
        return self.add(WorkflowStep(self._free_name(name), sleep=duration))

    def map(self, function: _Action, /, *, over: Any, **parameters: Any) -> Step:
        """Add a step that calls `function` once for each item of `over`; its output is the list, in order.

        `over` is a list, a reference to one, or a grid: `{"lr": [0.1, 0.2], "seed": range(5)}`.

        The item is passed as the first parameter of the function that is not given, unless `Workflow.item`
        stands in one that is.
        """
        handle = self.step(function, **parameters)
        step = handle.definition
        step.foreach = as_lists(over)
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
        for key, held in (
            ("steps", self.handles),
            ("on_failure", self.failure_handles),
            ("finally", self.final_handles),
        ):
            if held or key == "steps":
                tree[key] = [render(handle.definition.to_dict()) for handle in held]
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
            as_tagged,
            long_form,
            step_as_tagged,
        )

        tree = long_form(document)
        options = {_ATTRIBUTES.get(key, key): tree[key] for key in _DOCUMENT_KEYS if key in tree}
        workflow = cls(tree["name"], **options)
        workflow.outputs = as_tagged(tree.get("outputs", {}))
        for held, key in (
            (workflow.handles, "steps"),
            (workflow.failure_handles, "on_failure"),
            (workflow.final_handles, "finally"),
        ):
            for step in tree.get(key, ()):
                workflow._hold(held, WorkflowStep(**step_as_tagged(step)))
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

    def _repr_html_(self) -> str:
        """The workflow as a notebook shows it, checked or not."""
        from codomyrmex.logistics.orchestration.project.html_views import workflow_html

        return workflow_html(self.to_dict())

    def _hold(self, held: list[Step], step: WorkflowStep) -> Step:
        handle = Step(self, step)
        held.append(handle)
        self.names.add(step.name)
        return handle

    def _calling(self, action: _Action | WorkflowStep, parameters: dict[str, Any]) -> WorkflowStep:
        """The step that calls an action, under a name that is free; a step given as one as it is."""
        if isinstance(action, WorkflowStep):
            if parameters:
                raise TypeError("a WorkflowStep has its parameters already")
            return action
        if isinstance(action, str):
            module, _, name = action.rpartition(":")
            step = WorkflowStep(step_name(name), module, name, parameters)
        else:
            step = WorkflowStep.of(action, **parameters)
        step.name = self._free_name(step.name)
        return step

    def _free_name(self, name: str) -> str:
        number = 2
        free = name
        while free in self.names:
            free = f"{name}_{number}"
            number += 1
        return free


_WORKFLOW_KEYS = (
    "version", "description", "labels", "declarations", "outputs", "env", "working_dir", "python",
    "max_parallel", "timeout", "concurrency", "fail_fast",
)  # fmt: skip
_DOCUMENT_KEYS = (
    "version", "description", "labels", "parameters", "env", "working_dir", "python", "max_parallel", "timeout_s",
    "concurrency", "fail_fast",
)  # fmt: skip
_ATTRIBUTES = {"timeout_s": "timeout"}


def _until(timeout: float | str | None, default: Any) -> dict[str, Any]:
    """How long to wait, and what stands then; `...` is no default, since None may be one."""
    found: dict[str, Any] = {} if timeout is None else {"timeout": timeout}
    return found if default is ... else found | {"default": default}


def _engine() -> Any:
    """The shared engine, which stands above this layer.

    Looked up by name so that nothing here depends on it.
    """
    from importlib import import_module

    return import_module(f"{_PROJECT}.shared_engine").get_orchestration_engine()
