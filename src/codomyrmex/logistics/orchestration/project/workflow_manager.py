"""WorkflowManager: definitions by name, checked and started; runs inspected.

Layer: above the engine's machinery, below the engine. Definitions come from files (`definition_finder`),
from Python (`Workflow`, lists of steps) and from `create_workflow`. Built alone, a manager uses an
in-memory engine of its own, which `close` ends.
"""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from codomyrmex.exceptions import Fault, ValidationError, WorkflowNotFound
from codomyrmex.logistics.orchestration.project.actions.catalogue import ActionCatalogue
from codomyrmex.logistics.orchestration.project.actions.places import roots
from codomyrmex.logistics.orchestration.project.definition_finder import DefinitionFinder
from codomyrmex.logistics.orchestration.project.engine_host import EngineHost
from codomyrmex.logistics.orchestration.project.run_reader import RunReader
from codomyrmex.logistics.orchestration.project.run_state import RunOptions, RunState
from codomyrmex.logistics.orchestration.project.run_orchestrator import LiveRun
from codomyrmex.logistics.orchestration.project.workflow import Workflow, WorkflowStep
from codomyrmex.logistics.orchestration.project.workflow_dag import WorkflowDAG
from codomyrmex.logistics.orchestration.project.workflow_execution import WorkflowExecution
from codomyrmex.logistics.orchestration.project.workflow_preparation import (
    Definition,
    check,
    prepare,
    refuse_impossible,
)

WorkflowLike = str | os.PathLike[str] | Workflow | Mapping[str, Any] | Definition
_ID_LETTERS = "bcdfghjkmnpqrstvwxz23456789"
ID_LENGTH = 10


