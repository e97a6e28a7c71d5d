"""Amounts as people write them become whole numbers exactly, or a fault that names its place."""

from __future__ import annotations

from contextlib import suppress
from decimal import Decimal
from fractions import Fraction
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from codomyrmex.exceptions import ResourceRefused, ValidationError
from codomyrmex.logistics.orchestration.project.resource_amounts import (
    Known,
    from_held,
    machine_type,
    read_amount,
    read_requirements,
    scale_of,
)
from codomyrmex.logistics.orchestration.project.states import ResourceType

CPU, MEMORY, GPU, DISK, NETWORK, QUOTA, CUSTOM = ResourceType
NAMED = {
    "api-global": Known("api-global", QUOTA),
    "openai": Known("openai", QUOTA),
    "gpu_licence": Known("lic-1", CUSTOM),
    "lic-1": Known("lic-1", CUSTOM),
    "scratch": Known("scratch", DISK),
}


@pytest.mark.parametrize(
    ("requirements", "held"),
    [
        ({"cpu": {"cores": 2}, "memory": {"gb": 1}}, {"sys-compute": 2000, "sys-memory": 10**9}),
        ({"cpu": 2, "memory": "1GiB"}, {"sys-compute": 2000, "sys-memory": 2**30}),
        ({"cpu": 0.5, "gpu": 1}, {"sys-compute": 500, "gpu": 10_000}),
        ({"gpu": 0.25, "disk": {"gb": 1}}, {"gpu": 2500, "sys-disk": 10**9}),
        ({"gpu": {"devices": 2}, "network": "10MB"}, {"gpu": 20_000, "sys-network": 10**7}),
        ({"network": "10MB/s", "memory": {"MiB": 1.5}}, {"sys-network": 10**7, "sys-memory": 1_572_864}),
        ({"api_quota": 5, "openai": {"calls": 2}}, {"api-global": 50_000, "openai": 20_000}),
        ({"gpu_licence": 1, "scratch": "1KiB"}, {"lic-1": 10_000, "scratch": 1024 * 10_000}),
        ({"sys-compute": 1, "gpu-3": 0.5}, {"sys-compute": 1000, "gpu-3": 5000}),
        ({"cpu": 0, "gpu": 0, "memory": 4096}, {"sys-memory": 4096}),
        ({"cpu": Decimal("0.125"), "memory": Fraction(8)}, {"sys-compute": 125, "sys-memory": 8}),
        ({"cpu": "1.5", "gpu_licence": 0.0001}, {"sys-compute": 1500, "lic-1": 1}),
        ({}, {}),
    ],
)
def test_requirements_are_read_by_word_id_or_name(requirements: dict[str, Any], held: dict[str, int]) -> None:
    assert read_requirements(requirements, NAMED) == held


@pytest.mark.parametrize(
    ("kind", "amount", "said"),
    [
        (CPU, 0.0005, "thousandths"),
        (GPU, 0.00001, "ten-thousandths"),
        (GPU, 1.5, "whole"),
        (MEMORY, 0.5, "whole number of bytes"),
        (MEMORY, "12 parsecs", "not a size"),
        (MEMORY, {"gb": 1, "mb": 5}, "one of"),
        (MEMORY, {"cores": 1}, "no unit"),
        (CUSTOM, 1 / 3, "ten-thousandths"),
        (CUSTOM, True, "number"),
        (CUSTOM, None, "number"),
        (CUSTOM, [1], "number"),
        (CUSTOM, "many", "not a number"),
        (CUSTOM, -1, "above 0"),
        (CUSTOM, 0, "above 0"),
        (CUSTOM, float("nan"), "no amount"),
        (CUSTOM, float("inf"), "no amount"),
        (CUSTOM, 10**30, "more than can be counted"),
        (CUSTOM, 1e300, "more than can be counted"),
    ],
)
def test_what_cannot_be_counted_is_a_fault_that_names_its_place(
    kind: ResourceType, amount: Any, said: str
) -> None:
    with pytest.raises(ValidationError, match=said) as caught:
        read_amount(amount, kind, 10_000, path="resources.x")
    assert [fault.path for fault in caught.value.faults] == ["resources.x"]


def test_every_fault_is_told_at_once_each_with_its_place_and_the_nearest_name() -> None:
    with pytest.raises(ValidationError) as caught:
        read_requirements({"cpus": 1, "memory": "1XB", "gpu_licens": 1, "cpu": 1, "sys-compute": 2}, NAMED)

    faults = {fault.path: fault for fault in caught.value.faults}
    assert list(faults) == ["cpus", "memory", "gpu_licens", "sys-compute"]
    assert faults["cpus"].nearest == "cpu"
    assert faults["gpu_licens"].nearest == "gpu_licence"
    assert faults["sys-compute"].code == "twice"


def test_where_only_resources_are_missing_the_request_is_refused_with_the_command_that_adds_one() -> None:
    with pytest.raises(ResourceRefused, match=r"openia.*did you mean 'openai'.*licence") as caught:
        read_requirements({"openia": 1, "licence": 1, "cpu": 1}, NAMED)
    assert caught.value.hint is not None
    assert "codomyrmex resources add openia" in caught.value.hint


def test_the_last_bit_that_float_arithmetic_gets_wrong_is_forgiven() -> None:
    assert read_amount(0.1 + 0.2, CPU, 1000, path="") == 300
    assert read_amount(sum([0.1] * 7), CUSTOM, 10_000, path="") == 7000


@given(st.integers(1, 10**12))
def test_what_is_held_is_read_back_as_it_was_written(held: int) -> None:
    assert read_amount(from_held(held, 10_000), CUSTOM, 10_000, path="") == held


@given(st.integers(1, 10**9), st.sampled_from([1, 1000, 10_000]))
def test_whole_amounts_are_integers(whole: int, scale: int) -> None:
    found = from_held(whole * scale, scale)
    assert found == whole
    assert type(found) is int


@given(st.dictionaries(st.text(max_size=12) | st.sampled_from([*NAMED, "cpu", "memory", "gpu"]), st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=5), inner, max_size=2),
), max_size=4))  # fmt: skip
def test_whatever_is_asked_for_is_read_or_refused(requirements: dict[str, Any]) -> None:
    held: dict[str, int] = {}
    with suppress(ValidationError, ResourceRefused):
        held = read_requirements(requirements, NAMED)
    assert all(isinstance(amount, int) and amount > 0 for amount in held.values())


@pytest.mark.parametrize(
    ("id", "kind", "scale"),
    [
        ("sys-compute", CPU, 1000),
        ("sys-memory", MEMORY, 1),
        ("sys-disk", DISK, 1),
        ("sys-network", NETWORK, 1),
        ("gpu", GPU, 10_000),
        ("gpu-12", GPU, 10_000),
        ("gpu-01", None, 10_000),
        ("gpu_licence", None, 10_000),
    ],
)
def test_what_the_machine_has_is_known_by_its_id(id: str, kind: ResourceType | None, scale: int) -> None:
    assert machine_type(id) is kind
    assert scale_of(id) == scale
