"""The n-th commit fails, for n = 1, 2, 3 ...: the run ends right, or goes on in a new engine."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from small_workflow import ATTEMPTS, WORKFLOW, check, finish

from codomyrmex.clock import VirtualClock
from codomyrmex.exceptions import StoreBusy, StoreError, StoreFull, StoreIOError
from codomyrmex.logistics.orchestration.project.orchestration_engine import OrchestrationEngine
from codomyrmex.logistics.storage.sqlite import SQLiteDatabase
from codomyrmex.testing import FaultyDatabase, run_workflow

FAULTS = [(error, after) for error in (StoreBusy, StoreFull, StoreIOError) for after in (False, True)]


def faulty(path: Path | str, error: type[StoreError], after: bool) -> Iterator[FaultyDatabase]:
    """Databases on one state whose n-th commit fails, for n = 1, 2, 3 ...; ends when none failed."""
    number = 1
    while True:
        database = FaultyDatabase(SQLiteDatabase.open(path), fail_commit=number, error=error, after=after)
        yield database
        if not database.injected:
            assert number > 10, "the workflow was to need more commits"
            return
        number += 1


@pytest.mark.parametrize(("error", "after"), FAULTS)
def test_one_failed_commit_changes_nothing(error: type[StoreError], after: bool) -> None:
    for database in faulty(":memory:", error, after):
        if database.fail_commit == 1:  # of the engine's own row: it does not open
            with pytest.raises(error):
                run_workflow(WORKFLOW, database=database)
        else:
            run = run_workflow(WORKFLOW, database=database)
            check(run)
            assert {name: run.attempts(name) for name in "abcdef"} == ATTEMPTS


@pytest.mark.parametrize("error", [StoreBusy, StoreFull, StoreIOError])
def test_an_engine_whose_store_fails_for_good_says_so_and_a_new_one_goes_on(
    tmp_path: Path, error: type[StoreError]
) -> None:
    for number in range(1, 12):
        state = tmp_path / str(number)
        database = FaultyDatabase(SQLiteDatabase.open(state / "state.db"), error=error)
        database.fail_commit = range(number, 10**9)
        with pytest.raises(error, match="made to fail"):
            run_in(state, database)
        check(finish(state))


def run_in(state: Path, database: FaultyDatabase) -> None:
    with OrchestrationEngine(state=state, database=database, clock=VirtualClock(), patience_s=1.0) as engine:
        engine.execute_workflow(WORKFLOW)
