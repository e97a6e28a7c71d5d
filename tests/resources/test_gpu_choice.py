"""Which devices are given, and the variables that show them."""

from __future__ import annotations

from itertools import combinations
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from codomyrmex.logistics.orchestration.project.gpu_choice import (
    choose,
    gpu_environment,
    gpu_index,
    visible_entries,
)
from codomyrmex.logistics.orchestration.project.resource_request import UNIT

FREE = st.dictionaries(
    st.integers(0, 12).map("gpu-{}".format), st.sampled_from([0, 1, 2500, 5000, 7500, 9999, UNIT]), max_size=6
)
AMOUNTS = st.one_of(st.integers(1, UNIT), st.integers(1, 7).map(lambda count: count * UNIT))


@pytest.mark.parametrize(
    ("free", "amount", "chosen"),
    [
        ([10_000, 10_000], 10_000, ("gpu-0",)),
        ([9_999, 10_000, 10_000], 20_000, ("gpu-1", "gpu-2")),
        ([10_000, 10_000], 30_000, None),
        ([2_500, 2_500], 5_000, None),
        ([10_000, 5_000, 7_500], 5_000, ("gpu-1",)),
        ([10_000, 7_500, 7_500], 5_000, ("gpu-1",)),
        ([10_000, 10_000], 1, ("gpu-0",)),
        ([0, 0], 1, None),
        ([], 1, None),
        ([], 0, ()),
        ([0], 0, ()),
    ],
)
def test_whole_devices_go_by_index_and_a_part_where_the_least_is_left(
    free: list[int], amount: int, chosen: tuple[str, ...] | None
) -> None:
    assert choose({f"gpu-{index}": left for index, left in enumerate(free)}, amount) == chosen


def test_two_devices_with_three_quarters_taken_have_no_room_for_a_half() -> None:
    free = {"gpu-0": UNIT, "gpu-1": UNIT}
    for _ in range(2):
        (device,) = choose(free, 7_500) or ()
        free[device] -= 7_500
    assert free == {"gpu-0": 2_500, "gpu-1": 2_500}
    assert choose(free, 5_000) is None


def test_devices_are_counted_not_spelled_and_other_resources_passed_over() -> None:
    free = {"gpu-10": UNIT, "sys-memory": 2**40, "gpu-9": UNIT, "gpu_licence": UNIT, "gpu-2": UNIT}
    assert choose(free, 2 * UNIT) == ("gpu-2", "gpu-9")
    assert choose({"sys-compute": UNIT}, UNIT) is None


@pytest.mark.parametrize("amount", [-1, 10_001, 25_000])
def test_an_amount_that_is_neither_a_part_nor_whole_devices_is_refused(amount: int) -> None:
    with pytest.raises(ValueError, match="not whole devices"):
        choose({"gpu-0": UNIT}, amount)


