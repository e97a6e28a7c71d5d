"""Another supply than the one that is there: amounts read as in steps, every mistake named."""

from __future__ import annotations

from typing import Any

import pytest

from codomyrmex.exceptions import ValidationError
from codomyrmex.logistics.orchestration.project.machine import Gpu, Machine
from codomyrmex.logistics.orchestration.project.named_resources import NamedResource, OtherWait
from codomyrmex.logistics.orchestration.project.rate_quota import Rate
from codomyrmex.logistics.orchestration.project.resource_request import UNIT
from codomyrmex.logistics.orchestration.project.what_if import Supplied, supplied

HERE = Machine(cpu_milli=2000, memory_bytes=2**30, disk_bytes=2**33, network_bps=10**6)


def lock(id: str = "database", **more: Any) -> NamedResource:
    return NamedResource(**{"id": id, "name": id, "type": "custom", "capacity": UNIT, **more})


def quota(name: str = "openai") -> NamedResource:
    rate = Rate(capacity=60 * UNIT, per_us=60_000_000, burst=10 * UNIT)
    return lock(name, type="api_quota", capacity=60 * UNIT, rate=rate, tat_us=77)


def supply(
    what_if: dict[str, Any],
    *,
    machine: Machine = HERE,
    named: tuple[NamedResource, ...] = (),
    asked: tuple[str, ...] = (),
) -> Supplied:
    return supplied(what_if, machine=machine, named=named, asked=asked)


def faults(what_if: dict[str, Any], **more: Any) -> list[tuple[str, str, str | None]]:
    """(place, code, nearest) of each."""
    with pytest.raises(ValidationError) as refused:
        supply(what_if, **more)
    return [(fault.path, fault.code, fault.nearest) for fault in refused.value.faults]


def test_without_a_wish_it_is_what_is_there() -> None:
    assert supply({}) == Supplied(machine=HERE, named=())


@pytest.mark.parametrize(
    ("word", "amount", "id", "held"),
    [
        ("cpu", "8", "sys-compute", 8000),
        ("cpu", 1.5, "sys-compute", 1500),
        ("sys-compute", 4, "sys-compute", 4000),
        ("memory", "64GiB", "sys-memory", 64 * 2**30),
        ("memory", {"gb": 1}, "sys-memory", 10**9),
        ("disk", 0, "sys-disk", 0),
        ("network", "1MB/s", "sys-network", 10**6),
    ],
)
def test_the_machine_has_what_is_said(word: str, amount: Any, id: str, held: int) -> None:
    found = supply({word: amount}).machine.capacities()
    assert found == {**HERE.capacities(), id: held}


def test_gpus_are_counted() -> None:
    assert [gpu.id for gpu in supply({"gpu": "2"}).machine.gpus] == ["gpu-0", "gpu-1"]
    assert supply({"gpu": 0}, machine=Machine(cpu_milli=1, memory_bytes=1, gpus=(Gpu(index=0),))) == Supplied(
        machine=Machine(cpu_milli=1, memory_bytes=1), named=()
    )


def test_a_named_resource_has_what_is_said_by_its_name_or_its_id() -> None:
    row = lock("db-1", name="database")
    for word in ("database", "db-1"):
        (found,) = supply({word: 3}, named=(row,)).named
        assert (found.id, found.capacity) == ("db-1", 3 * UNIT)


def test_a_quota_lets_more_calls_through_in_the_same_period() -> None:
    (found,) = supply({"openai": 120}, named=(quota(),)).named
    assert found.rate == Rate(capacity=120 * UNIT, per_us=60_000_000, burst=10 * UNIT)
    assert found.tat_us == 0


def test_what_only_steps_know_can_be_imagined() -> None:
    found = supply({"licence": 3}, asked=("licence",))
    assert [(row.id, row.capacity, row.rate) for row in found.named] == [("licence", 3 * UNIT, None)]
    assert found.assumptions == ("there is no resource 'licence' here: planned as if there were 3",)


def test_nobody_else_is_taken_to_use_anything_and_it_is_said() -> None:
    busy = lock(used=UNIT, offline=True, waits=[OtherWait(epoch=2, amount=UNIT, since_us=1)])
    found = supply({}, named=(busy, lock("other", offline=True)), asked=("database",))
    assert [(row.used, row.offline, row.waits) for row in found.named] == [(0, False, [])] * 2
    assert found.assumptions == (
        "database is out of service: planned as if it were back",
        "1 of database is in use: planned as if nothing were",
    )


def test_a_gpu_of_somebody_else_is_taken_to_be_free_unless_gpus_were_named() -> None:
    machine = Machine(cpu_milli=1000, memory_bytes=1, gpus=(Gpu(index=0, busy=True), Gpu(index=1)))
    found = supply({}, machine=machine)
    assert found.machine.capacities()["gpu-0"] == UNIT
    assert found.assumptions == ("gpu-0 is at work for somebody else: planned as if it were free",)
    assert supply({"gpu": 1}, machine=machine).assumptions == ()


def test_every_mistake_is_told_with_its_place_and_the_nearest_name() -> None:
    found = faults(
        {"cpus": 8, "datebase": 1, "memory": "much", "cpu": 0, "gpu": 0.5, "disk": -1, "api_quota": 1},
        named=(lock(),),
        asked=("database",),
    )
    assert found == [
        ("cpus", "unknown_resource", "cpu"),
        ("datebase", "unknown_resource", "database"),
        ("memory", "wrong_value", None),
        ("cpu", "wrong_value", None),
        ("gpu", "wrong_value", None),
        ("disk", "wrong_value", None),
        ("api_quota", "unknown_resource", None),
    ]


@pytest.mark.parametrize(
    ("what_if", "code"),
    [
        ({"cpu": 1, "sys-compute": 2}, "twice"),
        ({"cpu": "0.0001"}, "too_fine"),
        ({"memory": "0"}, "wrong_value"),
        ({"memory": 10**30}, "too_much"),
        ({"gpu": 20_000}, "wrong_value"),
        ({"gpu-0": 1}, "unknown_resource"),
        ({"openai": 0}, "wrong_value"),
        ({"cpu": True}, "wrong_type"),
    ],
)
def test_an_amount_that_cannot_be_is_refused(what_if: dict[str, Any], code: str) -> None:
    assert [each[1] for each in faults(what_if, named=(quota(),))] == [code]
