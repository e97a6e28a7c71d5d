"""Durations and sizes are read exactly and written back."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from codomyrmex.logistics.orchestration.project.amounts import (
    MAX_SIZE_BYTES,
    SIZE_PATTERN,
    read_duration_s,
    read_milli_cpu,
    read_rate_bps,
    read_size_bytes,
    read_units,
    write_cpu,
    write_size,
    write_units,
)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("90", 90), (90, 90), (0.5, 0.5), ("500ms", 0.5), ("90s", 90), ("1.5m", 90), ("2h", 7200), ("1d", 86400),
     ("1h30m", 5400), ("1d1s", 86401)],
)  # fmt: skip
def test_durations(text: float | str, seconds: float) -> None:
    assert read_duration_s(text) == seconds


@pytest.mark.parametrize("text", ["", "m", "5 m", "1m1h", "5min", "-5s", "1e3", "1.5h30m", "٣s", "1" * 400])
def test_what_is_no_duration(text: str) -> None:
    with pytest.raises(ValueError, match="not a duration"):
        read_duration_s(text)


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("1024", 1024),
        (7, 7),
        ("256MiB", 256 * 2**20),
        ("1.5GB", 1_500_000_000),
        ("1 KiB", 1024),
        ("0.5KiB", 512),
    ],
)
def test_sizes(text: int | str, size: int) -> None:
    assert read_size_bytes(text) == size


@pytest.mark.parametrize("text", ["", "MiB", "1.5B", "5 gigs", "-1", "1mb", "0.3KB0", "1e3"])
def test_what_is_no_size(text: str) -> None:
    with pytest.raises(ValueError, match="not a"):
        read_size_bytes(text)


@given(st.integers(0, 2**60))
def test_a_size_is_written_exactly(size: int) -> None:
    assert read_size_bytes(write_size(size)) == size


@given(st.integers(0, 10**8))
def test_a_share_of_cpus_is_written_exactly(milli: int) -> None:
    assert read_milli_cpu(write_cpu(milli)) == milli


@pytest.mark.parametrize("cpus", [-1, 0.0005, 1.2345])
def test_what_is_no_share_of_a_cpu(cpus: float) -> None:
    with pytest.raises(ValueError, match="thousandths"):
        read_milli_cpu(cpus)


@pytest.mark.parametrize(
    ("size", "text"),
    [(0, "0B"), (1500, "1500B"), (1024, "1KiB"), (256 * 2**20, "256MiB"), (10**7, "10MB"), (10**10, "10GB")],
)
def test_a_size_is_written_in_the_unit_that_makes_it_short(size: int, text: str) -> None:
    assert write_size(size) == text


def test_a_rate_is_a_size_per_second() -> None:
    assert read_rate_bps("10MB/s") == read_rate_bps("10MB") == read_rate_bps(10**7) == 10**7
    with pytest.raises(ValueError, match="not a size"):
        read_rate_bps("10MB/min")


@given(st.integers(0, 10**15))
def test_a_number_of_anything_is_written_exactly(units: int) -> None:
    assert read_units(write_units(units)) == units


@pytest.mark.parametrize("number", [-1, 0.00005, 0.33333, float("inf"), float("nan"), 1e-300, 10**15 + 0.125])
def test_what_is_finer_than_anything_is_counted(number: float) -> None:
    with pytest.raises(ValueError, match="ten-thousandths"):
        read_units(number)


def test_the_largest_size_can_be_written_and_read() -> None:
    assert re.match(SIZE_PATTERN, write_size(MAX_SIZE_BYTES - 1))
    assert read_size_bytes(write_size(MAX_SIZE_BYTES - 1)) == MAX_SIZE_BYTES - 1
