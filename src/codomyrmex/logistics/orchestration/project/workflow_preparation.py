"""From a definition and what the caller gives to a run that may begin: everything is checked here.

Layer: above files, compiler and actions. Nothing runs before this has passed, and what it refuses it
refuses with every fault at once: of the graph, the expressions, the actions, the parameters.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from codomyrmex.exceptions import Fault, ResourceRefused, ValidationError
from codomyrmex.logistics.orchestration.project.action_declarations import with_declarations
from codomyrmex.logistics.orchestration.project.actions.action_steps import action_steps
from codomyrmex.logistics.orchestration.project.actions.catalogue import ActionCatalogue
from codomyrmex.logistics.orchestration.project.child_definition import ChildDefinition
from codomyrmex.logistics.orchestration.project.compiled_workflow import (
    CompiledWorkflow,
    CompileFaults,
)
from codomyrmex.logistics.orchestration.project.function_check import check_functions
from codomyrmex.logistics.orchestration.project.impossible_requests import Supply, impossible_requests
from codomyrmex.logistics.orchestration.project.values import to_tagged
from codomyrmex.logistics.orchestration.project.workflow import Workflow, step_options
from codomyrmex.logistics.orchestration.project.workflow_check import MAX_FAULTS
from codomyrmex.logistics.orchestration.project.workflow_compiler import compile_workflow
from codomyrmex.logistics.orchestration.project.workflow_document import steps_of
from codomyrmex.logistics.orchestration.project.workflow_faults import Path as DocumentPath
from codomyrmex.logistics.orchestration.project.workflow_faults import path_text
from codomyrmex.logistics.orchestration.project.workflow_file import LoadedDocument
from codomyrmex.logistics.orchestration.project.workflow_kinds import COMPENSATION
from codomyrmex.logistics.orchestration.project.workflow_parameters import bind_parameters

PlacedFault = tuple[DocumentPath, Fault]


@dataclass(slots=True, kw_only=True)
class Definition:
    """A document with what else is known of it: its text, the file, functions made in Python."""

    document: Mapping[str, Any]
    loaded: LoadedDocument | None = None
    file: Path | None = None
    functions: Mapping[str, Callable[..., Any]] = field(default_factory=dict)
    children: Mapping[str, Workflow] = field(default_factory=dict)
    """Workflows made in Python that its steps start, by name."""

    @classmethod
    def of_workflow(cls, workflow: Workflow) -> Definition:
        """The definition of a workflow made in Python."""
        document = workflow.to_document()
        return cls(document=document, functions=workflow.functions, children=workflow.children)

    @property
    def subject(self) -> str:
        """What faults are said to be of."""
        if self.loaded is not None and self.loaded.file is not None:
            return self.loaded.file
        return f"workflow {self.document.get('name')!r}"

    def refuse(self, found: list[PlacedFault], more: list[Fault] | None = None) -> ValidationError:
        """The error that lists these faults, each with its place in the file where there is one."""
        return ValidationError(self.placed(found) + (more or []), subject=self.subject)

    def placed(self, found: list[PlacedFault]) -> list[Fault]:
        """The faults as their reader finds the places, in the file where there is one."""
        if self.loaded is not None:
            return self.loaded.place(found)
        return [replace(fault, path=path_text(path, self.document)) for path, fault in found]


@dataclass(frozen=True, slots=True, kw_only=True)
class Prepared:
    """What a run begins with; `parameters` are tagged."""

    workflow: CompiledWorkflow
    definition: Definition
    parameters: dict[str, Any]
    warnings: tuple[str, ...] = ()

    @property
    def document(self) -> Mapping[str, Any]:
        """The definition as it is stored."""
        return self.definition.document


def prepare(
    definition: Definition,
    given: Mapping[str, Any],
    *,
    root: Path,
    caller_dir: Path,
    catalogue: ActionCatalogue,
) -> Prepared:
    """Checks everything; raises `ValidationError` with all faults."""
    definition = replace(
        definition, document=with_declarations(definition.document, definition.functions, catalogue)
    )
    compiled, found = check(definition, catalogue)
    bound, faults = bind_parameters(definition.document, given, caller_dir=str(caller_dir), root=str(root))
    if found or faults or compiled is None:
        raise definition.refuse(found, faults)
    return Prepared(
        workflow=compiled,
        definition=definition,
        parameters={name: to_tagged(value) for name, value in bound.items()},
        warnings=tuple(catalogue.warnings),
    )


def check(
    definition: Definition, catalogue: ActionCatalogue
) -> tuple[CompiledWorkflow | None, list[PlacedFault]]:
    """The compiled definition, or None, and every fault that does not depend on the parameters given."""
    compiled: CompiledWorkflow | None = None
    found: list[PlacedFault] = []
    try:
        compiled = compile_workflow(definition.document, functions=definition.functions)
    except CompileFaults as faults:
        found += faults.found
    known = set(definition.functions)
    if any(name not in known for name, _step, _place in action_steps(definition.document)):
        found += catalogue.check(definition.document, skip=known)
    if known:
        found += check_functions(
            definition.document,
            definition.functions,
            options=step_options(),
            warn=catalogue.warn_of_result,
        )
    if compiled is not None and any(
        spec.retry.memory > 1 and not spec.memory_bytes for spec in compiled.specs
    ):
        found += _raised_without_memory(definition, catalogue)
    found.sort(key=lambda placed: [(isinstance(part, str), part) for part in placed[0]])
    return compiled, found


def _raised_without_memory(definition: Definition, catalogue: ActionCatalogue) -> list[PlacedFault]:
    """Retries with more memory of steps that claim none, as far as their actions do not either."""
    document = with_declarations(definition.document, definition.functions, catalogue)
    found: list[PlacedFault] = []
    for place, step in steps_of(document):
        for here, holder in ((place, step), ((*place, COMPENSATION), step.get(COMPENSATION, {}))):
            if "memory" in holder.get("retry", ()) and not holder.get("resources", {}).get("memory"):
                message = "there is no memory to raise: the step claims none"
                advice = "say how much it needs, `resources: {memory: 512MiB}`, or take it out of `retry`"
                found.append(
                    ((*here, "retry", "memory"), Fault(message=message, code="no_memory", advice=advice))
                )
    return found


def workflows_of(prepared: Prepared, children: Mapping[str, ChildDefinition]) -> list[CompiledWorkflow]:
    """The workflow of a run and all that its steps start, each once."""
    found = {prepared.workflow.hash: prepared.workflow}
    found.update((child.workflow.hash, child.workflow) for child in _each_child(children))
    return [*found.values()]


def _each_child(children: Mapping[str, ChildDefinition]) -> Iterator[ChildDefinition]:
    for child in children.values():
        yield child
        yield from _each_child(child.children)


def refuse_impossible(prepared: Prepared, children: Mapping[str, ChildDefinition], supply: Supply) -> None:
    """Raises `ResourceRefused` with every step, of children too, that asks for what there will never be."""
    faults = prepared.definition.placed(impossible_requests(prepared.workflow, supply))
    seen = {prepared.workflow.hash}
    for child in _each_child(children):
        if child.workflow.hash not in seen:
            seen.add(child.workflow.hash)
            faults += [
                replace(fault, path=path_text(path, child.document), file=child.file or child.workflow.name)
                for path, fault in impossible_requests(child.workflow, supply)
            ]
    if not faults:
        return
    more = f"\n  and {len(faults) - MAX_FAULTS:,} more" if len(faults) > MAX_FAULTS else ""
    told = "\n".join(f"  {fault}" for fault in faults[:MAX_FAULTS])
    raise ResourceRefused(
        f"{prepared.definition.subject} asks for what there will never be:\n{told}{more}",
        hint="ask for less, add what is missing, or run it on a larger machine",
        details=[fault.to_dict() for fault in faults[:MAX_FAULTS]],
    )
