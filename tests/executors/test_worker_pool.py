"""When a worker is not used again, and the spare that takes its place."""

from __future__ import annotations

import os
import threading
from collections import deque
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from codomyrmex.logistics.orchestration.project import values
from codomyrmex.logistics.orchestration.project.executors import worker_pool, worker_process
from codomyrmex.logistics.orchestration.project.executors.attempt import (
    Attempt,
    MustWait,
    Outcome,
    OutcomeKind,
)
from codomyrmex.logistics.orchestration.project.executors.process import BegunAttempt, ProcessExecutor
from codomyrmex.logistics.orchestration.project.executors.process_tree import descendants, kill_left_behind
from waiting import wait_until

Make = Callable[..., Attempt]
TOKEN = f"engine-with-spares-{os.getpid()}"
MIB = 1024 * 1024
DEVICE = {"gpu_env": {"CUDA_VISIBLE_DEVICES": "0", "ROCR_VISIBLE_DEVICES": "0"}}
ACTIONS = """
import os, subprocess, sys
kept = []
def pid(): return os.getpid()
def grow(size):
    kept.append(bytearray(size))
    return os.getpid()
"""


class Soon:
    """What is to be done soon is done when the test says so, or at once."""

    def __init__(self) -> None:
        self.calls: deque[Callable[[], object]] = deque()
        self.at_once = True

    def __call__(self, call: Callable[[], object]) -> None:
        if self.at_once:
            call()
        else:
            self.calls.append(call)

    def do(self) -> None:
        while self.calls:
            self.calls.popleft()()


@pytest.fixture
def soon() -> Soon:
    return Soon()


@pytest.fixture
def executor(tmp_path: Path, soon: Soon) -> Iterator[ProcessExecutor]:
    made = ProcessExecutor(spool_dir=str(tmp_path / "spool"), engine_token=TOKEN, max_workers=2, later=soon)
    yield made
    made.close()
    assert kill_left_behind(TOKEN) == []
    assert list((tmp_path / "spool").glob("*")) == []


@pytest.fixture(autouse=True)
def counted(project: Path) -> None:
    (project / "counted.py").write_text(ACTIONS)


def started(executor: ProcessExecutor) -> int:
    return executor._pool.started


def idle(executor: ProcessExecutor) -> int:
    assert executor._pool._idle_count == sum(map(len, executor._pool._idle.values()))
    return executor._pool._idle_count


def value_of(outcome: Outcome) -> Any:
    assert outcome.kind is OutcomeKind.COMPLETED, outcome
    assert outcome.result is not None
    return values.decode(outcome.result)


def pid_of(executor: ProcessExecutor, make: Make, **fields: Any) -> int:
    found: int = value_of(executor.run(make("pid", {"module": "counted", **fields})))
    return found


def begin(executor: ProcessExecutor, attempt: Attempt) -> BegunAttempt:
    found: list[BegunAttempt | None] = [None]

    def began() -> bool:
        found[0] = executor.begin(attempt)
        return found[0] is not None

    wait_until(began, what="a worker that is up")
    assert found[0] is not None
    return found[0]


def test_after_a_crash_the_next_attempt_finds_a_worker_that_is_up(
    executor: ProcessExecutor, make: Make
) -> None:
    pid_of(executor, make)
    assert executor.run(make("die", how="exit")).kind is OutcomeKind.CRASHED
    assert (started(executor), idle(executor)) == (2, 1)
    begun = begin(executor, make("nothing"))
    assert executor.complete(begun).kind is OutcomeKind.COMPLETED
    assert started(executor) == 2


@pytest.mark.parametrize("how", ["timeout", "kill", "segv"])
def test_a_worker_that_was_ended_has_its_place_taken_once(
    executor: ProcessExecutor, make: Make, how: str
) -> None:
    pid_of(executor, make)
    for number in (2, 3):
        if how == "timeout":
            assert executor.run(make("spin", {"timeout_s": 0.05})).kind is OutcomeKind.TIMED_OUT
        else:
            assert executor.run(make("die", how=how)).kind is OutcomeKind.CRASHED
        assert (started(executor), idle(executor)) == (number, 1)


