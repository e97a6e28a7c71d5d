"""Engines that share a host: nobody starves, nobody waits for ever, and who is alone notices nothing."""

from __future__ import annotations

from itertools import pairwise
from random import Random

import pytest
from ledger_world import Job, World

from codomyrmex.logistics.orchestration.project.ledger_shares import Host, Wait, fitted
from codomyrmex.logistics.orchestration.project.resource_request import CPU, GPU, MEMORY

ME, YOU, THIRD = 1, 2, 3


def jobs(count: int, *, cpu: int = 1000, seconds: float = 1.0) -> list[Job]:
    return [Job({CPU: cpu}, seconds) for _ in range(count)]


def wait(holder: int, place: int, *, want: int = 0, patient: bool = True, **head: int) -> Wait:
    """A wait for `cpu`, `memory`, `gpu`; `want` is of CPU."""
    ids = {"cpu": CPU, "memory": MEMORY, "gpu": GPU}
    amounts = {ids[name]: amount for name, amount in head.items()}
    return Wait(holder=holder, sequence=place, head=amounts, want={CPU: want}, patient=patient)


# -- played to the end


def test_a_holder_alone_is_never_refused_what_is_there_and_never_asked_for_anything() -> None:
    world = World({CPU: 4000}, [jobs(40)])
    world.run()
    (engine,) = world.engines
    assert (engine.gifts, world.now) == (0, 10.0)


def test_two_engines_on_one_cpu_alternate() -> None:
    world = World({CPU: 1000}, [jobs(30), jobs(30)])
    world.run()
    first, second = (each.started for each in world.engines)
    assert sorted(first + second) == [float(second) for second in range(60)]
    assert all(later - earlier == 2 for each in (first, second) for earlier, later in pairwise(each))
    assert all(each.longest_wait <= 2 for each in world.engines)


def test_three_engines_on_two_cpus_rotate() -> None:
    world = World({CPU: 2000}, [jobs(30)] * 3)
    world.run()
    assert world.now == 45.0, "both CPUs were always busy"
    assert all(each.longest_wait <= 2 for each in world.engines)
    assert min(each.started[-1] for each in world.engines) >= 42, "they end together"


def test_two_engines_on_four_cpus_settle_at_two_each_and_hand_nothing_over_any_more() -> None:
    world = World({CPU: 4000}, [jobs(100), jobs(100)])
    world.run(ends=8)
    assert [each.allotted for each in world.engines] == [{CPU: 2000}] * 2
    gifts = [each.gifts for each in world.engines]
    world.run(ends=150)
    assert [each.gifts for each in world.engines] == gifts
    assert sum(gifts) <= 2


@pytest.mark.parametrize("big", [3000, 4000])
def test_tasks_that_need_more_than_a_share_take_turns_with_small_ones(big: int) -> None:
    world = World({CPU: 4000}, [jobs(20, cpu=big), jobs(200)])
    world.run(ends=60)
    assert min(each.done for each in world.engines) >= 12
    assert all(each.longest_wait <= 2 for each in world.engines)


def test_engines_that_each_need_the_whole_machine_take_turns() -> None:
    world = World({CPU: 2000}, [jobs(10, cpu=2000), jobs(10, cpu=2000), jobs(10, cpu=2000)])
    world.run()
    assert world.now == 30.0
    assert all(each.longest_wait <= 3 for each in world.engines)


def test_an_engine_that_comes_late_gets_its_share_as_tasks_end() -> None:
    world = World({CPU: 4000}, [jobs(100), []])
    world.run(ends=10)
    world.engines[1].queue.extend(jobs(50))
    world.settle()
    world.run(ends=4)
    assert [each.allotted[CPU] for each in world.engines] == [2000, 2000]


