"""Definitions for commands that only look: found, checked and planned without opening an engine."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from codomyrmex.cli.figures import count_text
from codomyrmex.cli.run_text import mapping_lines
from codomyrmex.cli.terminal import Terminal
from codomyrmex.exceptions import Fault, ValidationError, WorkflowNotFound
from codomyrmex.logistics.orchestration.project.actions.catalogue import ActionCatalogue
from codomyrmex.logistics.orchestration.project.definition_finder import DefinitionFinder
from codomyrmex.logistics.orchestration.project.values import from_tagged
from codomyrmex.logistics.orchestration.project.workflow_preparation import Definition, check, prepare
from codomyrmex.settings import Settings
from codomyrmex.workspace import WORKFLOW_FILES, Workspace

_MOST_NAMES = 8


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


def definition_of(workspace: Workspace, settings: Settings, what: str) -> Definition:
    """The definition that a path or a name means."""
    loaded = finder_of(workspace, settings).find(what)
    path = Path.cwd() / what
    file = path if path.is_file() else workspace.root / (loaded.file or "")
    return Definition(document=loaded.document, loaded=loaded, file=file.resolve())


def catalogue_of(workspace: Workspace, settings: Settings, file: Path | None = None) -> ActionCatalogue:
    """The actions that a workflow file here can name."""
    return ActionCatalogue(workspace.root, file=file, modules=settings.action_modules)


def faults_of(workspace: Workspace, settings: Settings, what: str) -> list[Fault]:
    """Everything that is wrong with a definition, parameters aside; `WorkflowNotFound` passes."""
    try:
        definition = definition_of(workspace, settings, what)
    except ValidationError as error:
        return list(error.faults)
    _, found = check(definition, catalogue_of(workspace, settings, definition.file))
    return list(definition.refuse(found).faults) if found else []


def plan_of(
    workspace: Workspace, settings: Settings, definition: Definition, given: Mapping[str, Any]
) -> dict[str, Any]:
    """What a run would do: its parameters and its steps, those of one level side by side.

    Raises `ValidationError` with every fault, as the run itself would.
    """
    catalogue = catalogue_of(workspace, settings, definition.file)
    prepared = prepare(definition, given, root=workspace.root, caller_dir=Path.cwd(), catalogue=catalogue)
    workflow = prepared.workflow
    return {
        "workflow": workflow.name,
        "parameters": from_tagged(prepared.parameters, classes=False),
        "levels": [[workflow.names[step] for step in level] for level in workflow.graph.levels()],
        "fan_outs": [workflow.names[step] for step in workflow.fan_outs],
        "warnings": list(prepared.warnings),
    }


def plan_lines(terminal: Terminal, plan: Mapping[str, Any]) -> list[str]:
    """The plan as text, a line for each level."""
    steps = sum(len(level) for level in plan["levels"])
    lines = [f"{terminal.paint(plan['workflow'], 'bold')}: {count_text(steps, 'step')}, nothing was run"]
    if plan["parameters"]:
        lines += ["", terminal.paint("parameters", "bold"), *mapping_lines(terminal, plan["parameters"])]
    lines += ["", terminal.paint("order", "bold")]
    fan_outs = set(plan["fan_outs"])
    for number, level in enumerate(plan["levels"], 1):
        shown = [f"{name} (for each)" if name in fan_outs else name for name in level[:_MOST_NAMES]]
        more = f" and {len(level) - _MOST_NAMES:,} more" if len(level) > _MOST_NAMES else ""
        lines.append(f"  {number}  {', '.join(shown)}{more}")
    return lines
