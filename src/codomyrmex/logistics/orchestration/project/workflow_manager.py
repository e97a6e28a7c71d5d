"""WorkflowManager: definitions by name, checked and started; runs inspected.

Layer: above the engine's machinery, below the engine. Definitions come from files (`definition_finder`),
from Python (`Workflow`, lists of steps) and from `create_workflow`. Built alone, a manager uses an
in-memory engine of its own, which `close` ends.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from codomyrmex.exceptions import Fault, SettingsError, ValidationError, WorkflowNotFound
from codomyrmex.logistics.orchestration.project.child_preparation import ChildPreparation
from codomyrmex.logistics.orchestration.project.compiled_workflow import CompiledWorkflow
from codomyrmex.logistics.orchestration.project.definition_finder import DefinitionFinder
from codomyrmex.logistics.orchestration.project.engine_host import EngineHost
from codomyrmex.logistics.orchestration.project.run_orchestrator import LiveRun
from codomyrmex.logistics.orchestration.project.run_starter import RunStarter
from codomyrmex.logistics.orchestration.project.session_holdings import check_session, session_order
from codomyrmex.logistics.orchestration.project.states import OrchestrationMode, WorkflowStatus
from codomyrmex.logistics.orchestration.project.workflow import Workflow, WorkflowStep
from codomyrmex.logistics.orchestration.project.workflow_check import checked_document
from codomyrmex.logistics.orchestration.project.workflow_dag import WorkflowDAG
from codomyrmex.logistics.orchestration.project.workflow_execution import WorkflowExecution
from codomyrmex.logistics.orchestration.project.workflow_preparation import Definition, check

if TYPE_CHECKING:
    from codomyrmex.logistics.orchestration.project.machine import Machine
    from codomyrmex.logistics.orchestration.project.orchestration_engine import OrchestrationEngine
    from codomyrmex.logistics.orchestration.project.run_selection import Part
    from codomyrmex.logistics.orchestration.project.workflow_plan import WorkflowPlan

WorkflowLike = str | os.PathLike[str] | Workflow | Mapping[str, Any] | Definition

SUMMED_AT_MOST = 100


class WorkflowManager:
    """See the module. `config_dir` is a further folder in which definitions are looked for.

    Alone it has an engine of its own, in memory or on the folder `state`; or it works on `engine`.
    """

    def __init__(
        self,
        config_dir: str | os.PathLike[str] | None = None,
        *,
        engine: OrchestrationEngine | None = None,
        state: str | os.PathLike[str] | None = None,
        host: EngineHost | None = None,
        root: Path | None = None,
        paths: Sequence[str] = (),
        modules: Sequence[str] = (),
    ) -> None:
        if engine is not None:
            if state is not None:
                raise SettingsError("give an engine or a state, not both: an engine has its own state")
            ours: WorkflowManager = engine.workflows
            host, root = ours.host, root or ours.root
        self._owns_host = host is None
        if host is None:
            self.starter = RunStarter.open(state, root=root, modules=modules)
        else:
            self.starter = RunStarter(host, root=root or host.root, modules=modules)
        self.host: EngineHost = self.starter.host
        self.root: Path = self.starter.root
        self.reader = self.starter.reader
        folders = [*paths, os.fspath(config_dir)] if config_dir is not None else list(paths)
        self.finder = DefinitionFinder(self.root, folders)
        self._created: dict[str, Workflow] = {}
        self.starter.find_child = self._find_child

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
        from codomyrmex.logistics.orchestration.project.task import create_workflow_steps

        workflow = Workflow(name, description=description, parameters=parameters)
        for step in create_workflow_steps(steps):
            workflow.add(step)
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
        """The definition that a name, path, `Workflow` or mapping (what a workflow file holds) stands for."""
        if isinstance(what, Definition):
            return what
        if isinstance(what, Workflow):
            return Definition.of_workflow(what)
        if isinstance(what, Mapping):
            tree = {key: value for key, value in what.items() if key != "isolation"}
            subject = f"workflow {what.get('name')!r}"
            return Definition(
                document=checked_document(tree, isolation=what.get("isolation"), subject=subject)
            )
        text = os.fspath(what)
        if text in self._created:
            return Definition.of_workflow(self._created[text])
        loaded = self.finder.find(text, caller_dir=caller_dir)
        path = Path(caller_dir or Path.cwd(), text)
        file = path if path.is_file() else self.root / (loaded.file or "")
        return Definition(document=loaded.document, loaded=loaded, file=file.resolve())

    def _find_child(self, name: str, parent: Definition) -> Definition:
        """The definition that a step of `parent` means: made in Python beside it, a file near it, or by name."""
        if name in parent.children:
            return Definition.of_workflow(parent.children[name])
        folder = parent.file.parent if parent.file is not None else self.root
        return self.definition(name, caller_dir=folder)

    def validate_workflow(self, what: WorkflowLike) -> list[Fault]:
        """Everything that is wrong with a workflow and those it starts; an empty list when nothing is."""
        try:
            definition = self.definition(what)
        except ValidationError as error:
            return list(error.faults)
        _compiled, found = check(definition, self.starter.catalogue(definition))
        own = list(definition.refuse(found).faults) if found else []
        nursery = ChildPreparation(root=self.root, find=self._find_child, catalogue=self.starter.catalogue)
        return own + nursery.faults(definition)

    # -- runs ------------------------------------------------------------------------------------

    def start_workflow(
        self,
        what: WorkflowLike,
        /,
        session_id: str | Mapping[str, Any] | None = None,
        parameters: Mapping[str, Any] | None = None,
        *,
        caller_dir: Path | None = None,
        max_parallel: int | None = None,
        part: Part | None = None,
        force: bool = False,
        clean_env: Sequence[str] | None = None,
        session_mode: OrchestrationMode | str | None = None,
        session_weight: float | None = None,
        follow: Sequence[str] | None = None,
        **more: Any,
    ) -> WorkflowExecution:
        """Starts a run and returns at once; `more` are parameters too.

        `part` names the steps that are to run, the others give their latest results; `force` looks for no
        cached ones. With `clean_env` worker processes inherit of this process's variables only those that any
        program needs, and the ones named. A run of a session is served out of what the session holds.

        `session_mode` says in what order the tasks of its session begin, `session_weight` how much of the machine
        the session gets beside others that have work (1.0); both hold in this engine for all of its runs from now
        on. With `follow` the tasks begin in that order (`WorkflowPlan.order`).

        Raises `ValidationError`, `WorkflowNotFound`, `ResourceRefused`. A mapping in the place of the session
        is taken for the parameters.
        """
        if isinstance(session_id, Mapping):
            session_id, parameters = _in_order(session_id, parameters)
        order = session_order(session_mode, session_weight)
        check_session(self.host, session_id, ordered=bool(order))
        definition = self.definition(what, caller_dir=caller_dir)
        ready = self.starter.ready(
            definition, {**(parameters or {}), **more}, caller_dir=caller_dir, max_parallel=max_parallel
        )
        check_session(self.host, session_id, ready.run.workflow, ordered=bool(order))
        if session_id is not None or clean_env is not None or follow is not None:
            kept = None if clean_env is None else tuple(clean_env)
            order["follow"] = None if follow is None else _followed(follow, ready.run.workflow)
            ready.run.options = replace(ready.run.options, session=session_id, clean_env=kept, **order)
        if part is None and not force:
            return self.execution(self.starter.begin(ready))
        from codomyrmex.logistics.orchestration.project.run_reuse import start_ready
        from codomyrmex.logistics.orchestration.project.run_selection import Part

        live = start_ready(self.host, ready.run, ready.document, part=part or Part(), force=force)
        return self.execution(live)

    def execute_workflow(
        self,
        what: WorkflowLike,
        /,
        session_id: str | Mapping[str, Any] | None = None,
        parameters: Mapping[str, Any] | None = None,
        *,
        timeout_s: float | None = None,
        **more: Any,
    ) -> WorkflowExecution:
        """Runs to the end, and returns also when the work failed; otherwise as `start_workflow`.

        With `timeout_s` it returns the execution as it stands then; the run goes on.
        """
        execution = self.start_workflow(what, session_id, parameters, **more)
        execution.wait(timeout_s)
        return execution

    def plan_workflow(
        self,
        what: WorkflowLike,
        /,
        parameters: Mapping[str, Any] | None = None,
        *,
        what_if: Mapping[str, Any] | None = None,
        max_parallel: int | None = None,
        durations: Mapping[str, float] | None = None,
        caller_dir: Path | None = None,
        simulations: int | None = None,
        optimise_s: float | None = None,
        **more: Any,
    ) -> WorkflowPlan:
        """When each task of a run would begin and end, by the admission that runs have; nothing is run.

        `what_if` are amounts as in `resources:` of a step, for what there shall be so much of; `durations` are
        seconds by step, `workflow/step` or `module.action`, in place of what was learned. `simulations` None:
        as many as are worth the wait. With `optimise_s` a solver looks so many seconds for a shorter order; of
        what is there it is kept for `run --follow-plan`. `more` are parameters too. Raises as `start_workflow` does.
        """
        from codomyrmex.logistics.orchestration.project.plan_request import PlanSite, PlanWish, request_plan

        self.host.orchestrator.learn()  # what the last run has taught may not be stored yet
        site = PlanSite(
            root=self.root,
            caller_dir=caller_dir or Path.cwd(),
            find_child=self._find_child,
            catalogue=self.starter.catalogue,
            machine=self._machine,
            database=self.host.database,
            max_workers=self.host.settings.max_workers,
            policy=self.host.settings.policy,
        )
        wish = PlanWish(what_if=what_if or {}, max_parallel=max_parallel, durations=durations or {})
        definition = self.definition(what, caller_dir=caller_dir)
        request = request_plan(site, definition, {**(parameters or {}), **more}, wish)
        if optimise_s is None:
            return request.plan(simulations=simulations)
        plan = request.optimise(request.plan(simulations=0), budget_s=optimise_s)
        if not wish.what_if:
            with self.host.database.transaction(barrier=True) as tx:
                request.keep(tx, plan, now_us=self.host.clock.now_us())
        return plan

    def _machine(self, gpus: bool) -> Machine:
        """What the machine has; devices are looked for only where `gpus`."""
        self.host.capacities(gpu=gpus)
        return self.host.machine

    def execute_parallel_workflow(self, workflow: Mapping[str, Any]) -> dict[str, Any]:
        """Runs `{tasks, dependencies, max_parallel, timeout}` as one run of this engine, and waits.

        Returns `{status, total_tasks, completed_tasks, failed_tasks, task_results}`, where the status is
        `completed`, `partial_failure` or `failed` (nothing completed). Tasks are those of `ParallelExecutor`.
        """
        from codomyrmex.logistics.orchestration.project.parallel_executor import execute_parallel

        return execute_parallel(self.starter, workflow)

    def execution(self, live: LiveRun) -> WorkflowExecution:
        """The execution of a run that is live here."""
        return self.starter.execution(live)

    def get_execution_status(self, execution_id: str) -> WorkflowExecution:
        """The execution of an id, a unique prefix, a workflow's latest run or `@last`."""
        run_id = self.reader.find(execution_id)
        live = self.host.orchestrator.find(run_id)
        return self.execution(live) if live is not None else WorkflowExecution(self.reader, run_id)

    def get_performance_summary(self) -> dict[str, Any]:
        """How many runs this state has by status, the share that succeeded, and seconds of the latest ones.

        `success_rate` is of the runs that have ended; `average_duration` and `slowest` are of the latest
        `SUMMED_AT_MOST` runs that have.
        """
        counts = {status.value: self.reader.runs(1, status=status.value)[2] for status in WorkflowStatus}
        ended = sum(counts[status.value] for status in WorkflowStatus if status.terminal)
        latest = [view for view in self.reader.runs(SUMMED_AT_MOST)[0] if view.duration_s is not None]
        durations = [view.duration_s or 0.0 for view in latest]
        slowest = max(latest, key=lambda view: view.duration_s or 0.0, default=None)
        return {
            "total_executions": sum(counts.values()),
            **counts,
            "success_rate": counts["completed"] / ended if ended else None,
            "average_duration": sum(durations) / len(durations) if durations else None,
            "slowest": {"execution_id": slowest.execution_id, "workflow": slowest.workflow}
            if slowest
            else None,
        }

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


def _followed(order: Sequence[str], workflow: CompiledWorkflow) -> tuple[str, ...]:
    """The order of tasks that a run is to follow; raises `ValidationError`."""
    from codomyrmex.logistics.orchestration.project.followed_plan import order_faults

    faults = order_faults(order, workflow)
    if faults:
        raise ValidationError(faults, subject="the plan")
    return tuple(order)


def _in_order(
    first: Mapping[str, Any], second: Mapping[str, Any] | str | None
) -> tuple[str | None, Mapping[str, Any]]:
    """Session and parameters, where the parameters were given in the place of the session."""
    if isinstance(second, str):
        return second, first
    return None, {**first, **(second or {})}
