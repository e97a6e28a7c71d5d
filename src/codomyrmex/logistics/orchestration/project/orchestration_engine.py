"""OrchestrationEngine: the whole of it in one object, and the shared one behind the `get_*` functions.

Layer: the composition root; what stands above (command line, and later web and MCP) talks to this. An
engine executes: it owns the runs that it started or took over, and whoever only wants to read needs
none (`RunReader`).

    with OrchestrationEngine() as engine:
        execution = engine.execute_workflow("nightly")
"""

from __future__ import annotations

import atexit
import os
from collections.abc import Mapping
from pathlib import Path
from threading import Lock
from types import TracebackType
from typing import Any, Self

from codomyrmex.clock import Clock
from codomyrmex.exceptions import NotResumable, RunNotFound, SettingsError
from codomyrmex.logging_monitoring import get_logger
from codomyrmex.logistics.orchestration.project import intent_store
from codomyrmex.logistics.orchestration.project.engine_host import EngineHost, HostSettings
from codomyrmex.logistics.orchestration.project.run_reader import RunReader
from codomyrmex.logistics.orchestration.project.run_views import RunView, TaskCounts, TaskView
from codomyrmex.logistics.orchestration.project.states import STATUSES, RunIntent
from codomyrmex.logistics.orchestration.project.run_orchestrator import LiveRun
from codomyrmex.logistics.orchestration.project.teller import Handler
from codomyrmex.logistics.orchestration.project.workflow_execution import WorkflowExecution
from codomyrmex.logistics.orchestration.project.workflow_manager import WorkflowLike, WorkflowManager
from codomyrmex.logistics.storage.database import Database, Durability
from codomyrmex.workspace import find_workspace

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
    def reader(self) -> RunReader:
        """Reads the runs of this state."""
        return self.workflows.reader

    # -- runs ------------------------------------------------------------------------------------

    def execute_workflow(
        self, what: WorkflowLike, /, parameters: Mapping[str, Any] | None = None, **more: Any
    ) -> WorkflowExecution:
        """Runs a workflow (a name, a path, a `Workflow`, a document) to its end; `more` are parameters too."""
        return self.workflows.execute_workflow(what, parameters, **more)

    def start_workflow(
        self, what: WorkflowLike, /, parameters: Mapping[str, Any] | None = None, **more: Any
    ) -> WorkflowExecution:
        """Starts a workflow and returns at once; the run survives this process from then on."""
        return self.workflows.start_workflow(what, parameters, **more)

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
        if self._host.orchestrator.find(run_id) is None and not self._ask_owner(run_id, kill=kill):
            self._host.recover({run_id}, to_stop=RunIntent.KILL if kill else RunIntent.CANCEL)
            return
        if self._host.orchestrator.find(run_id) is not None:
            self._host.orchestrator.stop(run_id, kill=kill)

    def recover(self) -> list[str]:
        """Takes over the unfinished runs of dead engines; returns their ids, oldest first."""
        return [live.state.id for live in self._host.recover()]

    def resume(self, run_id: str) -> WorkflowExecution:
        """Takes over one unfinished run whose engine is dead and goes on with it.

        Raises `NotResumable` when it has ended or a living engine owns it.
        """
        taken = self._host.recover({run_id})
        if taken:
            return self.workflows.execution(taken[0])
        live = self._host.orchestrator.find(run_id)
        if live is not None:
            return self.workflows.execution(live)
        view = self.reader.run(run_id)
        if view.final:
            raise NotResumable(f"run {run_id} has ended: it is {view.status}")
        raise NotResumable(f"run {run_id} belongs to {view.owner}", hint="codomyrmex watch shows how it goes")

    def explain(self, run_id: str, task: str | None = None) -> list[str]:
        """Sentences: what each waiting task of a run waits for, or why it ended as it did."""
        return self.reader.explain(run_id, task)

    # -- watching --------------------------------------------------------------------------------

    def progress(self, run_id: str) -> RunView:
        """A run as this engine has it in memory (cheap), or as it is stored."""
        live = self._host.orchestrator.find(run_id)
        return _live_view(live) if live is not None else self.reader.run(run_id)

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

    def _ask_owner(self, run_id: str, *, kill: bool) -> bool:
        """Writes the wish for the living engine that owns a run; False when there is none."""
        if any(orphan == run_id for orphan, _owner in self._host.orphans()):
            return False
        ask_owner(
            self._host.database, self._host.state_dir, run_id, kill=kill, now_us=self._host.clock.now_us()
        )
        return True


def ask_owner(database: Database, state_dir: Path | None, run_id: str, *, kill: bool, now_us: int) -> None:
    """Writes the wish that a run ends and nudges its owner; for clients that host no engine."""
    from getpass import getuser

    from codomyrmex.logistics.orchestration.project.nudge import nudge

    rows = database.query("SELECT number, epoch FROM run WHERE id = ?", (run_id,))
    if not rows:
        raise RunNotFound(run_id)
    with database.transaction(barrier=True) as tx:
        intent_store.ask(tx, run=rows[0][0], kind="kill" if kill else "cancel", by=getuser(), now_us=now_us)
    if state_dir is not None:
        nudge(state_dir, rows[0][1])


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
        tasks=TaskCounts(total=len(state), **counts),
        failed_step=state.name_of(state.first_failure) if state.first_failure is not None else None,
        owner="this engine",
    )


class _Shared:
    """The one engine behind the `get_*` functions of this process."""

    def __init__(self) -> None:
        self.lock = Lock()
        self.options: dict[str, Any] = {}
        self.engine: OrchestrationEngine | None = None


_shared = _Shared()


def configure(**options: Any) -> None:
    """Sets what the shared engine is opened with (the keywords of `OrchestrationEngine`); before its first use."""
    with _shared.lock:
        if _shared.engine is not None:
            raise SettingsError(
                "the shared engine is open already", hint="call configure() before the first get_*()"
            )
        _shared.options = dict(options)


def get_orchestration_engine() -> OrchestrationEngine:
    """The shared engine of this process, opened at the first call; it adopts no other runs. Thread-safe."""
    with _shared.lock:
        if _shared.engine is None:
            _shared.engine = OrchestrationEngine(**{"recover": False, **_shared.options})
            atexit.register(close_orchestration_engine)
        return _shared.engine


def get_workflow_manager() -> WorkflowManager:
    """The manager of the shared engine."""
    return get_orchestration_engine().workflows


def close_orchestration_engine() -> None:
    """Shuts the shared engine down; the next `get_*` opens a new one. Idempotent."""
    with _shared.lock:
        engine, _shared.engine = _shared.engine, None
    if engine is not None:
        engine.shutdown()