@given(FREE, AMOUNTS)
def test_nothing_is_given_that_is_not_free_and_a_part_never_spans_devices(
    free: dict[str, int], amount: int
) -> None:
    chosen = choose(free, amount)
    if chosen is None:
        return
    assert len(set(chosen)) == len(chosen) == max(1, amount // UNIT)
    assert all(free[device] >= min(amount, UNIT) for device in chosen)
    assert list(chosen) == sorted(chosen, key=gpu_index)


@given(FREE, AMOUNTS)
def test_what_fits_on_some_devices_is_given(free: dict[str, int], amount: int) -> None:
    each, count = min(amount, UNIT), max(1, amount // UNIT)
    fits = any(all(free[name] >= each for name in names) for names in combinations(free, count))
    assert (choose(free, amount) is not None) == fits


@given(FREE, st.integers(1, UNIT - 1))
def test_a_part_leaves_the_most_room_elsewhere(free: dict[str, int], amount: int) -> None:
    chosen = choose(free, amount)
    if chosen is not None:
        fitting = [left for left in free.values() if left >= amount]
        assert free[chosen[0]] == min(fitting)


@given(st.integers(1, 4), st.lists(AMOUNTS, max_size=40), st.randoms(use_true_random=False))
def test_devices_given_and_given_back_are_never_over_subscribed(
    count: int, amounts: list[int], chance: Random
) -> None:
    free = {f"gpu-{index}": UNIT for index in range(count)}
    held: list[tuple[tuple[str, ...], int]] = []
    for amount in amounts:
        chosen = choose(free, amount)
        if chosen is not None:
            held.append((chosen, min(amount, UNIT)))
            for device in chosen:
                free[device] -= min(amount, UNIT)
        assert all(0 <= left <= UNIT for left in free.values())
        if held and chance.random() < 0.4:
            devices, each = held.pop(chance.randrange(len(held)))
            for device in devices:
                free[device] += each
    for devices, each in held:
        for device in devices:
            free[device] += each
    assert set(free.values()) == {UNIT}


def shown(ids: list[str], **inherited: str) -> tuple[str | None, str | None]:
    environment = gpu_environment(ids, inherited)
    return environment.get("CUDA_VISIBLE_DEVICES"), environment.get("ROCR_VISIBLE_DEVICES")


def test_who_asked_for_none_sees_none() -> None:
    assert gpu_environment([], {}) == {"CUDA_VISIBLE_DEVICES": "", "ROCR_VISIBLE_DEVICES": ""}
    assert shown([], CUDA_VISIBLE_DEVICES="3,4") == ("", "")


def test_devices_are_named_by_their_numbers_in_the_order_of_the_bus() -> None:
    environment = gpu_environment(["gpu-1", "gpu-3"], {})
    assert environment["CUDA_VISIBLE_DEVICES"] == "1,3"
    assert environment["ROCR_VISIBLE_DEVICES"] == "1,3"
    assert environment["CUDA_DEVICE_ORDER"] == "PCI_BUS_ID"


def test_on_amd_hip_counts_what_rocr_leaves() -> None:
    # ROCR hides all but the second device; HIP would look for a second one among the rest of one.
    assert gpu_environment(["gpu-1"], {})["HIP_VISIBLE_DEVICES"] == "0"
    assert gpu_environment(["gpu-1", "gpu-3"], {"HIP_VISIBLE_DEVICES": "7"})["HIP_VISIBLE_DEVICES"] == "0,1"


@pytest.mark.parametrize(
    ("inherited", "ids", "expected"),
    [
        ({"CUDA_VISIBLE_DEVICES": "3,5"}, ["gpu-1"], ("5", "5")),
        ({"CUDA_VISIBLE_DEVICES": " 3 , 5 "}, ["gpu-0", "gpu-1"], ("3,5", "3,5")),
        ({"CUDA_VISIBLE_DEVICES": "GPU-8932f937,MIG-9c6b"}, ["gpu-1"], ("MIG-9c6b", "MIG-9c6b")),
        ({"ROCR_VISIBLE_DEVICES": "2,GPU-4b2c"}, ["gpu-1"], ("1", "GPU-4b2c")),
        ({"HIP_VISIBLE_DEVICES": "6,7"}, ["gpu-1"], ("1", "7")),
        ({"CUDA_VISIBLE_DEVICES": "4,5", "ROCR_VISIBLE_DEVICES": "6,7"}, ["gpu-1"], ("5", "7")),
        ({"CUDA_VISIBLE_DEVICES": "3"}, ["gpu-0", "gpu-2"], ("3,2", "3,2")),
        ({"CUDA_VISIBLE_DEVICES": ""}, ["gpu-1"], ("1", "1")),
    ],
)
def test_an_inherited_list_is_what_devices_are_counted_by(
    inherited: dict[str, str], ids: list[str], expected: tuple[str, str]
) -> None:
    assert shown(ids, **inherited) == expected


@pytest.mark.parametrize("wrong", ["gpu", "gpu-", "gpu-x", "sys-memory", "gpu-1 "])
def test_the_id_of_something_else_is_no_device(wrong: str) -> None:
    with pytest.raises(ValueError, match="not the id of a GPU"):
        gpu_environment([wrong], {})


@pytest.mark.parametrize(
    ("text", "entries"),
    [(None, None), ("", ()), ("0", ("0",)), ("0, 1", ("0", "1")), ("2,,1", ("2",)), (",1", ())],
)
def test_a_list_of_visible_devices_ends_at_an_empty_entry(
    text: str | None, entries: tuple[str, ...] | None
) -> None:
    assert visible_entries(text) == entries