class WorkflowManager:
    """See the module. `config_dir` is a further folder in which definitions are looked for."""

    def __init__(
        self,
        config_dir: str | os.PathLike[str] | None = None,
        *,
        host: EngineHost | None = None,
        root: Path | None = None,
        paths: Sequence[str] = (),
        modules: Sequence[str] = (),
    ) -> None:
        self.root = root or (host.root if host is not None else Path.cwd())
        self._owns_host = host is None
        self.host = host or EngineHost.open(None, root=self.root)
        self.reader = RunReader(self.host.database, self.host.state_dir, own_epoch=self.host.epoch)
        folders = [*paths, os.fspath(config_dir)] if config_dir is not None else list(paths)
        self.finder = DefinitionFinder(self.root, folders)
        self._modules = tuple(modules)
        self._created: dict[str, Workflow] = {}

    def __enter__(self) -> WorkflowManager:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Ends the engine of a manager that was built alone."""
        if self._owns_host:
            self.host.close()

    # -- definitions -----------------------------------------------------------------------------

    def create_workflow(
        self,
        name: str,
        steps: Iterable[WorkflowStep | Mapping[str, Any]],
        description: str = "",
        parameters: Mapping[str, Any] | None = None,
        save: bool = False,
    ) -> bool:
        """Makes a workflow known under `name`; with `save`, also writes `workflows/NAME.yaml`.

        Returns True; raises `ValidationError` with every fault. An existing one of that name is replaced.
        """
        workflow = Workflow(name, description=description, parameters=parameters)
        for step in steps:
            workflow.add(step if isinstance(step, WorkflowStep) else WorkflowStep(**step))
        faults = self.validate_workflow(workflow)
        if faults:
            raise ValidationError(faults, subject=f"workflow {name!r}")
        self._created[name] = workflow
        if save:
            path = self.root / "workflows" / f"{name}.yaml"
            path.parent.mkdir(parents=True, exist_ok=True)
            workflow.save(path)
        return True

    def load_workflow(self, path: str | os.PathLike[str]) -> str:
        """Reads a workflow file, makes it known by the name in it, and returns that name."""
        workflow = Workflow.load(path)
        self._created[workflow.name] = workflow
        return workflow.name

    def get_workflow(self, name: str) -> list[WorkflowStep] | None:
        """The steps of a workflow, in order, or None where there is none of that name."""
        try:
            definition = self.definition(name)
        except WorkflowNotFound:
            return None
        return Workflow.from_document(definition.document).steps

    def list_workflows(self) -> list[str]:
        """The names of all known workflows, sorted."""
        return sorted({each.name for each in self.finder.all()} | set(self._created))

    def definition(self, what: WorkflowLike, *, caller_dir: Path | None = None) -> Definition:
        """The definition that a name, path, `Workflow` or document stands for."""
        if isinstance(what, Definition):
            return what
        if isinstance(what, Workflow):
            return Definition.of_workflow(what)
        if isinstance(what, Mapping):
            return Definition(document=Workflow.from_document(what).to_document())
        text = os.fspath(what)
        if text in self._created:
            return Definition.of_workflow(self._created[text])
        loaded = self.finder.find(text, caller_dir=caller_dir)
        path = Path(caller_dir or Path.cwd(), text)
        file = path if path.is_file() else self.root / (loaded.file or "")
        return Definition(document=loaded.document, loaded=loaded, file=file.resolve())

    def validate_workflow(self, what: WorkflowLike) -> list[Fault]:
        """Everything that is wrong with a workflow; an empty list when nothing is."""
        try:
            definition = self.definition(what)
            _compiled, found = check(definition, self._catalogue(definition))
        except ValidationError as error:
            return list(error.faults)
        return list(definition.refuse(found).faults) if found else []

    # -- runs ------------------------------------------------------------------------------------

    def start_workflow(
        self,
        what: WorkflowLike,
        /,
        parameters: Mapping[str, Any] | None = None,
        *,
        caller_dir: Path | None = None,
        max_parallel: int | None = None,
        **more: Any,
    ) -> WorkflowExecution:
        """Starts a run and returns at once. Raises `ValidationError`, `WorkflowNotFound`, `ResourceRefused`."""
        definition = self.definition(what, caller_dir=caller_dir)
        caller = caller_dir or Path.cwd()
        prepared = prepare(
            definition,
            {**(parameters or {}), **more},
            root=self.root,
            caller_dir=caller,
            catalogue=self._catalogue(definition),
        )
        refuse_impossible(
            prepared.workflow, cpu_milli=self.host.cpu_milli, memory_bytes=machine_memory_bytes()
        )
        options = RunOptions(
            root=str(self.root),
            roots=roots(self.root, definition.file),
            file=str(definition.file) if definition.file is not None else None,
            max_parallel=max_parallel,
            in_engine=prepared.workflow.document.get("isolation") == "thread",
            environment=dict(os.environ),
        )
        run = RunState(
            number=0,
            id=new_id(),
            workflow=prepared.workflow,
            parameters=prepared.parameters,
            options=options,
        )
        return self.execution(self.host.start(run, prepared.document))

    def execute_workflow(
        self,
        what: WorkflowLike,
        /,
        parameters: Mapping[str, Any] | None = None,
        *,
        timeout_s: float | None = None,
        **more: Any,
    ) -> WorkflowExecution:
        """Runs to the end; returns also when the work failed or was refused at the door of an unknown name.

        With `timeout_s` it returns the execution as it stands then; the run goes on.
        """
        execution = self.start_workflow(what, parameters, **more)
        execution.wait(timeout_s)
        return execution

    def execution(self, live: LiveRun) -> WorkflowExecution:
        """The execution of a run that is live here."""
        return WorkflowExecution(
            self.reader, live.state.id, wait=lambda timeout_s: self.host.orchestrator.wait(live, timeout_s)
        )

    def get_execution_status(self, execution_id: str) -> WorkflowExecution:
        """The execution of an id, a unique prefix, a workflow's latest run or `@last`."""
        run_id = self.reader.find(execution_id)
        live = self.host.orchestrator.find(run_id)
        return self.execution(live) if live is not None else WorkflowExecution(self.reader, run_id)

    # -- graphs ----------------------------------------------------------------------------------

    def create_workflow_dag(self, tasks: Iterable[Any]) -> WorkflowDAG:
        """The graph of tasks given as mappings, steps or tasks."""
        return WorkflowDAG(tasks)

    def validate_workflow_dependencies(self, tasks: Iterable[Any]) -> list[str]:
        """What is wrong with the dependencies of `tasks`, one sentence each."""
        return WorkflowDAG(tasks).validate_dag()[1]

    def get_workflow_execution_order(self, tasks: Iterable[Any]) -> list[list[str]]:
        """The levels of `tasks`: everything in one may run at the same time."""
        return WorkflowDAG(tasks).get_execution_order()

    # -- inside ----------------------------------------------------------------------------------

    def _catalogue(self, definition: Definition) -> ActionCatalogue:
        return ActionCatalogue(
            self.root,
            file=definition.file,
            modules=self._modules,
            describe=lambda pairs: self.host.describe(pairs, roots(self.root, definition.file)),
        )


def machine_memory_bytes() -> int:
    """The physical memory of this machine."""
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def new_id() -> str:
    """A run's id: ten letters and digits that cannot be misread, 47 bits of chance."""
    return "".join(secrets.choice(_ID_LETTERS) for _ in range(ID_LENGTH))
