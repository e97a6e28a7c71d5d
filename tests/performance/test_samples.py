"""A few values stand for many, and the same ones each time."""

from __future__ import annotations

import statistics

import pytest
from hypothesis import given
from hypothesis import strategies as st

from codomyrmex.performance.samples import KEPT_OF_ONE_RUN, Decimated, median, quantile, size_class


def decimated(values: list[float]) -> Decimated[float]:
    kept: Decimated[float] = Decimated()
    for value in values:
        if kept.come():
            kept.keep(value)
    return kept


@pytest.mark.parametrize(
    ("size_bytes", "found"), [(0, 0), (2, 0), (3, 0), (4, 1), (15, 1), (16, 2), (64, 3), (1024, 5), (4**9, 9)]
)
def test_parameters_are_classed_by_factors_of_four(size_bytes: int, found: int) -> None:
    assert size_class(size_bytes) == found


@pytest.mark.parametrize("size", [1, 2, 3, 10, 20, 30, 70, 100])
def test_a_quantile_is_the_smallest_value_that_so_many_do_not_exceed(size: int) -> None:
    values = [float(value) for value in range(1, size + 1)]
    for tenths in range(1, 11):
        assert quantile(values, tenths / 10) == next(value for value in values if value * 10 >= tenths * size)


@given(st.lists(st.floats(0, 1e6), min_size=1))
def test_the_median_is_a_value_that_was_measured(values: list[float]) -> None:
    assert median(values) == statistics.median_low(values)


@given(st.integers(0, 3000))
def test_what_is_kept_is_spread_evenly_over_all_that_came(count: int) -> None:
    kept = decimated([float(at) for at in range(count)])
    assert kept.count == count
    assert len(kept.values) < KEPT_OF_ONE_RUN
    assert kept.values == [float(at) for at in range(0, count, kept.stride)]
    assert len(kept.values) >= min(count, KEPT_OF_ONE_RUN // 2)