def random_world(chance: Random) -> World:
    """Up to five engines with tasks of all kinds, some as big as the machine."""
    capacity = {CPU: chance.choice([1000, 2000, 3500, 4000, 8000]), MEMORY: chance.choice([8, 16, 100])}
    devices = chance.choice([0, 0, 1, 2, 3])
    capacity |= {f"gpu-{index}": 10_000 for index in range(devices)}

    def job() -> Job:
        cpu = chance.choice([0, 100, 500, 1000, 1000, 1000, 2000, capacity[CPU]])
        need = {CPU: min(cpu, capacity[CPU])}
        if chance.random() < 0.4:
            need[MEMORY] = chance.choice([1, 2, capacity[MEMORY] // 2, capacity[MEMORY]])
        if devices and chance.random() < 0.4:
            need[GPU] = chance.choice([2500, 5000, 6000, 10_000, 10_000 * devices])
        wanted = {id: amount for id, amount in need.items() if amount}
        return Job(wanted or {CPU: 100}, chance.choice([1.0, 1.0, 2.0, 5.0, 30.0]))

    queues = [[job() for _ in range(chance.randint(1, 25))] for _ in range(chance.randint(1, 5))]
    return World(capacity, queues)


def play(chance: Random) -> None:
    """Plays a world in which engines are stopped, go on, and die."""
    world = random_world(chance)
    world.settle()
    while world.ends or any(each.stopped for each in world.engines):
        for engine in world.engines:
            if not world.ends or chance.random() < 0.2:
                engine.stopped = False
            elif chance.random() < 0.05:
                engine.stopped = True
        if chance.random() < 0.01:
            world.die(chance.choice(world.engines))
        if world.ends:
            world.step()
        world.settle()
    waiting = [each for each in world.engines if each.queue]
    assert not waiting, f"nobody runs, and these wait for ever: {waiting}"


def test_whatever_is_asked_for_nobody_waits_for_ever_and_no_capacity_is_exceeded() -> None:
    for seed in range(30):
        play(Random(seed))


@pytest.mark.reliability
def test_whatever_is_asked_for_nobody_waits_for_ever_in_thousands_of_worlds() -> None:
    for seed in range(1000, 4000):
        play(Random(seed))


# -- single decisions


def test_of_what_is_wanted_all_is_granted_that_is_there() -> None:
    host = Host(capacity={CPU: 4000, MEMORY: 10}, held={YOU: {CPU: 1000}})
    assert host.grant(ME, {CPU: 500}, {CPU: 9000, MEMORY: 4}) == {CPU: 3000, MEMORY: 4}


def test_a_head_is_granted_whole_or_not_at_all() -> None:
    host = Host(capacity={CPU: 4000, MEMORY: 10}, held={YOU: {MEMORY: 8}})
    assert host.grant(ME, {CPU: 1000, MEMORY: 3}, {CPU: 4000, MEMORY: 3}) == {}


def test_what_is_kept_by_people_is_not_there_for_engines() -> None:
    host = Host(capacity={CPU: 4000}, held={}, kept={CPU: 3000})
    assert host.grant(ME, {CPU: 1000}, {CPU: 4000}) == {CPU: 1000}
    assert host.grant(ME, {CPU: 2000}, {CPU: 4000}) == {}


def test_a_task_that_would_fit_does_not_go_before_an_older_one_that_waits_for_more() -> None:
    host = Host(capacity={CPU: 3000}, held={THIRD: {CPU: 2000}}, waits=[wait(YOU, 1, cpu=2000)])
    assert host.grant(ME, {CPU: 1000}, {CPU: 1000}) == {}
    assert host.grant(ME, {CPU: 1000}, {CPU: 1000}, sequence=0) == {CPU: 1000}


def test_beyond_its_head_nobody_takes_what_a_younger_wait_has_a_right_to() -> None:
    host = Host(capacity={CPU: 4000}, held={}, waits=[wait(ME, 1, cpu=1000), wait(YOU, 2, cpu=1000)])
    assert host.grant(ME, {CPU: 1000}, {CPU: 4000}, sequence=1) == {CPU: 3000}


def test_over_its_share_nobody_goes_before_a_wait_however_old_its_own_is() -> None:
    held = {ME: {CPU: 2000}, THIRD: {CPU: 1000}}
    waits = [wait(ME, 1, cpu=1000), wait(YOU, 2, cpu=1000)]
    host = Host(capacity={CPU: 4000}, held=held, waits=waits)
    assert host.grant(ME, {CPU: 1000}, {CPU: 1000}, sequence=1) == {}
    assert host.grant(YOU, {CPU: 1000}, {CPU: 1000}, sequence=2) == {CPU: 1000}


def test_a_wait_of_a_holder_with_more_than_its_share_is_no_reason_to_give() -> None:
    held = {ME: {CPU: 1000}, YOU: {CPU: 3000}}
    host = Host(capacity={CPU: 4000}, held=held, waits=[wait(YOU, 1, cpu=1000)])
    assert host.surplus(ME, {CPU: 1000}) == {}


def test_who_holds_more_than_its_share_gives_what_is_free_of_it_and_no_more_than_is_waited_for() -> None:
    host = Host(capacity={CPU: 8000}, held={ME: {CPU: 8000}}, waits=[wait(YOU, 1, cpu=1000, want=1000)])
    assert host.surplus(ME, {CPU: 500}) == {CPU: 500}
    assert host.surplus(ME, {CPU: 8000}) == {CPU: 1000}


def test_an_idle_machine_is_divided_at_one_blow() -> None:
    host = Host(capacity={CPU: 8000}, held={ME: {CPU: 8000}}, waits=[wait(YOU, 1, cpu=1000, want=50_000)])
    assert host.surplus(ME, {CPU: 8000}) == {CPU: 4000}


def test_a_wait_for_a_gpu_leaves_the_cpus_open_to_others_until_it_has_lasted_long() -> None:
    capacity = {CPU: 4000, "gpu-0": 10_000}
    held = {YOU: {CPU: 1000, "gpu-0": 10_000}}

    def granted(patient: bool) -> dict[str, int]:
        waits = [wait(THIRD, 1, cpu=3000, gpu=10_000, patient=patient)]
        return Host(capacity=capacity, held=held, waits=waits).grant(ME, {CPU: 1000}, {CPU: 1000})

    assert granted(patient=True) == {CPU: 1000}
    assert granted(patient=False) == {}


def test_what_was_given_for_a_wait_is_not_taken_by_others_on_the_way() -> None:
    host = Host(capacity={CPU: 2000}, held={THIRD: {CPU: 1000}}, waits=[wait(YOU, 1, cpu=1000)])
    assert host.grant(ME, {CPU: 1000}, {CPU: 1000}) == {}


@pytest.mark.parametrize("hindrance", ["kept", "offline", "capacity"])
def test_nothing_is_kept_for_a_wait_that_cannot_be_met(hindrance: str) -> None:
    host = Host(
        capacity={CPU: 4000, "gpu-0": 0 if hindrance == "capacity" else 10_000},
        held={},
        kept={"gpu-0": 1} if hindrance == "kept" else {},
        offline=frozenset({"gpu-0"} if hindrance == "offline" else ()),
        waits=[wait(YOU, 1, cpu=4000, gpu=10_000, patient=False)],
    )
    assert host.grant(ME, {CPU: 1000}, {CPU: 1000}) == {CPU: 1000}


def test_two_that_each_hold_half_of_what_both_need_do_not_wait_for_each_other() -> None:
    half, idle = {CPU: 1000}, {CPU: 1000}
    waits = [
        Wait(holder=ME, sequence=1, head={CPU: 1000}, idle=idle),
        Wait(holder=YOU, sequence=2, head={CPU: 1000}, idle=idle),
    ]
    host = Host(capacity={CPU: 2000}, held={ME: half, YOU: half}, waits=waits)
    assert host.surplus(ME, idle) == {}, "the first in line collects"
    assert host.surplus(YOU, idle) == {CPU: 1000}


def test_devices_that_are_too_scattered_for_a_wait_are_put_together() -> None:
    devices = {"gpu-0": 10_000, "gpu-1": 10_000}
    held = {ME: {"gpu-0": 5000, "gpu-1": 5000}}
    host = Host(capacity=devices, held=held, waits=[wait(YOU, 1, gpu=10_000)])
    assert host.surplus(ME, {"gpu-1": 5000}) == {"gpu-1": 5000}
    assert host.surplus(ME, {"gpu-0": 5000, "gpu-1": 5000}) == {"gpu-0": 5000}


def test_an_idle_device_of_its_own_counts_for_a_task_that_needs_several() -> None:
    devices = {"gpu-0": 10_000, "gpu-1": 10_000}
    host = Host(capacity=devices, held={ME: {"gpu-0": 4000}})
    assert host.grant(ME, {GPU: 20_000}, {GPU: 20_000}, idle={"gpu-0": 4000}) == {
        "gpu-0": 6000,
        "gpu-1": 10_000,
    }


def test_more_devices_are_granted_than_one_task_needs_where_nobody_else_wants_them() -> None:
    devices = {f"gpu-{index}": 10_000 for index in range(3)}
    host = Host(capacity=devices, held={})
    assert host.grant(ME, {GPU: 10_000}, {GPU: 25_000}) == {"gpu-0": 10_000, "gpu-1": 10_000}
    assert host.grant(ME, {GPU: 5000}, {GPU: 10_000}) == {"gpu-0": 10_000}


def test_nothing_is_ever_granted_twice() -> None:
    chance = Random(7)
    for _ in range(2000):
        capacity = {CPU: 4000, MEMORY: 100, "gpu-0": 10_000, "gpu-1": 10_000}
        host = Host(
            capacity=capacity,
            held={
                n: {id: chance.randint(0, most // 2) for id, most in capacity.items()} for n in (YOU, THIRD)
            },
            waits=[wait(YOU, 1, cpu=chance.randint(0, 4000), gpu=chance.choice([0, 5000, 10_000, 20_000]))],
        )
        head = {CPU: chance.randint(0, 2000), GPU: chance.choice([0, 2500, 10_000])}
        granted = host.grant(ME, head, {CPU: 4000, MEMORY: 50, GPU: chance.choice([0, 5000, 20_000])})
        assert fitted(host.free(), granted) == granted
        assert not granted or granted.get(CPU, 0) >= head[CPU]
