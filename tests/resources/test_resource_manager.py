"""What one does with resources, from adding one to the death of who held it; over every kind of state."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from threading import Barrier, Thread
from typing import Any

import pytest

from codomyrmex.clock import ManualClock
from codomyrmex.exceptions import Conflict, EngineClosed, ResourceRefused, SettingsError, ValidationError
from codomyrmex.logistics.orchestration.project import engine_store, patient_claims
from codomyrmex.logistics.orchestration.project.host_ledger import HostLedger
from codomyrmex.logistics.orchestration.project.orchestration_engine import OrchestrationEngine
from codomyrmex.logistics.orchestration.project.resource_manager import ResourceManager
from codomyrmex.logistics.orchestration.project.resources import (
    Resource,
    ResourceAllocation,
    ResourceLimits,
    ResourceStatus,
    ResourceType,
    ResourceUsage,
)
from codomyrmex.logistics.storage.database import Database
from codomyrmex.logistics.storage.sqlite import MEMORY, SQLiteDatabase
from waiting import wait_until

HOLDER = Path(__file__).parent / "holder_script.py"
CUSTOM = ResourceType.CUSTOM


@dataclass
class PlainOwner:
    """What a manager needs of an engine, and no engine: four CPUs, 8 GiB, two GPUs."""

    clock: ManualClock
    database: Database = field(default_factory=lambda: SQLiteDatabase.open(MEMORY))
    state_dir: Path | None = None
    told: int = 0

    def __post_init__(self) -> None:
        with self.database.transaction() as tx:
            self.epoch, token = engine_store.insert(tx, now_us=self.clock.now_us())
        self.ledger = HostLedger.open(None, clock=self.clock, token=token)

    def capacities(self, *, gpu: bool = False) -> dict[str, int]:
        found = {"sys-compute": 4000, "sys-memory": 2**33, "sys-disk": 10**12, "sys-network": 10**8}
        return {**found, "gpu-0": 10_000, "gpu-1": 10_000} if gpu else found

    def uses_holding(self, requester: str) -> bool:
        return False

    def resources_changed(self) -> None:
        self.told += 1

    def close(self) -> None:
        self.ledger.close()
        self.database.close()


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture(autouse=True)
def own_host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The machine is not shared with the one that runs the tests, and has what is said here."""
    monkeypatch.setenv("CODOMYRMEX_HOST_DIR", str(tmp_path / "host"))
    monkeypatch.setenv("CODOMYRMEX_RESOURCES_CPU", "4")
    monkeypatch.setenv("CODOMYRMEX_RESOURCES_MEMORY", "8GiB")
    monkeypatch.setenv("CODOMYRMEX_RESOURCES_GPU", "2")


@pytest.fixture(params=["memory", "file", "engine"])
def manager(request: pytest.FixtureRequest, tmp_path: Path, clock: ManualClock) -> Iterator[ResourceManager]:
    """A manager with a state in memory, with one in a folder, and on somebody else's."""
    if request.param == "engine":
        owner = PlainOwner(clock)
        with ResourceManager(engine=owner) as made:
            yield made
        owner.close()
        return
    state = tmp_path / "state" if request.param == "file" else None
    with ResourceManager(state=state, clock=clock) as made:
        yield made


@pytest.fixture
def seats(manager: ResourceManager) -> ResourceManager:
    """With a semaphore of three, which real time may be waited for too."""
    manager.add_resource(Resource("seats", "seats", CUSTOM, 3))
    return manager


def taken(found: ResourceAllocation | None) -> ResourceAllocation:
    assert found is not None
    return found


def usage(manager: ResourceManager, id: str) -> ResourceUsage:
    found = manager.get_usage(id)
    assert found is not None
    return found


def resource(manager: ResourceManager, id: str) -> Resource:
    found = manager.get_resource(id)
    assert found is not None
    return found


# -- adding and finding --------------------------------------------------------------------------------


