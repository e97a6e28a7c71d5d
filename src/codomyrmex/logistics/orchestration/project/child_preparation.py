"""The workflows that steps start, found and checked together with the one that starts them.

Layer: beside `workflow_preparation`, which it calls for each. Nothing of a tree begins when anything in it is
wrong: a child that is not there, that has faults, that calls one of those above it, or that would be nested
deeper than `MAX_DEPTH`. A workflow that several steps start is prepared once.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
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
    _known: dict[tuple[str, str], ChildDefinition] = field(default_factory=dict)

    def prepare(
        self, definition: Definition, workflow: CompiledWorkflow, above: tuple[str, ...] = ()
    ) -> dict[str, ChildDefinition]:
        """The children of a workflow by the names its steps use; raises `ValidationError` with every fault.

        `above` are the places of the workflows that call this one, from the top.
        """
        found: dict[str, ChildDefinition] = {}
        placed: list[PlacedFault] = []
        more: list[Fault] = []
        here = (*above, _identity(definition))
        for place, step in _calls(definition.document):
            name = step["workflow"]
            if name not in found:
                try:
                    found[name] = self._child(name, definition, here)
                except ValidationError as error:
                    more += error.faults
                    continue
                except _Refused as error:
                    placed.append(((*place, "workflow"), error.fault))
                    continue
            placed += _parameter_faults(found[name], step, place, self.root)
        if placed or more:
            raise definition.refuse(placed, more)
        return found

    def _child(self, name: str, parent: Definition, above: tuple[str, ...]) -> ChildDefinition:
        try:
            child = self.find(name, parent)
        except WorkflowNotFound as error:
            raise _Refused(
                Fault(
                    message=f"there is no workflow {name!r}",
                    code="unknown_workflow",
                    got=name,
                    advice=error.hint,
                )
            ) from error
        identity = _identity(child)
        if identity in above:
            around = " -> ".join(
                [*(_short(each) for each in above[above.index(identity) :]), _short(identity)]
            )
            raise _Refused(
                Fault(
                    message=f"the workflow would call itself: {around}",
                    code="endless",
                    advice="a run that starts itself never ends; put the shared steps into a third workflow",
                )
            )
        if len(above) > MAX_DEPTH:
            raise _Refused(Fault(message=f"runs would be nested more than {MAX_DEPTH} deep", code="too_deep"))
        known = self._known.get((name, identity))
        if known is None:
            known = self._known[name, identity] = self._prepared(child, above)
        return known

    def _prepared(self, child: Definition, above: tuple[str, ...]) -> ChildDefinition:
        catalogue = self.catalogue(child)
        document = with_declarations(child.document, child.functions, catalogue)
        child = Definition(
            document=document,
            loaded=child.loaded,
            file=child.file,
            functions=child.functions,
            children=child.children,
        )
        compiled, faults = check(child, catalogue)
        if faults or compiled is None:
            raise child.refuse(faults)
        return ChildDefinition(
            workflow=compiled,
            document=document,
            file=str(child.file) if child.file is not None else None,
            roots=roots(self.root, child.file),
            children=self.prepare(child, compiled, above) if compiled.children else {},
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
    return [((*place, "parameters"), fault) for fault in faults]


def _identity(definition: Definition) -> str:
    if definition.file is not None:
        return str(definition.file)
    return f"workflow {definition.document.get('name')}"


def _short(identity: str) -> str:
    return identity.rpartition("/")[2].removeprefix("workflow ")
