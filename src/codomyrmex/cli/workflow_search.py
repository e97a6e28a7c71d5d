"""Definitions for commands that only look: found and checked without opening an engine."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from codomyrmex.exceptions import Fault, ValidationError, WorkflowNotFound
from codomyrmex.logistics.orchestration.project.actions.catalogue import ActionCatalogue
from codomyrmex.logistics.orchestration.project.definition_finder import DefinitionFinder
from codomyrmex.logistics.orchestration.project.workflow_preparation import Definition, check
from codomyrmex.settings import Settings
from codomyrmex.workspace import WORKFLOW_FILES, Workspace


def finder_of(workspace: Workspace, settings: Settings) -> DefinitionFinder:
    """Where definitions are looked for by name."""
    return DefinitionFinder(workspace.root, settings.workflow_paths)


def default_file(workspace: Workspace) -> str:
    """The workflow file of the project; raises `WorkflowNotFound` where there is none."""
    for name in WORKFLOW_FILES:
        if (workspace.root / name).is_file():
            return str(workspace.root / name)
    raise WorkflowNotFound(WORKFLOW_FILES[0], hint="name a file or a workflow, or make one: codomyrmex init")


def named_file(what: str | None) -> Path | None:
    """The workflow file that a word is the path of, if it is one."""
    return Path(what) if what is not None and Path(what).is_file() else None


def definition_of(
    workspace: Workspace, settings: Settings, what: str, folder: Path | None = None
) -> Definition:
    """The definition that a path, from `folder` or from here, or a name means."""
    loaded = finder_of(workspace, settings).find(what, caller_dir=folder)
    path = (folder or Path.cwd()) / what
    file = path if path.is_file() else workspace.root / (loaded.file or "")
    return Definition(document=loaded.document, loaded=loaded, file=file.resolve())


def definition_on_stdin() -> Definition:
    """The workflow that stands on stdin, in YAML or JSON; its steps find the modules of the root."""
    import sys

    from codomyrmex.logistics.orchestration.project.workflow_file import load_text

    loaded = load_text(sys.stdin.buffer.read(), file="<stdin>")
    return Definition(document=loaded.document, loaded=loaded)


def catalogue_of(workspace: Workspace, settings: Settings, file: Path | None = None) -> ActionCatalogue:
    """The actions that a workflow file here can name."""
    return ActionCatalogue(workspace.root, file=file, modules=settings.action_modules)


def faults_of(
    workspace: Workspace, settings: Settings, what: str, *, warn: Callable[[str], None] | None = None
) -> list[Fault]:
    """Everything that is wrong with a definition and those it starts, parameters aside.

    `WorkflowNotFound` passes; `warn` is told what may go wrong.
    """
    try:
        definition = definition_of(workspace, settings, what)
    except ValidationError as error:
        return list(error.faults)
    catalogue = catalogue_of(workspace, settings, definition.file)
    _, found = check(definition, catalogue)
    if warn is not None:
        for text in catalogue.warnings:
            warn(text)
    own = list(definition.refuse(found).faults) if found else []
    return own + _child_faults(workspace, settings, definition)


def _child_faults(workspace: Workspace, settings: Settings, definition: Definition) -> list[Fault]:
    from codomyrmex.logistics.orchestration.project.child_preparation import ChildPreparation

    def find(name: str, parent: Definition) -> Definition:
        folder = parent.file.parent if parent.file is not None else workspace.root
        return definition_of(workspace, settings, name, folder)

    def catalogue(child: Definition) -> ActionCatalogue:
        return catalogue_of(workspace, settings, child.file)

    return ChildPreparation(root=workspace.root, find=find, catalogue=catalogue).faults(definition)
