"""OrchestrationEngine: the whole of it in one object.

Layer: the composition root; what stands above (command line, and later web and MCP) talks to this. An
engine executes: it owns the runs that it started or took over, and whoever only wants to read needs
none (`RunReader`).

    with OrchestrationEngine() as engine:
        execution = engine.execute_workflow("nightly")
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import replace
from threading import Lock
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from codomyrmex.clock import Clock
from codomyrmex.exceptions import NotResumable, SettingsError
from codomyrmex.logging_monitoring import get_logger
from codomyrmex.logistics.orchestration.project.engine_host import EngineHost, HostSettings
from codomyrmex.logistics.orchestration.project.run_orchestrator import LiveRun
from codomyrmex.logistics.orchestration.project.run_reader import RunReader
from codomyrmex.logistics.orchestration.project.run_views import RunView, TaskCounts, TaskView
from codomyrmex.logistics.orchestration.project.session_holdings import check_session
from codomyrmex.logistics.orchestration.project.states import STATUSES, RunIntent, WorkflowStatus
from codomyrmex.logistics.orchestration.project.teller import Handler
from codomyrmex.logistics.orchestration.project.workflow_execution import WorkflowExecution
from codomyrmex.logistics.orchestration.project.workflow_manager import (
    WorkflowLike,
    WorkflowManager,
)
from codomyrmex.logistics.storage.database import Database, Durability
from codomyrmex.settings import load_settings
from codomyrmex.workspace import find_workspace

if TYPE_CHECKING:
    from codomyrmex.logistics.orchestration.project.resource_manager import ResourceManager
    from codomyrmex.logistics.orchestration.project.run_control import RunControl
    from codomyrmex.logistics.orchestration.project.task import Task, TaskResult
    from codomyrmex.logistics.orchestration.project.task_orchestrator import TaskOrchestrator

MEMORY = ":memory:"
logger = get_logger(__name__)


class OrchestrationEngine:
    """One engine on one state; see the module. A context manager: leaving the block shuts it down.

    `state` is a state folder, ":memory:", or None for `.codomyrmex` in the root found from the current
    folder. `durability` is `process`, `barrier` or `power`. With `recover`, unfinished runs of dead engines
    are taken over at once.
    """

    def __init__(
        self,
        config: Mapping[str, Any] | None = None,
        *,
        state: str | os.PathLike[str] | None = None,
        durability: str = "barrier",
        executor: str = "local",
        max_workers: int | None = None,
        recover: bool = True,
        root: str | os.PathLike[str] | None = None,
        cpu_count: int | None = None,
        python: str | None = None,
        patience_s: float = 30.0,
        clock: Clock | None = None,
        database: Database | None = None,
    ) -> None:
        if executor != "local":
            raise SettingsError(
                f"executor {executor!r} is not there yet", hint="leave it out: work runs on this machine"
            )
        options = dict(config or {})
        in_memory = os.fspath(state) == MEMORY if state is not None else False
        workspace = find_workspace(
            root=os.fspath(root) if root is not None else None,
            state=os.fspath(state) if state is not None and not in_memory else None,
        )
        if not in_memory:
            workspace.prepare()
        self.workspace = workspace
        settings = HostSettings(
            durability=_durability(durability),
            cpu_count=cpu_count,
            max_workers=max_workers,
            python=python,
            patience_s=patience_s,
        )
        found = options.get("settings")
        if found is None:
            found = load_settings(root=workspace.root, state=None if in_memory else workspace.state)
        settings = replace(settings.with_found(found), gpu_probe=options.get("gpu_probe"))
        self._host = EngineHost.open(
            None if in_memory else workspace.state,
            root=workspace.root,
            settings=settings,
            clock=clock,
            database=database,
        )
        self.workflows = WorkflowManager(
            host=self._host,
            root=workspace.root,
            paths=options.get("workflow_paths", ()),
            modules=options.get("action_modules", ()),
        )
        self._control: RunControl | None = None
        self._tasks: TaskOrchestrator | None = None
        self._resources: ResourceManager | None = None
        self._tasks_lock = Lock()
        if recover:
            try:
                taken = self.recover()
            except BaseException:
                self.shutdown()
                raise
            if taken:
                logger.warning("took over unfinished runs of dead engines: %s", ", ".join(taken))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.shutdown()

    @property
    def epoch(self) -> int:
        """The number of this engine among all that ever opened this state."""
        return self._host.epoch

    @property
    def host(self) -> EngineHost:
        """The machinery below: for those who build on it."""
        return self._host

    @property
    def reader(self) -> RunReader:
        """Reads the runs of this state."""
        return self.workflows.reader

    @property
    def control(self) -> RunControl:
        """What one may do to the runs of this state."""
        if self._control is None:
            from codomyrmex.logistics.orchestration.project.run_control import RunControl

            host = self._host
            self._control = RunControl(
                host.database, host.state_dir, self.reader, now_us=host.clock.now_us, here=self._here
            )
        return self._control

    @property
    def resources(self) -> ResourceManager:
        """What there is to be had, and who holds it."""
        with self._tasks_lock:
            if self._resources is None:
                from codomyrmex.logistics.orchestration.project.resource_manager import ResourceManager

                self._resources = ResourceManager(engine=self)
            return self._resources

    @property
    def tasks(self) -> TaskOrchestrator:
        """Tasks submitted alone: each is a run of this engine."""
        with self._tasks_lock:
            if self._tasks is None:
                from codomyrmex.logistics.orchestration.project.task_orchestrator import TaskOrchestrator

                self._tasks = TaskOrchestrator(engine=self)
            return self._tasks

    # -- runs ------------------------------------------------------------------------------------

    def execute_workflow(
        self,
        what: WorkflowLike,
        /,
        session_id: str | Mapping[str, Any] | None = None,
        parameters: Mapping[str, Any] | None = None,
        **more: Any,
    ) -> WorkflowExecution:
        """Runs a workflow (a name, a path, a `Workflow`, a document) to its end; `more` are parameters too."""
        return self.workflows.execute_workflow(what, session_id, parameters, **more)

    def start_workflow(
        self,
        what: WorkflowLike,
        /,
        session_id: str | Mapping[str, Any] | None = None,
        parameters: Mapping[str, Any] | None = None,
        **more: Any,
    ) -> WorkflowExecution:
        """Starts a workflow and returns at once; the run survives this process from then on."""
        return self.workflows.start_workflow(what, session_id, parameters, **more)

    def execute_task(self, task: Task | Mapping[str, Any], session_id: str | None = None) -> TaskResult:
        """Runs one task and waits; returns also when it failed or was refused (`success` False, `error` set)."""
        check_session(self._host, session_id)
        return self.tasks.execute_task(task, session_id=session_id)

    def wait(self, run_id: str, timeout_s: float | None = None) -> bool:
        """Waits for the end of a run of this engine; False when `timeout_s` was over first."""
        live = self._host.orchestrator.find(run_id)
        return True if live is None else self._host.orchestrator.wait(live, timeout_s)

    def cancel(self, run_id: str, kill: bool = False) -> None:
        """Asks for a run to end: nothing more starts, what runs is ended after its grace (at once with `kill`).

        A run that has ended is left as it is. A run of another living engine gets the wish through the
        state; one that nobody owns is taken over and ended here.
        """
        view = self.reader.run(run_id)
        if view.final:
            return
        orchestrator = self._host.orchestrator
        if orchestrator.find(run_id) is None and self._is_orphan(run_id):
            self._host.recover({run_id}, to_stop=RunIntent.KILL if kill else RunIntent.CANCEL)
        elif orchestrator.find(run_id) is not None:
            orchestrator.stop(run_id, kill=kill)
        else:
            self.control.send(run_id, "kill" if kill else "cancel")

    def pause(self, run_id: str) -> None:
        """Starts nothing more of a run until it is resumed; what runs ends. See `RunControl`."""
        self.control.pause(run_id)

    def signal(self, run_id: str, name: str, data: Any = None) -> None:
        """Sends a run a signal with data; see `RunControl`."""
        self.control.signal(run_id, name, data)

    def answer(
        self,
        run_id: str,
        task: str,
        approved: bool = True,
        data: Any = None,
        *,
        by: str | None = None,
        comment: str | None = None,
    ) -> None:
        """Answers an approval of a run; `by` is recorded as claimed where it is not the login name."""
        from codomyrmex.logistics.orchestration.project.run_control import answerer

        who = answerer(by)
        self.control.answer(run_id, task, approved=approved, data=data, who=who, comment=comment)

    def recover(self) -> list[str]:
        """Takes over the unfinished runs of dead engines; returns their ids, oldest first."""
        return [live.state.id for live in self._host.recover()]

    def resume(self, run_id: str) -> WorkflowExecution:
        """Goes on with a run: one that was paused, or an unfinished one whose engine is dead, which is taken over.

        Raises `NotResumable` when it has ended, or when a living engine already works on it.
        """
        paused = self.reader.is_paused(run_id)
        taken = [live for live in self._host.recover({run_id}) if live.state.id == run_id]
        live = taken[0] if taken else self._host.orchestrator.find(run_id)
        view = self.reader.run(run_id)
        if live is None and view.final:
            raise NotResumable(f"run {run_id} has ended: it is {view.status}")
        if paused:
            self.control.resume(run_id)
        if live is not None:
            return self.workflows.execution(live)
        if paused:
            return WorkflowExecution(self.reader, run_id)
        raise NotResumable(f"run {run_id} belongs to {view.owner}", hint="codomyrmex watch shows how it goes")

    def explain(self, run_id: str, task: str | None = None) -> list[str]:
        """Sentences: what each waiting task of a run waits for, or why it ended as it did."""
        return self.reader.explain(run_id, task)

    # -- watching --------------------------------------------------------------------------------

    def progress(self, run_id: str) -> RunView:
        """A run as this engine has it in memory (cheap), or as it is stored."""
        live = self._host.orchestrator.find(run_id)
        if live is None:
            return self.reader.run(run_id)
        found, view = self._host.progress.estimate(live.state), _live_view(live)
        if found is None:
            return view
        view = replace(view, **found.to_dict())
        if live.state.status is WorkflowStatus.PAUSED:  # nobody knows for how long
            return replace(view, left_s=None, left_p90_s=None)
        return view

    def running(self, run_id: str, limit: int = 20) -> list[TaskView]:
        """The tasks of a run whose attempts are under way here, at most `limit`."""
        live = self._host.orchestrator.find(run_id)
        if live is None:
            return self.reader.tasks(run_id, status="running", limit=limit)
        state = live.state
        found = []
        for position in self._host.orchestrator.running_positions(state)[:limit]:
            step = state.workflow.names[state.step_of(position)]
            spec = state.spec_of(position)
            found.append(
                TaskView(
                    name=state.name_of(position),
                    step=step,
                    status="running",
                    index=state.item_number(position),
                    attempt=state.attempts[position],
                    module=spec.module,
                    action=spec.action,
                    log_path=self._host.runner.log_path(
                        state.id, state.name_of(position), state.attempts[position]
                    ),
                )
            )
        return found

    def register_event_handler(self, event: str, handler: Handler) -> None:
        """Calls `handler(event, data)` for every committed event of this kind (`*`: all), in order."""
        self._host.orchestrator.teller.register(event, handler)

    def shutdown(self) -> None:
        """Ends what runs here and leaves the state; unfinished runs can be resumed. Idempotent."""
        self._host.close()

    # -- inside ----------------------------------------------------------------------------------

    def _is_orphan(self, run_id: str) -> bool:
        return any(orphan == run_id for orphan, _owner in self._host.orphans())

    def _here(self, run_id: str, kind: str, payload: dict[str, Any], by: str) -> bool:
        """Brings a wish to a run that is live here."""
        return self._host.orchestrator.ask(run_id, kind, payload, by=by)


def _durability(text: str) -> Durability:
    try:
        return Durability(text)
    except ValueError:
        allowed = ", ".join(level.value for level in Durability)
        raise SettingsError(f"durability {text!r} is unknown; allowed: {allowed}") from None


def _live_view(live: LiveRun) -> RunView:
    state = live.state
    counts = dict(zip((status.value for status in STATUSES), state.counts, strict=True))
    # A fan-out step waits for its items, which are counted themselves.
    counts["blocked"] += counts["running"] - state.running
    counts["running"] = state.running
    return RunView(
        execution_id=state.id,
        workflow=state.workflow.name,
        status=state.status.value,
        tasks=TaskCounts(total=sum(counts.values()), **counts),
        failed_step=state.name_of(state.first_failure) if state.first_failure is not None else None,
        owner="this engine",
        phase=state.phase.value,
        intent=state.intent.value,
    )
