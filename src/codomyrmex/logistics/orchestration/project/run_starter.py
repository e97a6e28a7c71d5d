"""From a definition to a run of this host: checked, given an id, stored and begun.

Layer: above the engine's machinery and the preparation of workflows; below whoever starts runs (tasks,
parallel executions, the workflow manager). `ready` refuses everything that can be refused; `begin` only
stores, so what was accepted may be begun later.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from codomyrmex.exceptions import Fault
from codomyrmex.logistics.orchestration.project import resource_store
from codomyrmex.logistics.orchestration.project.actions.catalogue import ActionCatalogue
from codomyrmex.logistics.orchestration.project.actions.places import roots
from codomyrmex.logistics.orchestration.project.child_definition import ChildDefinition
from codomyrmex.logistics.orchestration.project.child_making import with_heads
from codomyrmex.logistics.orchestration.project.compiled_workflow import CompiledWorkflow
from codomyrmex.logistics.orchestration.project.engine_host import EngineHost, HostSettings
from codomyrmex.logistics.orchestration.project.expressions import EvaluationError
from codomyrmex.logistics.orchestration.project.function_folders import function_folders
from codomyrmex.logistics.orchestration.project.identifiers import new_id
from codomyrmex.logistics.orchestration.project.impossible_requests import (
    Supply,
    asks_for_gpus,
    asks_for_named,
)
from codomyrmex.logistics.orchestration.project.run_orchestrator import LiveRun
from codomyrmex.logistics.orchestration.project.run_reader import RunReader
from codomyrmex.logistics.orchestration.project.run_state import RunOptions, RunState
from codomyrmex.logistics.orchestration.project.secret_names import visible
from codomyrmex.logistics.orchestration.project.workflow_execution import WorkflowExecution
from codomyrmex.logistics.orchestration.project.workflow_preparation import (
    Definition,
    Prepared,
    prepare,
    refuse_impossible,
    workflows_of,
)
from codomyrmex.settings import load_settings
from codomyrmex.workspace import find_workspace

if TYPE_CHECKING:
    from codomyrmex.logistics.orchestration.project.child_definition import ChildDefinition
    from codomyrmex.logistics.orchestration.project.child_preparation import FindChild

MEMORY = ":memory:"
logger = logging.getLogger(__name__)


def secrets_of(workflow: CompiledWorkflow, children: Mapping[str, ChildDefinition]) -> set[str]:
    """The names of the secrets that a workflow, or any that it starts, needs."""
    found = {name for names in workflow.secrets.values() for name in names}
    for child in children.values():
        found |= secrets_of(child.workflow, child.children)
    return found


@dataclass(frozen=True, slots=True, kw_only=True)
class ReadyRun:
    """A run that was accepted and not yet stored."""

    run: RunState
    document: Mapping[str, Any]


class RunStarter:
    """See the module. `modules` are import paths in which actions are looked for too."""

    def __init__(self, host: EngineHost, *, root: Path, modules: Sequence[str] = ()) -> None:
        self.host = host
        self.root = root
        self.reader = RunReader(host.database, host.state_dir, own_epoch=host.epoch)
        self._modules = tuple(modules)
        self.find_child: FindChild | None = None
        """How a workflow is found that a step starts; set by who knows definitions by name."""

    @classmethod
    def open(
        cls,
        state: str | os.PathLike[str] | None = None,
        *,
        root: Path | None = None,
        modules: Sequence[str] = (),
        settings: HostSettings | None = None,
    ) -> RunStarter:
        """A host of its own on a state folder, or in memory (None, ":memory:"); `host.close()` ends it."""
        in_memory = state is None or os.fspath(state) == MEMORY
        workspace = find_workspace(
            root=os.fspath(root) if root is not None else None,
            state=None if in_memory or state is None else os.fspath(state),
        )
        if not in_memory:
            workspace.prepare()
        folder = None if in_memory else workspace.state
        found = load_settings(root=workspace.root, state=folder)
        host = EngineHost.open(
            folder, root=workspace.root, settings=(settings or HostSettings()).with_found(found)
        )
        return cls(host, root=workspace.root, modules=modules)

    def catalogue(self, definition: Definition) -> ActionCatalogue:
        """Where the actions of a definition are found."""
        return ActionCatalogue(
            self.root,
            file=definition.file,
            modules=self._modules,
            describe=lambda pairs: self.host.describe(pairs, roots(self.root, definition.file)),
        )

    def ready(
        self,
        definition: Definition,
        given: Mapping[str, Any],
        *,
        caller_dir: Path | None = None,
        max_parallel: int | None = None,
        run_id: str | None = None,
    ) -> ReadyRun:
        """The run of a definition with these parameters.

        Raises `ValidationError` with every fault, or `ResourceRefused`; nothing has begun then.
        """
        prepared = prepare(
            definition,
            given,
            root=self.root,
            caller_dir=caller_dir or Path.cwd(),
            catalogue=self.catalogue(definition),
        )
        for text in prepared.warnings:
            logger.warning("%s", text)
        if self.find_child is not None and prepared.workflow.children:
            from codomyrmex.logistics.orchestration.project.child_preparation import ChildPreparation

            nursery = ChildPreparation(root=self.root, find=self.find_child, catalogue=self.catalogue)
            children = nursery.prepare(prepared.definition, prepared.workflow)
        else:
            children = {}
        self._refuse_impossible(prepared, children)
        wanted = secrets_of(prepared.workflow, children)
        if wanted:
            self.host.secrets(wanted)  # raises for what nobody has set
        options = RunOptions(
            root=str(self.root),
            roots=tuple(
                dict.fromkeys(
                    (*roots(self.root, definition.file), *function_folders(definition.functions.values()))
                )
            ),
            file=str(definition.file) if definition.file is not None else None,
            max_parallel=max_parallel,
            in_engine=prepared.workflow.document.get("isolation") == "thread",
            environment=visible(os.environ),
        )
        run = RunState(
            number=0,
            id=run_id or new_id(),
            workflow=prepared.workflow,
            parameters=prepared.parameters,
            options=options,
            children=children,
        )
        try:
            run.options = with_heads(run)
        except EvaluationError as error:
            place = ("concurrency",) if prepared.workflow.concurrency is not None else ("labels",)
            fault = Fault(message=str(error), code="expression")
            raise prepared.definition.refuse([(place, fault)]) from error
        return ReadyRun(run=run, document=prepared.document)

    def _refuse_impossible(self, prepared: Prepared, children: Mapping[str, ChildDefinition]) -> None:
        """Devices are looked for, and named resources looked up, only where a step asks for any."""
        workflows = workflows_of(prepared, children)
        named = resource_store.limits(self.host.database) if asks_for_named(workflows) else {}
        capacities = self.host.capacities(gpu=asks_for_gpus(workflows))
        refuse_impossible(prepared, children, Supply(capacities=capacities, named=named))

    def begin(self, ready: ReadyRun) -> LiveRun:
        """Stores a run and begins it; it survives this process from then on."""
        return self.host.start(ready.run, ready.document)

    def execution(self, live: LiveRun) -> WorkflowExecution:
        """The execution of a run that is live here."""
        self.reader.know(live.state.workflow)
        return WorkflowExecution(
            self.reader, live.state.id, wait=lambda timeout_s: self.host.orchestrator.wait(live, timeout_s)
        )