def test_a_resource_is_added_found_and_told_of(manager: ResourceManager) -> None:
    given = Resource("lic-1", "gpu_licence", CUSTOM, 2, "of the simulator", metadata={"vendor": "x"})

    assert manager.add_resource(given) is True

    found = resource(manager, "lic-1")
    assert (found.name, found.capacity, found.description, found.metadata) == (
        "gpu_licence",
        2,
        "of the simulator",
        {"vendor": "x"},
    )
    assert (found.allocated, found.available, found.status) == (0, 2, ResourceStatus.AVAILABLE)
    assert manager.get_resource_by_name("gpu_licence") == found
    assert manager.get_resource("nobody") is None
    assert manager.get_resource_by_name("lic-1") is None
    assert manager.get_usage("nobody") is None


def test_what_the_machine_has_is_listed_first_then_what_was_added(seats: ResourceManager) -> None:
    ids = [each.id for each in seats.list_resources()]
    assert ids == [
        "sys-compute",
        "sys-memory",
        "sys-disk",
        "sys-network",
        "gpu-0",
        "gpu-1",
        "api-global",
        "seats",
    ]
    assert [each.id for each in seats.list_resources(ResourceType.GPU)] == ["gpu-0", "gpu-1"]
    assert [each.id for each in seats.list_resources("custom")] == ["seats"]
    assert resource(seats, "sys-compute").capacity == 4
    assert resource(seats, "memory").capacity == 2**33


def test_a_resource_round_trips_through_its_mapping() -> None:
    given = Resource("q", "q", ResourceType.API_QUOTA, 60, limits=ResourceLimits(max_per_request=5), burst=10)
    assert Resource.from_dict(given.to_dict()) == given
    assert Resource.from_dict({"id": "a", "type": "custom", "capacity": 1}).name == "a"
    with pytest.raises(ValidationError, match="capacity"):
        Resource.from_dict({"id": "a", "type": "custom"})
    with pytest.raises(ValidationError, match="custom"):
        Resource("a", "a", "costum", 1)  # type: ignore[arg-type]  # what a person may write


def test_adding_it_again_changes_it_and_who_holds_keeps(seats: ResourceManager) -> None:
    held = taken(seats.allocate("seats", "ann", 3))

    assert seats.add_resource(Resource("seats", "chairs", CUSTOM, 2))

    found = resource(seats, "chairs")
    assert (found.capacity, found.allocated, found.available) == (2, 3, 0)
    assert found.status is ResourceStatus.EXHAUSTED
    assert seats.allocate("seats", "ben") is None
    seats.release(held.allocation_id)
    assert seats.allocate("seats", "ben", 2) is not None


def test_every_fault_of_a_resource_is_told_at_once(manager: ResourceManager) -> None:
    wrong = Resource("sys-compute", "9 lives", CUSTOM, 1.00001, per_s=5, limits=ResourceLimits(max_ttl_s=-1))
    with pytest.raises(ValidationError) as caught:
        manager.add_resource(wrong)
    assert [fault.path for fault in caught.value.faults] == [
        "id",
        "name",
        "capacity",
        "per_s",
        "limits.max_ttl_s",
    ]


def test_a_name_belongs_to_one_resource(seats: ResourceManager) -> None:
    with pytest.raises(Conflict, match="seats"):
        seats.add_resource(Resource("other", "seats", CUSTOM, 1))


def test_a_resource_is_removed_unless_somebody_holds_it(seats: ResourceManager) -> None:
    seats.allocate("seats", "ann")
    with pytest.raises(Conflict, match="ann"):
        seats.remove_resource("seats")
    assert seats.remove_resource("seats", force=True) is True
    assert seats.remove_resource("seats") is False
    assert seats.list_allocations() == []
    with pytest.raises(ResourceRefused, match="seats"):
        seats.allocate("seats", "ann")


def test_what_is_always_there_is_not_removed(manager: ResourceManager) -> None:
    for id in ("sys-compute", "gpu-0", "api-global", "api_quota"):
        with pytest.raises(Conflict, match="always there"):
            manager.remove_resource(id)


# -- taking and giving back ----------------------------------------------------------------------------


