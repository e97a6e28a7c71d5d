"""Engines that die at a chosen commit, without a process of their own: as a crash leaves the state, fast.

What dies with a process is let go of by hand: its lock file and its connections. Its row stays as it was, so
the next engine has to find out that it is dead.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from codomyrmex.clock import VirtualClock
from codomyrmex.exceptions import CodomyrmexError
from codomyrmex.logistics.orchestration.project.orchestration_engine import OrchestrationEngine
from codomyrmex.logistics.storage.database import Transaction
from codomyrmex.logistics.storage.sqlite import SQLiteDatabase
from codomyrmex.testing import FaultyDatabase, FinishedRun


class Death(Exception):
    """No error of a store: nothing is tried again after it."""


class DyingDatabase(FaultyDatabase):
    """Raises `Death` at the commits that are to fail, before or after they took effect."""

    @contextmanager
    def transaction(self, *, barrier: bool = False) -> Iterator[Transaction]:
        before = self.injected
        try:
            with super().transaction(barrier=barrier) as tx:
                yield tx
        except CodomyrmexError as error:
            if self.injected > before:
                raise Death from error
            raise


def drop(engine: OrchestrationEngine) -> None:
    """Lets go of what the kernel takes back from a process that died; writes nothing."""
    host = engine._host
    host.orchestrator.give_up(CodomyrmexError("died"))
    host.orchestrator.close()
    if host._nudges is not None and not host._closed:
        host._nudges.close()
    host._closed = True
    assert host._lock is not None
    host._lock.release()
    if host.ledger._lock is not None:
        host.ledger._lock.release()
    host.database.close()


def run_through_deaths(
    state: Path,
    what: Any,
    deaths: Sequence[tuple[int, bool]],
    *,
    look: Callable[[FinishedRun], None] = lambda run: None,
) -> FinishedRun:
    """Runs `what` on engines that die at their n-th commit, after it took effect or before.

    The last one lives. `look` sees the run after each death.
    """
    clock, root = VirtualClock(), Path(__file__).parent
    for number, after in [*deaths, (0, False)]:
        real = SQLiteDatabase.open(state / "state.db")
        database = DyingDatabase(real, after=after)
        engine = OrchestrationEngine(
            state=state, root=root, database=database, clock=clock, recover=False, cpu_count=2
        )
        database.fail_commit = database.commits + number if number else ()
        try:
            taken = engine.recover() or [_find_or_start(engine, what)]
            engine.wait(taken[0], 30)
            run = FinishedRun(engine.reader, taken[0])
            engine.shutdown()
            return run
        except (Death, CodomyrmexError):
            assert database.injected, "it died of something else"
            for view in engine.reader.runs()[0]:
                look(FinishedRun(engine.reader, view.execution_id))
            drop(engine)
    raise AssertionError("the last engine did not end the run")


def _find_or_start(engine: OrchestrationEngine, what: Any) -> str:
    stored = engine.reader.runs(roots=True)[0]
    return stored[0].execution_id if stored else engine.start_workflow(what).execution_id
