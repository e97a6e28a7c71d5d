"""The workflows that steps start, found and checked together with the one that starts them.

Layer: beside `workflow_preparation`, which it calls for each. Nothing of a tree begins when anything in it is
wrong: a child that is not there, that has faults, that calls one of those above it, or that would be nested
deeper than `MAX_DEPTH`. A workflow that several steps start is prepared once, and its faults are told once.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from codomyrmex.exceptions import Fault, ValidationError, WorkflowNotFound
from codomyrmex.logistics.orchestration.project.action_declarations import with_declarations
from codomyrmex.logistics.orchestration.project.actions.catalogue import ActionCatalogue
from codomyrmex.logistics.orchestration.project.actions.places import roots
from codomyrmex.logistics.orchestration.project.child_definition import MAX_DEPTH, ChildDefinition
from codomyrmex.logistics.orchestration.project.compiled_workflow import CompiledWorkflow
from codomyrmex.logistics.orchestration.project.references import compile_template
from codomyrmex.logistics.orchestration.project.states import StepKind
from codomyrmex.logistics.orchestration.project.workflow_faults import Path as DocumentPath
from codomyrmex.logistics.orchestration.project.workflow_parameters import bind_parameters
from codomyrmex.logistics.orchestration.project.workflow_preparation import Definition, PlacedFault, check

FindChild = Callable[[str, Definition], Definition]
"""The definition that a step of another one means by a name; raises `WorkflowNotFound`."""


@dataclass(slots=True, kw_only=True)
class ChildPreparation:
    """See the module; one for each run that is prepared."""

    root: Path
    find: FindChild
    catalogue: Callable[[Definition], ActionCatalogue]
    _known: dict[tuple[str, str], _Prepared] = field(default_factory=dict)
    _faults: list[Fault] = field(default_factory=list)

    def prepare(self, definition: Definition, workflow: CompiledWorkflow) -> dict[str, ChildDefinition]:
        """The children of a workflow by the names its steps use; raises `ValidationError` with every fault."""
        if not workflow.children:
            return {}
        children, _height = self._children_of(definition, ())
        if self._faults:
            raise ValidationError(self._faults, subject=definition.subject)
        return children

    def faults(self, definition: Definition) -> list[Fault]:
        """What is wrong with the workflows that a definition starts, each fault with its own file and line."""
        self._children_of(definition, ())
        return list(self._faults)

    def _children_of(
        self, definition: Definition, above: tuple[str, ...]
    ) -> tuple[dict[str, ChildDefinition], int]:
        """What can be had, and how many runs they nest; `above` are the workflows that call it, from the top."""
        found: dict[str, _Prepared] = {}
        placed: list[PlacedFault] = []
        here = (*above, _identity(definition))
        for place, step in _calls(definition.document):
            name = step["workflow"]
            try:
                child = found[name] if name in found else self._child(name, definition, here)
            except _Refused as error:
                placed.append(((*place, "workflow"), error.fault))
                continue
            found[name] = child
            if child.definition is not None:
                placed += _parameter_faults(child.definition, step, place, self.root)
        if placed:
            self._faults += definition.refuse(placed).faults
        children = {name: child.definition for name, child in found.items() if child.definition is not None}
        return children, max((child.height for child in found.values()), default=0)

    def _child(self, name: str, parent: Definition, above: tuple[str, ...]) -> _Prepared:
        """A child and all below it; raises `_Refused` for what is the caller's fault."""
        try:
            child = self.find(name, parent)
        except WorkflowNotFound as error:
            raise _Refused(_absent(name, error)) from error
        except ValidationError as error:
            self._faults += [each for each in error.faults if each not in self._faults]
            return _Prepared(None, 1)
        identity = _identity(child)
        if identity in above:
            raise _Refused(_endless(above[above.index(identity) :], identity))
        known = self._known.get((name, identity))
        if len(above) + (known.height - 1 if known is not None else 0) > MAX_DEPTH:
            raise _Refused(_too_deep())
        if known is None:
            known = self._known[name, identity] = self._prepared(child, above)
        return known

    def _prepared(self, child: Definition, above: tuple[str, ...]) -> _Prepared:
        catalogue = self.catalogue(child)
        document = with_declarations(child.document, child.functions, catalogue)
        child = replace(child, document=document)
        compiled, faults = check(child, catalogue)
        if faults:
            self._faults += child.refuse(faults).faults
        children, height = self._children_of(child, above)
        if faults or compiled is None:
            return _Prepared(None, height + 1)
        ready = ChildDefinition(
            workflow=compiled,
            document=document,
            file=str(child.file) if child.file is not None else None,
            roots=roots(self.root, child.file),
            children=children,
        )
        return _Prepared(ready, height + 1)