def test_one_takes_some_and_gives_it_back_once(seats: ResourceManager) -> None:
    held = taken(seats.allocate("seats", "ann", 2))

    assert (held.resource_id, held.requester_id, held.amount, held.expires_at) == ("seats", "ann", 2, None)
    assert usage(seats, "seats") == ResourceUsage("seats", 3, 2, 1, 1, 66.6667, 2)
    assert resource(seats, "seats").status is ResourceStatus.ALLOCATED
    assert seats.release(held.allocation_id) is True
    assert seats.release(held.allocation_id) is False
    assert seats.release("nothing") is False
    assert usage(seats, "seats") == ResourceUsage("seats", 3, 0, 3, 0, 0.0, 2)


def test_nobody_gets_what_is_not_there(seats: ResourceManager) -> None:
    assert seats.allocate("seats", "ann", 2) is not None
    assert seats.allocate("seats", "ben", 2) is None
    assert seats.allocate("seats", "ben", 1) is not None
    assert resource(seats, "seats").status is ResourceStatus.EXHAUSTED


def test_parts_of_a_unit_add_up_exactly(manager: ResourceManager) -> None:
    manager.add_resource(Resource("cake", "cake", CUSTOM, 1))
    for _ in range(10):
        assert manager.allocate("cake", "guest", 0.1) is not None
    assert manager.allocate("cake", "guest", 0.0001) is None
    assert usage(manager, "cake").available_amount == 0


def test_more_than_there_is_can_never_be_had_and_is_refused_at_once(seats: ResourceManager) -> None:
    with pytest.raises(ResourceRefused, match=r"4 of 'seats' were asked for; there are 3"):
        seats.allocate("seats", "ann", 4, wait_s=60)
    with pytest.raises(ResourceRefused, match=r"99 of 'sys-compute'.*; 7 of 'seats'"):
        seats.allocate_resources("ann", {"cpu": 99, "seats": 7})
    with pytest.raises(ResourceRefused, match="did you mean 'seats'"):
        seats.allocate("seat", "ann")


def test_an_amount_that_cannot_be_counted_is_a_fault(seats: ResourceManager) -> None:
    for amount in (0, -1, 0.00001, float("nan"), "much", True):
        with pytest.raises(ValidationError, match="seats"):
            seats.allocate("seats", "ann", amount)
    with pytest.raises(ValidationError, match="requester"):
        seats.allocate("seats", "")
    with pytest.raises(ValidationError, match="ttl_s"):
        seats.allocate("seats", "ann", ttl_s=0)


def test_several_are_taken_all_or_nothing(seats: ResourceManager) -> None:
    seats.add_resource(Resource("lock", "lock", CUSTOM, 1))
    wants = {"cpu": {"cores": 2}, "memory": {"gb": 1}, "seats": 2, "lock": 1}

    first = seats.allocate_resources("ann", wants)
    second = seats.allocate_resources("ben", {"cpu": 1, "seats": 1, "lock": 1})

    assert first is not None
    assert [(each.resource_id, each.amount) for each in first] == [
        ("sys-compute", 2),
        ("sys-memory", 10**9),
        ("seats", 2),
        ("lock", 1),
    ]
    assert second is None
    assert [usage(seats, id).allocated_amount for id in ("sys-compute", "seats", "lock")] == [2, 2, 1]
    assert len(seats.list_allocations(requester_id="ann")) == 4
    assert seats.list_allocations(requester_id="ben") == []
    assert [each.requester_id for each in seats.list_allocations("lock")] == ["ann"]
    assert seats.deallocate_resources("ann") is True
    assert seats.deallocate_resources("ann") is False
    assert [usage(seats, id).allocated_amount for id in ("sys-compute", "seats", "lock")] == [0, 0, 0]
    assert seats.allocate_resources("ann", {"cpu": 0}) == []


