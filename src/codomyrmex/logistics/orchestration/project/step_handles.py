"""Handles of the steps of a workflow that is being built, and references to what they will return.

Layer: pure. `step.output["a"][0]` in another's parameters is written as `${steps.x.output.a[0]}` when the
workflow is, so a step may be renamed until its name stands in a text.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Self

from codomyrmex.logistics.orchestration.project.workflow_step import WorkflowStep, long_options

if TYPE_CHECKING:
    from codomyrmex.logistics.orchestration.project.workflow import Workflow


class Reference:
    """`${...}` in the making: `steps.x.output` of a handle, or `parameters.p`; `[...]` goes deeper.

    Used as a whole value it keeps its type; in an f-string it becomes text.
    """

    __slots__ = ("_field", "_path", "_root")

    def __init__(self, root: Step | str, path: tuple[str | int, ...] = (), *, field: str = "output") -> None:
        self._root = root
        self._path = path
        self._field = field

    def __getitem__(self, key: str | int) -> Reference:
        if not isinstance(key, (str, int)):
            raise TypeError(f"a reference goes deeper by a name or a number, got {key!r}")
        return Reference(self._root, (*self._path, key), field=self._field)

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
            root = f"steps{_path_text(root.name)}.{self._field}"
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

    @property
    def status(self) -> Reference:
        """What became of the step: `completed`, `failed`, `skipped` or `cancelled`."""
        return Reference(self, field="status")

    @property
    def error(self) -> Reference:
        """Why the step failed, `{type, message}`, or null."""
        return Reference(self, field="error")

    @property
    def errors(self) -> Reference:
        """Why items of a fan-out failed: the error of each by its index."""
        return Reference(self, field="errors")

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