@dataclass(frozen=True, slots=True)
class _Prepared:
    """A child, or None where it has faults, which are told once; and how many runs it nests, itself included."""

    definition: ChildDefinition | None
    height: int


def _absent(name: str, error: WorkflowNotFound) -> Fault:
    nearest = error.nearest
    if nearest is not None and name.startswith("."):
        nearest = f"{name.rpartition('/')[0]}/{nearest}"
    return Fault(
        message=f"there is no workflow {name!r}",
        code="unknown_workflow",
        got=name,
        nearest=nearest,
        advice=error.hint if nearest is None else None,
    )


def _endless(around: tuple[str, ...], identity: str) -> Fault:
    names = " -> ".join(map(_short, (*around, identity)))
    return Fault(
        message=f"the workflow would call itself: {names}",
        code="endless",
        advice="a run that starts itself never ends; put the shared steps into a third workflow",
    )


def _too_deep() -> Fault:
    return Fault(
        message=f"runs would be nested more than {MAX_DEPTH} deep",
        code="too_deep",
        advice="work through a list with one fan-out over child runs instead of a chain of them",
    )


class _Refused(Exception):
    """One child cannot be had."""

    def __init__(self, fault: Fault) -> None:
        super().__init__(fault.message)
        self.fault = fault


def _calls(document: Mapping[str, Any]) -> list[tuple[DocumentPath, Mapping[str, Any]]]:
    """The steps that start a workflow, each with its place."""
    return [
        ((section, number), step)
        for section in ("steps", "on_failure", "finally")
        for number, step in enumerate(document.get(section, ()))
        if StepKind.WORKFLOW.value in step
    ]


def _parameter_faults(
    child: ChildDefinition, step: Mapping[str, Any], place: DocumentPath, root: Path
) -> list[PlacedFault]:
    """What the child would refuse of the parameters, as far as they are known before anything has run."""
    given: Mapping[str, Any] = step.get("parameters", {})
    declared = child.document.get("parameters", {})
    open_names = {
        name for name, value in given.items() if name in declared and compile_template(value).references
    }
    fixed = {name: value for name, value in given.items() if name not in open_names}
    left = {name: each for name, each in declared.items() if name not in open_names}
    _bound, faults = bind_parameters({"parameters": left}, fixed, caller_dir=str(root), root=str(root))
    found: list[PlacedFault] = []
    for fault in faults:
        name = fault.path.removeprefix("parameters.")
        if fault.code == "missing_parameter":  # what it says else is for the command line
            needed = f"{step['workflow']!r} needs a value for {name!r}"
            fault = replace(fault, message=needed, advice=f"write it in the step: with: {{{name}: ...}}")
            found.append(((*place, "workflow"), fault))
        else:
            found.append(((*place, "parameters", name), fault))
    return found


def _identity(definition: Definition) -> str:
    if definition.file is not None:
        return str(definition.file)
    return f"workflow {definition.document.get('name')}"


def _short(identity: str) -> str:
    return identity.rpartition("/")[2].removeprefix("workflow ")
