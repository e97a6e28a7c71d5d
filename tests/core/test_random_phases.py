"""Random workflows with everything in them, disturbed at random moments: they end as the interpreter says.

In two ways: simulated, where a seed decides every interleaving and gives the same one again, and on real engines.
"""

from __future__ import annotations

import os
from random import Random
from typing import Any

import pytest
from driven_runs import Wishes, drive, wishes
from hypothesis import given, settings
from hypothesis import strategies as st
from random_workflows import CHILD, all_steps, check_whole, child_steps, whole_document, workflows
from simulated_runs import Simulation

from codomyrmex.testing import FinishedRun

IN_FULL = int(os.environ.get("CODOMYRMEX_RANDOM_RUNS", "20000"))
"""How many random runs each long form makes."""
SEEDS = st.integers(0, 2**32 - 1)
AT_ONCE = st.sampled_from([None, None, 1, 2])


def simulate(made: dict[str, Any], seed: int, *, calm: bool) -> None:
    run = Simulation(whole_document(made), Random(seed), calm=calm).go()
    check_whole(run, made, run.children)


def disturb(made: dict[str, Any], wanted: Wishes, at_once: int | None) -> None:
    more = {"max_parallel": at_once} if at_once else {}
    steps = {step["name"]: step for step in all_steps(made)}
    run, children = drive(whole_document(made, **more), steps, wanted)
    check_whole(run, made, children)
    for child in children.values():
        check_child(child)


def check_child(run: FinishedRun) -> None:
    assert run.workflow_name == CHILD
    steps = child_steps(run.parameters["script"])
    made = {"steps": steps, "on_failure": [], "finally": [], "fail_fast": False, "result": "inner"}
    assert set(run.outputs) <= {"n"}
    check_whole(run, {**made, "output": "n"})


@settings(max_examples=120)
@given(made=workflows(), seed=SEEDS, calm=st.booleans())
def test_a_simulated_run_ends_as_the_reference_interpreter_says(
    made: dict[str, Any], seed: int, calm: bool
) -> None:
    simulate(made, seed, calm=calm)


@settings(max_examples=25)
@given(made=workflows(), at_once=AT_ONCE)
def test_phases_and_kinds_end_as_the_reference_interpreter_says(
    made: dict[str, Any], at_once: int | None
) -> None:
    disturb(made, Wishes(), at_once)


@settings(max_examples=60)
@given(made=workflows(), wanted=wishes(), at_once=AT_ONCE)
def test_a_disturbed_run_ends_as_the_reference_interpreter_says(
    made: dict[str, Any], wanted: Wishes, at_once: int | None
) -> None:
    disturb(made, wanted, at_once)


@pytest.mark.reliability
@settings(max_examples=IN_FULL)
@given(made=workflows(at_most=8), seed=SEEDS, calm=st.booleans())
def test_a_simulated_run_ends_as_the_reference_interpreter_says_in_full(
    made: dict[str, Any], seed: int, calm: bool
) -> None:
    simulate(made, seed, calm=calm)


@pytest.mark.reliability
@settings(max_examples=IN_FULL)
@given(made=workflows(at_most=8), wanted=wishes(), at_once=AT_ONCE)
def test_a_disturbed_run_ends_as_the_reference_interpreter_says_in_full(
    made: dict[str, Any], wanted: Wishes, at_once: int | None
) -> None:
    disturb(made, wanted, at_once)
