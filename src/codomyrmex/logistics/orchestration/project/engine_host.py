"""One engine's machinery, wired: database, row and lock, executors, orchestrator; and its recovery.

Layer: above the orchestrator, below definitions; the only code that knows every concrete class of the
layers beneath. `OrchestrationEngine` is this with workflows and sessions on top.

The first two steps of recovery (`run_recovery`), the fence and the end of left-over processes, are done for every
dead engine of this host when one opens.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from codomyrmex.clock import Clock, SystemClock
from codomyrmex.exceptions import CodomyrmexError, StoreError
from codomyrmex.logging_monitoring import get_logger
from codomyrmex.logistics.orchestration.project import engine_store, resource_store, run_store
from codomyrmex.logistics.orchestration.project.admission import Admission
from codomyrmex.logistics.orchestration.project.attempt_runner import AttemptRunner, MemoryLimit
from codomyrmex.logistics.orchestration.project.engine_progress import LOOK_EVERY_S, EngineProgress
from codomyrmex.logistics.orchestration.project.executors.attempt import Executor
from codomyrmex.logistics.orchestration.project.executors.worker.modules import IMPORTING
from codomyrmex.logistics.orchestration.project.host_ledger import HostLedger, ledger_directory
from codomyrmex.logistics.orchestration.project.machine import Overrides
from codomyrmex.logistics.orchestration.project.machine_detection import (
    GpuProbe,
    detect_gpus,
    detect_machine,
    overrides_of,
)
from codomyrmex.logistics.orchestration.project.machine_share import MachineShare
from codomyrmex.logistics.orchestration.project.nudge import NudgeSocket, nudge, socket_path
from codomyrmex.logistics.orchestration.project.order_policy import OrderPolicy
from codomyrmex.logistics.orchestration.project.resource_owner import free_the_dead
from codomyrmex.logistics.orchestration.project.result_files import ResultFiles
from codomyrmex.logistics.orchestration.project.run_loader import attach_results
from codomyrmex.logistics.orchestration.project.run_orchestrator import LiveRun, RunOrchestrator
from codomyrmex.logistics.orchestration.project.run_recovery import RunRecovery
from codomyrmex.logistics.orchestration.project.run_state import RunState
from codomyrmex.logistics.orchestration.project.states import Isolation, RunIntent
from codomyrmex.logistics.orchestration.project.wish_sending import ask_owner
from codomyrmex.logistics.storage.database import Database, Durability
from codomyrmex.logistics.task.lease import RENEW_EVERY_S, must_stop
from codomyrmex.settings import Settings

if TYPE_CHECKING:
    from codomyrmex.logistics.orchestration.project.secret_store import SecretStore
    from codomyrmex.logistics.orchestration.project.step_cache import StepCaching

LOOK_AT_GPUS_S = 2.0
"""How often it is looked whether somebody else uses a device, once a step has asked for one."""
LOOK_FOR_DEAD_S = 0.5
"""How often the locks of other engines are tried: what a dead one held is back within a second."""

logger = get_logger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class HostSettings:
    """What an engine may use.

    `cpu_count` and `max_workers` None mean what the machine has, `overrides` what to believe of it instead.
    With `host_scope` the machine is shared with the other engines of this host.
    """

    durability: Durability = Durability.BARRIER
    cpu_count: int | None = None
    max_workers: int | None = None
    python: str | None = None
    patience_s: float = 30.0
    grace_s: float = 5.0
    overrides: Overrides = field(default_factory=Overrides)
    host_scope: bool = True
    memory_limit: MemoryLimit = MemoryLimit.WATCH
    gpu_probe: GpuProbe | None = None
    """What tells of GPUs in place of the driver."""
    policy: OrderPolicy = field(default_factory=OrderPolicy)
    """In what order ready tasks begin that belong to no session."""

    def with_found(self, settings: Settings) -> HostSettings:
        """These, with what the settings of the workspace say of the machine and its limits."""
        return replace(
            self,
            overrides=overrides_of(settings),
            host_scope=settings.resources_scope == "host",
            memory_limit=MemoryLimit(settings.worker_memory_limit),
            policy=OrderPolicy.of(settings.order_mode, settings.order_reserve_after_s),
        )


class EngineHost:
    """See the module. Made by `open`; `close` ends it."""

    def __init__(
        self, database: Database, state_dir: Path | None, root: Path, settings: HostSettings, clock: Clock
    ) -> None:
        self.database = database
        self.state_dir = state_dir
        self.root = root
        self.clock = clock
        self.settings = settings
        self.results = ResultFiles(state_dir / "artifacts" / "results" if state_dir is not None else None)
        self._lock: engine_store.EngineLock | None = None
        self._renewed_s = clock.monotonic_s()
        self._kept_for: dict[str, object] | None = None
        """For which task room is kept, as readers are told."""
        self._closed = False
        self._scratch: Any = None
        self._secrets: SecretStore | None = None
        overrides = settings.overrides
        if settings.cpu_count is not None:
            overrides = replace(overrides, cpu_milli=1000 * settings.cpu_count)
        self._overrides = overrides
        self.machine = detect_machine(root, overrides=overrides)
        self._gpus_known = bool(self.machine.gpus)
        workers = settings.max_workers or self.machine.default_workers
        self._workers = workers
        self._shared = settings.host_scope and state_dir is not None
        self.epoch, self.token = self._enter()
        self._bury_the_dead()
        self.ledger = self._open_ledger()
        self.share = MachineShare(self.machine.capacities())
        self.runner = AttemptRunner(
            self._executors(workers),
            epoch=self.epoch,
            state_dir=state_dir,
            results=self.results,
            caching=self._caching,
            read_secrets=self.secrets,
            memory_limit=settings.memory_limit,
        )
        self.orchestrator = self._make_orchestrator()
        self.progress = EngineProgress(database, clock, self.orchestrator)
        self._recovery = RunRecovery(
            database,
            state_dir,
            clock=clock,
            epoch=self.epoch,
            orchestrator=self.orchestrator,
            results=self.results,
            look_for_gpus=lambda: self.capacities(gpu=True),
        )
        self.orchestrator.start()
        self._nudges = NudgeSocket(state_dir, self.epoch, self._nudged) if state_dir is not None else None
        self.orchestrator.timekeeper.every(RENEW_EVERY_S, self._renew)
        self.orchestrator.timekeeper.every(LOOK_EVERY_S, self.progress.look)
        if state_dir is not None:
            self.orchestrator.timekeeper.every(LOOK_FOR_DEAD_S, self._look_for_dead)

    @classmethod
    def open(
        cls,
        state_dir: Path | None,
        *,
        root: Path,
        settings: HostSettings | None = None,
        clock: Clock | None = None,
        database: Database | None = None,
    ) -> EngineHost:
        """Opens the state below `state_dir` (None: in memory), or the given `database`, and enters it."""
        from codomyrmex.logistics.storage.sqlite import SQLiteDatabase

        _refuse_import()
        settings = settings or HostSettings()
        if database is None:
            path = ":memory:" if state_dir is None else state_dir / "state.db"
            database = SQLiteDatabase.open(path, settings.durability)
        try:
            return cls(database, state_dir, root, settings, clock or SystemClock())
        except BaseException:
            database.close()
            raise

    def capacities(self, *, gpu: bool = False) -> dict[str, int]:
        """What the machine has, by resource id; with `gpu` also its devices, which are looked for only then."""
        if gpu and not self._gpus_known:
            self._gpus_known = True
            self._look_at_gpus()
            if self.machine.gpus:
                self.orchestrator.timekeeper.every(LOOK_AT_GPUS_S, self._look_at_gpus)
        return self.machine.capacities()

    def _look_at_gpus(self) -> None:
        """What devices there are now; one on which somebody else computes is out of service until they leave."""
        gpus = detect_gpus(overrides=self._overrides, probe=self.settings.gpu_probe)
        if gpus == self.machine.gpus:
            return
        self.machine = replace(self.machine, gpus=gpus)
        self.share.capacities.update(self.machine.capacities())
        self._tell_limits()
        self.resources_changed()

    def _tell_limits(self) -> None:
        try:
            with self.database.transaction() as tx:
                engine_store.tell_limits(tx, epoch=self.epoch, limits=self._limits())
        except StoreError as error:
            logger.warning("readers could not be told what this engine may use: %s", error)

    def _tell_kept_for(self, kept_for: dict[str, object] | None) -> None:
        self._kept_for = kept_for
        self._tell_limits()

    def believe(self, overrides: Overrides) -> None:
        """Takes what is given for what the machine has, from now on."""
        given = {
            name: value
            for name in ("cpu_milli", "memory_bytes", "disk_bytes", "network_bps")
            if (value := getattr(overrides, name)) is not None
        }
        gpus = self.machine.gpus
        if overrides.gpu_count is not None:
            self._gpus_known, gpus = True, detect_gpus(overrides=overrides)
        self.machine = replace(self.machine, gpus=gpus, **given)
        self.share.capacities.update(self.machine.capacities())
        self.orchestrator.capacity.cpu_milli = self.machine.cpu_milli

    def uses_holding(self, requester: str) -> bool:
        """Whether attempts of this engine run on what a session holds of the machine."""
        return requester in self.share.pools_in_use()

    def knows_session(self, session_id: str) -> bool:
        """Whether a run of that session was ever stored here."""
        return run_store.has_session(self.database, session_id)

    def resources_changed(self) -> None:
        """Somebody in this process has added, taken or given back a resource."""
        self.orchestrator.resources_changed()

    def secrets(self, names: Collection[str]) -> Mapping[str, str]:
        """The values of secrets; raises `SecretNotFound` naming those that nobody has set."""
        if self._secrets is None:
            from codomyrmex.logistics.orchestration.project.secret_store import SecretStore

            self._secrets = SecretStore(self.state_dir, environ=os.environ)
        return self._secrets.values(names)

    def describe(self, actions: list[tuple[str, str]], import_roots: tuple[str, ...]) -> list[dict[str, Any]]:
        """What a worker says of actions that reading their source cannot explain; nothing is imported here."""
        from codomyrmex.logistics.orchestration.project.executors.process import ProcessExecutor

        executor = self.runner.executor(Isolation.PROCESS)
        assert isinstance(executor, ProcessExecutor)
        return executor.describe(actions, roots=import_roots)

    # -- runs ------------------------------------------------------------------------------------

    def start(self, run: RunState, document: Mapping[str, Any]) -> LiveRun:
        """Stores a new run and begins it."""
        attach_results(run, self.database, self.results)
        return self.orchestrator.submit(run, dict(document))

    def orphans(self) -> list[tuple[str, engine_store.EngineRow]]:
        """Unfinished runs of engines that are dead, oldest first, each with its engine."""
        return self._recovery.orphans()

    def recover(
        self, run_ids: set[str] | None = None, *, to_stop: RunIntent = RunIntent.NONE
    ) -> list[LiveRun]:
        """Takes over the runs of dead engines (see `RunRecovery.recover`)."""
        return self._recovery.recover(run_ids, to_stop=to_stop)

    def close(self) -> None:
        """Ends what runs, records what has ended, leaves the state; idempotent, and repeatable when interrupted."""
        if self._closed:
            return
        if self._nudges is not None:
            self._nudges.close()
        self.orchestrator.close(grace_s=self.settings.grace_s)
        self.progress.close()
        try:
            with self.database.transaction(barrier=True) as tx:
                resource_store.release_engine(tx, epoch=self.epoch)
                engine_store.end(tx, epoch=self.epoch, now_us=self.clock.now_us())
        except StoreError as error:
            logger.warning("the end of engine %d could not be recorded: %s", self.epoch, error)
        try:
            self.ledger.close()
        except StoreError as error:
            logger.warning("the share of engine %d could not be given back: %s", self.epoch, error)
        if self._lock is not None:
            self._lock.release()
        self.database.close()
        if self._scratch is not None:
            self._scratch.cleanup()
        self._closed = True

    # -- inside ----------------------------------------------------------------------------------

    def _enter(self) -> tuple[int, str]:
        try:
            with self.database.transaction(barrier=True) as tx:
                epoch, token = engine_store.insert(tx, now_us=self.clock.now_us(), limits=self._limits())
                if self.state_dir is not None:
                    self._lock = engine_store.EngineLock(engine_store.lock_path(self.state_dir, epoch))
        except BaseException:
            if self._lock is not None:
                self._lock.release()  # should the row be there all the same, this engine is seen to be dead
            raise
        return epoch, token

    def _open_ledger(self) -> HostLedger:
        ledger = HostLedger.open(
            ledger_directory(os.environ) if self._shared else None,
            clock=self.clock,
            token=self.token,
            state=str(self.state_dir or ""),
            nudge=socket_path(self.state_dir, self.epoch) if self.state_dir is not None else None,
            on_dead=_end_left_behind,
        )
        if self._shared:
            self._check(ledger)
        return ledger

    def _make_orchestrator(self) -> RunOrchestrator:
        from codomyrmex.logistics.orchestration.project.profile_recorder import ProfileRecorder

        return RunOrchestrator(
            database=self.database,
            clock=self.clock,
            epoch=self.epoch,
            admission=Admission(
                cpu_milli=self.machine.cpu_milli,
                max_workers=self._workers,
                share=self.share,
                policy=self.settings.policy,
            ),
            ledger=self.ledger,
            nudge=self._nudge_engine,
            runner=self.runner,
            results=self.results,
            cancel=self._cancel_other,
            tell_kept_for=self._tell_kept_for,
            durations=self._durations,
            recorder=ProfileRecorder(self.clock),
            patience_s=self.settings.patience_s,
        )

    def _durations(self, run: RunState) -> Sequence[float] | None:
        """What the steps of a run that begins are expected to take; one step alone has nothing before or behind it."""
        if len(run.workflow) == 1:
            return None
        from codomyrmex.logistics.orchestration.project.profile_store import durations_of

        return durations_of(self.database, run.workflow)

    def _limits(self) -> dict[str, Any]:
        """What readers are told that this engine may use."""
        return {
            "cpu_milli": self.machine.cpu_milli,
            "memory_bytes": self.machine.memory_bytes,
            "workers": self._workers,
            "scope": "host" if self._shared else "project",
            "host_dir": str(ledger_directory(os.environ)) if self._shared else None,
            "capacities": self.machine.capacities(),
            "kept_for": self._kept_for,
        }

    def _executors(self, workers: int) -> dict[Isolation, Callable[[], Executor]]:
        def thread() -> Executor:
            from codomyrmex.logistics.orchestration.project.executors.thread import ThreadExecutor

            return ThreadExecutor(on_note=self._noted)

        def coroutine() -> Executor:
            from codomyrmex.logistics.orchestration.project.executors.coroutine import AsyncExecutor

            return AsyncExecutor(on_note=self._noted)

        def process() -> Executor:
            from codomyrmex.logistics.orchestration.project.executors.interpreter import choose_interpreter
            from codomyrmex.logistics.orchestration.project.executors.process import ProcessExecutor

            chosen = choose_interpreter(None, root=str(self.root), configured=self.settings.python)
            return ProcessExecutor(
                engine_token=self.token,
                spool_dir=self._spool_dir(),
                python=chosen.path,
                max_workers=workers,
                spawn=self.orchestrator.timekeeper.run_here,
                later=self.orchestrator.timekeeper.call_soon,
                on_note=self._noted,
            )

        return {Isolation.THREAD: thread, Isolation.ASYNC: coroutine, Isolation.PROCESS: process}

    def _caching(self) -> StepCaching:
        from codomyrmex.logistics.orchestration.project.step_cache import StepCaching

        return StepCaching(
            database=self.database,
            results=self.results,
            now_us=self.clock.now_us,
            python=self.settings.python,
        )

    def _spool_dir(self) -> str:
        """Where workers write before a log has its name; of an in-memory engine, a folder that goes with it."""
        if self.state_dir is not None:
            return str(self.state_dir / "run" / "spool")
        from tempfile import TemporaryDirectory

        self._scratch = TemporaryDirectory(prefix="codomyrmex-", ignore_cleanup_errors=True)
        return str(self._scratch.name)

    def _cancel_other(self, run_id: str) -> None:
        """Asks a run to end that may be anybody's."""
        if self.orchestrator.find(run_id) is not None:
            self.orchestrator.stop(run_id)
        else:
            ask_owner(self.database, self.state_dir, run_id, "cancel", now_us=self.clock.now_us())

    def _bury_the_dead(self) -> bool:
        """Ends what dead engines left behind, also those whose runs had all ended, and frees what they held."""
        now_us = self.clock.now_us()
        return free_the_dead(self.database, self.state_dir, epoch=self.epoch, now_us=now_us)

    def _check(self, ledger: HostLedger) -> None:
        """Raises where the ledger of this host cannot be used: better told now than by work that never starts."""
        try:
            ledger.check()
        except BaseException:
            if self._lock is not None:
                self._lock.release()  # the row stays; this engine is seen to be dead
            raise

    def _look_for_dead(self) -> None:
        """What the dead ran waits to be resumed; what they held can be used at once."""
        try:
            freed = self._bury_the_dead()
        except StoreError as error:
            logger.warning("dead engines could not be looked for: %s", error)
            return
        if freed:
            self.resources_changed()

    def _noted(self, token: str, note: Mapping[str, Any]) -> None:
        """An attempt has said something; called in whatever thread looks after it."""
        if note.get("kind") == "progress":
            self.progress.noted(token, note)
        elif note.get("kind") == "refund":
            self.orchestrator.timekeeper.call_soon(lambda: self._refund(note["name"], note["amount"]))

    def _refund(self, quota: str, amount: float) -> None:
        from codomyrmex.logistics.orchestration.project.resource_manager import ResourceManager

        try:
            known = ResourceManager(engine=self).refund(quota, amount)
        except CodomyrmexError as error:
            logger.warning("a refund of %s to %r was not taken: %s", amount, quota, error)
            return
        if not known:
            logger.warning("a refund of %s went to nobody: there is no quota %r", amount, quota)

    def _nudge_engine(self, epoch: int) -> None:
        if self.state_dir is not None:
            nudge(self.state_dir, epoch)

    def _nudged(self) -> None:
        self.orchestrator.timekeeper.call_soon(self.orchestrator.nudged)

    def _renew(self) -> None:
        now_s = self.clock.monotonic_s()
        try:
            with self.database.transaction() as tx:
                alive = engine_store.renew(tx, epoch=self.epoch, now_us=self.clock.now_us())
        except CodomyrmexError as error:
            logger.warning("the lease of engine %d could not be renewed: %s", self.epoch, error)
            if must_stop(renewed_s=self._renewed_s, now_s=now_s):
                self.orchestrator.give_up(error)
            return
        if not alive:
            self.orchestrator.give_up(
                CodomyrmexError(f"engine {self.epoch} was declared dead by another engine")
            )
            return
        self._renewed_s = now_s


def _end_left_behind(token: str) -> None:
    from codomyrmex.logistics.orchestration.project.executors.process_tree import kill_left_behind

    kill_left_behind(token)


def _refuse_import() -> None:
    """An engine that a worker starts by importing a script would run its workflow once more, without end."""
    pid, _colon, path = os.environ.get(IMPORTING, "").partition(":")
    if pid == str(os.getpid()):
        raise CodomyrmexError(
            f"{path} starts an engine when it is imported, and a worker imports it to find its functions",
            hint='put what the script does under `if __name__ == "__main__":`',
        )