def test_a_kind_that_was_used_once_gets_no_spare(executor: ProcessExecutor, make: Make) -> None:
    assert executor.run(make("die", how="exit")).kind is OutcomeKind.CRASHED
    assert (started(executor), idle(executor)) == (1, 0)
    assert executor.run(make("die", how="exit")).kind is OutcomeKind.CRASHED
    assert (started(executor), idle(executor)) == (3, 1)


def test_no_spare_is_started_while_another_worker_of_the_kind_is_idle(
    executor: ProcessExecutor, make: Make, project: Path
) -> None:
    executor.prepare(2, roots=[str(project)])
    pid_of(executor, make)
    assert executor.run(make("die", how="exit")).kind is OutcomeKind.CRASHED
    assert (started(executor), idle(executor)) == (2, 1)


def test_an_attempt_that_comes_before_its_spare_takes_its_place(
    executor: ProcessExecutor, make: Make, soon: Soon, tmp_path: Path
) -> None:
    soon.at_once = False
    pid_of(executor, make)
    executor.run(make("die", how="exit"))
    assert started(executor) == 1
    attempt, until = make("say_and_wait", text="", until=str(tmp_path / "until")), tmp_path / "until"
    running = threading.Thread(target=lambda: executor.run(attempt))
    running.start()
    wait_until(lambda: executor._running and started(executor) == 2)
    soon.do()
    until.touch()
    running.join()
    assert (started(executor), idle(executor)) == (2, 1)


def test_an_attempt_takes_the_spare_that_came_while_it_waited_for_its_turn(
    executor: ProcessExecutor, make: Make, soon: Soon
) -> None:
    pid_of(executor, make)
    soon.at_once = False
    executor.run(make("die", how="exit"))

    def spawn(call: Callable[[], Any]) -> Any:
        soon.do()
        return call()

    executor._pool._wanted, wanted = set(), set(executor._pool._wanted)
    executor._pool._spawn = spawn
    kind = wanted.pop()
    soon.calls.append(lambda: executor._pool._add(executor._pool._start(kind)))
    pid_of(executor, make)
    assert (started(executor), idle(executor)) == (2, 1)


def test_a_spare_does_not_outlive_the_close_that_it_came_late_for(
    executor: ProcessExecutor, make: Make, soon: Soon
) -> None:
    soon.at_once = False
    pid_of(executor, make)
    executor.run(make("die", how="exit"))
    executor.close()
    soon.do()
    assert started(executor) == 1


def test_a_close_waits_for_a_spare_that_is_being_started(
    executor: ProcessExecutor, make: Make, soon: Soon, monkeypatch: pytest.MonkeyPatch
) -> None:
    soon.at_once = False
    pid_of(executor, make)
    executor.run(make("die", how="exit"))
    start, starting, go_on = worker_process.start_worker, threading.Event(), threading.Event()

    def slowly(*given: Any, **named: Any) -> Any:
        starting.set()
        assert go_on.wait(10)
        return start(*given, **named)

    monkeypatch.setattr(worker_pool, "start_worker", slowly)
    # The thread that starts workers lives as long as they do.
    done = threading.Event()

    def serve() -> None:
        soon.do()
        done.wait(10)

    spawner = threading.Thread(target=serve)
    spawner.start()
    starting.wait(10)
    closer = threading.Thread(target=executor.close)
    closer.start()
    wait_until(lambda: executor._pool.closed)
    closer.join(0.05)
    assert closer.is_alive()
    go_on.set()
    closer.join(10)
    assert descendants(os.getpid()) == []
    done.set()
    spawner.join()