def test_devices_are_given_by_number_and_a_part_is_on_one_device(manager: ResourceManager) -> None:
    half = taken(manager.allocate("gpu", "ann", 0.5))
    other = taken(manager.allocate("gpu", "ben", 0.5))
    whole = taken(manager.allocate("gpu", "cid"))

    assert half.gpu_ids == other.gpu_ids == ("gpu-0",)
    assert (whole.resource_id, whole.gpu_ids) == ("gpu-1", ("gpu-1",))
    assert manager.allocate("gpu", "dan", 0.1) is None
    assert resource(manager, "gpu-0").status is ResourceStatus.EXHAUSTED
    for each in (half, other, whole):
        assert manager.release(each.allocation_id) is True
        assert manager.release(each.allocation_id) is False
    both = taken(manager.allocate("gpu", "ann", 2))
    assert (both.resource_id, both.amount, both.gpu_ids) == ("gpu", 2, ("gpu-0", "gpu-1"))
    assert manager.list_allocations("gpu-1") == [both]


def test_the_machine_can_be_held_and_taken_offline_too(manager: ResourceManager) -> None:
    held = taken(manager.allocate("sys-memory", "ann", "6GiB"))
    assert usage(manager, "memory").available_amount == 2**31
    assert manager.allocate("memory", "ben", "3GiB") is None

    assert manager.set_offline("sys-memory") is True
    assert resource(manager, "memory").status is ResourceStatus.OFFLINE
    assert manager.allocate("memory", "ben", 1) is None
    assert manager.set_online("sys-memory") is True

    assert manager.allocate("memory", "ben", "2GiB") is not None
    assert manager.release(held.allocation_id)
    assert usage(manager, "memory").peak_amount == 2**33
    assert manager.set_offline("gpu-7") is False


def test_nobody_gets_any_of_what_is_offline_and_who_holds_keeps(seats: ResourceManager) -> None:
    held = taken(seats.allocate("seats", "ann"))
    assert seats.set_offline("seats") is True

    assert seats.allocate("seats", "ben") is None
    assert resource(seats, "seats").status is ResourceStatus.OFFLINE
    assert seats.release(held.allocation_id) is True
    assert seats.set_online("seats") is True
    assert seats.allocate("seats", "ben") is not None
    assert seats.set_offline("nobody") is False


# -- time ----------------------------------------------------------------------------------------------


def test_an_allocation_whose_time_is_over_is_free_at_once(seats: ResourceManager, clock: ManualClock) -> None:
    held = taken(seats.allocate("seats", "ann", 3, ttl_s=10))
    assert held.expires_at is not None
    clock.advance(9.9)
    assert seats.allocate("seats", "ben") is None
    clock.advance(0.1)

    assert usage(seats, "seats").allocated_amount == 0
    assert seats.list_allocations() == []
    assert seats.allocate("seats", "ben", 3) is not None
    assert seats.release(held.allocation_id) is False


def test_who_renews_in_time_keeps_it_and_who_is_late_does_not(
    seats: ResourceManager, clock: ManualClock
) -> None:
    held = taken(seats.allocate("seats", "ann", 3, ttl_s=10))
    clock.advance(8)
    assert seats.renew(held.allocation_id, 10) is True
    clock.advance(8)
    assert seats.allocate("seats", "ben") is None
    clock.advance(2)
    assert seats.renew(held.allocation_id, 10) is False
    assert seats.renew("nothing", 10) is False


def test_a_clock_that_is_set_back_brings_nothing_to_life_again(
    seats: ResourceManager, clock: ManualClock
) -> None:
    late = taken(seats.allocate("seats", "ann", 3, ttl_s=10))
    clock.advance(10)
    assert seats.allocate("seats", "ben", 3) is not None
    clock.advance(-5)

    assert seats.renew(late.allocation_id, 10) is False
    assert usage(seats, "seats").allocated_amount == 3


def test_cleaning_up_tells_how_many_were_over(seats: ResourceManager, clock: ManualClock) -> None:
    seats.allocate("seats", "ann", 1, ttl_s=5)
    seats.allocate("seats", "ben", 1, ttl_s=5)
    seats.allocate("cpu", "cid", 1, ttl_s=5)
    seats.allocate("seats", "dan", 1, ttl_s=50)
    assert seats.cleanup_expired_allocations() == 0
    clock.advance(5)
    assert seats.cleanup_expired_allocations() == 3
    assert seats.cleanup_expired_allocations() == 0
    assert [each.requester_id for each in seats.list_allocations()] == ["dan"]


