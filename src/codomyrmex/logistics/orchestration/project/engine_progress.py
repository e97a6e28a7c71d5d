"""How far the work of one engine is: what attempts say of themselves, and what is expected of runs.

Layer: above the orchestrator, below the host that wires it. Both halves are made when they are first wanted: an
engine whose actions say nothing, and whom nobody asks, has neither. `look` is called by the timekeeper once a
second; estimates for handlers are worked out in the thread that tells them.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from threading import Lock
from typing import TYPE_CHECKING, Any

from codomyrmex.clock import Clock
from codomyrmex.logistics.orchestration.project.compiled_workflow import CompiledWorkflow
from codomyrmex.logistics.orchestration.project.run_orchestrator import RunOrchestrator
from codomyrmex.logistics.orchestration.project.run_state import RunState
from codomyrmex.logistics.orchestration.project.teller import Said
from codomyrmex.logistics.storage.database import Database

if TYPE_CHECKING:
    from codomyrmex.logistics.orchestration.project.expectations import Expectations
    from codomyrmex.logistics.orchestration.project.live_estimates import LiveEstimates
    from codomyrmex.logistics.orchestration.project.progress_board import ProgressBoard
    from codomyrmex.logistics.orchestration.project.run_estimate import RunEstimate
    from codomyrmex.logistics.orchestration.project.task_progress import Progress

LOOK_EVERY_S = 1.0
RUN_PROGRESS = "run_progress"
"""The event that tells handlers of it."""
_MOST_TOLD = 100
"""So many runs at most, the oldest, are worked out for handlers every second."""


class EngineProgress:
    """See the module."""

    def __init__(self, database: Database, clock: Clock, orchestrator: RunOrchestrator) -> None:
        self._database = database
        self._clock = clock
        self._orchestrator = orchestrator
        self._making = Lock()
        self._board: ProgressBoard | None = None
        self._estimates: LiveEstimates | None = None
        self._asked = False
        """Whether handlers are still to be told what the last look asked for."""

    def noted(self, token: str, note: Mapping[str, Any]) -> None:
        """An attempt says how far it is; called in whatever thread looks after it."""
        board = self._board
        if board is None:
            board = self._made_board()
        board.note(token, note)

    def words(self, run: RunState) -> Mapping[int, Progress]:
        """What the attempts of a run that are under way said last, by position."""
        return self._board.of_run(run) if self._board is not None else {}

    def estimate(self, run: RunState) -> RunEstimate | None:
        """How far a live run is, as of a moment ago; None where too little is known."""
        return self._made_estimates().of(run)

    def look(self) -> None:
        """Stores and tells what was said since the last look; lets handlers know how far runs are."""
        if self._board is not None:
            self._board.flush()
        teller = self._orchestrator.teller
        if not self._asked and self._orchestrator.live_runs() and teller.hears(RUN_PROGRESS):
            self._asked = True
            if not teller.ask(self._news):
                self._asked = False

    def close(self) -> None:
        """Leaves nothing in the store; after the last attempt has ended."""
        if self._board is not None:
            self._board.close()

    # -- inside ----------------------------------------------------------------------------------

    def _news(self) -> Iterator[Said]:
        self._asked = False
        live = [each.state for each in self._orchestrator.live_runs()[:_MOST_TOLD]]
        for run, said in self._made_estimates().news(live):
            yield run, RUN_PROGRESS, said

    def _find(self, run_id: str) -> RunState | None:
        live = self._orchestrator.find(run_id)
        return live.state if live is not None else None

    def _made_board(self) -> ProgressBoard:
        from codomyrmex.logistics.orchestration.project.progress_board import ProgressBoard

        with self._making:
            if self._board is None:
                self._board = ProgressBoard(
                    self._database, self._clock, find=self._find, tell=self._orchestrator.teller.tell
                )
            return self._board

    def _made_estimates(self) -> LiveEstimates:
        from codomyrmex.logistics.orchestration.project.live_estimates import LiveEstimates, Machinery

        with self._making:
            if self._estimates is None:
                admission = self._orchestrator.admission
                self._estimates = LiveEstimates(
                    self._clock,
                    Machinery(
                        find=self._find,
                        running=self._orchestrator.attempts,
                        words=self.words,
                        learned=self._learned,
                        workers=lambda: admission.capacity.workers,
                        capacities=lambda: admission.share.capacities,
                        named=admission.named.find,
                    ),
                )
            return self._estimates

    def _learned(self, workflow: CompiledWorkflow) -> Expectations:
        from codomyrmex.logistics.orchestration.project.stored_estimates import learned

        return learned(self._database, workflow)
