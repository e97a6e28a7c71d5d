"""Runs with the same concurrency key go one after the other.

Layer: the engine's shell, beside the timekeeper, in whose thread all of it runs. A new run with a key is PENDING
until no older live run of the state has that key, whichever engine owns it. The numbers of runs are given out
under the write lock, so of two runs each sees the other or comes first. Below a run with a key there are none
(`child_making`), so nobody who holds one waits for one.
"""

from __future__ import annotations

from collections.abc import Callable
from threading import Lock

from codomyrmex.exceptions import StoreError
from codomyrmex.logging_monitoring import get_logger
from codomyrmex.logistics.orchestration.project.news import Adoption
from codomyrmex.logistics.orchestration.project.run_state import RunState
from codomyrmex.logistics.orchestration.project.states import ConcurrencyPolicy, RunIntent
from codomyrmex.logistics.storage.database import Database

OLDER = """
SELECT id FROM run WHERE concurrency = ? AND number < ? AND status IN ('pending', 'running', 'paused')
AND coalesce(root, number) <> ? ORDER BY number LIMIT ?
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
        self._lock = Lock()
        """Between taking a run out and bringing it into the drain nobody may ask it to stop."""

    @property
    def busy(self) -> bool:
        """True while runs wait."""
        return bool(self._waiting)

    def add(self, run: RunState) -> None:
        """A run wants to begin; `look` decides."""
        self._waiting[run.id] = run

    def stop(self, run_id: str, intent: RunIntent) -> bool:
        """Ends a run that waits here; False where it does not."""
        with self._lock:
            run = self._waiting.pop(run_id, None)
            if run is not None:
                self._begin(Adoption(run, [], stop=intent))
        return run is not None

    def find(self, run_number: int) -> RunState | None:
        """A run that waits here, by its number."""
        return next((run for run in self._waiting.values() if run.number == run_number), None)

    def look(self) -> None:
        """Lets begin what may."""
        behind: set[str | None] = set()
        for run in sorted(self._waiting.values(), key=lambda run: run.number):
            key, policy = run.options.concurrency, run.workflow.policy
            if key in behind and policy is ConcurrencyPolicy.QUEUE:
                continue  # an older one waits already
            try:
                if not self._look_at(run, key, policy):
                    behind.add(key)
            except StoreError as error:
                logger.warning("the runs before %s could not be read: %s", run.id, error)

    def _look_at(self, run: RunState, key: str | None, policy: ConcurrencyPolicy) -> bool:
        """Lets a run begin, or end, where it need not wait; True then."""
        root = run.number if run.parent is None else run.parent.root
        limit = -1 if policy is ConcurrencyPolicy.CANCEL_OLD else 1
        older = [row[0] for row in self._database.query(OLDER, (key, run.number, root, limit))]
        if older and policy is not ConcurrencyPolicy.SKIP:
            for other in older if policy is ConcurrencyPolicy.CANCEL_OLD else ():
                if (run.id, other) not in self._asked:
                    self._cancel(other)
                    self._asked.add((run.id, other))
            return False
        why = f"run {older[0]} has the same concurrency key {key!r}" if older else None
        self._asked = {pair for pair in self._asked if pair[0] != run.id}
        with self._lock:
            if self._waiting.pop(run.id, None) is not None:
                self._begin(Adoption(run, [], skipped=why))
        return True
