"""An attempt that uses more memory than it asked for is ended as out of memory, and nobody else is."""

from __future__ import annotations

import mmap
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from codomyrmex.logistics.orchestration.project import values
from codomyrmex.logistics.orchestration.project.executors import verdicts
from codomyrmex.logistics.orchestration.project.executors.attempt import Attempt, Outcome, OutcomeKind
from codomyrmex.logistics.orchestration.project.executors.process import ProcessExecutor
from codomyrmex.logistics.orchestration.project.executors.worker import memory
from waiting import wait_until

Make = Callable[..., Attempt]
MIB = 1024 * 1024
ACTIONS = """
import mmap, os, resource, subprocess, sys, time

HOLD = "import sys, time; held = bytearray(int(sys.argv[1])); time.sleep(60)"

def hold(size, started=""):
    held = bytearray(size)
    if started: open(started, "w").close()
    time.sleep(60)
def hold_a_little(size, seconds=0.12):
    held = bytearray(size)
    time.sleep(seconds)
    return len(held)
def hold_in_children(size, count):
    for _ in range(count):
        subprocess.Popen([sys.executable, "-c", HOLD, str(size)], start_new_session=True)
    time.sleep(60)
def hold_in_forks(size, count, seconds):
    held = bytearray(size)
    children = [os.fork() for _ in range(count)]
    if 0 in children:
        time.sleep(60)
    time.sleep(seconds)
    for child in children:
        os.kill(child, 9)
        os.waitpid(child, 0)
    return count
def read_mapped(path, seconds):
    with open(path, "rb") as file:
        mapped = mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ)
    total = sum(mapped[start] for start in range(0, len(mapped), 4096))
    time.sleep(seconds)
    return total
def take(size): return len(bytearray(size))
def take_in_child(size):
    return subprocess.run([sys.executable, "-c", "import sys; bytearray(int(sys.argv[1]))", str(size)]).returncode
def keep(size):
    sys.kept = bytearray(size)
    return os.getpid()
def limits(): return list(resource.getrlimit(resource.RLIMIT_AS))
"""


@pytest.fixture(autouse=True)
def greedy(project: Path) -> None:
    (project / "greedy.py").write_text(ACTIONS)


@pytest.fixture
def holder() -> Iterator[int]:
    code = "held = bytearray(50 * 2**20); print(1, flush=True); input()"
    started = subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert started.stdout is not None
    started.stdout.readline()
    yield started.pid
    started.communicate(b"\n")


def of_greedy(limit: int, **fields: object) -> dict[str, object]:
    return {"module": "greedy", "memory_bytes": limit, **fields}


def value_of(outcome: Outcome) -> object:
    assert outcome.kind is OutcomeKind.COMPLETED, outcome
    assert outcome.result is not None
    return values.decode(outcome.result)


def used_of(outcome: Outcome, asked: str) -> float:
    """The MiB that the message says."""
    assert outcome.kind is OutcomeKind.OUT_OF_MEMORY, outcome
    assert outcome.error is not None
    assert outcome.error.type == "OutOfMemory"
    words = outcome.error.message.split()
    assert (words[0], words[2:]) == ("used", ["MiB", *f"of the {asked} it asked for".split()])
    return float(words[1])


def test_an_attempt_over_its_memory_is_ended_with_the_figures_and_its_neighbour_goes_on(
    executor: ProcessExecutor, make: Make, tmp_path: Path
) -> None:
    flag = tmp_path / "flag"
    outcomes: list[Outcome] = []
    neighbour = make("wait", until=str(flag))
    thread = threading.Thread(target=lambda: outcomes.append(executor.run(neighbour)))
    thread.start()
    began = time.monotonic()
    outcome = executor.run(make("hold", of_greedy(64 * MIB, grace_s=30.0), size=200 * MIB))
    assert 64 < used_of(outcome, "64 MiB") <= 215
    assert time.monotonic() - began < 3 * 1.0
    flag.touch()
    thread.join()
    assert value_of(outcomes[0]) == "waited"
    assert value_of(executor.run(make("take", of_greedy(64 * MIB), size=1))) == 1


def test_what_children_with_sessions_of_their_own_use_counts(executor: ProcessExecutor, make: Make) -> None:
    outcome = executor.run(make("hold_in_children", of_greedy(100 * MIB), size=60 * MIB, count=2))
    assert 100 < used_of(outcome, "100 MiB") <= 150