def test_machine_holds_end_by_the_clock_and_can_be_renewed(
    manager: ResourceManager, clock: ManualClock
) -> None:
    held = taken(manager.allocate("cpu", "ann", 4, ttl_s=10))
    clock.advance(8)
    assert manager.renew(held.allocation_id, 10) is True
    clock.advance(10)
    assert manager.allocate("cpu", "ben", 4) is not None
    assert manager.renew(held.allocation_id, 10) is False
    assert manager.release(held.allocation_id) is False


def test_limits_are_kept(manager: ResourceManager, clock: ManualClock) -> None:
    limits = ResourceLimits(max_per_request=2, max_per_requester=3, max_ttl_s=60)
    manager.add_resource(Resource("seats", "seats", CUSTOM, 10, limits=limits))
    assert resource(manager, "seats").limits == limits

    with pytest.raises(ResourceRefused, match="max_per_request is 2"):
        manager.allocate("seats", "ann", 3)
    with pytest.raises(ResourceRefused, match="max_ttl_s is 60"):
        manager.allocate("seats", "ann", ttl_s=61)
    first = taken(manager.allocate("seats", "ann", 2))
    assert manager.allocate("seats", "ann", 2) is None
    assert manager.allocate("seats", "ben", 2) is not None
    with pytest.raises(ResourceRefused, match="60 s at most"):
        manager.renew(first.allocation_id, 61)
    clock.advance(60)
    assert manager.list_allocations() == []


# -- quotas --------------------------------------------------------------------------------------------


def test_a_quota_is_spent_and_comes_back_with_time(manager: ResourceManager, clock: ManualClock) -> None:
    manager.add_resource(Resource("openai", "openai", ResourceType.API_QUOTA, 60, per_s=60, burst=3))

    spent = taken(manager.allocate("openai", "ann", 3))

    assert spent.expires_at == spent.allocated_at
    assert manager.release(spent.allocation_id) is False
    assert manager.list_allocations("openai") == []
    assert manager.allocate("openai", "ben") is None
    assert usage(manager, "openai") == ResourceUsage("openai", 3, 3, 0, 0, 100.0, 3)
    assert resource(manager, "openai").status is ResourceStatus.EXHAUSTED
    clock.advance(1)
    assert manager.allocate("openai", "ben") is not None
    assert manager.allocate("openai", "ben") is None


def test_what_a_quota_gave_and_nobody_used_is_refunded(manager: ResourceManager) -> None:
    manager.add_resource({"id": "tokens", "type": "api_quota", "capacity": 1000, "burst": 1000})
    assert manager.allocate("tokens", "ann", 1000) is not None
    assert manager.refund("tokens", 400) is True
    assert manager.allocate("tokens", "ann", 401) is None
    assert manager.allocate("tokens", "ann", 400) is not None
    assert manager.refund("nobody", 1) is False
    manager.add_resource(Resource("lock", "lock", CUSTOM, 1))
    with pytest.raises(ValidationError, match="release"):
        manager.refund("lock", 1)


def test_a_quota_that_blocks_leaves_everything_else_alone(seats: ResourceManager) -> None:
    seats.add_resource(Resource("openai", "openai", ResourceType.API_QUOTA, 60, burst=1))
    seats.allocate("openai", "ann")
    assert seats.allocate_resources("ben", {"seats": 1, "cpu": 1, "openai": 1}) is None
    assert [usage(seats, id).allocated_amount for id in ("seats", "sys-compute")] == [0, 0]


def test_the_default_quota_is_there_and_can_be_given_another_rate(manager: ResourceManager) -> None:
    assert manager.allocate("api_quota", "ann", 5) is not None
    manager.add_resource(Resource("api-global", "api-global", ResourceType.API_QUOTA, 2, per_s=1))
    with pytest.raises(ResourceRefused):
        manager.allocate("api_quota", "ann", 5)
    with pytest.raises(Conflict):
        manager.add_resource(Resource("api-global", "api-global", CUSTOM, 2))


# -- waiting: in real time, so with a real clock -------------------------------------------------------


