"""Runs with the same concurrency key go one after the other.

Layer: the engine's shell, beside the timekeeper, in whose thread all of it runs. A new run with a key is PENDING
until no older live run of the state has that key, whichever engine owns it. The numbers of runs are given out
under the write lock, so of two runs each sees the other or comes first. Runs of one tree do not wait for
each other: a child would wait for its own parent.
"""

from __future__ import annotations

from collections.abc import Callable

from codomyrmex.exceptions import StoreError
from codomyrmex.logging_monitoring import get_logger
from codomyrmex.logistics.orchestration.project.news import Adoption
from codomyrmex.logistics.orchestration.project.run_state import RunState
from codomyrmex.logistics.orchestration.project.states import ConcurrencyPolicy, RunIntent
from codomyrmex.logistics.storage.database import Database

OLDER = """
SELECT id FROM run WHERE concurrency = ? AND number < ? AND status IN ('pending', 'running', 'paused')
AND coalesce(root, number) <> ? ORDER BY number
"""
logger = get_logger(__name__)


class RunGate:
    """See the module. `begin` brings a run into the drain, `cancel` asks another one to end."""

    def __init__(
        self, database: Database, *, begin: Callable[[Adoption], None], cancel: Callable[[str], None]
    ) -> None:
        self._database = database
        self._begin = begin
        self._cancel = cancel
        self._waiting: dict[str, RunState] = {}
        self._asked: set[tuple[str, str]] = set()

    @property
    def busy(self) -> bool:
        """True while runs wait."""
        return bool(self._waiting)

    def add(self, run: RunState) -> None:
        """A run wants to begin; `look` decides."""
        self._waiting[run.id] = run

    def stop(self, run_id: str, intent: RunIntent) -> bool:
        """Ends a run that waits here; False where it does not."""
        run = self._waiting.pop(run_id, None)
        if run is not None:
            self._begin(Adoption(run, [], stop=intent))
        return run is not None

    def find(self, run_number: int) -> RunState | None:
        """A run that waits here, by its number."""
        return next((run for run in self._waiting.values() if run.number == run_number), None)

    def look(self) -> None:
        """Lets begin what may."""
        for run in list(self._waiting.values()):
            try:
                self._look_at(run)
            except StoreError as error:
                logger.warning("the runs before %s could not be read: %s", run.id, error)

    def _look_at(self, run: RunState) -> None:
        root = run.number if run.parent is None else run.parent.root
        key = run.options.concurrency
        older = [row[0] for row in self._database.query(OLDER, (key, run.number, root))]
        policy = run.workflow.policy
        if older and policy is not ConcurrencyPolicy.SKIP:
            if policy is ConcurrencyPolicy.CANCEL_OLD:
                for other in older:
                    if (run.id, other) not in self._asked:
                        self._asked.add((run.id, other))
                        self._cancel(other)
            return
        if self._waiting.pop(run.id, None) is None:
            return
        self._asked = {pair for pair in self._asked if pair[0] != run.id}
        why = f"run {older[0]} has the same concurrency key {key!r}" if older else None
        self._begin(Adoption(run, [], skipped=why))