def test_memory_that_forks_share_counts_once(executor: ProcessExecutor, make: Make) -> None:
    limit = of_greedy(150 * MIB)
    outcome = executor.run(make("hold_in_forks", limit, size=80 * MIB, count=6, seconds=0.15))
    assert value_of(outcome) == 6


def test_a_large_file_that_is_mapped_is_no_use_of_memory(
    executor: ProcessExecutor, make: Make, tmp_path: Path
) -> None:
    large = tmp_path / "large"
    large.write_bytes(bytes(48 * MIB))
    outcome = executor.run(make("read_mapped", of_greedy(24 * MIB), path=str(large), seconds=0.15))
    assert value_of(outcome) == 0


def test_what_the_worker_held_before_is_not_laid_to_the_attempt(
    executor: ProcessExecutor, make: Make
) -> None:
    first = value_of(executor.run(make("keep", {"module": "greedy"}, size=120 * MIB)))
    outcome = executor.run(make("hold_a_little", of_greedy(60 * MIB), size=30 * MIB))
    assert value_of(outcome) == 30 * MIB
    assert value_of(executor.run(make("keep", {"module": "greedy"}, size=1))) == first


def test_the_limit_of_one_attempt_does_not_hold_for_the_next(executor: ProcessExecutor, make: Make) -> None:
    assert value_of(executor.run(make("take", of_greedy(30 * MIB), size=1))) == 1
    size = 90 * MIB
    unlimited = make("hold_a_little", {"module": "greedy"}, size=size, seconds=0.35)
    assert value_of(executor.run(unlimited)) == size


def test_a_hard_limit_fails_an_allocation_at_once_in_the_action_and_in_its_children(
    executor: ProcessExecutor, make: Make
) -> None:
    hard = of_greedy(64 * MIB, memory_hard=True)
    outcome = executor.run(make("take", hard, size=500 * MIB))
    assert outcome.kind is OutcomeKind.OUT_OF_MEMORY
    assert outcome.error is not None
    assert outcome.error.type == "MemoryError"
    assert "it may have 64 MiB of address space" in outcome.error.message
    assert value_of(executor.run(make("take_in_child", hard, size=500 * MIB))) == 1
    assert value_of(executor.run(make("take", hard, size=MIB))) == MIB
    assert value_of(executor.run(make("limits", {"module": "greedy"}))) == [-1, -1]


def test_a_worker_in_which_an_allocation_failed_is_not_used_again(
    executor: ProcessExecutor, make: Make
) -> None:
    first = value_of(executor.run(make("keep", {"module": "greedy"}, size=1)))
    assert executor.run(make("hoard")).kind is OutcomeKind.OUT_OF_MEMORY
    assert value_of(executor.run(make("keep", {"module": "greedy"}, size=1))) != first


def test_the_cheap_number_is_enough_below_the_limit_and_the_true_one_counts_above(holder: int) -> None:
    resident = memory.resident_bytes(holder)
    assert memory.used_bytes(os.getpid(), 2**60) >= resident
    assert 50 * MIB <= memory.used_bytes(os.getpid(), 0) < resident
    assert holder in memory.below(os.getpid())


def test_a_kernel_that_tells_no_kinds_apart_or_tells_nothing_is_coped_with(
    holder: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(memory, "_COUNTED", (b"Absent:",))
    assert memory._proportional_bytes(holder) >= 50 * MIB
    wait_until(lambda: memory.resident_bytes(2**22 + 1) == 0)
    assert memory._proportional_bytes(2**22 + 1) == 0


def test_the_kernels_own_kill_keeps_its_words(make: Make) -> None:
    outcome = verdicts.outcome_of({"verdict": "out_of_memory", "signal": 9}, make("nothing"), 0, 0.0)
    assert outcome.error is not None
    assert outcome.error.message == "killed by the kernel, which was out of memory"


@pytest.mark.parametrize(
    ("size", "text"),
    [
        (0, "0 B"),
        (1023, "1023 B"),
        (1024, "1 KiB"),
        (1406595186, "1.31 GiB"),
        (2**30, "1 GiB"),
        (2**52, "4096 TiB"),
    ],
)
def test_sizes_are_told_as_people_say_them(size: int, text: str) -> None:
    assert verdicts._size(size) == text


def test_a_page_has_room_for_every_cell() -> None:
    from codomyrmex.logistics.orchestration.project.executors.worker import page

    assert page.IDLE_BYTES * 8 < page._LOG_OFFSET <= mmap.PAGESIZE
