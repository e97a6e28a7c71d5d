"""Random workflows whose commits fail, and whose engines die: they end as the reference interpreter says."""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from dying_engine import run_through_deaths
from hypothesis import given, settings
from hypothesis import strategies as st
from random_workflows import Step, check, document, steps

from codomyrmex.exceptions import StoreBusy, StoreError, StoreFull, StoreIOError
from codomyrmex.logistics.storage.sqlite import SQLiteDatabase
from codomyrmex.testing import FaultyDatabase, FinishedRun, run_workflow

ERRORS = st.sampled_from([StoreBusy, StoreFull, StoreIOError])
# Not so many in a row that the engine loses its patience.
FEW, MANY = st.sets(st.integers(2, 20), max_size=6), st.sets(st.integers(2, 60), max_size=10)
DEATHS = st.lists(st.tuples(st.integers(1, 8), st.booleans()), max_size=4)


def try_faults(chosen: list[Step], numbers: set[int], error: type[StoreError], after: bool) -> None:
    database = FaultyDatabase(SQLiteDatabase.open(":memory:"), fail_commit=numbers, error=error, after=after)
    check(run_workflow(document(chosen), database=database), chosen)


def try_deaths(chosen: list[Step], deaths: list[tuple[int, bool]], *, fail_fast: bool) -> None:
    recorded: dict[str, int] = {}

    def nothing_recorded_changes(run: FinishedRun) -> None:
        now = {task.name: task.attempt for task in run.tasks.values() if task.status == "completed"}
        assert recorded.items() <= now.items()
        recorded.update(now)

    with TemporaryDirectory() as folder:
        what = document(chosen, fail_fast=fail_fast)
        run = run_through_deaths(Path(folder), what, deaths, look=nothing_recorded_changes)
        nothing_recorded_changes(run)
    check(run, chosen, fail_fast=fail_fast)


@settings(max_examples=80)
@given(
    chosen=steps(at_most=5),
    numbers=st.sets(st.integers(2, 20), max_size=6),
    error=ERRORS,
    after=st.booleans(),
)
def test_failed_commits_change_no_outcome(
    chosen: list[Step], numbers: set[int], error: type[StoreError], after: bool
) -> None:
    try_faults(chosen, numbers, error, after)


@settings(max_examples=40)
@given(chosen=steps(at_most=5, broken=False), deaths=DEATHS, fail_fast=st.booleans())
def test_dying_engines_change_no_outcome(
    chosen: list[Step], deaths: list[tuple[int, bool]], fail_fast: bool
) -> None:
    try_deaths(chosen, deaths, fail_fast=fail_fast)


@pytest.mark.reliability
@settings(max_examples=3000)
@given(chosen=steps(), numbers=MANY, error=ERRORS, after=st.booleans())
def test_failed_commits_change_no_outcome_in_full(
    chosen: list[Step], numbers: set[int], error: type[StoreError], after: bool
) -> None:
    try_faults(chosen, numbers, error, after)


@pytest.mark.reliability
@settings(max_examples=2000)
@given(chosen=steps(broken=False), deaths=DEATHS, fail_fast=st.booleans())
def test_dying_engines_change_no_outcome_in_full(
    chosen: list[Step], deaths: list[tuple[int, bool]], fail_fast: bool
) -> None:
    try_deaths(chosen, deaths, fail_fast=fail_fast)