def test_where_a_spare_cannot_be_started_the_next_attempt_tries_itself(
    executor: ProcessExecutor, make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    pid_of(executor, make)
    with monkeypatch.context() as patch:

        def refuse(*_: Any, **__: Any) -> Any:
            raise OSError("no more processes")

        patch.setattr(worker_pool, "start_worker", refuse)
        executor.run(make("die", how="exit"))
    assert idle(executor) == 0
    assert executor.run(make("nothing")).kind is OutcomeKind.COMPLETED


def test_a_runner_that_has_grown_is_not_used_again(
    executor: ProcessExecutor, make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(worker_pool, "MEASURE_EVERY_S", 0.0)
    monkeypatch.setattr(worker_pool, "GROWTH_BYTES", 32 * MIB)

    def grow(size: int) -> int:
        found: int = value_of(executor.run(make("grow", {"module": "counted"}, size=size)))
        return found

    first = grow(1)
    assert grow(20 * MIB) == first
    assert grow(20 * MIB) == first
    assert grow(1) != first
    assert started(executor) == 2


def test_what_a_runner_held_after_its_first_attempt_is_no_growth(
    executor: ProcessExecutor, make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(worker_pool, "MEASURE_EVERY_S", 0.0)
    monkeypatch.setattr(worker_pool, "GROWTH_BYTES", 8 * MIB)
    first = value_of(executor.run(make("grow", {"module": "counted"}, size=64 * MIB)))
    for _ in range(3):  # sixteen more, but not twice as much
        assert value_of(executor.run(make("grow", {"module": "counted"}, size=5 * MIB))) == first


def test_after_its_last_attempt_a_worker_is_replaced(
    executor: ProcessExecutor, make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(worker_pool, "MAX_ATTEMPTS_PER_WORKER", 2)
    pids = [pid_of(executor, make) for _ in range(4)]
    assert pids[0] == pids[1] != pids[2] == pids[3]
    assert idle(executor) == 1


def test_an_attempt_on_a_device_has_ended_when_its_worker_has(executor: ProcessExecutor, make: Make) -> None:
    for _ in range(2):
        pid = pid_of(executor, make, **DEVICE)
        assert not Path(f"/proc/{pid}").exists()
    assert idle(executor) == 1
    hidden = {"gpu_env": dict.fromkeys(DEVICE["gpu_env"], "")}
    assert Path(f"/proc/{pid_of(executor, make, **hidden)}").exists()


def test_who_may_not_wait_is_told_to_let_somebody_else_see_a_device_freed(
    executor: ProcessExecutor, make: Make
) -> None:
    for _ in range(2):
        pid_of(executor, make, **DEVICE)
    begun = begin(executor, make("pid", {"module": "counted", **DEVICE}))
    with pytest.raises(MustWait):
        wait_until(begun.collect)
    outcome = begun.complete()
    assert not Path(f"/proc/{value_of(outcome)}").exists()
    assert executor._running == {}


def test_kinds_that_nobody_uses_any_more_let_their_workers_go(
    executor: ProcessExecutor, make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(worker_pool, "KINDS_KEPT", 1)
    monkeypatch.setattr(worker_pool, "SWEEP_EVERY_S", 0.0)
    old = pid_of(executor, make, threads=1)
    new = pid_of(executor, make, threads=2)
    assert idle(executor) == 2
    monkeypatch.setattr(worker_pool, "KEPT_S", 0.0)
    assert pid_of(executor, make, threads=2) == new
    assert idle(executor) == 1
    wait_until(lambda: not Path(f"/proc/{old}").exists())
    assert pid_of(executor, make, threads=2) == new


def test_a_worker_too_many_goes_and_leaves_no_zombie(executor: ProcessExecutor, make: Make) -> None:
    for threads in (1, 2, 3, 4):
        pid_of(executor, make, threads=threads)
    assert idle(executor) == 2
    executor._pool._sweep_at_s = 0.0

    def none_is_left() -> bool:
        pid_of(executor, make, threads=4)
        executor._pool._sweep_at_s = 0.0
        return executor._pool._retired == []

    wait_until(none_is_left)
    assert len(descendants(os.getpid())) == 4