@pytest.fixture(params=["memory", "file"])
def live(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[ResourceManager]:
    with ResourceManager(state=tmp_path / "state" if request.param == "file" else None) as made:
        made.add_resource(Resource("lock", "lock", CUSTOM, 1))
        yield made


class Waiter:
    """A thread that waits for something."""

    def __init__(self, call: Callable[[], Any]) -> None:
        self.found: Any = None
        self.error: BaseException | None = None
        self._call = call
        self._thread = Thread(target=self._run)
        self._thread.start()

    def _run(self) -> None:
        try:
            self.found = self._call()
        except BaseException as error:
            self.error = error

    def join(self) -> Any:
        self._thread.join(20)
        assert not self._thread.is_alive()
        return self.found


def waiting_count(manager: ResourceManager) -> int:
    return len(manager._claims._line)


def test_who_waits_gets_it_when_it_is_given_back(live: ResourceManager) -> None:
    held = taken(live.allocate("lock", "ann"))
    waiter = Waiter(lambda: live.allocate("lock", "ben", wait_s=20))
    wait_until(lambda: waiting_count(live) == 1)

    live.release(held.allocation_id)

    assert taken(waiter.join()).requester_id == "ben"
    assert live.allocate("lock", "cid", wait_s=0.01) is None


def test_who_came_first_is_served_first(live: ResourceManager) -> None:
    held = taken(live.allocate("lock", "ann"))
    order: list[str] = []

    def pass_through(name: str) -> None:
        mine = taken(live.allocate("lock", name, wait_s=20))
        order.append(name)
        live.release(mine.allocation_id)

    waiters = []
    for number in range(5):
        waiters.append(Waiter(lambda name=str(number): pass_through(name)))
        wait_until(lambda: waiting_count(live) == len(waiters))
    live.release(held.allocation_id)
    for waiter in waiters:
        waiter.join()
    assert order == ["0", "1", "2", "3", "4"]


def test_nobody_overtakes_who_waits_for_more_but_others_pass_who_take_nothing_from_it(
    live: ResourceManager,
) -> None:
    live.add_resource(Resource("seats", "seats", CUSTOM, 4))
    held = taken(live.allocate("seats", "ann", 2))
    big = Waiter(lambda: live.allocate("seats", "ben", 4, wait_s=20))
    wait_until(lambda: waiting_count(live) == 1)

    assert live.allocate("seats", "cid", 1) is None
    assert live.allocate("lock", "cid") is not None
    live.release(held.allocation_id)
    assert taken(big.join()).amount == 4


def test_nothing_is_held_while_one_waits(live: ResourceManager) -> None:
    live.add_resource(Resource("other", "other", CUSTOM, 1))
    held = taken(live.allocate("lock", "ann"))
    both = Waiter(lambda: live.allocate_resources("ben", {"cpu": 4, "lock": 1, "other": 1}, wait_s=20))
    wait_until(lambda: waiting_count(live) == 1)
    assert usage(live, "other").allocated_amount == 0
    assert usage(live, "cpu").allocated_amount == 0
    live.release(held.allocation_id)
    assert len(both.join()) == 3


def test_a_wait_ends_with_the_instant_at_which_an_allocation_or_a_quota_lets_it_pass(
    live: ResourceManager,
) -> None:
    live.allocate("lock", "ann", ttl_s=0.05)
    assert live.allocate("lock", "ben", wait_s=20) is not None
    live.add_resource(Resource("fast", "fast", ResourceType.API_QUOTA, 20, per_s=1))
    assert [live.allocate("fast", "ann", wait_s=20) is not None for _ in range(3)] == [True] * 3


def test_machine_resources_are_waited_for_too(live: ResourceManager) -> None:
    held = taken(live.allocate("cpu", "ann", 4))
    waiter = Waiter(lambda: live.allocate("cpu", "ben", 2, wait_s=20))
    wait_until(lambda: waiting_count(live) == 1)
    live.release(held.allocation_id)
    assert taken(waiter.join()).amount == 2


def test_closing_ends_every_wait(tmp_path: Path) -> None:
    manager = ResourceManager(state=tmp_path / "state")
    manager.add_resource(Resource("lock", "lock", CUSTOM, 1))
    manager.allocate("lock", "ann")
    waiter = Waiter(lambda: manager.allocate("lock", "ben", wait_s=20))
    wait_until(lambda: waiting_count(manager) == 1)
    manager.close()
    waiter.join()
    assert isinstance(waiter.error, EngineClosed)
    manager.close()


def test_sixteen_threads_never_have_more_than_there_is(live: ResourceManager) -> None:
    start = Barrier(16)
    inside: list[int] = []
    most: list[int] = []

    def work() -> None:
        start.wait()
        for _ in range(5):
            mine = taken(live.allocate("lock", "somebody", wait_s=20))
            inside.append(1)
            most.append(len(inside))
            inside.pop()
            live.release(mine.allocation_id)

    waiters = [Waiter(work) for _ in range(16)]
    for waiter in waiters:
        waiter.join()
    assert [waiter.error for waiter in waiters] == [None] * 16
    assert len(most) == 80
    assert max(most) == 1
    assert usage(live, "lock").allocation_count == 0


# -- other processes -----------------------------------------------------------------------------------


@contextmanager
def another_process(state: Path, resource_id: str, amount: float) -> Iterator[subprocess.Popen[str]]:
    process = subprocess.Popen(
        [sys.executable, HOLDER, state, resource_id, str(amount)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env=dict(os.environ),
    )
    assert process.stdout is not None
    assert process.stdin is not None
    with process:
        yield process
        process.kill()


@pytest.fixture
def shared(tmp_path: Path) -> Iterator[ResourceManager]:
    with ResourceManager(state=tmp_path / "state") as made:
        made.add_resource(Resource("lock", "lock", CUSTOM, 1))
        yield made


def test_what_another_process_holds_is_seen_and_waited_for(shared: ResourceManager, tmp_path: Path) -> None:
    with another_process(tmp_path / "state", "lock", 1) as other:
        assert other.stdout is not None
        assert other.stdin is not None
        assert other.stdout.readline() == "held\n"
        assert [each.requester_id for each in shared.list_allocations("lock")] == ["the other process"]
        waiter = Waiter(lambda: shared.allocate("lock", "ann", wait_s=20))
        wait_until(lambda: waiting_count(shared) == 1)
        other.stdin.close()
        assert taken(waiter.join()).requester_id == "ann"


def test_what_a_killed_process_held_comes_back_while_somebody_waits(
    shared: ResourceManager, tmp_path: Path
) -> None:
    with another_process(tmp_path / "state", "lock", 1) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == "held\n"
        waiter = Waiter(lambda: shared.allocate("lock", "ann", wait_s=20))
        wait_until(lambda: waiting_count(shared) == 1)
        other.kill()
        assert taken(waiter.join()).requester_id == "ann"


def test_who_asks_once_finds_what_a_killed_process_held(
    shared: ResourceManager, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(patient_claims, "LOOK_FOR_DEAD_EVERY_S", 0.0)
    with another_process(tmp_path / "state", "lock", 1) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == "held\n"
        assert shared.allocate("lock", "ann") is None
        other.kill()
        other.wait()
        assert shared.allocate("lock", "ann") is not None


def test_what_a_killed_process_held_comes_back_at_the_next_opening(tmp_path: Path) -> None:
    state = tmp_path / "state"
    with ResourceManager(state=state) as first:
        first.add_resource(Resource("lock", "lock", CUSTOM, 1))
    with another_process(state, "lock", 1) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == "held\n"
        other.kill()
        other.wait()
    with ResourceManager(state=state) as again:
        assert again.list_allocations() == []
        assert again.allocate("lock", "ann") is not None


def test_nobody_takes_what_another_process_has_waited_for_longer(
    shared: ResourceManager, tmp_path: Path
) -> None:
    held = taken(shared.allocate("lock", "ann"))
    with ResourceManager(state=tmp_path / "state") as other:
        waiter = Waiter(lambda: other.allocate("lock", "ben", wait_s=20))
        wait_until(lambda: shared._owner.database.query("SELECT 1 FROM resource_wait"))
        shared.release(held.allocation_id)
        assert shared.allocate("lock", "ann") is None
        assert taken(waiter.join()).requester_id == "ben"
    assert shared._owner.database.query("SELECT 1 FROM resource_wait") == []


def test_an_owner_that_was_declared_dead_gets_nothing_any_more(shared: ResourceManager) -> None:
    with shared._owner.database.transaction() as tx:
        engine_store.end(tx, epoch=shared._owner.epoch, now_us=1)
    with pytest.raises(EngineClosed, match="declared dead"):
        shared.allocate("lock", "ann")


def test_closing_gives_back_what_it_held(shared: ResourceManager, tmp_path: Path) -> None:
    with ResourceManager(state=tmp_path / "state") as other:
        assert other.allocate("lock", "ben") is not None
        assert other.allocate("cpu", "ben", 4) is not None
        assert shared.allocate("lock", "ann") is None
        assert shared.allocate("cpu", "ann", 1) is None
    assert shared.allocate("lock", "ann") is not None
    assert shared.allocate("cpu", "ann", 1) is not None


# -- on an engine --------------------------------------------------------------------------------------


def test_a_manager_on_an_engine_tells_it_what_changes_and_leaves_it_open(clock: ManualClock) -> None:
    owner = PlainOwner(clock)
    with ResourceManager(engine=owner) as manager:
        manager.add_resource(Resource("lock", "lock", CUSTOM, 1))
        held = taken(manager.allocate("lock", "ann"))
        before = owner.told
        manager.release(held.allocation_id)
        assert owner.told > before
    assert owner.database.query("SELECT count(*) FROM allocation") == [(0,)]
    owner.close()
    with pytest.raises(SettingsError, match="state"):
        ResourceManager(engine=owner, state="x")


def test_an_engine_has_a_manager_of_its_own_and_others_may_work_on_it() -> None:
    with OrchestrationEngine(state=MEMORY) as engine:
        engine.resources.add_resource(Resource("lock", "lock", CUSTOM, 1))
        assert engine.resources.allocate_resources("ann", {"lock": 1, "cpu": 1}) is not None
        with ResourceManager(engine=engine) as other:
            assert other.allocate("lock", "ben") is None
            assert other.deallocate_resources("ann") is True
            assert other.allocate("lock", "ben") is not None
        assert usage(engine.resources, "lock").allocated_amount == 1


def test_what_a_task_holds_is_seen_and_not_given_back_by_hand(clock: ManualClock) -> None:
    owner = PlainOwner(clock)
    with ResourceManager(engine=owner) as manager:
        manager.add_resource(Resource("seats", "seats", CUSTOM, 2))
        with owner.database.transaction() as tx:
            tx.execute(
                "INSERT INTO allocation (id, resource, amount, requester, epoch, run, position, attempt, since)"
                " VALUES ('1.0.1.seats', 'seats', 10000, 'run-1', ?, 1, 0, 1, 0)",
                (owner.epoch,),
            )
        assert [each.requester_id for each in manager.list_allocations("seats")] == ["run-1"]
        assert manager.release("1.0.1.seats") is False
        assert manager.deallocate_resources("run-1") is False
        assert usage(manager, "seats").allocated_amount == 1
    owner.close()


def test_a_pool_that_is_given_back_leaves_its_tasks_what_they_use(clock: ManualClock) -> None:
    owner = PlainOwner(clock)
    with ResourceManager(engine=owner) as manager:
        manager.add_resource(Resource("seats", "seats", CUSTOM, 3))
        pool = taken(manager.allocate("seats", "session", 3))
        with owner.database.transaction() as tx:
            tx.execute(
                "INSERT INTO allocation (id, resource, amount, requester, pool, epoch, run, position, attempt, since)"
                " VALUES ('1.0.1.seats', 'seats', 20000, 'run-1', 'session', ?, 1, 0, 1, 0)",
                (owner.epoch,),
            )
        assert usage(manager, "seats").allocated_amount == 3
        assert manager.release(pool.allocation_id)
        assert usage(manager, "seats").allocated_amount == 2
        assert manager.allocate("seats", "ann", 2) is None
        assert manager.allocate("seats", "ann", 1) is not None
    owner.close()
