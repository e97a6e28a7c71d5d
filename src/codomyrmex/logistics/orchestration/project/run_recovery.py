"""The runs of dead engines: found, taken over, gone on with.

Layer: above the orchestrator; one of the parts that `engine_host` wires. Recovery takes over a run in this order,
each step harmless to repeat:

    1. fence     the dead engine's row gets `ended_at`: whatever still breathes of it can write no more
    2. end       every process that carries its token is killed, also one that left its session
    3. take      the run's row names this engine; refused if somebody else was faster
    4. adopt     the run is read from the store; attempts that died go back to the queue, using no retry
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from threading import Lock

from codomyrmex.clock import Clock
from codomyrmex.exceptions import NotResumable
from codomyrmex.logging_monitoring import get_logger
from codomyrmex.logistics.orchestration.project import engine_store, intent_store
from codomyrmex.logistics.orchestration.project.child_definition import ChildDefinition
from codomyrmex.logistics.orchestration.project.compiled_workflow import CompiledWorkflow
from codomyrmex.logistics.orchestration.project.impossible_requests import asks_for_gpus
from codomyrmex.logistics.orchestration.project.news import News, StopAsked
from codomyrmex.logistics.orchestration.project.resource_owner import bury
from codomyrmex.logistics.orchestration.project.result_files import ResultFiles
from codomyrmex.logistics.orchestration.project.run_loader import ended_children, load_run
from codomyrmex.logistics.orchestration.project.run_orchestrator import LiveRun, RunOrchestrator
from codomyrmex.logistics.orchestration.project.run_state import RunState
from codomyrmex.logistics.orchestration.project.secret_names import visible
from codomyrmex.logistics.orchestration.project.states import FIRST_TERMINAL_CODE, RunIntent
from codomyrmex.logistics.orchestration.project.wishes import news_of
from codomyrmex.logistics.storage.database import Database

logger = get_logger(__name__)


class RunRecovery:
    """See the module; for the engine of one epoch. `look_for_gpus` is called before a run that asks for some."""

    def __init__(
        self,
        database: Database,
        state_dir: Path | None,
        *,
        clock: Clock,
        epoch: int,
        orchestrator: RunOrchestrator,
        results: ResultFiles,
        look_for_gpus: Callable[[], object],
    ) -> None:
        self._database = database
        self._state_dir = state_dir
        self._clock = clock
        self._epoch = epoch
        self._orchestrator = orchestrator
        self._results = results
        self._look_for_gpus = look_for_gpus
        self._recovering = Lock()

    def orphans(self) -> list[tuple[str, engine_store.EngineRow]]:
        """Unfinished runs of engines that are dead, oldest first, each with its engine.

        A run of this engine that is not live in it was put aside, or its taking over was interrupted.
        """
        now_us = self._clock.now_us()
        found = []
        for owner in engine_store.owners(self._database):
            own = owner.epoch == self._epoch
            if not own and not engine_store.dead(owner, self._state_dir, now_us=now_us):
                continue
            rows = self._database.query(
                "SELECT id FROM run WHERE epoch = ? AND status IN ('pending', 'running', 'paused') ORDER BY number",
                (owner.epoch,),
            )
            found += [(row[0], owner) for row in rows if not own or self._orchestrator.find(row[0]) is None]
        return found

    def recover(
        self, run_ids: set[str] | None = None, *, to_stop: RunIntent = RunIntent.NONE
    ) -> list[LiveRun]:
        """Takes over the runs of dead engines (only those in `run_ids`, if given); returns them.

        With `to_stop` nothing of them starts any more. A run that cannot go on here raises `NotResumable` when it
        was asked for by id, and is left alone otherwise.
        """
        with self._recovering:
            return self._recover(run_ids, to_stop)

    def _recover(self, run_ids: set[str] | None, to_stop: RunIntent) -> list[LiveRun]:
        taken = []
        meant = None
        if run_ids is not None:
            meant = engine_store.below(self._database, run_ids)
            run_ids = engine_store.trees_of(self._database, run_ids)
        for run_id, owner in self.orphans():
            if run_ids is not None and run_id not in run_ids:
                continue
            try:
                wish = to_stop if meant is None or run_id in meant else RunIntent.NONE
                live = self._take_over(run_id, owner, wish)
            except NotResumable as error:
                if run_ids is not None:
                    raise
                logger.warning("run %s is left alone: %s", run_id, error)
                continue
            if live is not None:
                taken.append(live)
        return taken

    def _take_over(self, run_id: str, owner: engine_store.EngineRow, to_stop: RunIntent) -> LiveRun | None:
        from codomyrmex.logistics.orchestration.project import progress_store

        environment = visible(os.environ)
        run, lost = load_run(self._database, run_id, results=self._results, environment=environment)
        if not self._wishes(run, to_stop).stop:
            _check_resumable(run)
        if asks_for_gpus(_workflows(run.workflow, run.children)):
            self._look_for_gpus()  # they were looked for when it was submitted, by an engine that is dead
        if owner.epoch != self._epoch:
            self._bury(owner)
        with self._database.transaction(barrier=True) as tx:
            if not engine_store.take_run(tx, run_id=run_id, from_epoch=owner.epoch, epoch=self._epoch):
                return None
            progress_store.forget(tx, run_id)
        # Read again: between the first reading and the fence its engine may still have recorded something.
        run, lost = load_run(self._database, run_id, results=self._results, environment=environment)
        wishes = self._wishes(run, to_stop)
        children = ended_children(self._database, run)
        return self._orchestrator.adopt(run, lost, wishes=[*wishes.news, *children])

    def _wishes(self, run: RunState, to_stop: RunIntent) -> _Wishes:
        """What was asked of a run that nobody read, or is asked now: dealt with before anything of it starts."""
        rows = intent_store.open_of_run(self._database, run.number)
        stops = [row for row in rows if row.kind in ("cancel", "kill")]
        intents = [to_stop, run.intent, *(RunIntent(row.kind) for row in stops)]
        strongest = max(intents, key=lambda intent: intent.strength)
        news: list[News] = [news_of(row) for row in rows if row not in stops]
        if strongest.ends:
            asked = StopAsked(run.number, strongest, tuple(row.sequence for row in stops))
            return _Wishes([asked, *news], stop=True)
        return _Wishes(news, stop=False)

    def _bury(self, engine: engine_store.EngineRow) -> None:
        if self._state_dir is not None:
            same_boot = engine.boot_id == engine_store.boot_id()
            now_us = self._clock.now_us()
            bury(
                self._database,
                self._state_dir,
                engine.epoch,
                engine.token,
                same_boot=same_boot,
                now_us=now_us,
            )


def _workflows(
    workflow: CompiledWorkflow, children: Mapping[str, ChildDefinition]
) -> Iterator[CompiledWorkflow]:
    """A workflow and all that it may start."""
    yield workflow
    for child in children.values():
        yield from _workflows(child.workflow, child.children)


@dataclass(frozen=True, slots=True)
class _Wishes:
    """What is asked of a run that is taken over; `stop` where it is to end."""

    news: list[News]
    stop: bool


def _check_resumable(run: RunState) -> None:
    """Refuses a run with open steps whose functions only ever existed in the memory of a process."""
    for step, name in enumerate(run.workflow.names):
        spec = run.workflow.spec(step)
        lost = "<" in spec.action or spec.module == "__main__"
        if lost and run.state[step] < FIRST_TERMINAL_CODE:
            raise NotResumable(
                f"step {name!r} of run {run.id} calls {spec.module}:{spec.action}, which was never importable",
                hint="move the function to the top level of a module and run the workflow again",
            )
