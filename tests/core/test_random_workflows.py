"""Random workflows on real engines, compared with the reference interpreter."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from random_workflows import Step, check, document, steps

from codomyrmex.testing import run_workflow


@settings(max_examples=150)
@given(chosen=steps(), data=st.data())
def test_a_run_ends_as_the_reference_interpreter_says(chosen: list[Step], data: st.DataObject) -> None:
    result = data.draw(st.sampled_from([None, chosen[-1]["name"]]))
    outputs = {"outputs": {"result": f"${{steps.{result}.output}}"}} if result else {}
    check(run_workflow(document(chosen, **outputs)), chosen, result=result)


@settings(max_examples=60)
@given(chosen=steps(broken=False), at_once=st.sampled_from([None, 1, 2]))
def test_fail_fast_stops_what_has_not_begun(chosen: list[Step], at_once: int | None) -> None:
    more = {"max_parallel": at_once} if at_once else {}
    check(run_workflow(document(chosen, fail_fast=True, **more)), chosen, fail_fast=True)


@pytest.mark.reliability
@settings(max_examples=5000)
@given(chosen=steps(at_most=10), at_once=st.sampled_from([None, 1, 2]))
def test_a_run_ends_as_the_reference_interpreter_says_in_full(
    chosen: list[Step], at_once: int | None
) -> None:
    more = {"max_parallel": at_once} if at_once else {}
    check(run_workflow(document(chosen, **more)), chosen)
